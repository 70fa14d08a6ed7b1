"""The database's schema: which it has, and bringing it up to this version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from athena_prefect.service.results import SchemaVersion

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database


def db_upgrade(*, settings: AthenaSettings) -> SchemaVersion:
    """Bring the database to the newest schema. Raises StorageError."""
    database = _database(settings)
    database.upgrade()
    return _version(database)


def db_current(*, settings: AthenaSettings) -> SchemaVersion:
    """Which schema the database has; nothing is changed. Raises StorageError."""
    return _version(_database(settings))


def _database(settings: AthenaSettings) -> Database:
    from athena_prefect.storage.db import database_for

    return database_for(settings.database_url, durable=settings.durable)


def _version(database: Database) -> SchemaVersion:
    from athena_prefect.storage.schema import head

    return SchemaVersion(database=database.location, found=database.current(), needed=head())
