"""Flows of ours that an event of a plan starts: their automation, files and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.state import Automation


def started_by(
    events: Sequence[str],
    *,
    namespace: str,
    name: str,
    description: str,
    flow: str,
    parameters: Mapping[str, str],
) -> Automation:
    """The automation that starts the namespace's deployment of `flow` at each of `events`.

    `parameters` are templates, filled in from the event.
    """
    return Automation(
        name=name,
        description=description,
        tags=(names.OURS, names.namespace_tag(namespace)),
        trigger={
            "type": "event",
            "posture": "Reactive",
            "after": [],
            "expect": list(events),
            "for_each": [],
            "threshold": 1,
            "within": 0.0,
            "match": {"prefect.resource.id": "athena.plan.*", "athena.namespace": namespace},
            "match_related": {},
        },
        actions=(
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment": f"{flow}/{names.deployment_name(flow, namespace)}",
                "parameters": {
                    key: {"__prefect_kind": "jinja", "template": template}
                    for key, template in parameters.items()
                },
            },
        ),
    )


def plan_or_all() -> dict[str, Any]:
    """The parameter schema of a flow that takes one plan's name, or none for all of them."""
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {
            "plan": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
                "position": 0,
                "title": "plan",
            }
        },
    }


def replan_parameters() -> dict[str, Any]:
    """The parameter schema of the replanning flow."""
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {
            "plan_run": {"type": "string", "position": 0, "title": "plan_run"},
            "trigger": {"type": "string", "default": "", "position": 1, "title": "trigger"},
        },
        "required": ["plan_run"],
    }
