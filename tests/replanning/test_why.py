"""Why a run is late: the shares add up to the slip, whatever happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.why import Cause, why
from tests.schedule.standings import plans

SUCCESS = TaskOutcome.SUCCESS
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


def _two(**more: Any) -> Plan:
    """Two tasks side by side, and one behind both."""
    tasks = [
        {"id": "a", "duration": 100, "resources": {"cpu": 1}},
        {"id": "b", "duration": 100, "resources": {"cpu": 1}},
        {"id": "c", "duration": 50, "depends_on": ["a", "b"]},
    ]
    return Plan.model_validate(
        {"name": "two", "resources": {"cpu": {"capacity": 2}}, "tasks": tasks, **more}
    )


def _told(monitor: ExecutionMonitor) -> list[tuple[Cause, float, str]]:
    """The shares, which add up to the slip."""
    validator = AssumptionValidator(monitor.plan, monitor)
    found = why(monitor, validator.get_violated_assumptions())
    assert found.slip is not None
    assert sum((s.amount for s in found.shares), timedelta(0)) == found.slip
    return [(s.cause, s.amount.total_seconds(), str(s)) for s in found.shares]


def test_before_anything_happens_there_is_no_share_whatever_the_spread() -> None:
    wide = {"optimistic": 10, "likely": 50, "pessimistic": 400}
    plan = Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a", "duration": wide}, {"id": "b", "duration": wide}]}
    )
    assert _told(_monitor(plan)[0]) == []


def test_what_waits_for_a_resource_says_for_which_and_who_holds_it() -> None:
    assumption = {
        "id": "cores", "affects": ["a", "b"], "milestones": [{"at": "start"}],
        "expected_value": 2, "effect": {"capacity": {"cpu": "observed"}},
    }  # fmt: skip
    monitor, _ = _monitor(_two(assumptions=[assumption]))
    AssumptionValidator(monitor.plan, monitor).check_assumption("cores", {"cpu": 1}, "external")
    assert _told(monitor) == [
        (Cause.RESOURCE, 100.0, "b waits 1m40s for cpu, which a holds (cores violated)")
    ]


def test_a_task_that_a_violation_lengthens_says_so() -> None:
    slow = {
        "id": "fast", "affects": ["b"], "milestones": [{"at": "start"}],
        "effect": {"duration_factor": 1.5},
    }  # fmt: skip
    monitor, _ = _monitor(_two(assumptions=[slow]))
    AssumptionValidator(monitor.plan, monitor).check_assumption("fast", {"ok": False}, "external")
    assert _told(monitor) == [
        (Cause.DURATION, 50.0, "b will take 50s longer than planned (fast violated)")
    ]


def test_float_that_a_chain_uses_up_is_less_than_nothing() -> None:
    monitor, clock = _monitor(_chain(side=True, runner={"max_workers": 4}))
    monitor.record_task_start("a", clock.now(), {})
    monitor.record_task_completion("a", clock.advance(timedelta(seconds=100)), None, {}, SUCCESS)
    monitor.record_task_start("side", clock.now(), {})
    clock.advance(timedelta(seconds=400))
    monitor.record_task_completion("side", clock.now(), None, {}, SUCCESS)
    assert _told(monitor) == [(Cause.WAIT, 400.0, "b has not begun 6m40s after it could")]
    monitor, clock = _monitor(_chain(side=True, runner={"max_workers": 4}))
    monitor.record_task_start("a", clock.now(), {})
    monitor.record_task_completion("a", clock.advance(timedelta(seconds=100)), None, {}, SUCCESS)
    for task in ("b", "side"):
        monitor.record_task_start(task, clock.now(), {})
    for task, seconds in (("b", 100), ("c", 100), ("side", 200)):
        if task == "c":
            monitor.record_task_start("c", clock.now(), {})
        clock.advance(timedelta(seconds=seconds))
        monitor.record_task_completion(task, clock.now(), None, {}, SUCCESS)
    assert _told(monitor) == [
        (Cause.DURATION, 250.0, "side took 4m10s longer than planned"),
        (Cause.CHAIN, -50.0, "by itself this chain was to end 50s before what was accepted"),
    ]


def test_after_a_replan_it_is_told_what_went_wrong_since() -> None:
    monitor, clock = _monitor(_chain())
    _run(monitor, clock, [("a", 0.0, 200.0)])
    assert [t for _, _, t in _told(monitor)] == ["a took 1m40s longer than planned"]
    journal, run = monitor.context.journal, monitor.context.plan_run
    promised = {"revision": 2, "p50": 400.0, "accepted": 400.0, "modes": {}}
    journal.append(
        RunEvent(plan_run=run, kind=RunEventKind.REVISED, at=clock.now(), source="2", data=promised)
    )
    monitor.refresh()
    assert _told(monitor) == []
    _run(monitor, clock, [("b", 30.0, 110.0)])
    assert _told(monitor) == [
        (Cause.WAIT, 30.0, "b began 30s after it was planned to"),
        (Cause.DURATION, 10.0, "b took 10s longer than planned"),
    ]


def test_an_attempt_that_failed_before_is_told() -> None:
    document = as_dict(_chain())
    document["tasks"][0]["retries"] = 1
    monitor, clock = _monitor(Plan.model_validate(document))
    monitor.record_task_start("a", clock.now(), {})
    clock.advance(timedelta(seconds=40))
    monitor.record_task_completion("a", clock.now(), None, {}, TaskOutcome.FAILURE)
    _run(monitor, clock, [("a", 0.0, 100.0)])
    assert _told(monitor) == [
        (Cause.WAIT, 40.0, "a began 40s after it was planned to, after 1 earlier attempt")
    ]


def test_a_run_without_a_forecast_says_why() -> None:
    monitor, clock = _monitor(_chain())
    monitor.record_task_start("a", clock.now(), {})
    monitor.record_task_completion("a", clock.now(), 0.0, {}, TaskOutcome.FAILURE)
    found = why(monitor)
    assert found.slip is None and "a failed" in found.reason and found.shares == ()
