"""Runs that no Prefect flow runs: agents, people and other schedulers say what happens.

The plan is registered, its run has a journal, a baseline and a monitor like any
other. Whoever writes holds the run's lease for as long as that takes: two that
write at once are put in order, and each sees what the other wrote.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
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
    UnknownRunError,
)
from athena_prefect.journal.events import (
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
)
from athena_prefect.journal.journal import Entry, Journal, Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
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
    start = moment_of(started_at, now, "started_at") or now
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
    journal = journal_of(settings)
    (recorded,) = journal.append(started)
    with writing(row, settings, clock):
        pass  # makes the baseline
    return _begun(row, settings, new=recorded is Recorded.STORED)


def _begun(row: RunRow, settings: AthenaSettings, *, new: bool) -> Begun:
    state = fold_entries(journal_of(settings).read(row.plan_run))
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

    journal = journal_of(settings)
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
        monitor = ExecutionMonitor(store.revision(row.plan_run), context)
        yield Writing(row, monitor, fenced)
        monitor.refresh()
        monitor.record_forecast()
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


def journal_of(settings: AthenaSettings) -> Journal:
    """The journal of this process's database. Raises StorageError."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.sql_journal import SqlJournal

    return SqlJournal(Database.open(settings))


def moment_of(given: datetime | None, now: datetime, field: str) -> datetime | None:
    """When a caller says that something happened. Raises NaiveDatetimeError, RecordingError."""
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
