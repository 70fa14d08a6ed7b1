"""Assumptions that schedules check get a deployment each; no server is needed to say so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.checks import (
    FILE,
    STEPS,
    WHILE_RUNNING,
    check_deployments,
    check_files,
)
from athena_prefect.runtime.deployment.wanted import PlannedFlow

ROOT = Path(__file__).parents[2]


def test_what_is_checked_by_itself_and_not_too_often_is_scheduled() -> None:
    memory = {"check": {"kind": "memory"}, "expected_value": 1}
    plan = Plan.model_validate(
        {
            "name": "shop",
            "tasks": [{"id": "a", "call": "json:dumps"}],
            "assumptions": [
                {"id": "yes", "active": "always", "validation_frequency": "5m", **memory},
                {"id": "often", "active": "always", "validation_frequency": "30s", **memory},
                {"id": "runs", "validation_frequency": "5m", **memory},
                {"id": "asked", "active": "always", "validation_frequency": "5m"},
                {"id": "moments", "active": "always", "milestones": [{"at": "start"}], **memory},
            ],
        }
    )
    flow = PlannedFlow(
        plan=plan, file="flows/shop.py", variable="shop", version="1", parameter_schema={},
        document="deployments/shop/plan.yaml",
    )  # fmt: skip
    yes, runs = check_deployments([flow])
    assert (yes.part, runs.part) == ("check.yes", "check.runs")
    assert yes.schedule is not None and yes.schedule.interval == timedelta(minutes=5)
    assert yes.parameters == {"plan": "deployments/shop/plan.yaml", "assumption": "yes"}
    assert yes.active and not runs.active, "a run sets it active, and the last one pauses it"
    assert yes.limit == runs.limit == 1, "never two of the same check"
    assert WHILE_RUNNING in runs.tags and not yes.tags
    # Where a process of ours serves the plan, its runs make their checks themselves.
    assert [e.part for e in check_deployments([flow], served=True)] == ["check.yes"]


def test_the_flow_s_files_are_those_that_ship() -> None:
    flow, steps = check_files()
    assert (flow.path, steps.path) == (FILE, STEPS)
    assert (ROOT / FILE).read_text("utf-8") == flow.text
    assert (ROOT / STEPS).read_text("utf-8") == steps.text
