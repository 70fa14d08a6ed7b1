"""Asking the person behind a client, where the client can: before a run is changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastmcp import Context
from mcp.types import (
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from athena_prefect.mcp.answering import refusal

QUESTION = "confirm"
"""Name of the question where a client answers by calling again (protocols from 2026-07-28 on)."""
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "yes": {
            "type": "boolean",
            "title": "Go ahead",
            "description": "Whether the run is to be changed so.",
        }
    },
    "required": ["yes"],
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A person's answer to what was shown, or the question on its way to them."""

    question: Any = None
    """What the tool returns now; None where there is an answer, or nobody to ask."""
    shown: str | None = None
    """What the person said yes to."""


def can_ask(context: Context) -> bool:
    """Whether the client shows forms to a person."""
    wanted = ClientCapabilities(elicitation=ElicitationCapability())
    return bool(context.session.check_client_capability(wanted))


def answer_of(context: Context) -> Asked | None:
    """The answer that came with this call; None where none did. Refuses where it is a no."""
    responses = context.input_responses
    if not responses or QUESTION not in responses:
        return None
    given = responses[QUESTION]
    content = getattr(given, "content", None) or {}
    _agreed(getattr(given, "action", ""), content)
    try:
        state = json.loads(context.request_state or "{}")
    except ValueError:
        state = {}
    shown = state.get("shown") if isinstance(state, dict) else None
    return Asked(shown=str(shown)) if shown else None


async def ask(context: Context, message: str, shown: str) -> Asked:
    """Show `message` and wait for a yes; where clients answer by calling again, the question."""
    request_context = context.request_context
    if request_context is not None and request_context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        params = ElicitRequestFormParams(message=message, requested_schema=_FORM)
        return Asked(
            question=InputRequiredResult(
                input_requests={QUESTION: ElicitRequest(params=params)},
                request_state=json.dumps({"shown": shown}),
            )
        )
    result = await context.session.elicit(
        message=message, requested_schema=_FORM, related_request_id=context.request_id
    )
    _agreed(result.action, result.content or {})
    return Asked(shown=shown)


def _agreed(action: str, content: Any) -> None:
    if action == "accept" and content.get("yes") is True:
        return
    raise refusal(
        {
            "code": "declined",
            "field": None,
            "message": "the person who was asked did not agree; nothing was changed",
            "right": "show the options again, and ask what is wanted",
        }
    )
