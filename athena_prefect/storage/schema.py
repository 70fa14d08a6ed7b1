"""The schema's versions: Alembic, run from Python, with the migrations of this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from athena_prefect.storage.engine import WRITE
from athena_prefect.storage.tables import VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"

_UPGRADE_LOCK = 0x617468656E61
"""Key of PostgreSQL's advisory lock; the letters "athena" as a number."""


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, on `connection` where there is one."""
    result = Config()
    # Percent signs are interpolated by Alembic, and a path may have one.
    result.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    result.set_main_option("path_separator", "os")
    result.attributes["connection"] = connection
    return result


@cache
def head() -> str:
    """The newest version."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    assert found is not None
    return found


@cache
def known() -> frozenset[str]:
    """Every version that this release knows."""
    return frozenset(s.revision for s in ScriptDirectory.from_config(config()).walk_revisions())


def current(connection: Connection) -> str | None:
    """The version of the database; None where it has none."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def migrate(engine: Engine, revision: str, *, down: bool = False) -> None:
    """Bring the schema to `revision` in one transaction.

    Of several processes that do it at once, one does it and the others find it done.
    """
    with engine.connect() as connection:
        connection = connection.execution_options(**{WRITE: True})
        if engine.dialect.name == "sqlite":
            # A table that is copied and renamed must not take what refers to it along.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.rollback()
        try:
            with connection.begin():
                _migrate(connection, revision, down)
        finally:
            # The next user of the pool must not get a connection without foreign keys.
            connection.invalidate()


def _migrate(connection: Connection, revision: str, down: bool) -> None:
    if connection.dialect.name == "postgresql":
        # Waiting for another's upgrade is no failure, so without a time-out.
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    (command.downgrade if down else command.upgrade)(config(connection), revision)
