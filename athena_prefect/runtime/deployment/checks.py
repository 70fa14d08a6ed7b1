"""Scheduled deployments of a plan's assumptions that are checked whether it runs or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from athena_prefect.plan.model import Assumption, Schedule, ValidationMethod
from athena_prefect.runtime.deployment.desired import ExtraDeployment, PlannedFlow
from athena_prefect.runtime.deployment.state import FlowFile

FLOW = "check-assumption"
FILE = "flows/check_assumption.py"
ENTRYPOINT = f"{FILE}:check_assumption"
SHORTEST = timedelta(seconds=60)
"""A scheduled run takes seconds to begin: what is checked more often is checked only while the
plan runs, beside it."""

_TEXT = '''\
"""Checks one assumption of a plan now; scheduled for those that are checked always."""

from pathlib import Path
from typing import Any

from prefect import flow

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.service.checking import check_scheduled


@flow(name="check-assumption")
def check_assumption(plan: str, assumption: str) -> dict[str, Any]:
    """One check of `assumption` of the plan document `plan`, a path below the project."""
    document = Path(__file__).parents[1] / plan
    return check_scheduled(document, assumption, settings=current_settings()).as_dict()
'''


def scheduled(assumption: Assumption) -> bool:
    """Whether an assumption has a deployment of its own."""
    frequency = assumption.validation_frequency
    return (
        assumption.active == "always"
        and assumption.check is not None
        and assumption.validation_method is not ValidationMethod.MANUAL
        and frequency is not None
        and frequency >= SHORTEST
    )


def check_deployments(flows: Sequence[PlannedFlow]) -> Iterator[ExtraDeployment]:
    """``<plan>.check.<assumption>`` for each that is scheduled, with its frequency as interval."""
    for found in flows:
        for assumption in found.plan.assumptions:
            if not scheduled(assumption):
                continue
            yield ExtraDeployment(
                plan=found.plan.name,
                part=f"check.{assumption.id}",
                flow=FLOW,
                entrypoint=ENTRYPOINT,
                schedule=Schedule(interval=assumption.validation_frequency),
                parameters={"plan": found.document, "assumption": assumption.id},
                parameter_schema=_schema(),
                description=assumption.description or f"Checks {assumption.id}",
            )


def check_file() -> FlowFile:
    """The checking flow's file, as a new project has it."""
    return FlowFile(path=FILE, text=_TEXT)


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
