"""What learning finds, with what each finding rests on.

Shares are fractions: 0.2 is 20 %. What could not be computed is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from typing import Any

from athena_prefect.monitor.records import plain


class PatternKind(StrEnum):
    """What recurs."""

    DURATION = "duration"
    """A group of tasks takes longer or shorter than planned."""
    HOUR = "hour"
    """Tasks take longer or shorter at hours of the day than the same tasks do at others."""
    WEEKDAY = "weekday"
    CONTENTION = "contention"
    """Tasks take longer while others run beside them."""
    INTERACTION = "interaction"
    """Tasks fail while others run beside them."""
    SCALING = "scaling"
    """A duration grows with a quantity that the task reports."""
    DRIFT = "drift"
    """A duration changes from run to run in one direction."""
    RETRIES = "retries"
    """Attempts after the first do not help."""
    QUEUE = "queue"
    """Tasks wait for a slot or a resource."""
    RESOURCE = "resource"
    """More or less of a resource is used, or there, than was planned."""
    ASSUMPTION = "assumption"
    """An assumption was found violated."""


class SubjectKind(StrEnum):
    """Of what a pattern tells."""

    PLAN = "plan"
    CATEGORY = "category"
    TASK = "task"
    RESOURCE = "resource"
    ASSUMPTION = "assumption"


class Trend(StrEnum):
    """Which way the errors of estimates go from run to run."""

    IMPROVING = "improving"
    STABLE = "stable"
    DEGRADING = "degrading"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPattern:
    """A pattern observed during execution.

    Where `confidence` is None it is an *observation*: something that was seen once,
    which no test can tell from chance.
    """

    pattern_id: str
    """The same for the same finding in a later analysis, so that it can be recognised."""
    description: str
    confidence: float | None
    """P(the effect is in this direction and at least the policy's least size), from the
    estimate's distribution."""
    frequency: int
    """How many times it was observed: runs (or attempts, for kinds about attempts) behind it."""
    affected_tasks: tuple[str, ...]
    impact: float | None
    """-1 (harm) to 1 (gain): share of the affected tasks' time that it takes or gives."""
    actionable: bool
    """Whether a plan can be changed for it."""
    kind: PatternKind = PatternKind.DURATION
    plan: str = ""
    subject: str = ""
    """Name of the task, category, resource or assumption; of a plan its name."""
    subject_kind: SubjectKind = SubjectKind.TASK
    beside: str = ""
    """What runs beside it (interaction, contention), or which quantity it scales with."""
    size: float | None = None
    """Of the effect, in `unit`."""
    unit: str = ""
    interval: tuple[float, float] | None = None
    """Of the size, at the policy's `interval_level`."""
    samples: int = 0
    """Attempts that were looked at."""
    runs: int = 0
    """Plan runs that were looked at."""
    p_value: float | None = None
    p_corrected: float | None = None
    """Corrected for all tests of the analysis, by the policy's method."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Further figures, by kind."""

    @property
    def observation(self) -> bool:
        """Whether it was only seen, not tested."""
        return self.confidence is None

    def as_dict(self) -> dict[str, Any]:
        """The pattern as JSON-able data."""
        return _as_dict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far estimates of durations were off, over one group of tasks.

    An error is (actual − planned) / planned.
    """

    name: str
    samples: int
    runs: int
    bias: float | None
    """Mean error; positive: longer than planned."""
    typical: float | None
    """Median of actual ÷ planned, less 1: what one long attempt does not move."""
    mape: float | None
    """Mean of the errors' sizes."""
    spread: float | None
    """Standard deviation of the errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendTest:
    """Mann (1945) and Kendall's (1975) test on the mean size of errors, run by run."""

    tau: float
    """Kendall's τ between the run's number and its mean error's size."""
    p_value: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well our own forecasts of the finish fitted, over the forecasts of finished runs."""

    forecasts: int
    runs: int
    coverage: float | None
    """Share of finishes inside the forecast's 80 % interval (p10 to p90)."""
    pinball: float | None
    """Mean pinball loss over the forecast's quantiles, as a share of the run's duration."""
    reliability: Mapping[str, float] = field(default_factory=dict)
    """Quantile's name → share of finishes at or below it; of p50 it should be 0.5."""
    coverage_by_share: Mapping[str, float] = field(default_factory=dict)
    """Share of the work that was done → coverage of the forecasts of then; 0: at the start."""
    reason: str = ""
    """Why figures are None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimationMetrics:
    """How accurate estimates were: durations, resources, dependencies, assumptions."""

    tasks_analyzed: int
    """Tasks with at least one successful attempt and a planned duration."""
    avg_duration_error: float | None
    """Mean of (actual − planned) / planned: `overall.bias`."""
    duration_error_std: float | None
    resource_usage_accuracy: Mapping[str, float]
    """Resource → 1 − mean of |used − planned| / planned, at least 0; only measured ones."""
    assumption_validity_rate: float | None
    """Share of checks, of those that could be made, that held."""
    trend: Trend | None
    """None where there are too few runs for a test."""
    overall: Error | None = None
    by_task: Mapping[str, Error] = field(default_factory=dict)
    by_category: Mapping[str, Error] = field(default_factory=dict)
    dependency_accuracy: float | None = None
    """Share of starts that the planned edges explain: the task was ready when the last of its
    upstream tasks had ended (with its lag), and not earlier or later for another reason."""
    assumptions: Mapping[str, float] = field(default_factory=dict)
    """Assumption → share of its checks that held."""
    trend_test: TrendTest | None = None
    calibration: Calibration | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Field → why it is None."""

    def as_dict(self) -> dict[str, Any]:
        """The metrics as JSON-able data."""
        return _as_dict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """What slowed a plan run down, and by how much."""

    bottleneck_id: str
    type: str
    """resource, dependency, external, estimation."""
    description: str
    impact_duration: timedelta
    """Delay of the finish that is put down to it."""
    affected_tasks: tuple[str, ...]
    root_cause: str
    mitigation: str
    share: float | None = None
    """Of the run's delay; the shares of a run add up to 1."""
    run: str = ""
    samples: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The bottleneck as JSON-able data: durations in seconds."""
        return _as_dict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to change in the next plan, and what that would have gained."""

    recommendation_id: str
    area: str
    """estimation, parallelization, resources, dependencies, checks."""
    suggestion: str
    rationale: str
    potential_benefit: str
    """In words, from `benefit`."""
    implementation_effort: str
    """trivial, easy, moderate, hard."""
    confidence: float | None
    """None where it rests on one sample."""
    benefit: timedelta | None = None
    """Mean gain over past runs replayed with it; None where none was replayed."""
    samples: int = 0
    affected_tasks: tuple[str, ...] = ()
    patch: Mapping[str, Any] = field(default_factory=dict)
    """The change to the plan document; empty where there is none."""
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The recommendation as JSON-able data: durations in seconds."""
        return _as_dict(self)


def _as_dict(value: Any) -> dict[str, Any]:
    return {f.name: _data(getattr(value, f.name)) for f in fields(value)}


def _data(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _as_dict(value)
    if isinstance(value, Mapping):
        return {k: _data(v) for k, v in value.items()}
    return plain(value)
