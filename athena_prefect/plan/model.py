"""The plan as values: what should happen, how long it takes, what it rests on.

The models mirror the plan document field by field. What a single field or
object can check is checked here; what needs the whole plan (references, cycles,
capacities) is in `athena_prefect.plan.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from athena_prefect.errors import NaiveDatetimeError, UnknownNameError
from athena_prefect.plan.expectation import Expectation
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.plan.units import Duration

DEFAULT_MODE = "default"
"""Name of the mode that a task's own fields describe."""

_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$"
Identifier = Annotated[str, Field(pattern=_ID, max_length=255)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Criticality(StrEnum):
    """How much depends on an assumption; also the scale of severities."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class DependencyKind(StrEnum):
    """Whether a dependency always holds or may be dropped to run in parallel."""

    HARD = "hard"
    SOFT = "soft"


class Sense(StrEnum):
    """How an observed value is held against the expected one."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    EQUAL = "equal"


class ValidationMethod(StrEnum):
    """Where an assumption's observation comes from."""

    AUTO = "auto"
    MANUAL = "manual"
    SENSOR = "sensor"
    EXTERNAL = "external"


class RunnerKind(StrEnum):
    """What runs the tasks of a plan run."""

    THREADS = "threads"
    PROCESSES = "processes"
    DASK = "dask"
    RAY = "ray"


class Isolation(StrEnum):
    """Whether a task's body runs in the runner or in a child that can be killed."""

    THREAD = "thread"
    PROCESS = "process"


class _Document(BaseModel):
    """A part of the plan document: frozen, and strict about what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class Estimate(_Document):
    """Three-point duration estimate; `likely` is the mode.

    In a document one number or duration stands for all three (a certain duration).
    """

    optimistic: Duration
    likely: Duration
    pessimistic: Duration

    @model_validator(mode="before")
    @classmethod
    def _one_number(cls, value: Any) -> Any:
        if isinstance(value, Estimate | Mapping):
            return value
        return {"optimistic": value, "likely": value, "pessimistic": value}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.optimistic <= self.likely <= self.pessimistic:
            raise ValueError(
                "optimistic ≤ likely ≤ pessimistic must hold; are the units right?"
            )
        return self

    @property
    def mean(self) -> timedelta:
        """PERT mean (o + 4m + p) / 6 (Malcolm, Roseboom, Clark, Fazar 1959)."""
        return (self.optimistic + 4 * self.likely + self.pessimistic) / 6

    @property
    def certain(self) -> bool:
        """Whether the estimate is one number, without spread."""
        return self.optimistic == self.pessimistic


class LearnedEstimate(_Document):
    """A duration to be learned from history; `fallback` until there is some."""

    learned: Literal[True] = True
    fallback: Estimate | None = None


def _read_estimate(value: Any) -> Any:
    if value == "learned":
        return LearnedEstimate()
    if isinstance(value, Mapping):
        if "learned" in value or "fallback" in value:
            return LearnedEstimate.model_validate(value)
        return Estimate.model_validate(value)
    if isinstance(value, Estimate | LearnedEstimate):
        return value
    return Estimate.model_validate(value)


DurationEstimate = Annotated[Estimate | LearnedEstimate, BeforeValidator(_read_estimate)]


class Resource(_Document):
    """A renewable resource: `capacity` units at every moment, shared by the tasks that run."""

    capacity: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    cost_per_hour: Amount = 0.0
    """Price of one unit for one hour."""
    concurrency_limit: str | None = None
    """A Prefect global concurrency limit that other flows share."""


class Runner(_Document):
    """What runs the tasks; each running item takes one of `max_workers`."""

    kind: RunnerKind = RunnerKind.THREADS
    max_workers: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Tasks at once. Eight keeps a laptop usable and a plan without resources parallel."""


class Results(_Document):
    """Where the results of tasks are kept: `local`, or a Prefect storage block ``type/name``."""

    storage: str = "local"


class Parameter(_Document):
    """A typed parameter of the plan's flow."""

    type: Literal[
        "string", "integer", "number", "boolean", "date", "datetime", "duration", "list", "object"
    ] = "string"
    default: Any = None
    description: str = ""
    required: bool = False
    """Without a default and required, a run without it is refused."""


class Schedule(_Document):
    """When the plan starts by itself: cron, interval or rrule, in a time zone."""

    cron: str | None = None
    interval: Duration | None = None
    rrule: str | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        given = [n for n in ("cron", "interval", "rrule") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of cron, interval, rrule; got {given or 'none'}")
        return self


class Deadline(_Document):
    """By when the run should be over: `after` its start, or `at` a time of the clock.

    In a document a plain duration stands for ``{after: …}``.
    """

    after: Duration | None = None
    at: time | None = None
    timezone: str = "UTC"
    days: Literal["daily", "working"] = "daily"

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return value if isinstance(value, Deadline | Mapping) else {"after": value}

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.after is None) == (self.at is None):
            raise ValueError("give a duration from the start of the run, or {at: \"06:00\"}")
        if self.at is not None and self.at.tzinfo is not None:
            raise ValueError("`at` has no offset of its own; name the zone in `timezone`")
        return self

    def resolve(self, start: datetime) -> datetime:
        """The moment (UTC) of the deadline of a run that started at `start`.

        A time of the clock is the first such time after the start, on a working
        day (Monday to Friday) where `days` says so. A time that a clock change
        leaves out is the moment after the gap; one that occurs twice, the first.
        """
        if start.tzinfo is None:
            raise NaiveDatetimeError("start")
        if self.after is not None:
            return start.astimezone(UTC) + self.after
        from zoneinfo import ZoneInfo

        assert self.at is not None
        zone = ZoneInfo(self.timezone)
        day = start.astimezone(zone).date()
        while True:
            moment = datetime.combine(day, self.at, tzinfo=zone).astimezone(UTC)
            if moment > start and (self.days == "daily" or day.weekday() < 5):
                return moment
            day += timedelta(days=1)


class Dependency(_Document):
    """A finish-to-start arc from `task`; `lag` passes between its end and the start."""

    task: Identifier
    kind: DependencyKind = DependencyKind.HARD
    lag: Duration = timedelta(0)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value

    @property
    def hard(self) -> bool:
        """Whether the arc always holds."""
        return self.kind is DependencyKind.HARD


class SuccessCriteria(_Document):
    """What a result must be; `relaxed` is what still counts as a partial success.

    In a document the fields stand beside ``relaxed``.
    """

    fields: Mapping[str, Expectation] = Field(default_factory=dict)
    relaxed: Mapping[str, Expectation] | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or isinstance(value.get("fields"), Mapping):
            return value
        rest = {k: v for k, v in value.items() if k != "relaxed"}
        return {"fields": rest, "relaxed": value.get("relaxed")}


class When(Expectation):
    """A condition on an upstream result; the task is skipped where it does not hold."""

    task: Identifier
    field: str | None = None
    """A field of the mapping or an attribute of the result; the whole result without one."""

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.model_fields_set - {"task", "field"}:
            raise ValueError("says nothing; give one of is, is_not, min, max, one_of, matches")
        return self


class Mode(_Document):
    """Another way to do the same task; what it leaves out is as the task says."""

    name: Identifier
    call: str | None = None
    deployment: str | None = None
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    duration: DurationEstimate | None = None
    resources: Mapping[str, Amount] = Field(default_factory=dict)
    quality: Fraction = 1.0
    """Worth of the result against the default mode's."""


class ResolvedMode(_Document):
    """A task in one of its modes, nothing left to look up."""

    name: str
    call: str | None
    deployment: str | None
    with_: Mapping[str, Any] = Field(alias="with")
    duration: Estimate | LearnedEstimate
    resources: Mapping[str, float]
    quality: float

    @property
    def estimate(self) -> Estimate | None:
        """The estimate, or the fallback of a learned one; None where there is none."""
        return self.duration.fallback if isinstance(self.duration, LearnedEstimate) else self.duration


class PlanTask(_Document):
    """One task of a plan. (`Task` is Prefect's.)"""

    id: Identifier = Field(validation_alias=AliasChoices("id", "task_id"))
    description: str = ""
    call: str | None = None
    """``module:function`` of the user's project or of an installed package."""
    deployment: str | None = None
    """``flow/deployment`` to run as this task."""
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    depends_on: tuple[Dependency, ...] = ()
    inputs: Mapping[str, Identifier] = Field(default_factory=dict)
    """Argument name → upstream task whose result it gets; implies a dependency."""
    map_over: str | None = None
    """The input whose items each get a mapped child."""
    expected_items: Annotated[int, Field(ge=1, le=100_000)] = 1
    when: When | None = None
    duration: DurationEstimate = Field(default_factory=LearnedEstimate)
    resources: Mapping[str, Amount] = Field(default_factory=dict)
    retries: Annotated[int, Field(ge=0, le=1000)] = 0
    retry_delay: Duration = timedelta(0)
    timeout: Duration | None = None
    isolation: Isolation = Isolation.THREAD
    rerunnable: bool = False
    deadline: Duration | None = None
    """The task's own deadline, from the start of the run."""
    category: str | None = None
    """What learning groups by; the callable's name where not given."""
    tags: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = ()
    success_criteria: SuccessCriteria | None = None
    optional: bool = False
    value: Amount = 0.0
    """What leaving an optional task out costs in the objective."""

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

        Raises UnknownNameError.
        """
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


class Milestone(_Document):
    """A moment of the run at which an assumption is checked: exactly one of the three."""

    before: Identifier | None = None
    after: Identifier | None = None
    at: Literal["start"] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.before, self.after, self.at)) != 1:
            raise ValueError("give exactly one of before, after, at")
        return self


class Effect(_Document):
    """What a violated assumption does to the plan: exactly one of the four."""

    mode: Identifier | None = None
    duration_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    capacity: Mapping[str, Amount | Literal["observed"]] | None = None
    block: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of mode, duration_factor, capacity, block")
        return self


class CheckSpec(BaseModel):
    """How an assumption is observed: a kind of check and that kind's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    field: str | None = None
    """Which of several observed values counts."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of the kind."""
        return dict(self.model_extra or {})


class Assumption(_Document):
    """Something the plan takes for granted, and how to see whether it holds."""

    assumption_id: Identifier = Field(
        validation_alias=AliasChoices("id", "assumption_id"), serialization_alias="id"
    )
    description: str = ""
    criticality: Criticality = Criticality.MEDIUM
    validation_method: ValidationMethod = ValidationMethod.AUTO
    validation_frequency: Duration | None = None
    milestones: tuple[Milestone, ...] = ()
    active: Literal["runs", "always"] = "runs"
    check: CheckSpec | None = None
    expected_value: Any = None
    sense: Sense | None = None
    """None: the default of the kind of check."""
    tolerance: Amount = 0.0
    affects: tuple[Identifier, ...] = ()
    impact: str = ""
    mitigation: str = ""
    effect: Effect | None = None

    @property
    def id(self) -> str:
        """The id, under the document's name."""
        return self.assumption_id


class Replanning(_Document):
    """What may be decided about the rest of a run, by whom, and how often."""

    decide: Literal["auto", "ask", "advise", "off"] = "auto"
    answer_within: Duration = timedelta(minutes=30)
    unanswered: Literal["carry_on", "recommended"] = "carry_on"
    max_replans: Annotated[int, Field(ge=0, le=1000)] = 5
    cooldown: Duration = timedelta(seconds=60)
    abort: Literal["ask", "auto"] = "ask"
    running_tasks_on_abort: Literal["finish", "cancel"] = "finish"
    policy: ReplanningPolicy = Field(default_factory=ReplanningPolicy)


class Plan(_Document):
    """A pipeline with durations, resources, a deadline and assumptions."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: Identifier
    description: str = ""
    tags: tuple[str, ...] = ()
    schedule: Schedule | None = None
    overlap: Literal["skip", "queue", "cancel_running"] = "skip"
    catch_up: bool = False
    deadline: Deadline | None = None
    resources: Mapping[Identifier, Resource] = Field(default_factory=dict)
    runner: Runner = Field(default_factory=Runner)
    results: Results = Field(default_factory=Results)
    parameters: Mapping[Identifier, Parameter] = Field(default_factory=dict)
    goals: tuple[Identifier, ...] = ()
    tasks: Annotated[tuple[PlanTask, ...], Field(min_length=1)]
    assumptions: tuple[Assumption, ...] = ()
    replanning: Replanning = Field(default_factory=Replanning)

    _planned_completion_time: datetime | None = PrivateAttr(default=None)
    _source: Path | None = PrivateAttr(default=None)

    SCHEMA_VERSIONS: ClassVar[tuple[int, ...]] = (1,)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan of a YAML or JSON document.

        Raises PlanDocumentError with every defect of the document, each with
        file, line and field.
        """
        from athena_prefect.plan.document import load

        return load(path)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        # The whole-plan checks; a plan that exists is one that can be run.
        from athena_prefect.plan.validation import check

        check(self)
        return self

    @property
    def source(self) -> Path | None:
        """The document's file, where the plan came from one."""
        return self._source

    @cached_property
    def _tasks_by_id(self) -> dict[str, PlanTask]:
        return {t.id: t for t in self.tasks}

    def get_task(self, task_id: str) -> PlanTask:
        """The task of that id. Raises UnknownNameError."""
        try:
            return self._tasks_by_id[task_id]
        except KeyError:
            raise UnknownNameError("task", task_id, self._tasks_by_id) from None

    def get_assumption(self, assumption_id: str) -> Assumption:
        """The assumption of that id. Raises UnknownNameError."""
        for assumption in self.assumptions:
            if assumption.assumption_id == assumption_id:
                return assumption
        known = [a.assumption_id for a in self.assumptions]
        raise UnknownNameError("assumption", assumption_id, known)

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The ids in document order."""
        return tuple(t.id for t in self.tasks)

    @cached_property
    def required(self) -> frozenset[str]:
        """Goals and their ancestors over hard arcs, but for optional ones and what only feeds them.

        Goals default to the sinks that are not optional.
        """
        feeds = {d.task for t in self.tasks for d in t.upstream}
        goals = self.goals or tuple(t.id for t in self.tasks if t.id not in feeds and not t.optional)
        seen: set[str] = set()
        todo = list(goals)
        while todo:
            name = todo.pop()
            # A plan under validation may still name tasks that it does not have.
            task = self._tasks_by_id.get(name)
            if name not in seen and task is not None and not task.optional:
                seen.add(name)
                todo += [d.task for d in task.upstream if d.hard]
        return frozenset(seen)

    @property
    def planned_completion_time(self) -> datetime | None:
        """Baseline finish of a plan that was given a start (`planned`); else None."""
        return self._planned_completion_time

    def planned(self, starts: Mapping[str, datetime], finish: datetime | None) -> Plan:
        """This plan with the planned starts of its tasks and its planned finish.

        They belong to one run and are no part of the document.
        """
        tasks = []
        for task in self.tasks:
            copy = task.model_copy()
            copy._planned_start = starts.get(task.id)
            tasks.append(copy)
        # The copy's caches must not answer with this plan's tasks.
        plan = self.model_copy(update={"tasks": tuple(tasks)})
        plan.__dict__.pop("_tasks_by_id", None)
        plan._planned_completion_time = finish
        plan._source = self._source
        return plan
