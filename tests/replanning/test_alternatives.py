"""Options of a run that would be in time as it is, and results of replans that came to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from athena_prefect.errors import PlanError
from athena_prefect.journal.events import TaskOutcome
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, dominates
from tests.replanning.test_engine import _do, _engine, _monitored


def _plan(**more: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "resources": {"cpu": {"capacity": 4, "cost_per_hour": 6}},
            "tasks": [
                {"id": "a", "duration": 100, "resources": {"cpu": 1}},
                {"id": "b", "duration": 100, "resources": {"cpu": 1}, "depends_on": ["a"],
                 "modes": [{"name": "wide", "duration": 60, "resources": {"cpu": 4}}]},
                {"id": "c", "duration": 100, "resources": {"cpu": 1}, "depends_on": ["b"],
                 "modes": [{"name": "rough", "duration": 50, "resources": {"cpu": 1},
                            "quality": 0.9}]},
                {"id": "d", "duration": 100, "resources": {"cpu": 1}, "depends_on": ["c"],
                 "optional": True, "value": 0.3},
                {"id": "e", "duration": 100, "resources": {"cpu": 1},
                 "depends_on": ["c", {"task": "d", "kind": "soft"}]},
            ],
            "goals": ["e"],
            "replanning": {"cooldown": 0},
            **more,
        }
    )  # fmt: skip


def test_ending_earlier_for_more_is_an_alternative_where_the_deadline_holds_as_well() -> None:
    monitor, clock = _monitored(_plan(deadline="1h"))
    _do(monitor, clock, "a", 200)
    engine = _engine(monitor)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is not AdaptiveReplanning.NONE and found.p_deadline == 1.0
    options = engine.get_replanning_options(
        monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
    )
    kinds = [o.kind for o in options]
    # Cutting the soft dependency costs nothing, so that what keeps it is never better.
    assert kinds[0] is Kind.PARALLELIZE and kinds[-1] is Kind.ABORT
    real = options[:-1]
    assert len(options) >= 4, kinds
    assert not any(dominates(a, b) for a in real for b in real)
    assert all(o.proposal is not None and o.proposal.feasible for o in real)
    assert all(o.in_time == 1.0 for o in real)
    chosen = engine.recommended_option(AdaptiveReplanning.FULL)
    assert chosen is not None
    assert options[chosen].price == min(o.price for o in real), "the cheapest that is in time"


def test_a_replan_that_does_not_get_to_the_goals_promises_nothing() -> None:
    monitor, clock = _monitored(_plan(deadline="1h"))
    _do(monitor, clock, "a", 100, TaskOutcome.FAILURE)
    engine = _engine(monitor)
    result = engine.full_replan("try", {})
    assert not result.verification_passed and "a, which a goal needs" in result.why_not
    assert result.confidence is None and result.p_deadline is None
    assert result.finish is None and result.accepted_finish is None
    (abort,) = engine.get_replanning_options(monitor.get_plan_deviation(), [])
    assert str(abort.cost_impact) == "0.0"


@pytest.mark.parametrize("number", [0, -1, 2.5, True, "3"])
def test_a_segment_has_a_whole_number_of_tasks(number: Any) -> None:
    monitor, _ = _monitored(_plan())
    with pytest.raises(PlanError, match="whole number"):
        _engine(monitor).replan_segment("b", number, {})
