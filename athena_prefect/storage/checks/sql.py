"""sql: one value that a database is asked for."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.storage.checks.source import SqlCheck

_READING = ("select", "with", "values", "table")
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)


def _reads(sql: str) -> str:
    """`sql`, which has to begin as a question does. Raises ValueError."""
    first = re.match(r"\w*", _COMMENTS.sub("", sql).lstrip("("))
    word = first[0].lower() if first else ""
    if word not in _READING:
        raise ValueError(f"{word or 'this'!r} is no question; a check only reads: write SELECT …")
    return sql


class Sql(SqlCheck):
    """The one value that a query gives. The query cannot write, and is stopped when time is up."""

    kind: ClassVar[str] = "sql"

    query: Annotated[str, AfterValidator(_reads)]
    """One SELECT that gives one row of one column."""

    def observe(self, context: CheckContext) -> Observation:
        """Ask. More than one value, none, or NULL: nothing was observed, and the error says so."""
        with self.reading(context) as database:
            row = database.one(self.query)
        if len(row) != 1:
            raise CheckError(f"the query gave {len(row)} columns; one value was wanted")
        if row[0] is None:
            raise CheckError("the query gave NULL")
        return Observation(value=row[0])
