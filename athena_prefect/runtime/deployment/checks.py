"""Scheduled deployments of a plan's assumptions: active while it runs, or always."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from athena_prefect.plan.model import Assumption, Schedule, ValidationMethod
from athena_prefect.runtime.deployment.state import FlowFile
from athena_prefect.runtime.deployment.wanted import ExtraDeployment, PlannedFlow

FLOW = "check-assumption"
FILE = "flows/check_assumption.py"
STEPS = "tasks/assumptions.py"
WHILE_RUNNING = "athena-check:runs"
"""The tag of those that are active only while a run of their plan lives."""
ENTRYPOINT = f"{FILE}:check_assumption"
SHORTEST = timedelta(seconds=60)
"""A scheduled run takes seconds to begin: what is checked more often is checked beside the run."""

_TEXT = '''\
"""Checks one assumption of a plan now, by its schedule: while the plan runs, or always."""

from pathlib import Path
from typing import Any

from prefect import flow

from athena_prefect.plan.references import put_first
from athena_prefect.runtime.naming import service_run_name

# Loaded from wherever it is: its steps are those of its own project.
put_first(Path(__file__).parents[1])

from tasks.assumptions import check, pause  # noqa: E402


@flow(name="check-assumption", flow_run_name=service_run_name)
def check_assumption(plan: str, assumption: str) -> dict[str, Any]:
    """One check of `assumption` of the plan document `plan`, a path below the project."""
    document = Path(__file__).parents[1] / plan
    found = check(document, assumption)
    if not found["needed"]:
        pause(document)
    return found
'''

_STEPS = '''\
"""Steps of `flows/check_assumption.py`: one assumption is checked as its schedule asks."""

from pathlib import Path
from typing import Any

from prefect import task

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.service.checking import check_scheduled, pause_unneeded


@task(name="check", task_run_name="check {assumption}")
def check(document: Path, assumption: str) -> dict[str, Any]:
    """Make the check for each live run that leaves it to the schedule, and write it down."""
    return check_scheduled(document, assumption, settings=current_settings()).as_dict()


@task(name="pause schedules that no run needs")
def pause(document: Path) -> int:
    """Where a run's process vanished, nobody has paused the schedules of its plan."""
    return pause_unneeded(document, settings=current_settings())
'''


def scheduled(assumption: Assumption) -> bool:
    """Whether an assumption has a deployment of its own."""
    frequency = assumption.validation_frequency
    return (
        assumption.check is not None
        and assumption.validation_method is not ValidationMethod.MANUAL
        and frequency is not None
        and frequency >= SHORTEST
    )


def check_deployments(
    flows: Sequence[PlannedFlow], *, served: bool = False
) -> Iterator[ExtraDeployment]:
    """``<plan>.check.<assumption>`` for each that is scheduled, with its frequency as interval.

    Where the plan is `served` by a process of our own its runs make their checks
    themselves; only what is checked always has a schedule then.
    """
    for found in flows:
        for assumption in found.plan.assumptions:
            always = assumption.active == "always"
            if not scheduled(assumption) or (served and not always):
                continue
            yield ExtraDeployment(
                plan=found.plan.name,
                part=f"check.{assumption.id}",
                flow=FLOW,
                entrypoint=ENTRYPOINT,
                schedule=Schedule(interval=assumption.validation_frequency),
                active=always,
                tags=() if always else (WHILE_RUNNING,),
                limit=1,  # never two of the same check, and after a night without a worker one
                parameters={"plan": found.document, "assumption": assumption.id},
                parameter_schema=_schema(),
                description=assumption.description or f"Checks {assumption.id}",
            )


def check_files() -> tuple[FlowFile, FlowFile]:
    """The checking flow's file and its steps', as a new project has them."""
    return FlowFile(path=FILE, text=_TEXT), FlowFile(path=STEPS, text=_STEPS)


def _schema() -> dict[str, Any]:
    names = ("plan", "assumption")
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {
            name: {"type": "string", "position": place, "title": name}
            for place, name in enumerate(names)
        },
        "required": list(names),
    }
