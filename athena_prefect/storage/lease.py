"""One dispatcher a plan run: a lease in the database, with a fencing token.

The lease keeps a second dispatcher from starting; the token, checked in the
transaction of each append, keeps a first one that was taken for dead from
writing (Kleppmann 2016, "How to do distributed locking").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.errors import LeaseHeldError, LeaseLostError
from athena_prefect.journal.events import utc
from athena_prefect.storage.db import Database
from athena_prefect.storage.process import Process
from athena_prefect.storage.tables import LeaseRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to dispatch `plan_run` until `expires_at`; `token` fences off its predecessors."""

    plan_run: UUID
    token: int
    holder: str
    expires_at: datetime


class Leases:
    """The leases in `database`.

    Times are the database's (its own clock, which all hosts share, however their
    clocks differ); a `now` that is given stands in for it, in virtual time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(
        self, plan_run: UUID, holder: str, *, ttl: timedelta, now: datetime | None = None
    ) -> Lease:
        """Take the lease for `ttl`; the token is one more than any before.

        A lease that has expired, was released, or whose holder was a process of
        this machine that is certainly gone, is free. `holder` is what is said to
        people. Raises LeaseHeldError, with `holder` and `expires_at` of the other,
        and StorageUnavailableError.
        """
        with self._database.writing() as connection:
            _ensure_row(connection, plan_run)
            row = _locked(connection, plan_run)
            assert row is not None
            # Read behind the lock: waiting for it may have taken a while.
            moment = _now(connection, now)
            if not _free(row, moment):
                raise LeaseHeldError(
                    f"plan run {plan_run} is run by {row.holder} until "
                    f"{row.expires_at:%Y-%m-%d %H:%M:%S} UTC at least; "
                    "stop it, or wait until its lease expires",
                    holder=row.holder,
                    plan_run=plan_run,
                    expires_at=row.expires_at,
                )
            lease = Lease(
                plan_run=plan_run, token=row.token + 1, holder=holder, expires_at=moment + ttl
            )
            connection.execute(
                update(LeaseRow)
                .where(LeaseRow.plan_run == plan_run)
                .values(
                    token=lease.token,
                    holder=holder,
                    process=str(Process.this()),
                    expires_at=lease.expires_at,
                )
            )
            return lease

    def renew(self, lease: Lease, *, ttl: timedelta, now: datetime | None = None) -> Lease:
        """Keep the lease for another `ttl` from now.

        One that expired without a successor is renewed too. Raises LeaseLostError
        where it was released or another has taken over.
        """
        with self._database.writing() as connection:
            row = _locked(connection, lease.plan_run)
            if row is None or row.token != lease.token or row.holder is None:
                raise LeaseLostError(
                    f"plan run {lease.plan_run}: the lease with token {lease.token} is over"
                    + (f"; {row.holder} holds it now" if row is not None and row.holder else ""),
                    plan_run=lease.plan_run,
                    token=lease.token,
                    newest=None if row is None else row.token,
                )
            expires = _now(connection, now) + ttl
            connection.execute(
                update(LeaseRow)
                .where(LeaseRow.plan_run == lease.plan_run)
                .values(expires_at=expires)
            )
            return replace(lease, expires_at=expires)

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing where another has taken over. The token stays the newest."""
        with self._database.writing() as connection:
            connection.execute(
                update(LeaseRow)
                .where(LeaseRow.plan_run == lease.plan_run, LeaseRow.token == lease.token)
                .values(holder=None, process=None, expires_at=None)
            )

    def current(self, plan_run: UUID, *, now: datetime | None = None) -> Lease | None:
        """The lease that somebody holds, or None where it is free."""
        with self._database.reading() as connection:
            row = connection.execute(_SELECT.where(LeaseRow.plan_run == plan_run)).one_or_none()
            if row is None or row.holder is None or row.expires_at is None:
                return None
            if _free(row, _now(connection, now)):
                return None
            return Lease(
                plan_run=plan_run, token=row.token, holder=row.holder, expires_at=row.expires_at
            )

    def ever_held(self, plan_run: UUID) -> bool:
        """Whether a dispatcher has ever held it: a run that is only monitored never has one."""
        with self._database.reading() as connection:
            query = select(LeaseRow.token).where(LeaseRow.plan_run == plan_run)
            return bool(connection.execute(query).scalar())


_SELECT = select(LeaseRow.token, LeaseRow.holder, LeaseRow.process, LeaseRow.expires_at)


def _ensure_row(connection: Connection, plan_run: UUID) -> None:
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    row = {"plan_run": plan_run, "token": 0, "last_position": 0}
    connection.execute(insert(LeaseRow).values(row).on_conflict_do_nothing())


Held = Row[tuple[int, str | None, str | None, datetime | None]]


def _locked(connection: Connection, plan_run: UUID) -> Held | None:
    # On SQLite the transaction has had the only lock from its beginning.
    query = _SELECT.where(LeaseRow.plan_run == plan_run).with_for_update()
    return connection.execute(query).one_or_none()


def _free(row: Held, now: datetime) -> bool:
    if row.holder is None or row.expires_at is None or row.expires_at <= now:
        return True
    process = Process.parse(row.process)
    return process is not None and process.surely_gone()


def _now(connection: Connection, given: datetime | None) -> datetime:
    if given is not None:
        return utc(given, "now")
    if connection.dialect.name == "sqlite":
        text: str = connection.execute(
            select(func.strftime("%Y-%m-%dT%H:%M:%f+00:00", "now"))
        ).scalar_one()
        return datetime.fromisoformat(text)
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)
