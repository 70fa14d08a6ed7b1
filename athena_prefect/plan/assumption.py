"""What a plan takes for granted: assumptions, their checks and their effects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from athena_prefect.plan.scalars import (
    Amount,
    Criticality,
    DocumentPart,
    Identifier,
    Number,
    Plain,
    Sense,
    ValidationMethod,
)
from athena_prefect.plan.units import Duration

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import AssumptionArguments


class Milestone(DocumentPart):
    """A moment of the run at which an assumption is checked: exactly one of the three."""

    before: Identifier | None = None
    """When this task is about to start."""
    after: Identifier | None = None
    """When this task has ended, whatever the outcome."""
    at: Literal["start"] | None = None
    """When the run starts."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.before, self.after, self.at)) != 1:
            raise ValueError("give exactly one of before, after, at")
        return self


def _capacity(value: Any) -> str:
    return "observed" if isinstance(value, str) else "amount"


Capacity = Annotated[
    Annotated[Amount, Tag("amount")] | Annotated[Literal["observed"], Tag("observed")],
    Discriminator(_capacity),
]
"""A capacity, or the one that the check observed."""


class Effect(DocumentPart):
    """What a violated assumption does to the plan: exactly one of the four."""

    mode: Identifier | None = None
    """This is the only mode of the affected tasks; each must declare it."""
    duration_factor: Annotated[float, Field(gt=0, allow_inf_nan=False), Number] | None = None
    """The affected tasks take so many times as long."""
    capacity: Annotated[Mapping[str, Capacity], Field(min_length=1)] | None = None
    """Resources have this capacity, or the observed one."""
    block: Literal[True] | None = None
    """The affected tasks cannot run."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        given = (self.mode, self.duration_factor, self.capacity, self.block)
        if sum(v is not None for v in given) != 1:
            raise ValueError("give exactly one of mode, duration_factor, capacity, block")
        return self


class CheckSpec(BaseModel):
    """How an assumption is observed: a kind of check and that kind's own options."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    __pydantic_extra__: dict[str, Plain]

    kind: Identifier
    """The kind of check; the other keys are its options."""
    field: str | None = None
    """Which of several observed values counts."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of the kind."""
        return dict(self.model_extra or {})


class Assumption(DocumentPart):
    """Something the plan takes for granted, and how to see whether it holds."""

    assumption_id: Identifier = Field(
        validation_alias=AliasChoices("id", "assumption_id"), serialization_alias="id"
    )
    """Its name, once in the plan."""
    description: str = ""
    """What is taken for granted, in words."""
    criticality: Criticality = Criticality.MEDIUM
    """How bad it is when it does not hold."""
    validation_method: ValidationMethod = ValidationMethod.AUTO
    """Where observations come from; the argument of a call wins over this."""
    validation_frequency: Duration | None = None
    """How often it is checked."""
    milestones: tuple[Milestone, ...] = ()
    """Moments at which it is checked, beside or instead of a frequency."""
    active: Literal["runs", "always"] = "runs"
    """Checked while the plan runs, or always."""
    check: CheckSpec | None = None
    """How it is observed."""
    expected_value: Plain = None
    """What the observed value is held against."""
    sense: Sense | None = None
    """How it is held against it; without it the default of the kind of check."""
    tolerance: Amount = 0.0
    """Share of the expected value by which it may be missed."""
    affects: tuple[Identifier, ...] = ()
    """Tasks that rest on it."""
    impact: str = ""
    """What a violation means, in words."""
    mitigation: str = ""
    """What to do then, in words; only shown."""
    effect: Effect | None = None
    """What a violation does to the affected tasks, in the forecast and in the run."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[AssumptionArguments]) -> None: ...

    @property
    def id(self) -> str:
        """The id, under the document's name."""
        return self.assumption_id
