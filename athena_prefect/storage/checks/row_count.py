"""row_count: how many rows a table has."""

from __future__ import annotations

from typing import ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.plan.model import Sense
from athena_prefect.storage.checks.tables import RowsCheck


class RowCount(RowsCheck):
    """Number of rows of a table, or of those that meet a condition."""

    kind: ClassVar[str] = "row_count"
    sense: ClassVar[Sense] = Sense.AT_LEAST

    def observe(self, context: CheckContext) -> Observation:
        """Count them."""
        with self.reading(context) as database:
            (count,) = database.one(self.select("count(*)"))
        return Observation(value=count, unit="rows", details=f"{self.table} has {count} rows")
