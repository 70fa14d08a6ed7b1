"""What the events of one task (or item of a mapped one) add up to.

Laws that later code rests on:

- an attempt ends once: its first `ended` counts, unless the API says otherwise;
- `abandoned` outranks any end of that attempt that comes after it;
- a success in force stays until an `invalidated` event ends it, or the API takes
  it back; an attempt that was invalidated never comes into force again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never

from athena_prefect.journal.events import Reporter, TaskEvent, TaskEventKind, TaskOutcome

RETRYING = frozenset({"AwaitingRetry", "Retrying"})
"""Prefect's names for a failed attempt after which it will try again by itself."""

Item = tuple[str, int | None]
"""A task, or one item of a mapped task: (task id, map index or None)."""


class Status(StrEnum):
    """Where a task (or item) stands."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    BLOCKED = "blocked"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (Status.WAITING, Status.READY, Status.RUNNING)

    @property
    def good(self) -> bool:
        """Whether a success is in force."""
        return self in (Status.SUCCESS, Status.PARTIAL)


OVERRAN = "ran past its time-out"
"""What the reason of an attempt says that was ended, or given up, for its time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a task: a Prefect task run's `run_count`-th, or the caller's own."""

    source: str
    run_count: int
    started: datetime | None = None
    ended: datetime | None = None
    outcome: TaskOutcome | None = None
    state_name: str | None = None
    result_key: str | None = None
    reported_by: Reporter | None = None
    abandoned: bool = False
    overdue: bool = False
    invalidated: bool = False
    """It was in force once, and will not be again."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The union of what its events carried."""

    @property
    def timed_out(self) -> bool:
        """Whether it came to its end by its time-out."""
        said = str(self.data.get("reason", ""))
        return self.overdue or self.state_name == "TimedOut" or OVERRAN in said

    @property
    def running(self) -> bool:
        """Whether its body counts as running."""
        return self.started is not None and self.ended is None and not self.abandoned

    @property
    def duration(self) -> timedelta | None:
        """End − start; None while it runs or where a time is not known."""
        if self.started is None or self.ended is None:
            return None
        return self.ended - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task (or item): its attempts in the order in which they began, and what they add up to."""

    attempts: tuple[Attempt, ...] = ()
    ready: datetime | None = None
    skipped: bool = False
    skip_reason: str = ""
    items: int | None = None
    """Of a mapped task: how many items, once known."""
    in_force: Attempt | None = None
    """The attempt whose success counts."""
    invalidated: tuple[str, ...] = ()
    """Sources of the events that ended a success in force."""
    marks: tuple[str, ...] = ()
    """Keys of the `ready` and `skipped` events folded in: told again after an
    `invalidated`, they must not come back."""

    @property
    def latest(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def status(self) -> Status:
        """Where it stands."""
        if self.in_force is not None:
            partial = self.in_force.outcome is TaskOutcome.PARTIAL
            return Status.PARTIAL if partial else Status.SUCCESS
        if self.skipped:
            return Status.SKIPPED
        last = self.latest
        if last is None or (last.outcome is not None and last.outcome.good):
            # A good end that is no longer in force was invalidated: it waits again.
            return Status.READY if self.ready else Status.WAITING
        if last.running:
            return Status.RUNNING
        if last.outcome is TaskOutcome.BLOCKED:
            return Status.BLOCKED
        if last.outcome is TaskOutcome.FAILURE and last.state_name not in RETRYING:
            return Status.FAILURE
        return Status.WAITING


NOTHING_YET = TaskState()
"""Of a task of which nothing is known."""


def evolve_task(task: TaskState, event: TaskEvent) -> TaskState:
    """`task` after one event of it; the same event again changes nothing."""
    match event.kind:
        case TaskEventKind.READY:
            if event.key in task.marks:
                return task
            # Also of what changes nothing now: told again after an `invalidated`, it would.
            marked = replace(task, marks=(*task.marks, event.key))
            return marked if task.ready else replace(marked, ready=event.at)
        case TaskEventKind.SKIPPED:
            if event.key in task.marks:
                return task
            marked = replace(task, marks=(*task.marks, event.key))
            if task.in_force or task.skipped:
                return marked
            reason = str(event.data.get("reason", ""))
            return replace(marked, skipped=True, skip_reason=reason)
        case TaskEventKind.EXPANDED:
            return replace(task, items=int(event.data["items"]))
        case TaskEventKind.INVALIDATED:
            if event.source in task.invalidated:
                return task
            return replace(
                task,
                attempts=tuple(
                    replace(a, invalidated=True) if a.outcome is not None and a.outcome.good else a
                    for a in task.attempts
                ),
                in_force=None,
                skipped=False,
                ready=None,
                invalidated=(*task.invalidated, event.source),
            )
        case (
            TaskEventKind.STARTED
            | TaskEventKind.ENDED
            | TaskEventKind.OVERDUE
            | TaskEventKind.ABANDONED
        ):
            after = _evolve_attempt(task, event)
            ready = event.data.get("ready")
            if after is task or after.ready is not None or ready is None:
                return after
            # A start carries since when it could have been, to save an event of its own.
            return replace(after, ready=datetime.fromisoformat(ready))
        case _:
            assert_never(event.kind)


def _evolve_attempt(task: TaskState, event: TaskEvent) -> TaskState:
    index = next(
        (
            i
            for i, a in enumerate(task.attempts)
            if a.source == event.source and a.run_count == event.run_count
        ),
        None,
    )
    old = (
        Attempt(source=event.source, run_count=event.run_count)
        if index is None
        else task.attempts[index]
    )
    new = _apply(old, event)
    if new is old and index is not None:
        return task
    attempts = (
        (*task.attempts, new)
        if index is None
        else (*task.attempts[:index], new, *task.attempts[index + 1 :])
    )
    in_force = _in_force(attempts, task.in_force)
    skipped = task.skipped and in_force is None
    return replace(task, attempts=attempts, in_force=in_force, skipped=skipped)


def _in_force(attempts: tuple[Attempt, ...], before: Attempt | None) -> Attempt | None:
    """The attempt in force before, if it still is good, else the first that is."""
    good = [
        a
        for a in attempts
        if a.outcome is not None and a.outcome.good and not a.abandoned and not a.invalidated
    ]
    if before is not None:
        for a in good:
            if a.source == before.source and a.run_count == before.run_count:
                return a
    return good[0] if good else None


def _apply(attempt: Attempt, event: TaskEvent) -> Attempt:
    data = {**attempt.data, **event.data}
    match event.kind:
        case TaskEventKind.STARTED:
            if attempt.started is not None and event.reported_by is not Reporter.API:
                return attempt
            if attempt.started == event.at:
                return attempt
            return replace(attempt, started=event.at, data=data)
        case TaskEventKind.OVERDUE:
            return attempt if attempt.overdue else replace(attempt, overdue=True, data=data)
        case TaskEventKind.ABANDONED:
            if attempt.abandoned or attempt.ended is not None:
                return attempt
            return replace(
                attempt,
                abandoned=True,
                ended=event.at,
                outcome=event.outcome,
                state_name=event.state_name or "Abandoned",
                reported_by=event.reported_by,
                data=data,
            )
        case TaskEventKind.ENDED:
            if attempt.abandoned:
                return attempt
            if attempt.ended is not None and event.reported_by is not Reporter.API:
                return attempt
            return replace(
                attempt,
                ended=event.at,
                outcome=event.outcome,
                state_name=event.state_name,
                result_key=event.result_key or attempt.result_key,
                reported_by=event.reported_by,
                data=data,
            )
        case _:
            return attempt
