"""What callers say happens to the tasks of a run outside Prefect: checked, then written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from athena_prefect.errors import RecordingError, UnknownNameError
from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import Attempt, ExecutionState, Status
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import run_of
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.outside import SKEW, Writing, end, moment_of, writing
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent(_Answer):
    """What a caller said of a task, as it is written down."""

    plan_id: int
    plan: str
    plan_run: UUID
    revision: int
    record: TaskExecutionRecord
    known: bool
    """Whether the same had been told before: nothing was written."""
    ended: str | None
    """How the run has ended; None while it goes on."""
    notes: tuple[str, ...] = ()
    """What is odd about it and was recorded all the same."""


def record(
    plan_id: int,
    task_id: str,
    event_type: str,
    *,
    actual_duration: float | None = None,
    outcome: str | None = None,
    resources_used: Mapping[str, float] | None = None,
    at: datetime | None = None,
    attempt: int | None = None,
    map_index: int | None = None,
    key: str | None = None,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> RecordedEvent:
    """Write down that a task of a run outside Prefect has started, or ended and how.

    `at` is now where it is not given. `resources_used` of a start is what it is
    allocated. `attempt` (from 1) is only compared. The same `key` is the same
    event, told how often it may be. The run ends by itself once every task is over
    and every required one succeeded. Raises UnknownNameError, UnknownRunError,
    NaiveDatetimeError, InputError and RecordingError, with nothing recorded.
    """
    row = run_of(plan_id, settings)
    with writing(row, settings, clock) as run:
        now = clock()
        moment_of(at, now, "time")
        plan = run.monitor.plan
        plan.get_task(task_id)
        for name in resources_used or {}:
            if name not in plan.resources:
                raise UnknownNameError("resource", name, plan.resources)
        _refuse_ended(run.state, row)
        before = run.state.position
        notes: tuple[str, ...] = ()
        if event_type == "start":
            if actual_duration is not None or outcome is not None:
                raise RecordingError(
                    "a start has no actual_duration and no outcome; give them with "
                    "event_type 'complete'",
                    field="outcome" if outcome is not None else "actual_duration",
                )
            notes = _odd(plan, run.state, task_id)
            record = _started(run, task_id, at or now, at, attempt, map_index, key, resources_used)
        elif event_type == "complete":
            record = _completed(
                run, task_id, at or now, at, attempt, map_index, key, resources_used,
                actual_duration, outcome,
            )  # fmt: skip
        else:
            raise RecordingError(
                f"no event_type {event_type!r}; there are start, complete", field="event_type"
            )
        _keep_row(run, record, settings)
        ended = _end_if_over(run, record.actual_finish or now, settings)
        return RecordedEvent(
            plan_id=run.row.decision_id,
            plan=run.row.plan,
            plan_run=run.row.plan_run,
            revision=run.state.revision,
            record=record,
            known=run.state.position == before,
            ended=ended,
            notes=notes,
        )


def _refuse_ended(state: ExecutionState, row: RunRow) -> None:
    if state.end_status is not None:
        raise RecordingError(
            f"run {row.plan_run} is {state.end_status}; begin a new one with its plan's plan_id",
            field="plan_id",
        )


def _started(
    run: Writing,
    task_id: str,
    at: datetime,
    given: datetime | None,
    attempt: int | None,
    map_index: int | None,
    key: str | None,
    allocated: Mapping[str, float] | None,
) -> TaskExecutionRecord:
    attempts = run.state.task(task_id, map_index).attempts
    known = next((a for a in attempts if key is not None and a.source == key), None)
    if known is not None and given is None and known.started is not None:
        at = known.started
    told = [n for n, a in enumerate(attempts, 1) if a.started == at]
    _is_attempt(attempt, told[-1] if told else len(attempts) + 1, task_id)
    if map_index is not None:
        _expand(run, task_id, map_index, at)
    return run.monitor.record_task_start(task_id, at, allocated or {}, map_index=map_index, key=key)


def _completed(
    run: Writing,
    task_id: str,
    at: datetime,
    given: datetime | None,
    attempt: int | None,
    map_index: int | None,
    key: str | None,
    used: Mapping[str, float] | None,
    duration: float | None,
    outcome: str | None,
) -> TaskExecutionRecord:
    if outcome is None:
        known = ", ".join(TaskOutcome)
        raise RecordingError(
            f"task {task_id!r}: a completion needs its outcome; there are {known}", field="outcome"
        )
    attempts = run.state.task(task_id, map_index).attempts
    own = next((a for a in attempts if key is not None and _named(a, key)), None)
    if own is not None and given is None and own.ended is not None:
        at = own.ended
    if attempts:
        _is_attempt(attempt, 1 + attempts.index(own) if own else len(attempts), task_id)
    if given is None and duration is not None and own is None:
        # Whoever says how long it took and not when it ended means: from its start.
        at = _end_by_duration(attempts, duration, at)
    return run.monitor.record_task_completion(
        task_id,
        at,
        duration,
        used or {},
        outcome,
        map_index=map_index,
        key=own.source if own is not None else None,
        data={"end_key": key} if key is not None and own is None else None,
    )


def _named(attempt: Attempt, key: str) -> bool:
    return key in (attempt.source, attempt.data.get("end_key"))


def _end_by_duration(attempts: Sequence[Attempt], duration: float, now: datetime) -> datetime:
    running = next((a for a in reversed(attempts) if a.running), None)
    if running is None or running.started is None or not 0 <= duration <= _A_CENTURY:
        return now
    end = running.started + timedelta(seconds=duration)
    return end if end <= now + SKEW else now


_A_CENTURY = 100 * 365 * 86_400.0
"""Seconds; no task takes longer, and no date overflows by it."""


def _is_attempt(given: int | None, there: int, task_id: str) -> None:
    if given is not None and given != there:
        raise RecordingError(
            f"task {task_id!r}: this would be attempt {there}, not {given}; "
            "leave out attempt, or give that number",
            field="attempt",
            task_id=task_id,
        )


def _expand(run: Writing, task_id: str, map_index: int, at: datetime) -> None:
    """A mapped task whose items are recorded has as many as the plan expects."""
    task = run.monitor.plan.get_task(task_id)
    if task.map_over is None:
        return  # refused by the monitor, with the remedy
    items = run.state.task(task_id).items
    count = task.expected_items if items is None else items
    if map_index >= count:
        raise RecordingError(
            f"task {task_id!r}: map_index is {map_index}, and the plan expects {count} items, "
            f"0 to {count - 1}; record the task as a whole, or register the plan with another "
            "expected_items",
            field="map_index",
            task_id=task_id,
        )
    if items is None:
        run.journal.append(
            TaskEvent(
                plan_run=run.row.plan_run,
                task_id=task_id,
                kind=TaskEventKind.EXPANDED,
                at=at,
                source="plan",
                data={"items": count},
            )
        )


def _odd(plan: Plan, state: ExecutionState, task_id: str) -> tuple[str, ...]:
    """What a start contradicts in the plan, though it may well have happened."""
    early = [d.task for d in plan.get_task(task_id).upstream if not state.status(d.task).final]
    if not early:
        return ()
    return (f"{task_id} starts before the end of what it waits for: {', '.join(early)}",)


def _keep_row(run: Writing, record: TaskExecutionRecord, settings: AthenaSettings) -> None:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.records import ExecutionRecords

    ExecutionRecords(Database.open(settings)).write(run.row.plan_run, [record])


def _end_if_over(run: Writing, at: datetime, settings: AthenaSettings) -> str | None:
    """End the run once every task is over and every required one succeeded.

    One whose required task failed stays open: it may be tried again, replanned, or aborted.
    """
    plan, state = run.monitor.plan, run.state
    done = (Status.SUCCESS, Status.PARTIAL, Status.SKIPPED)
    over = all(state.status(t).final for t in plan.task_ids)
    if not over or any(state.status(t) not in done for t in plan.required):
        return None
    last = max((r.actual_finish for r in run.monitor.records if r.actual_finish), default=at)
    end(run, "completed", "", last, settings)
    return "completed"
