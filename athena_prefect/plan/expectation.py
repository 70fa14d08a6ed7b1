"""A value held against what is expected of it; success criteria, `when` and assumptions share it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from athena_prefect.plan.units import Duration

MISSING: Any = object()
"""What `field_of` answers where there is no such field."""


class Expectation(BaseModel):
    """What a value should be: any of the given conditions, all of which must hold.

    In a document a plain value stands for ``{is: value}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    is_: Any = Field(default=None, alias="is")
    is_not: Any = None
    min: float | None = None
    max: float | None = None
    max_age: Duration | None = None
    one_of: tuple[Any, ...] | None = None
    matches: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        if isinstance(value, Expectation | Mapping):
            return value
        return {"is": value}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("says nothing; give one of is, is_not, min, max, one_of, matches")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; nothing can meet both")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except re.error as error:
                raise ValueError(f"matches is not a regular expression: {error}") from None
        return self

    def unmet(self, observed: Any) -> str | None:
        """Why `observed` does not meet this, in words; None where it does.

        A missing or incomparable value meets nothing. `max_age` is judged where
        a clock is at hand, by the caller.
        """
        if observed is MISSING:
            return "is missing"
        given = self.model_fields_set
        if "is_" in given and not _same(observed, self.is_):
            return f"is {observed!r}, expected {self.is_!r}"
        if "is_not" in given and _same(observed, self.is_not):
            return f"is {observed!r}, which was excluded"
        if self.one_of is not None and not any(_same(observed, v) for v in self.one_of):
            return f"is {observed!r}, expected one of {list(self.one_of)!r}"
        if self.matches is not None and not (
            isinstance(observed, str) and re.search(self.matches, observed)
        ):
            return f"is {observed!r}, which does not match {self.matches!r}"
        return self._out_of_range(observed)

    def _out_of_range(self, observed: Any) -> str | None:
        if self.min is None and self.max is None:
            return None
        try:
            number = float(observed)
        except (TypeError, ValueError):
            return f"is {observed!r}, expected a number"
        if self.min is not None and not number >= self.min:
            return f"is {number:g}, expected at least {self.min:g}"
        if self.max is not None and not number <= self.max:
            return f"is {number:g}, expected at most {self.max:g}"
        return None


def field_of(value: Any, name: str) -> Any:
    """`name` of a mapping or an object (dots go deeper); MISSING where there is none."""
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif part.startswith("_"):
            return MISSING
        else:
            value = getattr(value, part, MISSING)
        if value is MISSING:
            return MISSING
    return value


def _same(left: Any, right: Any) -> bool:
    # True == 1 in Python; a plan that says `is: true` does not mean the number.
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    return bool(left == right)
