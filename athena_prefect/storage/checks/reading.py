"""A database that can only be read, and only for so long.

PostgreSQL: a READ ONLY transaction with a statement time-out, in which one
prepared statement is executed; a prepared statement cannot be two, so that no
COMMIT hides in it. SQLite: a file opened read-only, with an authorizer that
knows nothing but reading, and a progress handler that stops what takes too long.
"""

from __future__ import annotations

import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import psycopg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from athena_prefect.errors import CheckError
from athena_prefect.storage.failures import location

if TYPE_CHECKING:
    from athena_prefect.assumptions.checks.base import CheckContext

STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: well under a millisecond."""
LONGEST_VALUE = 16_000_000
"""Bytes of one value that SQLite may make: a check asks for a number or a short text."""
_SHORTEST_CONNECT = 2
"""Seconds; libpq takes a shorter time-out for this one."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as the database describes it."""

    name: str
    type: str


class Reader(ABC):
    """One connection, for one check. Errors rise as CheckError, without the password."""

    def __init__(self, url: URL, context: CheckContext, seconds: float) -> None:
        self.url = url
        self.where = location(url)
        self.ticks = context.ticks
        self.limit = seconds
        self.until = context.ticks() + seconds

    @property
    def left(self) -> float:
        """Seconds until the check's patience is at its end; never less than a millisecond."""
        return max(self.until - self.ticks(), 0.001)

    def __enter__(self) -> Self:
        with self._told():
            self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def rows(self, sql: str, parameters: Sequence[Any] = (), most: int = 2) -> list[Row]:
        """The first `most` rows of one statement that only reads."""
        with self._told():
            return self._rows(sql, parameters, most)

    def one(self, sql: str) -> Row:
        """The only row of a statement. Raises CheckError where there are none or more."""
        found = self.rows(sql)
        if len(found) != 1:
            raise CheckError(
                "the query gave no row; one value was wanted" if not found
                else "the query gave more than one row; one value was wanted"
            )  # fmt: skip
        return found[0]

    @abstractmethod
    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns of `table`, in order; none where there is no such table."""

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, sqlite3.Error, sqlite3.Warning) as error:
            raise CheckError(f"{self.where}: {self._words(error)}") from None

    def _words(self, error: Exception) -> str:
        said = self._explained(error)
        if said:
            return said
        text = " ".join(str(error).split()) or type(error).__name__
        secrets = [self.url.password, self.url.query.get("password")]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                text = text.replace(secret, "***")
        return text

    @abstractmethod
    def _explained(self, error: Exception) -> str: ...
    @abstractmethod
    def _open(self) -> None: ...
    @abstractmethod
    def _close(self) -> None: ...
    @abstractmethod
    def _rows(self, sql: str, parameters: Sequence[Any], most: int) -> list[Row]: ...


def reader(address: str, context: CheckContext, seconds: float) -> Reader:
    """A reader of the database at `address`. Raises CheckError, which does not repeat it."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise CheckError("what should be the database's URL is none") from None
    match url.drivername.partition("+")[0]:
        case "sqlite":
            return SqliteReader(url, context, seconds)
        case "postgresql" | "postgres":
            return PostgresReader(url, context, seconds)
        case other:
            raise CheckError(f"a database of kind {other!r} cannot be read; sqlite or postgresql")


def quoted(name: str) -> str:
    """A table's or column's name, with its schema before a dot, quoted for SQL."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


ROWS = '"asked"'
"""What a checked table is called in our queries."""


def quoted_column(name: str) -> str:
    """A column of `ROWS`, quoted for SQL; a dot in the name is part of it.

    With the table before it, since SQLite takes an unknown name in quotes for a text.
    """
    return ROWS + '."' + name.replace('"', '""') + '"'


class PostgresReader(Reader):
    """PostgreSQL in a READ ONLY transaction."""

    def _open(self) -> None:
        plain = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        chosen: dict[str, Any] = {
            "application_name": "athena check",
            "connect_timeout": max(_SHORTEST_CONNECT, int(self.limit)),
            "tcp_user_timeout": int(self.limit * 1000),
        }
        given = self.url.query
        self._link = psycopg.connect(plain, **{k: v for k, v in chosen.items() if k not in given})
        try:
            self._link.read_only = True
            # At the least a millisecond: zero would be no limit at all.
            limit = str(max(int(self.left * 1000), 1))
            for setting in ("statement_timeout", "lock_timeout"):
                self._link.execute("SELECT set_config(%s, %s, true)", (setting, limit))
            self._link.execute("SET LOCAL TimeZone TO 'UTC'")
        except BaseException:
            self._link.close()
            raise

    def _close(self) -> None:
        self._link.close()

    def _rows(self, sql: str, parameters: Sequence[Any], most: int) -> list[Row]:
        # As a subquery no more than `most` rows ever leave the server.
        inner = sql.strip().rstrip(";")
        outer = f"SELECT * FROM (\n{inner}\n) AS asked LIMIT {int(most)}"  # noqa: S608 - only reads
        with self._link.cursor() as cursor:
            cursor.execute(outer.encode(), tuple(parameters) or None, prepare=True)
            return cursor.fetchall()

    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns as the catalogue has them, with their types' SQL names."""
        found = self.rows(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (quoted(table),),
            most=10_000,
        )
        return tuple(Column(name=name, type=kind) for name, kind in found)

    def _explained(self, error: Exception) -> str:
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return "the SQL writes, and was refused"
        if isinstance(error, psycopg.errors.QueryCanceled):
            return f"the SQL was stopped after {self.limit:g} s"
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return f"a lock was not to be had within {self.limit:g} s"
        if "multiple commands" in str(error):
            return "the SQL is more than one statement"
        if "data-modifying" in str(error):
            return "the SQL writes, and was refused"
        return ""


_READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)


class SqliteReader(Reader):
    """A SQLite file, opened so that it cannot be written."""

    def __init__(self, url: URL, context: CheckContext, seconds: float) -> None:
        super().__init__(url, context, seconds)
        if not url.database or url.database == ":memory:":
            raise CheckError("SQLite in memory is empty; name a file, e.g. sqlite:///data/sales.db")
        self.file = Path(context.path(url.database))

    def _open(self) -> None:
        if not self.file.is_file():
            raise CheckError(f"there is no file {self.url.database}")
        address = f"file:{quote(str(self.file.absolute()))}?mode=ro"
        link = self._link = sqlite3.connect(address, uri=True, timeout=self.left)
        try:
            link.execute("PRAGMA query_only = ON")
            if sys.version_info >= (3, 12):
                # A misspelt name in double quotes is an error, as everywhere else.
                link.setconfig(sqlite3.SQLITE_DBCONFIG_DQS_DML, False)
            link.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
            link.set_authorizer(_only_reads)
            link.set_progress_handler(lambda: int(self.ticks() > self.until), STEPS)
        except BaseException:
            link.close()
            raise

    def _close(self) -> None:
        self._link.close()

    def _rows(self, sql: str, parameters: Sequence[Any], most: int) -> list[Row]:
        cursor = self._link.execute(sql, tuple(parameters))
        try:
            return cursor.fetchmany(most)
        finally:
            cursor.close()

    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns with the types that they were declared with."""
        schema, _, name = table.rpartition(".")
        # Ours, and only reading; SQLite itself declares a table for it, which looks like writing.
        self._link.set_authorizer(None)
        try:
            found = self.rows(
                "SELECT name, type FROM pragma_table_info(?, ?)",
                (name, schema or "main"),
                most=10_000,
            )
        finally:
            self._link.set_authorizer(_only_reads)
        return tuple(Column(name=name, type=kind) for name, kind in found)

    def _explained(self, error: Exception) -> str:
        text = str(error)
        if text == "interrupted":
            return f"the SQL was stopped after {self.limit:g} s"
        if "not authorized" in text or "readonly database" in text:
            return "the SQL writes or changes settings, and was refused"
        if "one statement at a time" in text:
            return "the SQL is more than one statement"
        return ""


def _only_reads(action: int, *_what: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY
