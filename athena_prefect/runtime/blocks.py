"""Prefect blocks of this library, registered through the `prefect.collections` entry point.

Prefect imports this module whenever it is imported itself, so that nothing heavy is here.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from pydantic import Field, HttpUrl, SecretStr, ValidationError, field_validator

from athena_prefect.errors import SettingsError
from athena_prefect.settings import AthenaSettings

if TYPE_CHECKING:
    from athena_prefect.storage.db import Database

BLOCK_VARIABLE = "ATHENA_DATABASE_BLOCK"
"""Name of a stored block, where the database comes from one and not from a URL."""

_REFERENCE = re.compile(r"(?:block://)?(?:athena-database/)?([a-z0-9][a-z0-9-]*)")


class AthenaDatabase(Block):
    """Where plans, runs and their journal are kept, for those who share a Prefect server.

    The URL is a secret: Prefect's API answers with stars in its place.

    Example:
        Open the database of a stored block:
        ```python
        from athena_prefect.runtime.blocks import AthenaDatabase

        block = AthenaDatabase.load("BLOCK_NAME")
        database = block.get_database()
        ```
    """

    _block_type_name: ClassVar[str | None] = "Athena Database"
    _block_type_slug: ClassVar[str | None] = "athena-database"
    # A block can only link to a picture on the web: Prefect's own for a secret.
    _logo_url: ClassVar[HttpUrl | None] = Secret._logo_url
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls"
    )
    _description: ClassVar[str | None] = (
        "The database of plans, runs and their journal: PostgreSQL, or a SQLite file."
    )

    url: SecretStr = Field(
        title="URL",
        description="SQLAlchemy URL, e.g. postgresql+psycopg://user:password@host/database.",
    )
    durable: Literal["process", "power"] = Field(
        default="process",
        description="What an acknowledged write to SQLite survives: a killed process, or a "
        "power cut.",
    )

    @field_validator("url")
    @classmethod
    def _usable(cls, url: SecretStr) -> SecretStr:
        try:
            AthenaSettings(database_url=url.get_secret_value())
        except SettingsError as error:
            raise ValueError(error.message.replace("ATHENA_DATABASE_URL", "url")) from None
        return url

    def settings(self, **more: Any) -> AthenaSettings:
        """The settings of this process with this database; `more` are other settings.

        Raises SettingsError as AthenaSettings does.
        """
        return AthenaSettings(
            database_url=self.url.get_secret_value(), durable=self.durable, **more
        )

    def get_database(self) -> Database:
        """The database, its schema checked. Raises SchemaError, StorageUnavailableError."""
        from athena_prefect.storage.db import Database

        return Database.open(self.settings())


def settings_of(reference: str, **more: Any) -> AthenaSettings:
    """The settings with the database of the stored block that `reference` names.

    It is written NAME, athena-database/NAME or block://athena-database/NAME.
    Raises SettingsError where there is no such block.
    """
    named = _REFERENCE.fullmatch(reference)
    if named is None:
        raise SettingsError(
            f"{BLOCK_VARIABLE}={reference!r} names no block; write block://athena-database/NAME",
            value=reference,
        )
    where = f"{BLOCK_VARIABLE}={reference!r}"
    try:
        block = AthenaDatabase.load(named[1], _sync=True)  # type: ignore[call-arg]
    except ValidationError:
        # Its words would repeat the URL, password included.
        raise SettingsError(
            f"{where}: the block's fields cannot be used", value=reference
        ) from None
    except ValueError as error:
        raise SettingsError(
            f"{where}: {error}; store it with AthenaDatabase(url=…).save(NAME)", value=reference
        ) from error
    assert isinstance(block, AthenaDatabase)
    return block.settings(**more)


def current_settings(**more: Any) -> AthenaSettings:
    """This process's settings; the database of ATHENA_DATABASE_BLOCK's block where it is set."""
    reference = os.environ.get(BLOCK_VARIABLE, "")
    return settings_of(reference, **more) if reference else AthenaSettings(**more)
