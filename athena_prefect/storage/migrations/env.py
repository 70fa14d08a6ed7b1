"""Alembic's environment: migrates on the connection that `storage.schema` hands over."""

from __future__ import annotations

from alembic import context

from athena_prefect.storage.db import Database
from athena_prefect.storage.tables import VERSION_TABLE, Base


def run() -> None:
    """Migrate, on the given connection or on the database of ``-x url=…``."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _on(connection)
        return
    url = context.get_x_argument(as_dictionary=True)["url"]
    with Database(url).writing() as own:
        _on(own)


def _on(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        render_as_batch=True,
        # SQLite can roll a table's making back; Alembic does not assume so.
        transactional_ddl=True,
        include_name=_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Base.metadata.tables


run()
