"""What a caller may say happened, and what is refused: with a reason, and nothing recorded."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.errors import NaiveDatetimeError, RecordingError, UnknownNameError
from athena_prefect.journal.events import RunEvent, RunEventKind, TaskEvent, TaskOutcome
from athena_prefect.journal.state import ExecutionState, Status, evolve, fold
from athena_prefect.monitor.recording import completion_event, start_event
from athena_prefect.monitor.tally import Tally
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)

PLAN = Plan.model_validate(
    {
        "name": "small",
        "resources": {"cpu": {"capacity": 4}, "memory": {"capacity": 8}},
        "tasks": [
            {"id": "extract", "duration": "1h", "resources": {"cpu": 3}, "retries": 1},
            {"id": "side", "duration": "1h", "resources": {"cpu": 1}, "modes": [
                {"name": "wide", "duration": "30m", "resources": {"cpu": 2}}]},
            {"id": "hash", "duration": "1h", "inputs": {"files": "extract"}, "map_over": "files",
             "expected_items": 2},
        ],
    }
)  # fmt: skip
STARTED = fold([RunEvent(plan_run=UUID(int=1), kind=RunEventKind.STARTED, at=T0)])


def start(state: ExecutionState, task_id: str, at: datetime = T0, **values: Any) -> TaskEvent:
    tally = Tally(PLAN)
    for item in state.tasks:
        tally.update(state, item)
    allocated = values.pop("allocated", {})
    return start_event(PLAN, state, tally.running, task_id, at, allocated, started_at=T0, **values)


def end(state: ExecutionState, task_id: str, at: datetime = T0 + HOUR, **values: Any) -> TaskEvent:
    duration = values.pop("duration", None)
    used = values.pop("used", {})
    outcome = values.pop("outcome", TaskOutcome.SUCCESS)
    return completion_event(PLAN, state, task_id, at, duration, used, outcome, **values)


RUNNING = evolve(STARTED, start(STARTED, "extract", allocated={"cpu": 3}))
ENDED = evolve(RUNNING, end(RUNNING, "extract"))


def test_a_start_and_an_end_are_one_attempt() -> None:
    (attempt,) = ENDED.task("extract").attempts
    assert attempt.duration == HOUR and attempt.outcome is TaskOutcome.SUCCESS
    assert attempt.data["allocated"] == {"cpu": 3.0}


def test_other_zones_are_the_same_moment() -> None:
    from datetime import timezone

    there = T0.astimezone(timezone(timedelta(hours=5)))
    assert start(STARTED, "extract", there) == start(STARTED, "extract", T0)


@pytest.mark.parametrize("call", [start, end])
def test_a_naive_time_is_refused_with_the_remedy(call: Any) -> None:
    with pytest.raises(NaiveDatetimeError, match=r"datetime\.now\(UTC\)"):
        call(RUNNING, "side", datetime(2026, 1, 1))


@pytest.mark.parametrize("call", [start, end])
def test_an_unknown_task_is_told_its_nearest_name(call: Any) -> None:
    with pytest.raises(UnknownNameError, match="extract") as caught:
        call(STARTED, "extrct")
    assert caught.value.nearest == "extract"


def test_an_end_without_a_start_is_refused() -> None:
    with pytest.raises(RecordingError, match="has not started"):
        end(STARTED, "extract")
    with pytest.raises(RecordingError, match="has not started"):
        end(RUNNING, "hash", map_index=0)


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(RecordingError, match="before its start"):
        end(RUNNING, "extract", T0 - HOUR)


@pytest.mark.parametrize("duration", [timedelta(hours=2), 1800, 1800.0, timedelta(0)])
def test_a_duration_that_contradicts_the_times_is_refused(duration: timedelta | float) -> None:
    with pytest.raises(RecordingError, match="ran for 3600 s") as caught:
        end(RUNNING, "extract", duration=duration)
    assert caught.value.elapsed_s == 3600  # type: ignore[attr-defined]


@pytest.mark.parametrize("duration", [HOUR, 3600, 3600.4, None])
def test_a_duration_may_be_rounded_and_may_be_seconds(duration: timedelta | float | None) -> None:
    assert end(RUNNING, "extract", duration=duration).at == T0 + HOUR


@pytest.mark.parametrize("duration", [-1, math.nan, True, "1h"])
def test_what_is_no_duration_is_refused(duration: Any) -> None:
    with pytest.raises(RecordingError, match="timedelta or seconds"):
        end(RUNNING, "extract", duration=duration)


@pytest.mark.parametrize("amount", [-1, math.nan, math.inf, "4", True])
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(RecordingError, match=r"resources_allocated\['cpu'\]"):
        start(STARTED, "extract", allocated={"cpu": amount})
    with pytest.raises(RecordingError, match=r"resources_used\['cpu'\]"):
        end(RUNNING, "extract", used={"cpu": amount})


def test_what_is_no_outcome_is_refused() -> None:
    assert end(RUNNING, "extract", outcome="partial").outcome is TaskOutcome.PARTIAL
    with pytest.raises(RecordingError, match="success, failure, partial, blocked"):
        end(RUNNING, "extract", outcome="splendid")


def test_more_than_is_free_is_refused_and_says_who_holds_it() -> None:
    with pytest.raises(RecordingError, match=r"1 of 4 are free \(held by extract\)") as caught:
        start(RUNNING, "side", allocated={"cpu": 1.5})
    assert caught.value.free == 1.0  # type: ignore[attr-defined]
    assert start(RUNNING, "side", allocated={"cpu": 1.0})
    assert start(ENDED, "side", allocated={"cpu": 4.0}), "what has ended holds nothing"
    with pytest.raises(RecordingError, match="held by nobody"):
        start(STARTED, "extract", allocated={"memory": 9})


def test_a_task_that_names_no_allocation_holds_what_was_planned() -> None:
    state = evolve(STARTED, start(STARTED, "side", mode="wide"))
    with pytest.raises(RecordingError, match="2 of 4 are free"):
        start(state, "extract", allocated={"cpu": 3})


def test_a_resource_that_the_plan_does_not_have_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'memory'"):
        start(STARTED, "extract", allocated={"memry": 1})


def test_a_task_starts_once() -> None:
    with pytest.raises(RecordingError, match="runs already"):
        start(RUNNING, "extract", T0 + HOUR)
    with pytest.raises(RecordingError, match="never starts again"):
        start(ENDED, "extract", T0 + 2 * HOUR)
    with pytest.raises(RecordingError, match="ended already"):
        end(ENDED, "extract", T0 + 2 * HOUR)


def test_a_failed_task_may_start_again_as_a_new_attempt() -> None:
    failed = evolve(RUNNING, end(RUNNING, "extract", outcome=TaskOutcome.FAILURE))
    again = start(failed, "extract", T0 + HOUR, allocated={"cpu": 3})
    assert again.run_count == 2
    state = evolve(failed, again)
    assert state.status("extract") is Status.RUNNING
    assert len(state.task("extract").attempts) == 2, "a retry does not overwrite the first"


def test_what_is_told_again_is_the_same_fact() -> None:
    assert start(RUNNING, "extract", allocated={"cpu": 3}).key == start(STARTED, "extract").key
    again = end(ENDED, "extract")
    assert evolve(ENDED, again) == ENDED
    state = evolve(STARTED, start(STARTED, "extract", key="k"))
    state = evolve(state, end(state, "extract", key="k", outcome=TaskOutcome.FAILURE))
    assert start(state, "extract", key="k").run_count == 1
    assert start(state, "extract", T0 + HOUR, key="k").run_count == 2


def test_a_start_before_the_run_or_in_an_unknown_mode_is_refused() -> None:
    with pytest.raises(RecordingError, match="before its run"):
        start(STARTED, "extract", T0 - HOUR)
    with pytest.raises(UnknownNameError, match="no mode 'wyde'"):
        start(STARTED, "side", mode="wyde")


def test_items_belong_to_mapped_tasks() -> None:
    with pytest.raises(RecordingError, match="not mapped"):
        start(STARTED, "extract", map_index=0)
    with pytest.raises(RecordingError, match="count from 0"):
        start(STARTED, "hash", map_index=-1)
    state = evolve(STARTED, start(STARTED, "hash", map_index=1))
    assert state.task("hash", 1).status is Status.RUNNING
    with pytest.raises(RecordingError, match=r"hash\[1\]"):
        start(state, "hash", T0 + HOUR, map_index=1)


def test_a_skipped_task_does_not_start() -> None:
    from athena_prefect.journal.events import TaskEventKind

    skipped = TaskEvent(
        plan_run=UUID(int=1),
        task_id="side",
        kind=TaskEventKind.SKIPPED,
        at=T0,
        source="s",
        data={"reason": "when"},
    )
    with pytest.raises(RecordingError, match=r"was skipped \(when\)"):
        start(evolve(STARTED, skipped), "side")
