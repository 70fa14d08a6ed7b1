"""SQLAlchemy engines for the two databases, with the settings that make writes durable."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from athena_prefect.errors import SettingsError
from athena_prefect.storage.network_fs import network_file_system
from athena_prefect.storage.read_only import connect, only_readable

Durability = Literal["process", "power"]
"""What an acknowledged write survives: the process being killed, or the power failing."""

CHECKPOINT_PAGES = 4000
"""Pages of the write-ahead log (16 MB) before a writer has to bring them home and wait for the
disk: each 930th event of a task, measured, where SQLite's own 1,000 makes it each 230th."""
BUSY_TIMEOUT = 10.0
"""Seconds a SQLite writer waits for another process's transaction; ours take under a
millisecond, so a longer wait means that somebody holds the file."""

CONNECT_TIMEOUT = 5
"""Seconds for a connection to PostgreSQL. A hook waits for it once before events are spooled."""

STATEMENT_TIMEOUT = 30
"""Seconds after which a statement of ours on PostgreSQL is given up."""

WRITE = "athena_write"
"""Execution option: the transaction will write, so SQLite takes its lock at once."""

_VARIABLE = "ATHENA_DATABASE_URL"
_OLDEST_SQLITE = (3, 35)


def parse_url(text: str | URL) -> URL:
    """The URL with its driver filled in. Raises SettingsError on what cannot be used."""
    try:
        url = make_url(text)
    except ArgumentError:
        # The text itself may hold a password: it is not repeated.
        raise SettingsError(
            f"{_VARIABLE} is not a database URL; write sqlite:////absolute/file.db "
            "or postgresql+psycopg://user@host/database"
        ) from None
    match url.drivername:
        case "sqlite" | "sqlite+pysqlite":
            return _sqlite_url(url)
        case "postgresql+psycopg":
            return url
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+psycopg")
        case other:
            raise SettingsError(
                f"{_VARIABLE}: {other!r} is not supported; use sqlite or postgresql+psycopg",
                driver=other,
            )


def _sqlite_url(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise SettingsError(
            f"{_VARIABLE}: SQLite in memory is lost with the process; "
            "name a file, e.g. sqlite:////absolute/file.db"
        )
    path = Path(url.database).expanduser().absolute()
    kind = network_file_system(path.parent)
    if kind:
        raise SettingsError(
            f"{_VARIABLE}: {path} is on a network file system ({kind}), where SQLite's "
            "write-ahead log is not safe; use a local file or postgresql+psycopg://…",
            file_system=kind,
        )
    return url.set(drivername="sqlite", database=str(path))


def make_engine(url: URL, durable: Durability) -> Engine:
    """An engine that has not connected yet."""
    if durable not in get_args(Durability):
        raise SettingsError(
            f"ATHENA_DURABLE={durable!r}: one of {', '.join(get_args(Durability))}", value=durable
        )
    common: dict[str, Any] = {"hide_parameters": True, "json_serializer": dump_json}
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, durable, common)
    return _postgres_engine(url, common)


def dump_json(value: Any) -> str:
    """Compact JSON text. Raises TypeError or ValueError (NaN, infinity) on what is no JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _sqlite_engine(url: URL, durable: Durability, common: Mapping[str, Any]) -> Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise SettingsError(
            f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed, or PostgreSQL"
        )
    assert url.database is not None
    file = Path(url.database)
    if only_readable(file):
        return _reading_engine(url, file, common)
    _make_folder(file.parent)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT}, **common)
    synchronous = "FULL" if durable == "power" else "NORMAL"

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        # Transactions are begun by us, so that a writer can take its lock at once.
        connection.isolation_level = None
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("PRAGMA foreign_keys=ON")

    event.listen(engine, "begin", _begin)

    return engine


def _begin(connection: Connection) -> None:
    """Who will write takes the lock at once: later another may be there first."""
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _reading_engine(url: URL, file: Path, common: Mapping[str, Any]) -> Engine:
    """An engine on a file that can only be read; what writes gets SQLite's own refusal."""
    engine = create_engine(
        url, creator=lambda: connect(file, BUSY_TIMEOUT), poolclass=NullPool, **common
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    event.listen(engine, "begin", _begin)

    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the database's folder {folder} cannot be made: {error.strerror}; set ATHENA_HOME "
            "(or ATHENA_DATABASE_URL) to a place that can be written to",
            folder=str(folder),
        ) from None


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite does not wait for a lock here, so two first openers must."""
    until = time.monotonic() + BUSY_TIMEOUT
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _postgres_engine(url: URL, common: Mapping[str, Any]) -> Engine:
    given = dict(url.query)
    arguments: dict[str, Any] = {
        "application_name": "athena",
        "connect_timeout": CONNECT_TIMEOUT,
        # A host that vanished without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT}s -c TimeZone=UTC",
    }
    chosen = {k: v for k, v in arguments.items() if k not in given}
    return create_engine(url, connect_args=chosen, pool_pre_ping=True, **common)
