"""How long a task takes: one number, three points, or what history teaches."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from athena_prefect.plan.scalars import DocumentPart
from athena_prefect.plan.units import DURATION_SCHEMA, Duration, format_duration

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import EstimateArguments, LearnedArguments


class Estimate(DocumentPart):
    """Three-point duration estimate; `likely` is the mode.

    In a document one number or duration stands for all three (a certain duration).
    """

    optimistic: Duration
    """As short as it can be when all goes well."""
    likely: Duration
    """The most frequent duration."""
    pessimistic: Duration
    """As long as it gets when what can go wrong does."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[EstimateArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, Estimate | Mapping):
            return value
        return {"optimistic": value, "likely": value, "pessimistic": value}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, mode, high = self.optimistic, self.likely, self.pessimistic
        if not low <= mode <= high:
            said = ", ".join(
                f"{name} {format_duration(value)}"
                for name, value in (("optimistic", low), ("likely", mode), ("pessimistic", high))
            )
            raise ValueError(
                f"{said}: optimistic ≤ likely ≤ pessimistic must hold; are the units right? "
                "(ms is milliseconds, m is minutes)"
            )
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return format_duration(self.likely) if self.certain else handler(self)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return either(DURATION_SCHEMA, core, handler)

    @property
    def mean(self) -> timedelta:
        """PERT mean (o + 4m + p) / 6 (Malcolm, Roseboom, Clark, Fazar 1959)."""
        return (self.optimistic + 4 * self.likely + self.pessimistic) / 6

    @property
    def certain(self) -> bool:
        """Whether the estimate is one number, without spread."""
        return self.optimistic == self.pessimistic


class LearnedEstimate(DocumentPart):
    """A duration to be learned from history; `fallback` until there is some.

    In a document the word ``learned`` stands for one without a fallback.
    """

    learned: Literal[True] = True
    """Says that history decides."""
    fallback: Estimate | None = None
    """The estimate until there is history; without one, figures that need it are null."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[LearnedArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {} if value == "learned" else value

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return "learned" if self.fallback is None else {**handler(self), "learned": True}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return either({"const": "learned"}, core, handler)


def either(
    short: JsonSchemaValue, core: CoreSchema, handler: GetJsonSchemaHandler
) -> JsonSchemaValue:
    """JSON Schema of a part that has a short form beside its own."""
    schema = dict(handler.resolve_ref_schema(handler(core)))
    named = {"title": schema.pop("title"), "description": schema.pop("description")}
    return {**named, "anyOf": [short, schema]}


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "learned" if "learned" in value or "fallback" in value else "estimate"
    return "learned" if value == "learned" or isinstance(value, LearnedEstimate) else "estimate"


DurationEstimate = Annotated[
    Annotated[Estimate, Tag("estimate")] | Annotated[LearnedEstimate, Tag("learned")],
    Discriminator(_kind),
]
"""A pydantic field of an estimate, three-point, certain or learned."""
