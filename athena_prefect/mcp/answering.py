"""How a tool answers: in a thread, with signs of life, and with errors that say what is right."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
from fastmcp import Context
from fastmcp.exceptions import NotFoundError, ToolError, ValidationError
from fastmcp.tools import ToolResult

from athena_prefect.errors import (
    AthenaError,
    PlanDocumentError,
    RecordingError,
    UnknownNameError,
    UnknownRunError,
)

logger = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""What takes longer says that it is still at work, and then as often."""
AT_ONCE = 4
"""Calls that work at the same time; the others wait: solving takes a core for a second."""

T = TypeVar("T")

_FIELDS = {
    "planning decision": "plan_id",
    "registered plan": "plan_id",
    "task": "task_id",
    "assumption": "assumption_id",
    "resource": "resources_used",
    "check": "validation_data",
}
"""Which argument an unknown name came from."""
_RIGHT = {
    "unknown_name": "a name that the plan has; the resource athena://plans/{plan_id} lists them",
    "unknown_run": "the plan_id of a run; the resource athena://runs lists them",
    "storage_unavailable": "try again when the database can be reached",
    "recording": "an event that fits; get_plan_deviation says where the run stands",
    "input": "see the tool's description",
    "lease_held": "try again in a few seconds",
    "stale_revision": "call generate_replanning_options again and choose from its reply",
}
"""What would be right, where the message itself does not say."""


def code_of(error: AthenaError) -> str:
    """The error's class as a code: ``StaleRevisionError`` is ``stale_revision``."""
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def described(error: AthenaError) -> dict[str, Any]:
    """An error as a client gets it: code, field, message, what would be right."""
    code = code_of(error)
    message, _, right = error.message.partition("; ")
    if isinstance(error, PlanDocumentError):
        message, right = error.message, "a plan document without these defects"
    data: dict[str, Any] = {
        "code": code,
        "field": _field_of(error),
        "message": message,
        "right": right or _RIGHT.get(code, ""),
    }
    candidates = getattr(error, "candidates", None)
    if candidates:
        data["candidates"] = [str(c) if not isinstance(c, int) else c for c in candidates]
    return data


def _field_of(error: AthenaError) -> str | None:
    field = getattr(error, "field", None)
    if isinstance(field, str):
        return field
    if isinstance(error, UnknownNameError):
        return _FIELDS.get(error.kind)
    if isinstance(error, RecordingError) and hasattr(error, "task_id"):
        return "task_id"
    return "plan_id" if isinstance(error, UnknownRunError) else None


def refusal(data: dict[str, Any]) -> Any:
    """What a tool raises so that the client gets `data`."""
    return ToolError(json.dumps(data, ensure_ascii=False), log_level=logging.DEBUG)


class Desk:
    """Where calls are worked on: a few at once, in threads, and clients hear of those that last."""

    def __init__(self) -> None:
        self._at_once = anyio.CapacityLimiter(AT_ONCE)

    async def answered(self, context: Context, what: str, work: Callable[[], T]) -> T:
        """What `work` returns. Errors of ours reach the client as they are.

        A defect is logged, and the client hears that there is one.
        """
        done = anyio.Event()

        async def signs_of_life() -> None:
            waited = 0.0
            while True:
                with anyio.move_on_after(QUIET_SECONDS):
                    await done.wait()
                    return
                waited += QUIET_SECONDS
                await context.report_progress(waited, message=f"{what}: at work for {waited:.0f} s")

        outcome: T | _Failure
        async with anyio.create_task_group() as group:
            group.start_soon(signs_of_life)
            try:
                outcome = await anyio.to_thread.run_sync(_told, work, limiter=self._at_once)
            finally:
                done.set()
        if isinstance(outcome, _Failure):
            raise refusal(outcome.data)
        return outcome


@dataclass(frozen=True, slots=True)
class _Failure:
    data: dict[str, Any]


def _told(work: Callable[[], T]) -> T | _Failure:
    try:
        return work()
    except AthenaError as error:
        return _Failure(described(error))
    except Exception:  # the boundary: a defect ends one call, is logged here, and no more is told
        logger.exception("a tool failed")
        return _Failure(
            {
                "code": "internal",
                "field": None,
                "message": "this is a defect of athena; the server's log has the details",
                "right": "tell whoever runs the server",
            }
        )


async def guarded(context: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """Middleware: whatever goes wrong in a tool call is an answer, structured, without a trace."""
    if context.method != "tools/call":
        return await call_next(context)
    try:
        return await call_next(context)
    except ValidationError as error:
        return _failed(_invalid(error))
    except NotFoundError:
        return _failed(
            {
                "code": "unknown_tool",
                "field": "name",
                "message": f"there is no tool {str(context.message.name)[:100]!r}",
                "right": "one of those that tools/list names; a server that was started with "
                "--read-only leaves out what writes",
            }
        )
    except ToolError as error:
        return _failed(_of_tool(str(error)))


def _of_tool(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict) and "code" in data:
        return data
    return {"code": "internal", "field": None, "message": text, "right": ""}


def _invalid(error: Exception) -> dict[str, Any]:
    """Every argument that is wrong, and what it should be; never what was given."""
    cause = error.__cause__
    if cause is None or not hasattr(cause, "errors"):
        return {"code": "invalid_arguments", "field": None, "message": str(error), "right": ""}
    found = cause.errors(include_input=False, include_url=False, include_context=False)
    wrong = [
        (".".join(str(part)[:100] for part in d["loc"]) or "arguments", str(d["msg"])[:300])
        for d in found[:10]
    ]
    return {
        "code": "invalid_arguments",
        "field": wrong[0][0] if wrong else None,
        "message": "; ".join(f"{field}: {message}" for field, message in wrong),
        "right": "arguments as the tool's input schema has them",
    }


def _failed(data: dict[str, Any]) -> Any:
    return ToolResult(
        content=json.dumps(data, ensure_ascii=False), structured_content=data, is_error=True
    )
