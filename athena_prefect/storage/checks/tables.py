"""What checks of one table share: its name, and a condition on its rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from athena_prefect.storage.checks.source import SqlCheck


class TableCheck(SqlCheck):
    """A check of one table or view."""

    table: Annotated[str, Field(pattern=r"^[^.\s\x00][^.\x00]*(\.[^.\x00]+)?$")]
    """The table or view, with its schema before a dot where it needs one; as it is written in
    the database, capitals included."""


class RowsCheck(TableCheck):
    """A check of some of the rows of a table."""

    where: str = ""
    """SQL condition of the rows that count, e.g. ``day = CURRENT_DATE``; all by default."""

    def select(self, what: str) -> str:
        """The SELECT of `what` from the rows that count."""
        from athena_prefect.storage.checks.reading import ROWS, quoted

        condition = f" WHERE (\n{self.where}\n)" if self.where.strip() else ""
        # The names are quoted; the condition is the plan's own, where nothing can write.
        return f"SELECT {what} FROM {quoted(self.table)} AS {ROWS}{condition}"  # noqa: S608
