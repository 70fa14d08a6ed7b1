"""What the constructors of a plan's parts take, for type checkers: text where text is read.

The models read what a document may say: ``duration="2h"``, ``depends_on=["a"]``.
These types tell a type checker so, without a plugin. The names are those of the
models' fields, which a test holds them to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

if TYPE_CHECKING:
    from athena_prefect.plan.assumption import Assumption, CheckSpec, Effect, Milestone
    from athena_prefect.plan.estimate import Estimate, LearnedEstimate
    from athena_prefect.plan.expectation import Expectation
    from athena_prefect.plan.policy import ReplanningPolicy
    from athena_prefect.plan.scalars import (
        Criticality,
        DependencyKind,
        Isolation,
        Sense,
        ValidationMethod,
    )
    from athena_prefect.plan.task import Dependency, Mode, PlanTask, SuccessCriteria, When
    from athena_prefect.plan.terms import (
        Deadline,
        Parameter,
        Replanning,
        Resource,
        Results,
        Runner,
        Schedule,
    )

Data = Mapping[str, Any]


class EstimateArguments(TypedDict):
    """Of `Estimate`."""

    optimistic: timedelta | str | float
    likely: timedelta | str | float
    pessimistic: timedelta | str | float


class LearnedArguments(TypedDict, total=False):
    """Of `LearnedEstimate`."""

    learned: Literal[True]
    fallback: Estimate | Data | timedelta | str | float | None


class ExpectationArguments(TypedDict, total=False):
    """Of `Expectation`."""

    is_: Any
    is_not: Any
    min: float | None
    max: float | None
    max_age: timedelta | str | float | None
    one_of: Sequence[Any] | None
    matches: str | None


class WhenArguments(ExpectationArguments, total=False):
    """Of `When`."""

    task: Required[str]
    field: str | None


class DependencyArguments(TypedDict, total=False):
    """Of `Dependency`."""

    task: Required[str]
    kind: DependencyKind | Literal["hard", "soft"]
    lag: timedelta | str | float


class ModeArguments(TypedDict, total=False):
    """Of `Mode`."""

    name: Required[str]
    call: str | None
    deployment: str | None
    with_: Data
    duration: Estimate | LearnedEstimate | Data | timedelta | str | float | None
    resources: Mapping[str, float]
    quality: float


class PlanTaskArguments(TypedDict, total=False):
    """Of `PlanTask`."""

    id: Required[str]
    description: str
    call: str | None
    deployment: str | None
    with_: Data
    depends_on: Sequence[str | Dependency | Data]
    inputs: Mapping[str, str]
    map_over: str | None
    expected_items: int
    when: When | Data | None
    duration: Estimate | LearnedEstimate | Data | timedelta | str | float
    resources: Mapping[str, float]
    retries: int
    retry_delay: timedelta | str | float
    timeout: timedelta | str | float | None
    isolation: Isolation | Literal["thread", "process"]
    rerunnable: bool
    deadline: timedelta | str | float | None
    category: str | None
    tags: Sequence[str]
    modes: Sequence[Mode | Data]
    success_criteria: SuccessCriteria | Mapping[str, Expectation | Any] | None
    optional: bool
    value: float


class AssumptionArguments(TypedDict, total=False):
    """Of `Assumption`; `id` is another name of `assumption_id`."""

    id: str
    assumption_id: str
    description: str
    criticality: Criticality | Literal["low", "medium", "high", "critical"]
    validation_method: ValidationMethod | Literal["auto", "manual", "sensor", "external"]
    validation_frequency: timedelta | str | float | None
    milestones: Sequence[Milestone | Data]
    active: Literal["runs", "always"]
    check: CheckSpec | Data | None
    expected_value: Any
    sense: Sense | Literal["at_least", "at_most", "equal"] | None
    tolerance: float
    affects: Sequence[str]
    impact: str
    mitigation: str
    effect: Effect | Data | None


class ScheduleArguments(TypedDict, total=False):
    """Of `Schedule`."""

    cron: str | None
    interval: timedelta | str | float | None
    rrule: str | None
    timezone: str


class DeadlineArguments(TypedDict, total=False):
    """Of `Deadline`."""

    after: timedelta | str | float | None
    at: time | str | None
    timezone: str
    days: Literal["daily", "working"]


class ReplanningArguments(TypedDict, total=False):
    """Of `Replanning`."""

    decide: Literal["auto", "ask", "advise", "off"]
    answer_within: timedelta | str | float
    unanswered: Literal["carry_on", "recommended"]
    max_replans: int
    cooldown: timedelta | str | float
    abort: Literal["ask", "auto"]
    running_tasks_on_abort: Literal["finish", "cancel"]
    policy: ReplanningPolicy | Data


class PlanArguments(TypedDict, total=False):
    """Of `Plan`."""

    schema_version: Literal[1]
    name: Required[str]
    description: str
    tags: Sequence[str]
    schedule: Schedule | Data | None
    overlap: Literal["skip", "queue", "cancel_running"]
    catch_up: bool
    deadline: Deadline | Data | timedelta | str | float | None
    resources: Mapping[str, Resource | Data]
    runner: Runner | Data
    results: Results | Data
    parameters: Mapping[str, Parameter | Data]
    goals: Sequence[str]
    tasks: Required[Sequence[PlanTask | Data]]
    assumptions: Sequence[Assumption | Data]
    replanning: Replanning | Data
