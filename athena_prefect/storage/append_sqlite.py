"""Appends on SQLite: prepared text on the driver's own connection, one lock, one commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Engine, PoolProxiedConnection

from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.append import Append, Head, Outcome
from athena_prefect.storage.rows import EventRecord

_HEAD = """
SELECT token, (SELECT coalesce(max(position), 0) FROM events WHERE plan_run = ?1)
FROM leases WHERE plan_run = ?1
"""
# `last_position` stays 0: here the order of the events' own tree says where it ends, and
# the database's one write lock keeps the order.
_NEW_HEAD = "INSERT INTO leases (plan_run, token, last_position) VALUES (?, 0, 0)"
_INSERT = """
INSERT INTO events (plan_run, position, key, content_hash, conflict, at, document)
VALUES (?1, ?2, ?3, ?4,
        EXISTS (SELECT 1 FROM events WHERE plan_run = ?1 AND key = ?3), ?5, ?6)
ON CONFLICT (plan_run, key, content_hash) DO NOTHING RETURNING conflict
"""
_INSERT_ALONE = """
INSERT INTO events (plan_run, position, key, content_hash, conflict, at, document)
SELECT ?1, (SELECT coalesce(max(position), 0) + 1 FROM events WHERE plan_run = ?1), ?2, ?3,
       EXISTS (SELECT 1 FROM events WHERE plan_run = ?1 AND key = ?2), ?4, ?5
WHERE EXISTS (SELECT 1 FROM leases WHERE plan_run = ?1 AND (?6 IS NULL OR token = ?6))
ON CONFLICT (plan_run, key, content_hash) DO NOTHING RETURNING conflict
"""
"""One statement that is its own transaction. Each statement gives up the interpreter's lock,
and to get it back from the threads of running tasks takes longer than to write."""
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"
"""As SQLAlchemy writes a DATETIME on SQLite."""


class SqliteAppender:
    """An `Appender` on a SQLite file."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._checked_out: PoolProxiedConnection | None = None
        self.fresh = True

    def write(self, appends: Sequence[Append]) -> list[Outcome]:
        """Write them in order, in one transaction."""
        connection = self._connection()
        if len(appends) == 1 and len(appends[0].records) == 1:
            written = _write_alone(connection, appends[0])
            if written is not None:
                self.fresh = False
                return [written]
        # The lock comes first, so that what is read below stays true until the commit.
        connection.execute("BEGIN IMMEDIATE")
        heads: dict[UUID, Head] = {}
        outcomes = [_write(connection, heads, append) for append in appends]
        connection.execute("COMMIT")
        self.fresh = False
        return outcomes

    def discard(self) -> None:
        """Drop the connection, and with it what was not committed."""
        held, self._checked_out, self.fresh = self._checked_out, None, True
        if held is not None:
            held.invalidate()

    def _connection(self) -> sqlite3.Connection:
        if self._checked_out is None:
            self._checked_out = self._engine.raw_connection()
        connection = self._checked_out.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection


def _write_alone(connection: sqlite3.Connection, append: Append) -> Outcome | None:
    """Write an append of one event; None where it was not: known, fenced off, or the first."""
    (record,) = append.records
    rows = connection.execute(
        _INSERT_ALONE,
        (
            record.plan_run.hex,
            record.key,
            record.content_hash,
            record.at.strftime(_MOMENT),
            record.document,
            append.token,
        ),
    ).fetchall()  # to the end: only then it is committed
    if not rows:
        return None
    return (Recorded.CONFLICT if rows[0][0] else Recorded.STORED,)


def _write(connection: sqlite3.Connection, heads: dict[UUID, Head], append: Append) -> Outcome:
    head = heads.get(append.plan_run)
    if head is None:
        head = heads[append.plan_run] = _head(connection, append.plan_run)
    lost = head.fences_off(append)
    if lost is not None:
        return lost
    return tuple(_insert(connection, head, record) for record in append.records)


def _head(connection: sqlite3.Connection, plan_run: UUID) -> Head:
    row = connection.execute(_HEAD, (plan_run.hex,)).fetchone()
    if row is None:
        connection.execute(_NEW_HEAD, (plan_run.hex,))
        return Head(token=0, position=0)
    return Head(token=row[0], position=row[1])


def _insert(connection: sqlite3.Connection, head: Head, record: EventRecord) -> Recorded:
    row = connection.execute(
        _INSERT,
        (
            record.plan_run.hex,
            head.position + 1,
            record.key,
            record.content_hash,
            record.at.strftime(_MOMENT),
            record.document,
        ),
    ).fetchone()
    if row is None:
        return Recorded.KNOWN
    head.position += 1
    return Recorded.CONFLICT if row[0] else Recorded.STORED
