"""newest: how old the newest row of a table is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense
from athena_prefect.plan.scalars import ZoneName
from athena_prefect.storage.checks.tables import RowsCheck

_LATEST_SECONDS = 1e11
"""Of the year 5138; a greater number is milliseconds or something else."""


class Newest(RowsCheck):
    """Seconds since the newest moment in a column.

    The column holds moments, days (their midnight counts), ISO texts, or numbers
    of seconds since 1970. Texts are ordered as texts, so that they have to be
    written alike and in one time zone.
    """

    kind: ClassVar[str] = "newest"
    sense: ClassVar[Sense] = Sense.AT_MOST

    column: str
    """The column."""
    timezone: ZoneName = "UTC"
    """Time zone of moments that are stored without one."""

    def observe(self, context: CheckContext) -> Observation:
        """The age at the moment of the check; negative for a moment to come."""
        from athena_prefect.storage.checks.reading import quoted_column

        column = quoted_column(self.column)
        with self.reading(context) as database:
            newest, oldest = database.one(self.select(f"max({column}), min({column})"))
        if newest is None:
            raise CheckError(f"{self.table} has no row with a {self.column}")
        if isinstance(newest, str) and not _alike(str(oldest), newest):
            raise CheckError(
                f"{self.column} holds texts that are written differently "
                f"({oldest!r}, {newest!r}): which of them is the newest cannot be said"
            )
        moment = self._moment(newest)
        if moment is None:
            raise CheckError(f"{self.column} holds {newest!r}, which is no moment")
        age = (context.now - moment).total_seconds()
        return Observation(
            value=age,
            unit="s",
            details=f"the newest row of {self.table} is of {moment.isoformat()}",
        )

    def _moment(self, value: Any) -> datetime | None:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC) if 0 <= value < _LATEST_SECONDS else None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(self.timezone))
        return aware.astimezone(UTC)


def _alike(oldest: str, newest: str) -> bool:
    """Whether two texts are moments whose order as texts is their order in time."""
    return _form(oldest) == _form(newest)


def _form(text: str) -> tuple[bool, str, str]:
    """With or without a time, what stands between, and the offset of its zone as written."""
    day, rest = text[:10], text[10:]
    between = rest[:1]
    for sign in ("Z", "+", "-"):
        if sign in rest:
            return "-" in day, between, rest[rest.index(sign) :]
    return "-" in day, between, ""
