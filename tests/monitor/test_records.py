"""Records: one an attempt, the deviation not clamped, and nothing that was not measured."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import ExecutionState, fold
from athena_prefect.monitor.records import (
    StartFlag,
    TaskExecutionRecord,
    attempts_of,
    record_of,
    relative_deviation,
    start_flag,
)
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAN = Plan.model_validate(
    {
        "name": "small",
        "resources": {"cpu": {"capacity": 4}},
        "tasks": [
            {"id": "a", "duration": "1h", "resources": {"cpu": 2}, "modes": [
                {"name": "wide", "duration": "30m", "resources": {"cpu": 4}}]},
            {"id": "b", "duration": "1h", "inputs": {"x": "a"}, "map_over": "x"},
            {"id": "c", "depends_on": ["a"], "duration": "learned"},
        ],
    }
)  # fmt: skip


def event(kind: TaskEventKind, hours: float, **values: Any) -> TaskEvent:
    values = {"task_id": "a", "source": "s", **values}
    return TaskEvent(plan_run=UUID(int=1), kind=kind, at=T0 + hours * HOUR, **values)


def record(state: ExecutionState, number: int = 1, **values: Any) -> TaskExecutionRecord:
    return record_of(PLAN.get_task("a"), state.task("a"), number, **values)


durations = st.integers(1, 10**6).map(lambda s: timedelta(seconds=s))


@given(durations, durations)
def test_deviation_is_relative_and_not_clamped(actual: timedelta, planned: timedelta) -> None:
    deviation = relative_deviation(actual, planned)
    assert deviation is not None and deviation > -1
    assert (deviation > 0) == (actual > planned)
    assert planned * (1 + deviation) / actual == pytest.approx(1.0)


def test_deviation_is_none_where_there_is_nothing_to_compare() -> None:
    assert relative_deviation(HOUR, timedelta(0)) is None
    assert relative_deviation(HOUR, None) is None
    assert relative_deviation(None, HOUR) is None
    assert relative_deviation(HOUR * 9, HOUR) == 8.0


def test_starts_are_flagged() -> None:
    assert start_flag(T0 - HOUR, T0) is StartFlag.EARLY
    assert start_flag(T0, T0) is StartFlag.ON_TIME
    assert start_flag(T0 + HOUR, T0) is StartFlag.LATE
    assert start_flag(None, T0) is None and start_flag(T0, None) is None


def test_the_record_of_a_task_that_ended() -> None:
    state = fold(
        [
            event(TaskEventKind.READY, 0.5),
            event(TaskEventKind.STARTED, 1, data={"allocated": {"cpu": 2.0}}),
            event(TaskEventKind.ENDED, 2.5, outcome=TaskOutcome.SUCCESS,
                  data={"used": {"cpu": 1.5}}, state_name="Cached"),
        ]
    )  # fmt: skip
    found = record(state, planned_start=T0, confidence=0.5)
    assert found.planned_duration == HOUR and found.actual_duration == 1.5 * HOUR
    assert found.deviation == 0.5 and found.outcome is TaskOutcome.SUCCESS
    assert found.confidence is None, "only while it runs"
    assert (found.start_deviation, found.start_flag) == (HOUR, StartFlag.LATE)
    assert found.queue_time == HOUR / 2 and found.cached
    assert found.resources_planned == {"cpu": 2.0}
    assert found.resources_allocated == {"cpu": 2.0} and found.resources_used == {"cpu": 1.5}
    row = json.loads(json.dumps(found.as_dict()))
    assert row["actual_duration"] == 5400 and row["outcome"] == "success"


def test_the_record_of_a_task_that_runs() -> None:
    found = record(fold([event(TaskEventKind.STARTED, 1)]), confidence=0.75)
    assert found.outcome is None and found.actual_duration is None and found.deviation is None
    assert found.confidence == 0.75 and found.queue_time is None
    assert found.resources_used == {}, "nothing was measured"
    assert found.planned_start is None and found.start_flag is None


def test_a_mode_is_measured_against_its_own_plan() -> None:
    state = fold(
        [
            event(TaskEventKind.STARTED, 0, data={"mode": "wide"}),
            event(TaskEventKind.ENDED, 0.5, outcome=TaskOutcome.SUCCESS),
        ]
    )
    found = record(state)
    assert found.mode == "wide" and found.deviation == 0.0
    assert found.resources_planned == {"cpu": 4.0}
    gone = fold([event(TaskEventKind.STARTED, 0, data={"mode": "of an older revision"})])
    assert record(gone).mode == "default"


def test_every_attempt_and_item_has_a_record_of_its_own() -> None:
    state = fold(
        [
            event(TaskEventKind.STARTED, 0),
            event(TaskEventKind.ENDED, 1, outcome=TaskOutcome.FAILURE),
            event(TaskEventKind.STARTED, 2, run_count=2),
            event(TaskEventKind.STARTED, 0, task_id="b", map_index=1),
            event(TaskEventKind.STARTED, 0, task_id="b", map_index=0),
        ]
    )
    assert [(i, n) for i, _, n in attempts_of(state, "a")] == [(None, 1), (None, 2)]
    assert [(i, n) for i, _, n in attempts_of(state, "b")] == [(0, 1), (1, 1)]
    assert record(state, 1).outcome is TaskOutcome.FAILURE
    again = record(state, 2)
    assert (again.attempt, again.outcome, again.queue_time) == (2, None, None)


def test_what_was_not_planned_is_none() -> None:
    state = fold([event(TaskEventKind.STARTED, 0, task_id="c")])
    found = record_of(PLAN.get_task("c"), state.task("c"), 1)
    assert found.planned_duration is None and found.deviation is None
