"""Records and columns: what is known of an attempt, and whose it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np

from athena_prefect import (
    ExecutionContext,
    ExecutionMonitor,
    MemoryJournal,
    Plan,
    TaskOutcome,
    VirtualClock,
)
from athena_prefect.learning.frame import History
from athena_prefect.learning.records import TaskRecord, into_runs, run_record
from athena_prefect.monitor.records import TaskExecutionRecord
from tests.learning.histories import MONDAY, attempt

START = datetime(2026, 6, 1, tzinfo=UTC)


def test_what_follows_from_times_is_filled_in() -> None:
    record = TaskRecord(
        task_id="a",
        actual_start=START,
        actual_finish=START + timedelta(seconds=90),
        planned_duration=timedelta(seconds=60),
        outcome=TaskOutcome.SUCCESS,
    )
    assert record.actual_duration == timedelta(seconds=90)
    assert (record.deviation, record.category, record.running) == (0.5, "a", False)
    assert TaskRecord(task_id="a", actual_start=START).running


def monitored() -> tuple[Plan, ExecutionMonitor]:
    plan = Plan.model_validate(
        {
            "name": "p",
            "tasks": [
                {"id": "a", "duration": "1h", "category": "qa"},
                {"id": "b", "duration": "1h", "depends_on": ["a"]},
            ],
        }
    )
    clock = VirtualClock(START)
    monitor = ExecutionMonitor(
        plan,
        ExecutionContext(plan_run=uuid4(), clock=clock, started_at=START, journal=MemoryJournal()),
    )
    for number, name in enumerate(("a", "b")):
        begun = START + timedelta(hours=number)
        clock.move_to(begun)
        monitor.record_task_start(name, begun, {})
        clock.move_to(begun + timedelta(hours=1))
        monitor.record_task_completion(
            name, begun + timedelta(hours=1), 3600.0, {"lines": 7}, TaskOutcome.SUCCESS
        )
    return plan, monitor


def test_a_monitor_s_records_become_a_run() -> None:
    plan, monitor = monitored()
    history = History.of([run_record(plan, monitor.records, run="r")])
    assert history.tasks == ("a", "b") and history.categories == ("qa", "b")
    assert history.duration.tolist() == [3600, 3600] and history.quantities == ("lines",)
    assert history.documents() == {"p": plan}


def test_plain_records_are_told_apart_by_repetition() -> None:
    plan, monitor = monitored()
    twice: list[TaskExecutionRecord] = [*monitor.records, *monitor.records]
    runs = into_runs(twice, plan=plan)
    assert [len(r.tasks) for r in runs] == [2, 2]
    assert runs[1].tasks[0].category == "qa"


def test_a_running_attempt_is_censored_and_a_cached_one_left_out() -> None:
    history = History.of_records(
        [attempt("a"), attempt("b", None, outcome=None), attempt("c", cached=True)]
    )
    assert history.succeeded.tolist() == [True, False, False]
    assert history.censored.tolist() == [False, True, False]


def test_the_same_id_in_two_plans_is_two_tasks() -> None:
    history = History.of_records([attempt("a"), attempt("a", plan="other")])
    assert history.tasks == ("a", "a") and history.plans == ("nightly", "other")
    assert len(history.of_plan("other")) == 1 and len(history.of_plan("none")) == 0


def test_hours_and_days_are_those_of_the_schedule_s_clock() -> None:
    plan = Plan.model_validate(
        {
            "name": "nightly",
            "tasks": [{"id": "a"}],
            "schedule": {"cron": "0 4 * * *", "timezone": "Asia/Tokyo"},
        }
    )
    late = attempt("a", at=17 * 3600)  # Monday 21:00 UTC is Tuesday 06:00 in Tokyo
    hour, day = History.of(into_runs([late], plan=plan)).clock
    assert (hour.tolist(), day.tolist()) == ([6], [1])
    hour, day = History.of_records([late]).clock
    assert (hour.tolist(), day.tolist()) == ([21], [0])
    assert MONDAY.weekday() == 0


def test_the_frame_has_a_column_for_each_name() -> None:
    frame = History.of_records([attempt("a", resources={"cpu": 1}, used={"rows": 5})]).frame()
    assert frame["task"].tolist() == ["a"] and frame["used.rows"].tolist() == [5]
    assert frame["planned.cpu"].dtype == np.float64


def test_plain_records_of_runs_that_lack_a_task_keep_together() -> None:
    def plain(task: str, day: int, at: float, outcome: TaskOutcome) -> TaskExecutionRecord:
        return TaskExecutionRecord(
            task_id=task, planned_start=None, planned_duration=timedelta(seconds=60),
            actual_start=START + timedelta(days=day, seconds=at),
            actual_duration=timedelta(seconds=60), outcome=outcome, resources_planned={},
            resources_used={}, deviation=None, confidence=None,
        )  # fmt: skip

    good, bad = TaskOutcome.SUCCESS, TaskOutcome.FAILURE
    records = [
        plain("a", 0, 0, good), plain("b", 0, 60, bad), plain("b", 0, 130, good),
        plain("c", 0, 200, good),
        plain("a", 1, 0, bad),  # nothing else could run
        plain("a", 2, 0, good), plain("b", 2, 60, good), plain("c", 2, 120, good),
    ]  # fmt: skip
    runs = into_runs(records[::-1])
    told = {(t.task_id, t.attempt, r.run) for r in runs for t in r.tasks}
    assert told == {
        ("a", 1, "1"), ("b", 1, "1"), ("b", 2, "1"), ("c", 1, "1"),
        ("a", 1, "2"),
        ("a", 1, "3"), ("b", 1, "3"), ("c", 1, "3"),
    }  # fmt: skip


def test_a_plain_later_attempt_is_of_the_run_of_the_one_before_it() -> None:
    def plain(number: int) -> TaskExecutionRecord:
        return TaskExecutionRecord(
            task_id="a", planned_start=None, actual_start=None, planned_duration=None,
            actual_duration=None, outcome=None, resources_planned={}, resources_used={},
            deviation=None, confidence=None, attempt=number,
        )  # fmt: skip

    runs = into_runs([plain(1), plain(1), plain(2), plain(3), plain(1)])
    assert [[t.attempt for t in r.tasks] for r in runs] == [[1], [1, 2, 3], [1]]
