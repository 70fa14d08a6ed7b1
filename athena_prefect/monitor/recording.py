"""From what a caller says happened to an event, or to an error that says what contradicts it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn

from athena_prefect.errors import RecordingError, UnknownNameError
from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome, utc
from athena_prefect.journal.state import Attempt, ExecutionState, Item, TaskState
from athena_prefect.monitor.tally import planned_resources
from athena_prefect.plan.model import DEFAULT_MODE, Plan

CALLER = "caller"
"""Source of the attempts of a caller who names no key."""
ROUNDING = timedelta(seconds=1)
"""A duration may differ by this much from end − start: callers measure the two
with different clocks and round to whole seconds."""
_SLACK = 1e-9
"""Sums of fractions of a capacity: what is as near as this share is equal."""


def start_event(
    plan: Plan,
    state: ExecutionState,
    running: Iterable[Item],
    task_id: str,
    at: datetime,
    allocated: Mapping[str, float],
    *,
    started_at: datetime,
    map_index: int | None = None,
    key: str | None = None,
    mode: str | None = None,
) -> TaskEvent:
    """The event of a start at `at`. Raises UnknownNameError, NaiveDatetimeError, RecordingError."""
    task = plan.get_task(task_id)
    at = utc(at, "actual_start_time")
    amounts = _amounts(allocated, "resources_allocated", task_id)
    item = _item(plan, task_id, map_index)
    task.mode(mode or DEFAULT_MODE)
    own = state.task(*item)
    source = key or CALLER
    run_count = _told_start(own, source, at)
    if run_count is None:
        run_count = 1 + sum(a.source == source for a in own.attempts)
        _may_start(own, item, at, started_at)
        _fits(plan, state, running, item, amounts)
    data: dict[str, Any] = {"allocated": amounts}
    if mode:
        data["mode"] = mode
    return TaskEvent(
        plan_run=_run_of(state),
        task_id=task_id,
        map_index=map_index,
        kind=TaskEventKind.STARTED,
        at=at,
        source=source,
        run_count=run_count,
        data=data,
    )


def completion_event(
    plan: Plan,
    state: ExecutionState,
    task_id: str,
    at: datetime,
    duration: timedelta | float | None,
    used: Mapping[str, float],
    outcome: TaskOutcome | str,
    *,
    map_index: int | None = None,
    key: str | None = None,
    result_key: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> TaskEvent:
    """The event of an end at `at`. Raises UnknownNameError, NaiveDatetimeError, RecordingError.

    `duration` (seconds, where it is a number) must be end − start, but for rounding.
    """
    plan.get_task(task_id)
    at = utc(at, "actual_completion_time")
    amounts = _amounts(used, "resources_used", task_id)
    item = _item(plan, task_id, map_index)
    ended_as = _outcome(outcome, task_id)
    own = state.task(*item)
    attempt = _running(own, key) or _told_before(own, key, at, ended_as)
    if attempt is None:
        _refuse_end(own, item)
    assert attempt.started is not None
    _agrees(item, attempt.started, at, duration)
    return TaskEvent(
        plan_run=_run_of(state),
        task_id=task_id,
        map_index=map_index,
        kind=TaskEventKind.ENDED,
        at=at,
        source=attempt.source,
        run_count=attempt.run_count,
        outcome=ended_as,
        result_key=result_key,
        data={**(data or {}), "used": amounts},
    )


def name_of(item: Item) -> str:
    """A task or item as messages name it: ``hash``, ``hash[3]``."""
    return item[0] if item[1] is None else f"{item[0]}[{item[1]}]"


def _run_of(state: ExecutionState) -> Any:
    assert state.plan_run is not None, "the monitor records the start of the run first"
    return state.plan_run


def _item(plan: Plan, task_id: str, map_index: int | None) -> Item:
    if map_index is not None:
        if plan.get_task(task_id).map_over is None:
            raise RecordingError(
                f"task {task_id!r} is not mapped (no map_over); leave out map_index",
                task_id=task_id,
                map_index=map_index,
            )
        if map_index < 0:
            raise RecordingError(
                f"task {task_id!r}: map_index is {map_index}; items count from 0",
                task_id=task_id,
                map_index=map_index,
            )
    return task_id, map_index


def _amounts(amounts: Mapping[str, float], field: str, task_id: str) -> dict[str, float]:
    for name, amount in amounts.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            wrong = f"is {amount!r}"
        elif not math.isfinite(amount) or amount < 0:
            wrong = f"is {amount}"
        else:
            continue
        raise RecordingError(
            f"task {task_id!r}: {field}[{name!r}] {wrong}; give a number, zero or more",
            task_id=task_id,
            field=field,
        )
    return {name: float(amount) for name, amount in amounts.items()}


def _outcome(outcome: TaskOutcome | str, task_id: str) -> TaskOutcome:
    try:
        return TaskOutcome(outcome)
    except ValueError:
        known = ", ".join(TaskOutcome)
        raise RecordingError(
            f"task {task_id!r}: {outcome!r} is no outcome; known are {known}", task_id=task_id
        ) from None


def _told_start(own: TaskState, source: str, at: datetime) -> int | None:
    """The attempt whose start the caller tells again, if it does so."""
    for attempt in own.attempts:
        # Without a key of its own only a running attempt can be told from a new one.
        same = attempt.source == source and attempt.started == at
        if same and (source != CALLER or attempt.running):
            return attempt.run_count
    return None


def _running(own: TaskState, key: str | None) -> Attempt | None:
    for attempt in reversed(own.attempts):
        if attempt.running and key in (None, attempt.source):
            return attempt
    return None


def _told_before(
    own: TaskState, key: str | None, at: datetime, outcome: TaskOutcome
) -> Attempt | None:
    """The attempt of which the caller says again what it said before."""
    for attempt in reversed(own.attempts):
        same = attempt.ended == at and attempt.outcome is outcome and attempt.started is not None
        if same and not attempt.abandoned and key in (None, attempt.source):
            return attempt
    return None


def _may_start(own: TaskState, item: Item, at: datetime, started_at: datetime) -> None:
    name = name_of(item)
    running = _running(own, None)
    if running is not None:
        why = f"runs already, since {running.started}; record its completion first"
    elif own.in_force is not None:
        why = f"ended with {own.in_force.outcome} and never starts again unless it is invalidated"
    elif own.skipped:
        why = f"was skipped ({own.skip_reason or 'no reason given'})"
    elif at < started_at:
        why = f"cannot start at {at}, before its run, which started at {started_at}"
    else:
        return
    raise RecordingError(f"task {name!r} {why}", task_id=item[0], map_index=item[1])


def _refuse_end(own: TaskState, item: Item) -> NoReturn:
    latest = own.latest
    if latest is not None and latest.ended is not None:
        why = f"ended already, at {latest.ended} with {latest.outcome}"
    else:
        why = "has not started; record its start first (record_task_start)"
    raise RecordingError(f"task {name_of(item)!r} {why}", task_id=item[0], map_index=item[1])


def _agrees(item: Item, start: datetime, end: datetime, duration: timedelta | float | None) -> None:
    name = name_of(item)
    if end < start:
        raise RecordingError(
            f"task {name!r} cannot end at {end}, before its start at {start}",
            task_id=item[0],
            map_index=item[1],
        )
    if duration is None:
        return
    given = _seconds(duration, name)
    elapsed = (end - start).total_seconds()
    if abs(given - elapsed) > ROUNDING.total_seconds():
        raise RecordingError(
            f"task {name!r}: actual_duration is {given:g} s, but it ran for {elapsed:g} s, "
            f"from {start} to {end}",
            task_id=item[0],
            map_index=item[1],
            duration_s=given,
            elapsed_s=elapsed,
        )


def _seconds(duration: Any, name: str) -> float:
    seconds: Any = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise RecordingError(
            f"task {name!r}: actual_duration is {duration!r}; give a timedelta or seconds, "
            "zero or more"
        )
    return float(seconds)


def _fits(
    plan: Plan,
    state: ExecutionState,
    running: Iterable[Item],
    item: Item,
    allocated: Mapping[str, float],
) -> None:
    """What is allocated must be free: capacity less what the running tasks hold."""
    for name in allocated:
        if name not in plan.resources:
            raise UnknownNameError("resource", name, plan.resources)
    if not allocated:
        return
    held = _held(plan, state, running)
    for name, amount in allocated.items():
        capacity = plan.resources[name].capacity
        free = capacity - sum(amounts.get(name, 0.0) for amounts in held.values())
        if amount > free + _SLACK * capacity:
            holders = ", ".join(name_of(i) for i, a in held.items() if a.get(name)) or "nobody"
            raise RecordingError(
                f"task {name_of(item)!r}: {amount:g} of {name!r} allocated, but {free:g} of "
                f"{capacity:g} are free (held by {holders})",
                task_id=item[0],
                map_index=item[1],
                resource=name,
                allocated=amount,
                free=free,
            )


def _held(
    plan: Plan, state: ExecutionState, running: Iterable[Item]
) -> dict[Item, Mapping[str, float]]:
    """What each running task or item holds: what it was allocated, else what is planned for it."""
    result: dict[Item, Mapping[str, float]] = {}
    for item in running:
        attempt = state.task(*item).latest
        if attempt is None or not attempt.running:
            continue
        given = attempt.data.get("allocated")
        result[item] = given if given else planned_resources(plan.get_task(item[0]), attempt)
    return result
