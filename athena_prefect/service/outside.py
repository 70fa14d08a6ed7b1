"""Runs that no Prefect flow runs: agents, people and other schedulers say what happens.

The plan is registered, its run has a journal, a baseline and a monitor like any
other. Whoever writes holds the run's lease for as long as that takes: two that
write at once are put in order, and each sees what the other wrote.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from athena_prefect.errors import (
    InputError,
    LeaseHeldError,
    NaiveDatetimeError,
    RecordingError,
    UnknownNameError,
    UnknownRunError,
)
from athena_prefect.journal.events import (
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.journal import Entry, Journal, Recorded
from athena_prefect.journal.state import Attempt, ExecutionState, Status, fold_entries
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import decision_of, run_of, store_of
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow

OUTSIDE = "outside"
"""In the data of a run's start: true where no Prefect flow runs it."""
_RUNS = UUID("6f0f3b0e-6f3c-4f58-9a39-0d4c2a1f7e55")
"""Namespace of the ids of such runs: the same wish makes the same run."""
SKEW = timedelta(minutes=1)
"""How far ahead of ours a caller's clock may be: machines without a common time source drift by
seconds; what lies further in the future has not happened."""
LEASE = timedelta(seconds=30)
"""A write takes tenths of a second; a process that died in one is waited for no longer."""
WAIT_SECONDS = 10.0
"""How long a write waits for others that write to the same run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun(_Answer):
    """A run that is monitored."""

    plan_id: int
    """Of the run's revision in force."""
    plan: str
    plan_run: UUID
    revision: int
    started: datetime
    new: bool
    """False where the run was there already."""
    outside: bool
    """Whether its events are recorded by callers; else Prefect's own are."""


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


def is_outside(state: ExecutionState) -> bool:
    """Whether callers record what happens in the run."""
    return state.run_data.get(OUTSIDE) is True


# -- beginning ----------------------------------------------------------------------------------


def begin(
    plan_id: int,
    *,
    started_at: datetime | None = None,
    key: str | None = None,
    author: str = "",
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> Begun:
    """Begin a run of a registered plan, at its newest revision, outside Prefect.

    A run's own id, and a plan's that has a live run, answer with that run; a `key`
    makes a run of its own, once. Raises UnknownNameError, UnknownRunError where the
    plan has several live runs, RecordingError for a start in the future, StorageError.
    """
    decision = decision_of(plan_id, settings)
    store = store_of(settings)
    if decision.plan_run is not None:
        return _begun(run_of(plan_id, settings), settings, new=False)
    # Read before it is asked what lives: of two that begin at once, neither then takes the
    # other's run for the one before its own.
    earlier = store.runs(settings.namespace, plan=decision.plan, limit=1)
    if key is None and store.live_runs(decision.plan, namespace=settings.namespace):
        return _begun(run_of(plan_id, settings), settings, new=False)
    now = clock()
    start = _moment(started_at, now, "started_at") or now
    plan = store.plan(decision.plan, namespace=settings.namespace)
    # Without a key, two that begin at once mean the same run: the one after the newest there is.
    wish = f"key {key}" if key else f"after {earlier[0].plan_run if earlier else 'none'}"
    plan_run = uuid5(_RUNS, f"{settings.namespace}|{plan.name}|{wish}")
    with suppress(UnknownRunError):
        return _begun(store.run(plan_run), settings, new=False)
    row = store.open_run(
        plan_run,
        plan,
        started=start,
        namespace=settings.namespace,
        author=author,
        reason="monitored outside Prefect",
    )
    started = RunEvent(
        plan_run=plan_run,
        kind=RunEventKind.STARTED,
        at=row.started_at,
        reported_by=Reporter.CALLER,
        data={"revision": 1, "plan": plan.name, OUTSIDE: True, "author": author},
    )
    journal = _journal(settings)
    (recorded,) = journal.append(started)
    with writing(row, settings, clock):
        pass  # makes the baseline
    return _begun(row, settings, new=recorded is Recorded.STORED)


def _begun(row: RunRow, settings: AthenaSettings, *, new: bool) -> Begun:
    state = fold_entries(_journal(settings).read(row.plan_run))
    return Begun(
        plan_id=row.decision_id,
        plan=row.plan,
        plan_run=row.plan_run,
        revision=row.revision,
        started=state.started or row.started_at,
        new=new,
        outside=is_outside(state),
    )


# -- writing ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fenced:
    """A journal that refuses to write for whoever has lost the run's lease."""

    journal: Journal
    token: int

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        return self.journal.append(*events, token=self.token)

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        return self.journal.read(plan_run, after)


@dataclass(frozen=True, slots=True)
class Writing:
    """A run outside Prefect that nobody else writes to now."""

    row: RunRow
    monitor: ExecutionMonitor
    journal: Journal

    @property
    def state(self) -> ExecutionState:
        """Where the run stands."""
        return self.monitor.state


@contextmanager
def writing(row: RunRow, settings: AthenaSettings, clock: Clock = utc_now) -> Iterator[Writing]:
    """Hold the run's lease while its events are written.

    Raises InputError where the run is Prefect's, LeaseHeldError where others write
    for longer than is waited.
    """
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.lease import Leases

    journal = _journal(settings)
    state = fold_entries(journal.read(row.plan_run))
    if not is_outside(state):
        raise InputError(
            f"run {row.plan_run} is run by Prefect, which records its tasks itself; change it by "
            "hand with `athena done`, `athena skip` or `athena rerun`",
            field="plan_id",
        )
    leases = Leases(Database.open(settings))
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            lease = leases.acquire(row.plan_run, "whoever records its events", ttl=LEASE)
            break
        except LeaseHeldError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    try:
        fenced = _Fenced(journal, lease.token)
        store = store_of(settings)
        row = store.run(row.plan_run)
        _catch_up(row, fenced, settings, clock)
        context = ExecutionContext(
            plan_run=row.plan_run, clock=clock, started_at=row.started_at, journal=fenced
        )
        yield Writing(row, ExecutionMonitor(store.revision(row.plan_run), context), fenced)
    finally:
        leases.release(lease)


def _catch_up(row: RunRow, journal: Journal, settings: AthenaSettings, clock: Clock) -> None:
    """Tell the journal of a revision whose writer died between storing and telling."""
    state = fold_entries(journal.read(row.plan_run))
    if row.revision <= state.revision:
        return
    store = store_of(settings)
    decision = store.decision(row.decision_id)
    journal.append(
        RunEvent(
            plan_run=row.plan_run,
            kind=RunEventKind.REVISED,
            at=clock(),
            source=str(row.revision),
            reported_by=Reporter.CALLER,
            data={
                **(store.figures(row.plan_run, row.revision) or {}),
                "revision": row.revision,
                "author": decision.author,
                "reason": decision.reason,
            },
        )
    )


def _journal(settings: AthenaSettings) -> Journal:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.sql_journal import SqlJournal

    return SqlJournal(Database.open(settings))


def _moment(given: datetime | None, now: datetime, field: str) -> datetime | None:
    if given is None:
        return None
    if given.tzinfo is None:
        raise NaiveDatetimeError(field)
    if given > now + SKEW:
        raise RecordingError(
            f"{field} is {given.isoformat()}, which is in the future (it is {now.isoformat()}); "
            "give when it happened",
            field=field,
        )
    return given


# -- what happens to tasks ----------------------------------------------------------------------


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
        _moment(at, now, "time")
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


def end(run: Writing, status: str, reason: str, at: datetime, settings: AthenaSettings) -> None:
    """Say that the run is over, in its journal and in the list of runs."""
    run.journal.append(
        RunEvent(
            plan_run=run.row.plan_run,
            kind=RunEventKind.ENDED,
            at=at,
            reported_by=Reporter.CALLER,
            data={"status": status, "reason": reason},
        )
    )
    store_of(settings).set_run_status(run.row.plan_run, status, reason=reason, ended=at)
