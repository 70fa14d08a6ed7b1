"""Histories made in memory, for the tests of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.records import RunRecord, TaskRecord

MONDAY = datetime(2026, 6, 1, 4, tzinfo=UTC)


def attempt(
    task_id: str,
    actual: float | None = 100.0,
    planned: float | None = 100.0,
    *,
    run: int = 0,
    at: float = 0.0,
    outcome: TaskOutcome | None = TaskOutcome.SUCCESS,
    category: str = "",
    number: int = 1,
    cached: bool = False,
    queue: float | None = None,
    resources: Mapping[str, float] | None = None,
    used: Mapping[str, float] | None = None,
    plan: str = "nightly",
) -> TaskRecord:
    """An attempt of the run of day `run`, `at` seconds after that run's start."""
    start = MONDAY + timedelta(days=run, seconds=at)
    return TaskRecord(
        run=f"{plan}-{run}",
        plan=plan,
        task_id=task_id,
        category=category,
        attempt=number,
        actual_start=start,
        actual_duration=None if actual is None else timedelta(seconds=actual),
        planned_duration=None if planned is None else timedelta(seconds=planned),
        outcome=outcome,
        cached=cached,
        queue_time=None if queue is None else timedelta(seconds=queue),
        resources_planned=resources or {},
        resources_used=used or {},
    )


def runs_of(records: Sequence[TaskRecord]) -> list[RunRecord]:
    """The runs of records."""
    from athena_prefect.learning.records import into_runs

    return list(into_runs(records))
