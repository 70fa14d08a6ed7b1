"""A task of a plan: what it calls, what it waits for, how else it could be done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AliasChoices,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from athena_prefect.errors import UnknownNameError
from athena_prefect.plan.estimate import DurationEstimate, Estimate, LearnedEstimate, either
from athena_prefect.plan.expectation import Expectation
from athena_prefect.plan.scalars import (
    Amount,
    CallReference,
    DependencyKind,
    DeploymentName,
    DocumentPart,
    Fraction,
    Identifier,
    Isolation,
    Number,
    Plain,
)
from athena_prefect.plan.units import Duration

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import (
        DependencyArguments,
        ModeArguments,
        PlanTaskArguments,
        WhenArguments,
    )

DEFAULT_MODE = "default"
"""Name of the mode that a task's own fields describe."""


class Dependency(DocumentPart):
    """A finish-to-start arc from `task`; `lag` passes between its end and the start."""

    task: Identifier
    """The task that ends first."""
    kind: DependencyKind = DependencyKind.HARD
    """Soft ones may be dropped to run in parallel."""
    lag: Duration = timedelta(0)
    """Time that passes between its end and the start."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[DependencyArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return self.task if self.hard and not self.lag else handler(self)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return either({"type": "string"}, core, handler)

    @property
    def hard(self) -> bool:
        """Whether the arc always holds."""
        return self.kind is DependencyKind.HARD


RELAXED = "What at least the result must be to count as partial."


class SuccessCriteria(DocumentPart):
    """What a result must be; `relaxed` is what still counts as a partial success.

    In a document the fields stand beside ``relaxed``.
    """

    fields: Mapping[str, Expectation] = Field(default_factory=dict)
    """What each field of the mapping, or attribute of the object, returned must be."""
    relaxed: Mapping[str, Expectation] | None = None
    """What at least it must be for the result to count as partial."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or isinstance(value.get("fields"), Mapping):
            return value
        rest = {k: v for k, v in value.items() if k != "relaxed"}
        return {"fields": rest, "relaxed": value.get("relaxed")}

    @model_serializer(mode="wrap")
    def _flat_again(self, handler: SerializerFunctionWrapHandler) -> Any:
        long = handler(self)
        relaxed = {"relaxed": long["relaxed"]} if self.relaxed is not None else {}
        return {**long.get("fields", {}), **relaxed}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = dict(handler.resolve_ref_schema(handler(core)))
        fields = schema["properties"].pop("fields")
        schema["properties"]["relaxed"] = {**fields, "description": RELAXED}
        return {**schema, "additionalProperties": fields["additionalProperties"]}


class When(Expectation):
    """A condition on an upstream result; the task is skipped where it does not hold."""

    task: Identifier
    """The upstream task whose result decides."""
    field: str | None = None
    """A field of the mapping or an attribute of the result; the whole result without one."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[WhenArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        return value


class Mode(DocumentPart):
    """Another way to do the same task; what it leaves out is as the task says."""

    name: Identifier
    """What effects and options call it; ``default`` is the task's own."""
    call: CallReference | None = None
    """Another ``module:function``."""
    deployment: DeploymentName | None = None
    """Another ``flow/deployment``."""
    with_: Mapping[str, Plain] = Field(default_factory=dict, alias="with")
    """Arguments that differ; the task's others stay."""
    duration: DurationEstimate | None = None
    """How long it takes in this mode."""
    resources: Mapping[str, Amount] = Field(default_factory=dict)
    """Demands that differ; the task's others stay."""
    quality: Fraction = 1.0
    """Worth of the result against the default mode's."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ModeArguments]) -> None: ...


class ResolvedMode(DocumentPart):
    """A task in one of its modes, nothing left to look up."""

    name: str
    call: str | None
    deployment: str | None
    with_: Mapping[str, Any]
    duration: Estimate | LearnedEstimate
    resources: Mapping[str, float]
    quality: float

    @property
    def estimate(self) -> Estimate | None:
        """The estimate, or the fallback of a learned one; None where there is none."""
        return (
            self.duration.fallback if isinstance(self.duration, LearnedEstimate) else self.duration
        )


_RESTS_ON = {
    "upstream": frozenset({"depends_on", "inputs", "when"}),
    "_resolved": frozenset({"call", "deployment", "with_", "duration", "resources", "modes"}),
}
"""What is worked out for a task once → the fields that it rests on."""


class PlanTask(DocumentPart):
    """One task of a plan. (`Task` is Prefect's.)"""

    id: Identifier = Field(validation_alias=AliasChoices("id", "task_id"))
    """Its name, once in the plan."""
    description: str = ""
    """What it does, for people."""
    call: CallReference | None = None
    """``module:function`` of the user's project or of an installed package."""
    deployment: DeploymentName | None = None
    """``flow/deployment`` to run as this task."""
    with_: Mapping[str, Plain] = Field(default_factory=dict, alias="with")
    """Arguments, with templates for parameters, the run, secrets and variables."""
    depends_on: tuple[Dependency, ...] = ()
    """Tasks that end before it starts."""
    inputs: Mapping[str, Identifier] = Field(default_factory=dict)
    """Argument name → upstream task whose result it gets; implies a dependency."""
    map_over: str | None = None
    """The input whose items each get a mapped child."""
    expected_items: Annotated[int, Field(ge=1, le=100_000), Number] = 1
    """Items to plan with until their number is known; only with `map_over`."""
    when: When | None = None
    """The condition on an upstream result without which it is skipped."""
    duration: DurationEstimate = Field(default_factory=LearnedEstimate)
    """How long one item takes: a duration, three of them, or ``learned``."""
    resources: Mapping[str, Amount] = Field(default_factory=dict)
    """What one item takes of the plan's resources while it runs."""
    retries: Annotated[int, Field(ge=0, le=1000), Number] = 0
    """Further attempts after a failed one."""
    retry_delay: Duration = timedelta(0)
    """Time between a failed attempt and the next."""
    timeout: Duration | None = None
    """How long one attempt may take."""
    isolation: Isolation = Isolation.THREAD
    """``process`` runs it in a child that can really be killed."""
    rerunnable: bool = False
    """May run again when its stored result cannot be read."""
    deadline: Duration | None = None
    """The task's own deadline, from the start of the run."""
    category: str | None = None
    """What learning groups by; the callable's name where not given."""
    tags: tuple[str, ...] = ()
    """Tags of its task runs."""
    modes: tuple[Mode, ...] = ()
    """Other ways to do the same task."""
    success_criteria: SuccessCriteria | None = None
    """What its result must be to count as a success."""
    optional: bool = False
    """May be left out to make the deadline."""
    value: Amount = 0.0
    """What leaving an optional task out costs in the objective."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[PlanTaskArguments]) -> None: ...

    _planned_start: datetime | None = PrivateAttr(default=None)

    @property
    def task_id(self) -> str:
        """The id, under the specification's name."""
        return self.id

    @property
    def planned_start(self) -> datetime | None:
        """Baseline start of a plan that was given a start (`Plan.planned`); else None."""
        return self._planned_start

    @property
    def estimate(self) -> Estimate | None:
        """The default mode's estimate, or a learned one's fallback; None where there is none."""
        return self.mode().estimate

    @property
    def planned_duration(self) -> timedelta | None:
        """PERT mean of one item; None where nothing is known."""
        return None if self.estimate is None else self.estimate.mean

    @property
    def group(self) -> str:
        """What learning groups by: the category, else the callable's or deployment's name."""
        if self.category:
            return self.category
        if self.call:
            return self.call.rpartition(":")[2].rpartition(".")[2]
        return self.deployment or self.id

    @cached_property
    def upstream(self) -> tuple[Dependency, ...]:
        """Every arc into this task: `depends_on`, and what inputs, `map_over` and `when` imply.

        An implied arc is hard and takes the lag of one that is written out.
        """
        arcs = {d.task: d for d in self.depends_on}
        implied = [*self.inputs.values(), *([self.when.task] if self.when else [])]
        for task in implied:
            written = arcs.get(task)
            arcs[task] = Dependency(task=task, lag=written.lag if written else timedelta(0))
        return tuple(arcs.values())

    @property
    def mode_names(self) -> tuple[str, ...]:
        """The default mode and the declared ones."""
        return (DEFAULT_MODE, *(m.name for m in self.modes))

    def mode(self, name: str = DEFAULT_MODE) -> ResolvedMode:
        """The task in mode `name`, with what the mode leaves out filled in.

        Made once: whoever plans a rest asks for each many times. Raises UnknownNameError.
        """
        if name not in self._resolved:
            self._resolved[name] = self._in_mode(name)
        return self._resolved[name]

    @cached_property
    def _resolved(self) -> dict[str, ResolvedMode]:
        return {}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that answers with what was worked out for this task where that still holds."""
        copy = super().model_copy(update=update, deep=deep)
        changed = frozenset(update or ())
        for worked_out, rests_on in _RESTS_ON.items():
            if deep or changed & rests_on:
                copy.__dict__.pop(worked_out, None)
        return copy

    def _in_mode(self, name: str) -> ResolvedMode:
        given = next((m for m in self.modes if m.name == name), None)
        if given is None and name != DEFAULT_MODE:
            raise UnknownNameError("mode", name, self.mode_names)
        other = given is not None and (given.call or given.deployment)
        return ResolvedMode(
            name=name,
            call=given.call if given and other else self.call,
            deployment=given.deployment if given and other else self.deployment,
            with_={**self.with_, **(given.with_ if given else {})},
            duration=(given.duration if given else None) or self.duration,
            resources={**self.resources, **(given.resources if given else {})},
            quality=given.quality if given else 1.0,
        )
