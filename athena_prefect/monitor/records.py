"""What a task was planned to take and what it took: one record an attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.state import ExecutionState, TaskState
from athena_prefect.monitor.tally import mode_of
from athena_prefect.plan.model import DEFAULT_MODE, PlanTask


class StartFlag(StrEnum):
    """When a task started, against its planned start; `start_deviation` says by how much."""

    EARLY = "early"
    ON_TIME = "on_time"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExecutionRecord:
    """One attempt at a task (or at one item of a mapped task), beside what was planned.

    What is not known yet, or was not measured, is None or left out of a mapping.
    """

    task_id: str
    planned_start: datetime | None
    """Baseline start. Of an item beyond the expected ones: None."""
    actual_start: datetime | None
    planned_duration: timedelta | None
    """Planned duration of one item, in the mode that ran."""
    actual_duration: timedelta | None
    outcome: TaskOutcome | None
    resources_planned: Mapping[str, float]
    resources_used: Mapping[str, float]
    deviation: float | None
    """(actual − planned) / planned duration as a fraction, not clamped; None where planned is 0."""
    confidence: float | None
    """P(finish ≤ latest finish) while it runs; None afterwards, and where it is not known."""
    attempt: int = 1
    """Counts the attempts at this task or item, from 1."""
    map_index: int | None = None
    source: str = ""
    """The Prefect task-run id, or the caller's key."""
    mode: str = DEFAULT_MODE
    actual_finish: datetime | None = None
    queue_time: timedelta | None = None
    """Start − the moment from which it only waited for a slot or a resource."""
    start_deviation: timedelta | None = None
    """Actual − planned start."""
    start_flag: StartFlag | None = None
    resources_allocated: Mapping[str, float] = field(default_factory=dict)
    cached: bool = False
    """Nothing ran: an earlier result was taken. Kept out of learning."""
    abandoned: bool = False
    overdue: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-able data: times in ISO 8601, durations in seconds."""
        return {name: plain(getattr(self, name)) for name in self.__slots__}


def plain(value: Any) -> Any:
    """`value` as JSON-able data: times in ISO 8601, durations in seconds."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def relative_deviation(actual: timedelta | None, planned: timedelta | None) -> float | None:
    """(actual − planned) / planned, not clamped; None where one is unknown or planned is 0."""
    if actual is None or not planned:
        return None
    return (actual - planned) / planned


def start_flag(actual: datetime | None, planned: datetime | None) -> StartFlag | None:
    """Whether a start was early or late; None where one of the times is unknown."""
    if actual is None or planned is None:
        return None
    if actual == planned:
        return StartFlag.ON_TIME
    return StartFlag.EARLY if actual < planned else StartFlag.LATE


def record_of(
    task: PlanTask,
    state: TaskState,
    number: int,
    *,
    map_index: int | None = None,
    planned_start: datetime | None = None,
    confidence: float | None = None,
) -> TaskExecutionRecord:
    """The record of attempt `number` (from 1) at `task`, whose state is `state`."""
    attempt = state.attempts[number - 1]
    mode = task.mode(mode_of(task, attempt))
    planned = None if mode.estimate is None else mode.estimate.mean
    start = attempt.started
    return TaskExecutionRecord(
        task_id=task.id,
        planned_start=planned_start,
        actual_start=start,
        planned_duration=planned,
        actual_duration=attempt.duration,
        outcome=attempt.outcome,
        resources_planned=dict(mode.resources),
        resources_used=dict(attempt.data.get("used") or {}),
        deviation=relative_deviation(attempt.duration, planned),
        confidence=confidence if attempt.running else None,
        attempt=number,
        map_index=map_index,
        source=attempt.source,
        mode=mode.name,
        actual_finish=attempt.ended,
        queue_time=_queue_time(state, number),
        start_deviation=start - planned_start if start and planned_start else None,
        start_flag=start_flag(start, planned_start),
        resources_allocated=dict(attempt.data.get("allocated") or {}),
        cached=bool(attempt.data.get("cached")) or attempt.state_name == "Cached",
        abandoned=attempt.abandoned,
        overdue=attempt.overdue,
    )


def _queue_time(state: TaskState, number: int) -> timedelta | None:
    # `ready` is the first moment of readiness: later attempts did not wait since then.
    start = state.attempts[number - 1].started
    if number > 1 or start is None or state.ready is None:
        return None
    return max(start - state.ready, timedelta(0))


def attempts_of(state: ExecutionState, task_id: str) -> Iterator[tuple[int | None, TaskState, int]]:
    """(map index, state, attempt number) of every attempt at a task and at its items."""
    own = state.task(task_id)
    for number in range(1, len(own.attempts) + 1):
        yield None, own, number
    for index, item in state.items(task_id).items():
        for number in range(1, len(item.attempts) + 1):
            yield index, item, number
