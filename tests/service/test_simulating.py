"""A plan before any run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from athena_prefect.plan.model import Plan
from athena_prefect.service.simulating import simulate_plan
from tests.service.levers import LEVERS


def test_a_plan_is_simulated_before_any_run(tmp_path: Path) -> None:
    file = tmp_path / "levers.yaml"
    file.write_text(LEVERS)
    found = simulate_plan(file)
    # get, clean, put, extra; one after the other but for extra.
    assert found.deadline == 40.0 and found.p_deadline == 0.0
    assert found.quantiles["p50"] == 70.0 and found.samples == 1
    assert set(found.scenarios) == {"best", "nominal", "worst", "edge", "recovery"}
    assert found.scenarios["recovery"] == 100.0, "the longest critical task is done twice"
    assert found.criticality == {"get": 1.0, "clean": 1.0, "put": 1.0, "extra": 1.0}
    fast, nothing = found.assumptions
    assert fast.assumption_id == "fast" and fast.finish == timedelta(seconds=40)
    assert nothing.finish is None and nothing.reason == "the plan declares no effect"
    unknown = Plan.model_validate({"name": "u", "tasks": [{"id": "a", "call": "json:dumps"}]})
    assert "no duration is known of a" in simulate_plan(unknown).reason


def test_what_keeps_the_goals_from_being_reached_hurts_most() -> None:
    blocks = {"id": "disk", "affects": ["a"], "milestones": [{"at": "start"}],
              "effect": {"block": True}}  # fmt: skip
    slow = blocks | {"id": "slow", "effect": {"duration_factor": 2.0}}
    aside = blocks | {"id": "aside", "affects": ["b"]}
    document = {
        "name": "p", "deadline": 100, "goals": ["a"], "assumptions": [slow, aside, blocks],
        "tasks": [{"id": "a", "duration": 10}, {"id": "b", "duration": 5, "optional": True}],
    }  # fmt: skip
    found = simulate_plan(Plan.model_validate(document)).assumptions
    assert [h.assumption_id for h in found] == ["disk", "slow", "aside"]
    assert found[0].blocks and found[0].p_deadline == 0.0
    assert found[0].reason == "blocks a: the goals would not be reached"
    assert found[2].reason == "blocks b, which no goal needs" and not found[2].blocks
