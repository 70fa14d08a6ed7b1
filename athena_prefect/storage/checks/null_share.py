"""null_share: how much of a column is missing."""

from __future__ import annotations

from typing import ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense
from athena_prefect.storage.checks.tables import RowsCheck


class NullShare(RowsCheck):
    """Share of a column that is NULL: `share` (a fraction), `nulls` and `rows`."""

    kind: ClassVar[str] = "null_share"
    sense: ClassVar[Sense] = Sense.AT_MOST
    counts: ClassVar[str | None] = "share"

    column: str
    """The column."""

    def observe(self, context: CheckContext) -> Observation:
        """Count them. Of no rows there is no share."""
        from athena_prefect.storage.checks.reading import quoted_column

        with self.reading(context) as database:
            rows, filled = database.one(
                self.select(f"count(*), count({quoted_column(self.column)})")
            )
        if not rows:
            raise CheckError(f"{self.table} has no rows that count: there is no share of them")
        nulls = rows - filled
        return Observation(
            value={"share": nulls / rows, "nulls": nulls, "rows": rows},
            details=f"{nulls} of {rows} rows of {self.table} have no {self.column}",
        )
