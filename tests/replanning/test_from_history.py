"""Promises of a run with history: a task with troubles of its own is no pace."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest

from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.from_history import others_median
from athena_prefect.schedule.robustness import Robustness
from tests.replanning.pasts import one_after_another
from tests.replanning.test_engine import T0, _do, _engine

CATEGORIES = 3


def _plan() -> Plan:
    tasks = [
        {"id": f"t{k}", "duration": 100, "category": f"c{k % CATEGORIES}",
         "depends_on": [f"t{k - 1}"] if k else []}
        for k in range(12)
    ]  # fmt: skip
    return Plan.model_validate(
        {"name": "p", "deadline": 3000, "tasks": tasks, "replanning": {"cooldown": 0}}
    )


def _carried_on(*lasts: float) -> tuple[Robustness, float]:
    """What carrying on promises after tasks that took so long; and P50 of the forecast."""
    plan = _plan()
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(
        plan, context, samples=100, history=one_after_another(plan, runs=0.1, tasks=0.05)
    )
    for k, seconds in enumerate(lasts):
        _do(monitor, clock, f"t{k}", seconds)
    deviation = monitor.get_plan_deviation()
    found = _engine(monitor).get_replanning_options(
        deviation, [], strategy=AdaptiveReplanning.FULL
    )[0]
    assert found.proposal is not None and found.proposal.robustness is not None
    assert deviation.estimated_completion is not None
    return found.proposal.robustness, (deviation.estimated_completion - T0) / timedelta(seconds=1)


def test_one_task_with_troubles_of_its_own_makes_the_rest_no_slower() -> None:
    usual, _ = _carried_on(100.0, 100.0, 100.0, 100.0)
    late, forecast = _carried_on(100.0, 100.0, 300.0, 100.0)
    # The 200 s that it took longer, and nothing on top.
    assert late.p50 - usual.p50 == pytest.approx(200.0, abs=25.0)
    assert forecast > late.p50 + 50.0, "a forecast has no reason to look for strays"
    # Nothing slips by being adopted: that is told by the forecast.
    assert late.forecast_p50 == pytest.approx(forecast, rel=0.03)
    assert usual.forecast_p50 is None


def test_a_run_that_is_slow_as_a_whole_is_slow() -> None:
    slow, forecast = _carried_on(150.0, 150.0, 150.0, 150.0)
    assert slow.forecast_p50 is None and slow.p50 == pytest.approx(forecast, rel=0.03)
    assert slow.p50 > 1500.0


@pytest.mark.parametrize("size", [2, 3, 4, 7, 10])
def test_the_median_of_the_others(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size).round(1)  # with ties
    expected = [float(np.median(np.delete(values, k))) for k in range(size)]
    assert others_median(values).tolist() == pytest.approx(expected)
