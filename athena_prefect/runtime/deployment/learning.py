"""The learning flow, once a namespace: after each finished run, and every night."""

from __future__ import annotations

from datetime import timedelta

from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.files import shipped
from athena_prefect.runtime.deployment.state import Automation, FlowFile
from athena_prefect.runtime.deployment.triggered import started_by

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
    return tuple(
        FlowFile(path=path, text=(shipped() / path).read_text(encoding="utf-8"))
        for path in (FILE, STEPS)
    )


def automation_name(namespace: str) -> str:
    """The name of the automation that starts the learning flow."""
    return names.deployment_name("athena: learn from finished runs", namespace)


def learning_automation(namespace: str) -> Automation:
    """The automation that starts the learning flow for the plan of a run that has ended."""
    return started_by(
        ENDS,
        namespace=namespace,
        name=automation_name(namespace),
        description="What a finished run teaches is learned",
        flow=FLOW,
        parameters={"plan": "{{ event.payload.plan }}"},
    )
