"""Why a run is late: the shares add up to the slip, whatever happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.why import Cause, why
from tests.schedule.standings import plans

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


def _monitor(plan: Plan) -> tuple[ExecutionMonitor, VirtualClock]:
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    return ExecutionMonitor(plan, context, samples=200), clock


def _run(monitor: ExecutionMonitor, clock: VirtualClock, steps: list[tuple[str, float, float]],
         running: bool = False) -> None:  # fmt: skip
    """Tasks one after the other: (task, seconds waited, seconds taken)."""
    for number, (task, gap, lasts) in enumerate(steps):
        start = clock.advance(timedelta(seconds=gap))
        resources = dict(monitor.plan.get_task(task).resources)
        monitor.record_task_start(task, start, resources)
        end = clock.advance(timedelta(seconds=lasts))
        if running and number == len(steps) - 1:
            return
        monitor.record_task_completion(
            task, end, timedelta(seconds=lasts), resources, TaskOutcome.SUCCESS
        )


@settings(max_examples=60, deadline=None)
@given(plans(uncertain=True), st.data())
def test_shares_add_up_to_the_slip(plan: Plan, data: st.DataObject) -> None:
    monitor, clock = _monitor(plan)
    count = data.draw(st.integers(0, len(plan.tasks)))
    seconds = st.integers(0, 8).map(float)
    steps = [(t.id, data.draw(seconds), data.draw(seconds)) for t in plan.tasks[:count]]
    _run(monitor, clock, steps, running=data.draw(st.booleans()))
    found = why(monitor)
    deviation = monitor.get_plan_deviation()
    assert found.slip is not None and deviation.time_deviation is not None
    assert found.slip == pytest.approx(deviation.time_deviation, abs=timedelta(milliseconds=1))
    total = sum((s.amount for s in found.shares), timedelta(0))
    assert total.total_seconds() == pytest.approx(found.slip.total_seconds(), abs=0.05)
    assert set(found.chain) <= set(plan.task_ids)


def _chain(*, side: bool = False, **more: Any) -> Plan:
    tasks = [
        {"id": "a", "duration": 100},
        {"id": "b", "duration": 100, "depends_on": ["a"]},
        {"id": "c", "duration": 100, "depends_on": ["b"]},
        *([{"id": "side", "duration": 150, "depends_on": ["a"]}] if side else []),
    ]
    return Plan.model_validate({"name": "chain", "tasks": tasks, **more})


def test_what_took_longer_and_what_waited_are_told_apart() -> None:
    monitor, clock = _monitor(_chain())
    _run(monitor, clock, [("a", 0.0, 130.0), ("b", 20.0, 90.0)])
    found = why(monitor)
    assert found.slip == timedelta(seconds=40) and found.chain == ("a", "b", "c")
    told = {(s.cause, s.task_id): s.amount.total_seconds() for s in found.shares}
    assert told == {
        (Cause.DURATION, "a"): 30.0,
        (Cause.WAIT, "b"): 20.0,
        (Cause.DURATION, "b"): -10.0,
    }
    assert str(found.shares[0]) == "a took 30s longer than planned"
    assert found.as_dict()["slip"] == 40.0


def test_a_chain_with_float_says_how_much_it_used_up() -> None:
    monitor, clock = _monitor(_chain(side=True, runner={"max_workers": 4}))
    _run(monitor, clock, [("a", 0.0, 100.0)])
    monitor.record_task_start("side", clock.now(), {})
    clock.advance(timedelta(seconds=400))
    monitor.record_task_completion("side", clock.now(), 400.0, {}, TaskOutcome.SUCCESS)
    found = why(monitor)
    assert found.slip is not None and found.slip > timedelta(seconds=100)
    total = sum((s.amount for s in found.shares), timedelta(0))
    assert total == pytest.approx(found.slip, abs=timedelta(milliseconds=1))


def test_a_run_without_a_forecast_says_why() -> None:
    monitor, clock = _monitor(_chain())
    monitor.record_task_start("a", clock.now(), {})
    monitor.record_task_completion("a", clock.now(), 0.0, {}, TaskOutcome.FAILURE)
    found = why(monitor)
    assert found.slip is None and "a failed" in found.reason and found.shares == ()
