"""Assumptions that are checked always get a deployment each; no server is needed to say so."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.checks import FILE, check_deployments, check_file
from athena_prefect.runtime.deployment.desired import PlannedFlow

ROOT = Path(__file__).parents[2]


def test_only_what_is_checked_always_and_by_itself_is_scheduled() -> None:
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
    (found,) = check_deployments([flow])
    assert found.part == "check.yes" and found.schedule is not None
    assert found.schedule.interval == timedelta(minutes=5)
    assert found.parameters == {"plan": "deployments/shop/plan.yaml", "assumption": "yes"}


def test_the_flow_s_file_is_the_one_that_ships() -> None:
    assert (ROOT / FILE).read_text("utf-8") == check_file().text
