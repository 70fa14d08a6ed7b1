"""Steps for plans: SQL by a SQLAlchemy URL, with bound parameters and errors that keep secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from tasks.frames import write_frame

RECORDS = 1000
"""Rows that `run_query` returns unless told otherwise: a result that is small enough to keep."""


class SqlError(RuntimeError):
    """What the database refused, without password or values."""


class QueryResult(TypedDict):
    """What a query found. `truncated`: there were more rows than `records` holds."""

    rows: int
    columns: list[str]
    records: list[dict[str, Any]]
    truncated: bool


class Executed(TypedDict):
    """How many rows a statement changed; null where the database does not say."""

    rows: int | None


class Exported(TypedDict):
    """A query's rows in a file."""

    path: str
    rows: int
    columns: list[str]


def run_query(
    url: str,
    query: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    limit: int = RECORDS,
) -> QueryResult:
    """Run a query and return its first `limit` rows; parameters are written ``:name``.

    For more rows use `export_query`, which hands on a file. Raises SqlError.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it is 1 or more")
    with reported(url) as engine, engine.connect() as connection:
        result = connection.execute(sa.text(query), dict(parameters or {}))
        if not result.returns_rows:
            raise SqlError("the statement returns no rows; use tasks.sql:execute")
        rows = result.mappings().fetchmany(limit + 1)
        return QueryResult(
            rows=min(len(rows), limit),
            columns=list(result.keys()),
            records=[dict(row) for row in rows[:limit]],
            truncated=len(rows) > limit,
        )


def execute(url: str, statement: str, parameters: Mapping[str, Any] | None = None) -> Executed:
    """Run one statement in a transaction of its own. Raises SqlError."""
    with reported(url) as engine, engine.begin() as connection:
        count = connection.execute(sa.text(statement), dict(parameters or {})).rowcount
    return Executed(rows=count if count >= 0 else None)


def export_query(
    url: str, query: str, path: str | Path, parameters: Mapping[str, Any] | None = None
) -> Exported:
    """Write a query's rows to a CSV, JSON or Parquet file and return its path. Raises SqlError."""
    import pandas as pd

    with reported(url) as engine, engine.connect() as connection:
        frame = pd.read_sql(sa.text(query), connection, params=dict(parameters or {}))
    written = write_frame(frame, path)
    return Exported(
        path=written["path"], rows=written["rows"], columns=[str(c) for c in frame.columns]
    )


@contextmanager
def reported(url: str) -> Iterator[sa.Engine]:
    """An engine for `url`, closed at the end; database errors leave as SqlError.

    SQLAlchemy's own errors carry the values of the statement, and a driver's
    may carry the password.
    """
    password = None
    try:
        place = sa.make_url(url)
        password = place.password
        engine = sa.create_engine(place, hide_parameters=True, poolclass=sa.NullPool)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        shown = "it is no SQLAlchemy URL" if isinstance(error, ArgumentError) else str(error)
        raise SqlError(
            f"the database URL cannot be used: {shown}; write e.g. sqlite:///data.db or "
            "postgresql+psycopg://user@host/name"
        ) from None
    shown = place.render_as_string(hide_password=True)
    try:
        yield engine
    except SQLAlchemyError as error:
        said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        if password:
            said = said.replace(str(password), "***")
        raise SqlError(f"{shown}: {said.strip()}") from None
    finally:
        engine.dispose()
