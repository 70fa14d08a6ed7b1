"""Which database a check looks into: a variable's, a block's, or the one that runs are kept in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from athena_prefect.assumptions.checks.base import Check, CheckContext
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import ValidationMethod

if TYPE_CHECKING:
    from athena_prefect.storage.checks.reading import Reader

OURS = "ATHENA_DATABASE_URL"
OUR_BLOCK = "ATHENA_DATABASE_BLOCK"


def _without_password(url: str) -> str:
    """`url`; a password in it is refused, and not repeated. Raises ValueError."""
    from athena_prefect.settings import masked

    if "://" not in url:
        raise ValueError("url is no database URL; write e.g. sqlite:///data/sales.db")
    if masked(url) != url:
        raise ValueError(
            "a password has no place in a plan; put the URL into an environment variable "
            "and name it in env, or into a Prefect block and name it in block"
        )
    return url


def _block(reference: str) -> str:
    kind, slash, name = reference.removeprefix("block://").partition("/")
    if not (slash and kind and name) or "/" in name:
        raise ValueError(f"{reference!r} names no block; write e.g. secret/warehouse-url")
    return f"{kind}/{name}"


class SqlCheck(Check):
    """A check that reads from PostgreSQL or SQLite, in a transaction that cannot write."""

    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    can_hang: ClassVar[bool] = True  # looking a host's name up has no time-out of its own

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Environment variable with the database's URL. Without env, block and url it is the
    database in which runs are kept."""
    block: Annotated[str, AfterValidator(_block)] | None = None
    """Prefect block with the URL, e.g. ``secret/warehouse-url`` or ``athena-database/main``."""
    url: Annotated[str, AfterValidator(_without_password)] | None = None
    """The URL itself, where it has no password, e.g. ``sqlite:///data/sales.db``; a relative
    file is one of the project."""

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if sum(v is not None for v in (self.env, self.block, self.url)) > 1:
            raise ValueError("give at most one of env, block, url")
        return self

    def reading(self, context: CheckContext) -> Reader:
        """The database, to be entered. Raises CheckError where nothing says which it is."""
        from athena_prefect.storage.checks.reading import reader

        return reader(self._address(context), context, self.patience)

    def _address(self, context: CheckContext) -> str:
        environment = context.environment or os.environ
        if self.url is not None:
            return self.url
        if self.env is not None:
            found = environment.get(self.env, "")
            if not found:
                raise CheckError(f"the environment variable {self.env} is not set")
            return found
        block = self.block or environment.get(OUR_BLOCK)
        return _of_block(block) if block else _our_own(environment)


def _our_own(environment: Mapping[str, str]) -> str:
    if environment.get(OURS):
        return environment[OURS]
    from athena_prefect.settings import AthenaSettings

    return AthenaSettings().database_url


def _of_block(reference: str) -> str:
    from prefect.blocks.core import Block
    from prefect.settings import (
        PREFECT_CLIENT_MAX_RETRIES,
        get_current_settings,
        temporary_settings,
    )
    from pydantic import ValidationError

    # Without one Prefect would start a server of its own, which knows of no blocks.
    if not get_current_settings().api.url:
        raise CheckError("no Prefect API is configured that has blocks; set PREFECT_API_URL")
    reference = reference.removeprefix("block://")
    if "/" not in reference:
        reference = f"athena-database/{reference}"
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # retries outlast the check
            block: Any = Block.load(reference, _sync=True)  # type: ignore[call-arg]
    except ValidationError:
        # Its words would repeat the URL.
        raise CheckError(f"block {reference}: its fields cannot be used") from None
    except ValueError:
        raise CheckError(f"there is no Prefect block {reference}") from None
    for name in ("url", "value"):
        found = getattr(block, name, None)
        if found is not None:
            reveal = getattr(found, "get_secret_value", None)
            return str(reveal() if reveal else found)
    raise CheckError(
        f"block {reference} has no URL; use a Secret block, or an Athena Database block"
    )
