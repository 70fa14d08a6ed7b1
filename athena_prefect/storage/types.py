"""Column types that mean the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    Integer,
    Interval,
    TypeDecorator,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine

from athena_prefect.journal.events import utc


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment; TIMESTAMPTZ on PostgreSQL, ISO text in UTC on SQLite.

    Takes aware datetimes only (NaiveDatetimeError) and gives them back in UTC.
    """

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type that this database knows."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(DateTime())
        return dialect.type_descriptor(TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC, without its zone where the database keeps none."""
        if value is None:
            return None
        moment = utc(value, "a datetime to be stored")
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The moment, aware and in UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Duration(TypeDecorator[timedelta]):
    """A length of time; INTERVAL on PostgreSQL, seconds as a number on SQLite."""

    impl = Interval
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type that this database knows."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Float())
        return dialect.type_descriptor(Interval())

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> Any:
        """Seconds where the database has no interval."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.total_seconds()

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        """The length of time."""
        if value is None or isinstance(value, timedelta):
            return value
        return timedelta(seconds=value)


class MapIndex(TypeDecorator[int]):
    """Which item of a mapped task; None (the task itself) is kept as -1.

    NULL would not do: it is equal to nothing, so no unique key could hold it.
    """

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int:
        """-1 for the task itself."""
        return -1 if value is None else value

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """None for the task itself."""
        return None if value is None or value < 0 else int(value)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""Plain data; JSONB on PostgreSQL, text on SQLite."""

RowId = BigInteger().with_variant(Integer(), "sqlite")
"""A counted primary key; SQLite counts only INTEGER ones."""
