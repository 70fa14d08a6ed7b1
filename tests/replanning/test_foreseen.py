"""One promise, one number: what was promised at adoption is what everybody tells afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import CheckEvent, RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.need import Watch
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.replanning.why import why
from tests.replanning.pasts import one_after_another
from tests.replanning.test_engine import T0, _do, _engine

RUN = UUID(int=1)


def _plan() -> Plan:
    tasks = [
        {"id": f"t{k}", "duration": 100, "category": f"c{k % 3}",
         "depends_on": [f"t{k - 1}"] if k else []}
        for k in range(12)
    ]  # fmt: skip
    return Plan.model_validate(
        {"name": "p", "deadline": 1400, "tasks": tasks, "replanning": {"cooldown": 0}}
    )


def _adopted(**more: Any) -> tuple[ReplanResult, ExecutionMonitor]:
    """A revision of a run with history and a task with troubles of its own, in force.

    `more`: what the event says otherwise; None takes it out.
    """
    plan, clock = _plan(), VirtualClock(T0)
    history: History = one_after_another(plan, runs=0.1, tasks=0.05)
    context = ExecutionContext(plan_run=RUN, clock=clock, started_at=T0, journal=MemoryJournal())
    monitor = ExecutionMonitor(plan, context, samples=100, history=history)
    for k, seconds in enumerate((100.0, 100.0, 300.0, 100.0)):
        _do(monitor, clock, f"t{k}", seconds)
    result = _engine(monitor).full_replan("late", {"budget_s": 0.1})
    data = {**result.acceptance, "modes": {}, **more}
    context.journal.append(
        RunEvent(
            plan_run=RUN, kind=RunEventKind.REVISED, at=clock.now(), source="2",
            data={k: v for k, v in data.items() if v is not None},
        )
    )  # fmt: skip
    return result, ExecutionMonitor(result.new_plan, context, samples=100, history=history)


def test_what_was_promised_by_history_is_not_reckoned_anew() -> None:
    result, monitor = _adopted()
    assert result.accepted_finish is not None and monitor.accepted_finish is not None
    promised = (monitor.accepted_finish - T0) / timedelta(seconds=1)
    assert promised == pytest.approx(result.acceptance["accepted"], abs=1e-6)
    assert abs(monitor.accepted_finish - result.accepted_finish) < timedelta(milliseconds=1)
    deviation = monitor.get_plan_deviation()
    assert deviation.accepted_finish == monitor.accepted_finish
    # What it is held against is a forecast: nothing slips by being adopted.
    assert deviation.slip == 0.0 and why(monitor).slip == timedelta(0)


def test_what_was_promised_before_forecasts_were_kept_is_reckoned_as_it_was() -> None:
    result, monitor = _adopted(forecast=None)
    assert monitor.accepted_finish is not None
    promised = (monitor.accepted_finish - T0) / timedelta(seconds=1)
    # The forecast takes the trouble of one task for the pace of the run; see `from_history`.
    assert promised > result.acceptance["accepted"] + 10.0
    assert monitor.get_plan_deviation().slip == 0.0


def test_p_deadline_falls_from_the_forecast_at_adoption() -> None:
    result, monitor = _adopted()
    engine = _engine(monitor)
    watch = Watch(monitor=monitor, orchestrator=engine.orchestrator, policy=monitor.policy)
    known = watch._accepted_probability()
    assert known == monitor.get_plan_deviation().deadline_probability
    assert known != pytest.approx(result.p_deadline, abs=0.05), "what is promised knows more"


def _monitor(document: dict[str, Any]) -> tuple[ExecutionMonitor, VirtualClock]:
    plan, clock = Plan.model_validate({"name": "p", **document}), VirtualClock(T0)
    context = ExecutionContext(plan_run=RUN, clock=clock, started_at=T0, journal=MemoryJournal())
    return ExecutionMonitor(plan, context, samples=60), clock


def _violated(monitor: ExecutionMonitor, clock: VirtualClock) -> None:
    monitor.record_check(
        CheckEvent(
            plan_run=RUN, assumption_id="a", check_id="1", at=clock.now(), verdict="violated",
            data={"value": 0},
        )
    )  # fmt: skip


def test_a_failed_task_with_tries_left_is_held_back_by_a_violation_too() -> None:
    assumption = {"id": "a", "affects": ["t"], "milestones": [{"at": "start"}]}
    monitor, clock = _monitor(
        {
            "tasks": [{"id": "t", "duration": 10, "retries": 1, "optional": True},
                      {"id": "u", "duration": 5, "depends_on": [{"task": "t", "kind": "soft"}]}],
            "assumptions": [assumption | {"effect": {"block": True}}],
        }
    )  # fmt: skip
    monitor.record_task_start("t", clock.now(), {})
    clock.advance(timedelta(seconds=10))
    monitor.record_task_completion("t", clock.now(), None, {}, TaskOutcome.FAILURE)
    _violated(monitor, clock)
    assert "t" in monitor.brought_up()[1].tally.stopped
    # `u` waits for nothing any more, as by a revision that leaves `t` out.
    finish = monitor.get_plan_deviation().estimated_completion
    assert finish == T0 + timedelta(seconds=15)


def test_what_runs_under_a_factor_has_it_in_the_order_of_a_revision() -> None:
    assumption = {"id": "a", "affects": ["t"], "milestones": [{"at": "start"}]}
    monitor, clock = _monitor(
        {
            "tasks": [{"id": "t", "duration": 100},
                      {"id": "u", "duration": 5, "depends_on": ["t"]}],
            "assumptions": [assumption | {"effect": {"duration_factor": 0.5}}],
        }
    )  # fmt: skip
    monitor.record_task_start("t", clock.now(), {})
    clock.advance(timedelta(seconds=10))
    _violated(monitor, clock)
    progress = monitor.brought_up()[1]
    starts = {"t": 0.0, "u": 50.0}
    monitor.context.journal.append(
        RunEvent(
            plan_run=RUN, kind=RunEventKind.REVISED, at=clock.now(), source="2",
            data={"revision": 2, "p50": 55.0, "accepted": 55.0, "starts": starts},
        )
    )  # fmt: skip
    later = ExecutionMonitor(monitor.plan, monitor.context, samples=60)
    chain = later.brought_up()[1].chain
    assert progress.chain.factors == {"t": 0.5} and chain.as_promised


def test_a_failed_task_that_is_left_out_is_not_done_again_as_well() -> None:
    monitor, clock = _monitor(
        {
            "deadline": 60,
            "tasks": [{"id": "o", "duration": 50, "optional": True, "rerunnable": True},
                      {"id": "u", "duration": 40, "depends_on": ["o"]}],
            "goals": ["u"],
        }
    )  # fmt: skip
    monitor.record_task_start("o", clock.now(), {})
    clock.advance(timedelta(seconds=10))
    monitor.record_task_completion("o", clock.now(), None, {}, TaskOutcome.FAILURE)
    engine = _engine(monitor)
    options = engine.get_replanning_options(
        monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
    )
    kinds = [
        {c.kind for c in o.proposal.changes if c.subject == "o"}
        for o in options if o.proposal is not None
    ]  # fmt: skip
    assert {ChangeKind.DROPPED} in kinds
    assert all(not {ChangeKind.AGAIN, ChangeKind.DROPPED} <= k for k in kinds)
