"""schema_drift: whether a table still has the columns that the plan counts on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.storage.checks.tables import TableCheck

_NAMES = {
    "int": "integer", "int4": "integer", "int8": "bigint", "int2": "smallint",
    "serial": "integer", "bigserial": "bigint", "float8": "double precision",
    "float4": "real", "double": "double precision", "bool": "boolean", "decimal": "numeric",
    "varchar": "character varying", "char": "character", "bpchar": "character",
    "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
    "timetz": "time with time zone", "time": "time without time zone", "string": "text",
}  # fmt: skip
"""Short names of SQL types, and the ones that the catalogue writes."""


class SchemaDrift(TableCheck):
    """Whether a table has the expected columns: `unchanged`, and which are not as expected.

    `missing` and `new` are lists of names, `changed` maps names to what their types
    are now; `differences` counts all of them.
    """

    kind: ClassVar[str] = "schema_drift"
    counts: ClassVar[str | None] = "unchanged"

    columns: Annotated[Mapping[str, str | None], Field(min_length=1)]
    """The expected columns and their types, e.g. ``{id: bigint, day: date, note: null}``;
    null for a column of any type."""
    new_columns: bool = True
    """Whether a column that the plan does not name is a change."""

    def observe(self, context: CheckContext) -> Observation:
        """Compare the database's own description with the expected one."""
        with self.reading(context) as database:
            there = {c.name: c.type for c in database.columns(self.table)}
        missing = [name for name in self.columns if name not in there]
        new = [n for n in there if n not in self.columns] if self.new_columns else []
        changed = {
            name: there[name]
            for name, kind in self.columns.items()
            if name in there and kind is not None and not same_type(kind, there[name])
        }
        differences = len(missing) + len(new) + len(changed)
        value: dict[str, Any] = {
            "unchanged": not differences, "differences": differences,
            "missing": missing, "new": new, "changed": changed,
        }  # fmt: skip
        return Observation(value=value, details=self._told(there, missing, new, changed))

    def _told(
        self,
        there: Mapping[str, str],
        missing: list[str],
        new: list[str],
        changed: Mapping[str, str],
    ) -> str:
        if not there:
            return f"there is no table {self.table}"
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"new: {', '.join(new)}"] if new else []
        parts += [f"{n} is {kind}, expected {self.columns[n]}" for n, kind in changed.items()]
        return f"{self.table}: " + ("; ".join(parts) or "as expected")


def same_type(expected: str, found: str) -> bool:
    """Whether two names are of one SQL type; sizes count only where both say them."""
    (left, left_size), (right, right_size) = _type(expected), _type(found)
    return left == right and (not left_size or not right_size or left_size == right_size)


def _type(text: str) -> tuple[str, str]:
    size = re.search(r"\(([^)]*)\)", text)
    name = " ".join(re.sub(r"\([^)]*\)", " ", text.lower()).split())
    array = "[]" if name.endswith("[]") else ""
    name = name.removesuffix("[]").strip()
    return _NAMES.get(name, name) + array, re.sub(r"\s", "", size[1]) if size else ""
