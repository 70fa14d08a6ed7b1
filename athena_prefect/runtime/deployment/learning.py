"""The learning flow, once a namespace: after each finished run, and every night."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.state import Automation, FlowFile

FLOW = "learn"
"""The learning flow's name, and its deployment's."""
FILE = "flows/learn.py"
STEPS = "tasks/learning.py"
ENTRYPOINT = f"{FILE}:learn"
EVERY = timedelta(days=1)
"""What nobody heard of, such as a run whose end was not told, is learned from a day later."""
AT_ONCE = 1
"""Learning runs at once: two would read the same runs, and lessons take turns anyway."""
ENDS = ("athena.plan.aborted", "athena.plan.completed", "athena.plan.failed")
"""Events after which there is a finished run more to learn from."""


def learn_files() -> tuple[FlowFile, ...]:
    """The learning flow's file and that of its steps, as a new project has them."""
    from athena_prefect.runtime.deployment.flows import shipped

    return tuple(
        FlowFile(path=path, text=(shipped() / path).read_text(encoding="utf-8"))
        for path in (FILE, STEPS)
    )


def learn_parameters() -> dict[str, Any]:
    """The parameter schema of the learning flow."""
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


def automation_name(namespace: str) -> str:
    """The name of the automation that starts the learning flow."""
    return names.deployment_name("athena: learn from finished runs", namespace)


def learning_automation(namespace: str) -> Automation:
    """The automation that starts the learning flow for the plan of a run that has ended."""
    deployment = names.deployment_name(FLOW, namespace)
    plan = {"__prefect_kind": "jinja", "template": "{{ event.payload.plan }}"}
    return Automation(
        name=automation_name(namespace),
        description="What a finished run teaches is learned",
        tags=(names.OURS, names.namespace_tag(namespace)),
        trigger={
            "type": "event",
            "posture": "Reactive",
            "after": [],
            "expect": list(ENDS),
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
                "deployment": f"{FLOW}/{deployment}",
                "parameters": {"plan": plan},
            },
        ),
    )
