"""Appends on PostgreSQL: two round trips and one commit a batch, in pipeline mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Engine, PoolProxiedConnection

from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.append import Append, Head, Outcome
from athena_prefect.storage.rows import EventRecord

_LOCK = """
SELECT plan_run, token, last_position FROM leases
WHERE plan_run = ANY(%s::uuid[]) ORDER BY plan_run FOR UPDATE
"""
_KNOWN = """
SELECT e.plan_run, e.key, e.content_hash
FROM unnest(%s::uuid[], %s::text[]) AS wanted (plan_run, key)
JOIN events e ON e.plan_run = wanted.plan_run AND e.key = wanted.key
"""
_NEW_HEADS = """
INSERT INTO leases (plan_run, token, last_position)
SELECT plan_run, 0, 0 FROM unnest(%s::uuid[]) AS missing (plan_run) ORDER BY plan_run
ON CONFLICT DO NOTHING
"""
_INSERT = """
INSERT INTO events (plan_run, position, key, content_hash, conflict, at, document)
SELECT r.plan_run, r.position, r.key, r.content_hash, r.conflict, r.at, r.document::jsonb
FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::bool[], %s::timestamptz[],
            %s::text[]) AS r (plan_run, position, key, content_hash, conflict, at, document)
ON CONFLICT (plan_run, key, content_hash) DO NOTHING
"""
_MOVE_HEADS = """
UPDATE leases SET last_position = moved.position
FROM unnest(%s::uuid[], %s::bigint[]) AS moved (plan_run, position)
WHERE leases.plan_run = moved.plan_run
"""

Row = tuple[UUID, int, str, str, bool, Any, str]


class PostgresAppender:
    """An `Appender` on PostgreSQL."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._checked_out: PoolProxiedConnection | None = None
        self.fresh = True

    def write(self, appends: Sequence[Append]) -> list[Outcome]:
        """Write them in order, in one transaction."""
        connection = self._connection()
        # Always in the same order, so that two writers cannot wait for each other.
        runs = sorted({a.plan_run for a in appends})
        heads, known = _lock(connection, runs, appends)
        if len(heads) < len(runs):
            _create(connection, [r for r in runs if r not in heads])
            heads, known = _lock(connection, runs, appends)
        rows: list[Row] = []
        outcomes = [_decide(heads[a.plan_run], a, known, rows) for a in appends]
        with connection.pipeline():
            if rows:
                connection.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])
                moved = sorted({row[0] for row in rows})
                connection.execute(_MOVE_HEADS, [moved, [heads[r].position for r in moved]])
            connection.commit()
        self.fresh = False
        return outcomes

    def discard(self) -> None:
        """Drop the connection, and with it what was not committed."""
        held, self._checked_out, self.fresh = self._checked_out, None, True
        if held is not None:
            held.invalidate()

    def _connection(self) -> psycopg.Connection[Any]:
        if self._checked_out is None:
            self._checked_out = self._engine.raw_connection()
        connection = self._checked_out.driver_connection
        assert isinstance(connection, psycopg.Connection)
        return connection


Known = dict[tuple[UUID, str], set[str]]
"""Content hashes that are there, by plan run and key."""


def _lock(
    connection: psycopg.Connection[Any], runs: list[UUID], appends: Iterable[Append]
) -> tuple[dict[UUID, Head], Known]:
    """The heads, locked, and what is known of the keys to be written, read behind the lock.

    Two statements: each sees what was committed when it began, and the second
    begins when the lock is held.
    """
    wanted = sorted({(a.plan_run, r.key) for a in appends for r in a.records})
    with connection.pipeline():
        locked = connection.execute(_LOCK, [runs])
        found = connection.execute(_KNOWN, [[w[0] for w in wanted], [w[1] for w in wanted]])
        heads = {run: Head(token=token, position=last) for run, token, last in locked.fetchall()}
        known: Known = {}
        for run, key, content_hash in found.fetchall():
            known.setdefault((run, key), set()).add(content_hash)
    return heads, known


def _create(connection: psycopg.Connection[Any], runs: list[UUID]) -> None:
    connection.rollback()
    connection.execute(_NEW_HEADS, [runs])
    connection.commit()


def _decide(head: Head, append: Append, known: Known, rows: list[Row]) -> Outcome:
    lost = head.fences_off(append)
    if lost is not None:
        return lost
    return tuple(_decide_one(head, record, known, rows) for record in append.records)


def _decide_one(head: Head, record: EventRecord, known: Known, rows: list[Row]) -> Recorded:
    contents = known.setdefault((record.plan_run, record.key), set())
    if record.content_hash in contents:
        return Recorded.KNOWN
    conflict = bool(contents)
    contents.add(record.content_hash)
    head.position += 1
    rows.append(
        (
            record.plan_run,
            head.position,
            record.key,
            record.content_hash,
            conflict,
            record.at,
            record.document,
        )
    )
    return Recorded.CONFLICT if conflict else Recorded.STORED
