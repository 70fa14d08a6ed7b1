"""Prefect blocks of this library, registered through the `prefect.collections` entry point.

Prefect imports this module whenever it is imported itself, so that nothing heavy is here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from athena_prefect.errors import SettingsError
from athena_prefect.settings import AthenaSettings


class AthenaDatabase(Block):
    """Where plans, runs and their journal are kept, for those who share a Prefect server.

    The URL is a secret: Prefect's API answers with stars in its place.

    Example:
        Take a stored block's database for this process::

            settings = AthenaDatabase.load("shared").settings()
    """

    _block_type_name: ClassVar[str | None] = "Athena Database"
    _block_type_slug: ClassVar[str | None] = "athena-database"
    _description: ClassVar[str | None] = (
        "The database of plans, runs and their journal: PostgreSQL, or a SQLite file."
    )

    url: SecretStr = Field(
        title="URL",
        description="SQLAlchemy URL, e.g. postgresql+psycopg://user:password@host/database",
    )
    durable: Literal["process", "power"] = Field(
        default="process",
        description="What an acknowledged write to SQLite survives: a killed process, or a "
        "power cut",
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
