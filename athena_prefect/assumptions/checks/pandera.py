"""pandera: whether a table in a file, or a frame that a function gives, fits a schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.extras import needed
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import ValidationMethod
from athena_prefect.plan.references import resolve
from athena_prefect.plan.scalars import CallReference

MOST_NAMED = 10
"""Broken rules that are named; the rest is counted."""
_READERS = {".csv": "read_csv", ".parquet": "read_parquet", ".json": "read_json"}


class Pandera(Check):
    """Whether data fits a pandera schema: `valid`, `failures` (their number), and which `rules`."""

    model_config = ConfigDict(populate_by_name=True)

    kind: ClassVar[str] = "pandera"
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    counts: ClassVar[str | None] = "valid"
    can_hang: ClassVar[bool] = True

    schema_: CallReference = Field(alias="schema")
    """``module:name`` of a DataFrameSchema or DataFrameModel of the project."""
    path: str | None = None
    """A file with the data: .csv, .parquet or .json; relative to the project, or a URL."""
    read: Mapping[str, Any] = Field(default_factory=dict)
    """Arguments of the pandas function that reads the file, e.g. ``{parse_dates: [day]}``."""
    frame: CallReference | None = None
    """``module:function`` of the project that gives the data as a pandas DataFrame."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.path is None) is (self.frame is None):
            raise ValueError("give exactly one of path, frame")
        if self.path is not None and Path(self.path).suffix not in _READERS:
            raise ValueError(f"{self.path!r}: pandera reads {', '.join(_READERS)}")
        return self

    def observe(self, context: CheckContext) -> Observation:
        """Validate all of it, and count what does not fit."""
        errors = needed("pandera.errors", self.kind)
        needed("pandera.pandas", self.kind)
        schema = resolve(self.schema_, context.root)
        validate = getattr(schema, "validate", None)
        if validate is None:
            raise CheckError(f"{self.schema_} is no pandera schema")
        data = self._data(context)
        try:
            validate(data, lazy=True)
        except errors.SchemaErrors as error:
            rules = sorted({_rule(case) for case in error.failure_cases.to_dict("records")})
            count = len(error.failure_cases)
            value = {"valid": False, "failures": count, "rules": rules[:MOST_NAMED]}
            told = f"{count} failures in {len(data)} rows: {'; '.join(rules[:MOST_NAMED])}"
            return Observation(value=value, details=told)
        value = {"valid": True, "failures": 0, "rules": []}
        return Observation(value=value, details=f"{len(data)} rows fit")

    def _data(self, context: CheckContext) -> Any:
        import pandas as pd

        if self.frame is not None:
            found = resolve(self.frame, context.root)()
            if not isinstance(found, pd.DataFrame):
                raise CheckError(f"{self.frame} gave a {type(found).__name__}, not a DataFrame")
            return found
        assert self.path is not None
        reader = getattr(pd, _READERS[Path(self.path).suffix])
        try:
            return reader(context.path(self.path), **self.read)
        except FileNotFoundError:
            raise CheckError(f"there is no {self.path}") from None
        except (ValueError, ImportError, TypeError, OSError) as error:
            raise CheckError(f"{self.path} cannot be read: {error}") from None


def _rule(case: Mapping[str, Any]) -> str:
    column = case.get("column")
    rule = str(case.get("check"))
    return f"{column}: {rule}" if isinstance(column, str) else rule
