"""Group commit: appends of concurrent threads share one transaction.

A thread queues its append and waits for the writer's lock. Who gets the lock
writes all that is queued, its own and the others', who then find theirs done. A
lone thread pays nothing for this; many pay one commit for all (DeWitt et al.
1984, "Implementation techniques for main memory database systems").
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from athena_prefect.errors import StorageError
from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.append import Append, Appender, Outcome
from athena_prefect.storage.append_postgres import PostgresAppender
from athena_prefect.storage.append_sqlite import SqliteAppender
from athena_prefect.storage.db import Database
from athena_prefect.storage.failures import translated, unavailable

LARGEST_BATCH = 256
"""Appends in one transaction: bounds how long the first of them waits."""


@dataclass(slots=True, eq=False)
class _Waiting:
    append: Append
    outcome: Outcome | Exception | None = None


class GroupCommit:
    """This process's writer of a database's journal."""

    def __init__(self, database: Database) -> None:
        self._url = database.url
        self._appender: Appender = (
            SqliteAppender(database.engine)
            if database.sqlite
            else PostgresAppender(database.engine)
        )
        self._queue: deque[_Waiting] = deque()
        self._lock = threading.Lock()

    def write(self, append: Append) -> tuple[Recorded, ...]:
        """Write `append`; durable on return. Raises LeaseLostError, StorageUnavailableError."""
        mine = _Waiting(append)
        self._queue.append(mine)
        while mine.outcome is None:
            with self._lock:
                if mine.outcome is None:
                    self._write_batch()
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def close(self) -> None:
        """Drop the connection; a later write opens another."""
        with self._lock:
            self._appender.discard()

    def _write_batch(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), LARGEST_BATCH))]
        try:
            outcomes = self._commit([w.append for w in batch])
        except StorageError as error:
            for waiting in batch:
                # Each thread raises an error of its own: a traceback grows where it is raised.
                waiting.outcome = type(error)(**error.__dict__)
                waiting.outcome.__cause__ = error.__cause__
        except BaseException:
            # Interrupted: the others' appends are for the next writer. Should the
            # commit have come through, their second write changes nothing.
            self._appender.discard()
            self._queue.extendleft(reversed(batch))
            raise
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome = outcome

    def _commit(self, appends: list[Append]) -> list[Outcome]:
        with translated(self._url):
            try:
                return self._appender.write(appends)
            except Exception as error:
                worn = not self._appender.fresh
                self._appender.discard()
                # A connection that died while it was idle says nothing about the
                # database; a new one does. What is written twice changes nothing.
                if not (worn and unavailable(error)):
                    raise
            try:
                return self._appender.write(appends)
            except Exception:
                self._appender.discard()
                raise


def writer_of(database: Database) -> GroupCommit:
    """This process's writer for `database`."""
    return database.local(GroupCommit)
