"""The database: one engine a process, opened at first use, safe to pickle and to fork."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine

from athena_prefect.errors import SchemaError
from athena_prefect.storage import schema
from athena_prefect.storage.engine import WRITE, Durability, make_engine, parse_url
from athena_prefect.storage.failures import UPGRADE, location, translated
from athena_prefect.storage.read_only import only_readable


class _Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closable)


class DatabaseSettings(Protocol):
    """What a database needs to know."""

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL, password included."""
        ...

    @property
    def durable(self) -> Durability:
        """What an acknowledged write survives."""
        ...


class Database:
    """A SQLite file or a PostgreSQL database.

    `durable` says what an acknowledged write survives: ``process`` (SIGKILL) or
    ``power``; PostgreSQL's own settings decide there. Nothing is opened before
    the first use, and each process opens its own connections, so that a
    `Database` may be pickled into workers and used after a fork.

    Raises SettingsError for a URL that cannot be used.
    """

    def __init__(self, url: str | URL, *, durable: Durability = "process") -> None:
        self.url = parse_url(url)
        self.durable: Durability = durable
        self._engines: dict[int, Engine] = {}
        self._seen: set[int] = set()
        self._local: dict[tuple[int, Callable[..., Any]], Any] = {}

    @classmethod
    def open(cls, source: str | URL | DatabaseSettings) -> Database:
        """The database of a URL or of settings, with its schema ready.

        An empty SQLite database is made and given the schema. Raises SchemaError
        where it has another, StorageUnavailableError where it cannot be reached.
        """
        if isinstance(source, str | URL):
            database = database_for(source)
        else:
            database = database_for(source.database_url, durable=source.durable)
        database.prepare()
        return database

    @property
    def sqlite(self) -> bool:
        """Whether it is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def only_readable(self) -> bool:
        """Whether it is a SQLite file that can be read here and not written to."""
        return self.sqlite and only_readable(Path(self.url.database or ""))

    @property
    def engine(self) -> Engine:
        """This process's engine."""
        pid = os.getpid()
        # A parent's engine stays in the map after a fork: closing it here would
        # end the parent's sessions.
        engine = self._engines.get(pid)
        return engine or self._engines.setdefault(pid, make_engine(self.url, self.durable))

    def local(self, make: Callable[[Database], T]) -> T:
        """What this process keeps beside its connections; made by `make` at first use."""
        self._give_schema()
        key = (os.getpid(), make)
        kept: T = self._local.get(key) or self._local.setdefault(key, make(self))
        return kept

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads."""
        self._give_schema()
        with translated(self.url), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that writes; committed at the end, or nothing is."""
        self._give_schema()
        with translated(self.url), self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITE: True})
            with connection.begin():
                yield connection

    def current(self) -> str | None:
        """The schema's version; None where there is none."""
        with translated(self.url), self.engine.connect() as connection:
            return schema.current(connection)

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema to `revision`. Safe where several processes do it at once."""
        with translated(self.url):
            schema.migrate(self.engine, revision)

    def downgrade(self, revision: str) -> None:
        """Take the schema back to `revision` (`base`: remove every table of ours)."""
        with translated(self.url):
            schema.migrate(self.engine, revision, down=True)

    def check_schema(self) -> None:
        """Raise SchemaError unless the schema is the one that this version needs."""
        found, needed = self.current(), schema.head()
        if found == needed:
            return
        older = found is None or found in schema.known()
        remedy = UPGRADE if older else "upgrade athena"
        if older and self.only_readable:
            remedy += " as somebody who may write to it: here it can only be read"
        raise SchemaError(
            f"{self.location} has schema {found or 'none'}, this version needs {needed}; {remedy}",
            found=found,
            needed=needed,
        )

    def prepare(self) -> None:
        """Give an empty SQLite database its schema; check that of any other."""
        self._give_schema()
        self.check_schema()

    def _give_schema(self) -> None:
        """Make the tables of a SQLite file that has none: there is nothing to lose in it."""
        if not self.sqlite or os.getpid() in self._seen:
            return
        with translated(self.url), self.engine.connect() as connection:
            empty = not connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first()
        if empty:
            self.upgrade()
        self._seen.add(os.getpid())

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        pid = os.getpid()
        self._seen.discard(pid)
        for key in [k for k in self._local if k[0] == pid]:
            self._local.pop(key).close()
        engine = self._engines.pop(pid, None)
        if engine is not None:
            engine.dispose()

    @property
    def location(self) -> str:
        """Where it is, without the password."""
        return location(self.url)

    @cached_property
    def fingerprint(self) -> str:
        """Short name that differs between databases; for the folder of a spool."""
        return hashlib.sha256(self.location.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Database({self.location!r}, durable={self.durable!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickle, (self.url.render_as_string(hide_password=False), self.durable)


_databases: dict[tuple[int, str, str], Database] = {}


def database_for(url: str | URL, *, durable: Durability = "process") -> Database:
    """This process's one `Database` for that URL, so that workers share its connections."""
    parsed = parse_url(url)
    key = (os.getpid(), parsed.render_as_string(hide_password=False), durable)
    return _databases.get(key) or _databases.setdefault(key, Database(parsed, durable=durable))


def _unpickle(url: str, durable: Durability) -> Database:
    return database_for(url, durable=durable)
