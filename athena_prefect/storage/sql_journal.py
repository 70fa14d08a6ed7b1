"""The journal in the database."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, func, select

from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Entry, Recorded
from athena_prefect.monitor.history import History
from athena_prefect.storage.append import Append
from athena_prefect.storage.db import Database
from athena_prefect.storage.group_commit import writer_of
from athena_prefect.storage.recall import recall_of
from athena_prefect.storage.rows import run_of, to_entry, to_record
from athena_prefect.storage.tables import EventRow

_READ = (
    select(EventRow.position, EventRow.conflict, EventRow.key, EventRow.document)
    .where(EventRow.plan_run == bindparam("plan_run"), EventRow.position > bindparam("after"))
    .order_by(EventRow.position)
)
_LAST = select(func.max(EventRow.position)).where(EventRow.plan_run == bindparam("plan_run"))


class SqlJournal:
    """A `Journal` in `database`; may be pickled into workers.

    Appends to one plan run are serialised (on PostgreSQL by the lock of its row in
    `leases`, on SQLite by the one write lock), so that positions have no gaps and
    who reads behind a position misses nothing.
    Appends of concurrent threads share one transaction (group commit).
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        """Write `events` (of one plan run) in order, all or none; durable on return.

        Raises LeaseLostError where `token` is not the newest, RecordingError on
        data that cannot be written, StorageUnavailableError.
        """
        if not events:
            return ()
        plan_run = run_of(events)
        records = tuple(to_record(e) for e in events)
        append = Append(plan_run, records, token)
        recorded = writer_of(self.database).write(append)
        recall = recall_of(self.database)
        for event, record, what in zip(events, records, recorded, strict=True):
            if what is Recorded.STORED and not record.altered:
                recall.note(event)
        return recorded

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        """The entries of a plan run behind position `after`, in order."""
        with self.database.reading() as connection:
            rows = connection.execute(_READ, {"plan_run": plan_run, "after": after}).all()
        recall = recall_of(self.database)
        entries = []
        for position, conflict, key, document in rows:
            event = None if conflict else recall.event(plan_run, key)
            if event is not None:
                entries.append(Entry(position=position, event=event))
                continue
            entry = to_entry(position, conflict, document)
            if not conflict:
                recall.note(entry.event)
            entries.append(entry)
        return tuple(entries)

    def tail(self, plan_run: UUID, after: int) -> Sequence[Entry]:
        """What was written behind position `after`."""
        return self.read(plan_run, after)

    def finished_runs(self, plan_run: UUID) -> History:
        """What had finished when a plan run began. Raises StorageUnavailableError."""
        from athena_prefect.storage.forecast_history import finished_runs

        return finished_runs(self.database, plan_run)

    def last_position(self, plan_run: UUID) -> int:
        """Position of the newest entry; 0 where there is none."""
        with self.database.reading() as connection:
            return connection.execute(_LAST, {"plan_run": plan_run}).scalar() or 0
