"""A value held against what is expected of it: success criteria, `when`, assumptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from athena_prefect.plan.estimate import either
from athena_prefect.plan.scalars import DocumentPart, Number, Plain
from athena_prefect.plan.units import Duration, format_duration

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import ExpectationArguments

MISSING: Any = object()
"""What `field_of` answers where there is no such field."""


Bound = Annotated[float, Field(allow_inf_nan=False), Number]


class Expectation(DocumentPart):
    """What a value should be: any of the given conditions, all of which must hold.

    In a document a plain value stands for ``{is: value}``.
    """

    is_: Plain = Field(default=None, alias="is")
    """Equal to this; true is not 1."""
    is_not: Plain = None
    """Anything but this."""
    min: Bound | None = None
    """At least this number."""
    max: Bound | None = None
    """At most this number."""
    max_age: Duration | None = None
    """A moment no longer ago than this."""
    one_of: tuple[Plain, ...] | None = None
    """Equal to one of these."""
    matches: str | None = None
    """Text in which this regular expression is found."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ExpectationArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        if isinstance(value, Expectation | Mapping):
            return value
        return {"is": value}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        bounds = (self.min, self.max, self.max_age, self.one_of, self.matches)
        if not self.model_fields_set & {"is_", "is_not"} and all(b is None for b in bounds):
            raise ValueError(
                "says nothing; give one of is, is_not, min, max, max_age, one_of, matches"
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}; nothing can meet both")
        if self.matches is not None:
            try:
                re.compile(self.matches)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"matches is not a regular expression: {error}") from None
        return self

    @model_serializer(mode="plain")
    def _given(self) -> dict[str, Any]:
        # Null is a condition where it was written and none where it was not.
        fields = type(self).model_fields
        given = {
            fields[n].alias or n: getattr(self, n) for n in fields if n in self.model_fields_set
        }
        return {k: format_duration(v) if isinstance(v, timedelta) else v for k, v in given.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core))
        if "task" in schema["properties"]:
            return schema
        scalar = {"type": ["string", "number", "boolean", "null", "array"]}
        return either(scalar, core, handler)

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
