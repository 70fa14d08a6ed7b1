"""What tools answer: named as the specification names it, short, and with what it rests on.

Durations are seconds, shares are fractions, moments ISO 8601 in UTC. What is not
known is null, and `reason` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

MOST = 25
"""Entries of a list in a reply; agents pay for every word. Resources have all."""
EVIDENCE = 3
"""Runs that a lesson names in a reply, the newest: ids to look into, the count says the rest."""

M = TypeVar("M", bound=BaseModel)


class Answer(BaseModel):
    """What every tool answers."""

    model_config = ConfigDict(extra="forbid")

    summary: str = Field(description="The answer in one or two sentences.")
    truncated: bool = Field(
        default=False,
        description=f"Whether a list was cut to {MOST} entries; the resources have all of it.",
    )


class OfRun(Answer):
    """What is said of one run."""

    plan_id: int = Field(description="Id of the run's revision in force; use it from here on.")
    plan: str
    plan_run: str
    revision: int


class Monitoring(OfRun):
    """A run that is monitored."""

    started: str
    new: bool = Field(description="False where the run was there already.")
    recorded_by: str = Field(description="prefect, or callers of record_task_event.")
    status: str
    baseline_finish: str | None
    accepted_finish: str | None
    estimated_completion: str | None
    confidence: float | None
    tasks: list[str] = Field(description="The plan's tasks, in its order.")
    total_tasks: int
    assumptions: list[str]
    reason: str


class TaskRecord(BaseModel):
    """One attempt at a task, beside what was planned."""

    task_id: str
    attempt: int
    map_index: int | None
    planned_start: str | None
    actual_start: str | None
    start_flag: str | None = Field(description="early, on_time or late, against planned_start.")
    planned_duration: float | None
    actual_duration: float | None
    outcome: str | None
    resources_planned: dict[str, float]
    resources_used: dict[str, float]
    deviation: float | None = Field(description="(actual − planned) / planned duration.")
    confidence: float | None


class TaskEvent(OfRun):
    """What was written down of a task, and where the run stands after it."""

    recorded: bool = Field(description="False where the same had been told before.")
    record: TaskRecord
    notes: list[str]
    status: str
    estimated_completion: str | None
    time_deviation: float | None
    deviation_severity: str | None
    tasks_at_risk: list[str]


class Deviation(OfRun):
    """How far a run is off its baseline and off what was last promised."""

    status: str
    time_deviation: float | None
    time_deviation_percent: float | None = Field(
        description="time_deviation over the baseline's duration: a fraction, 0.15 is 15 %."
    )
    resource_deviation: dict[str, float | None]
    completion_rate: float | None
    completed_tasks: int
    total_tasks: int
    tasks_at_risk: list[str]
    critical_path: list[str]
    estimated_completion: str | None
    confidence: float | None
    deviation_severity: str | None
    slip: float | None
    deadline: str | None
    deadline_probability: float | None
    baseline_finish: str | None
    accepted_finish: str | None
    quantiles: dict[str, str] = Field(description="Forecast finish: p10, p50, p80, p90, p95.")
    as_of: str | None
    samples: int
    reason: str


class Violation(BaseModel):
    """An assumption that does not hold."""

    assumption_id: str
    violation_time: str
    severity: str
    impact: str
    mitigation: str
    replanning_required: bool
    affected_tasks: list[str]


class Validation(OfRun):
    """One validation of an assumption, and what is violated after it."""

    assumption_id: str
    valid: bool | None = Field(description="Null where it could not be seen; that is not false.")
    verdict: str
    validation_time: str
    actual_value: Any
    confidence: float | None
    error_margin: float | None
    notes: str
    error: str
    recorded: bool
    violations: list[Violation]


class Reason(BaseModel):
    """One thing that calls for another plan."""

    rule: str
    strategy: str
    text: str


class Evaluation(OfRun):
    """Whether the rest of a run needs another plan, and why."""

    replanning_needed: bool
    strategy: str = Field(description="none, local, segment, full or abort.")
    confidence: float | None
    rationale: str
    affected_tasks: list[str]
    estimated_time_impact: float | None
    estimated_cost_impact: float | None
    risk_level: str
    recommended_option: int | None
    reasons: list[Reason]
    escalate: bool
    too_late: bool
    held: str


class Option(BaseModel):
    """One way to go on, solved, verified and measured against carrying on."""

    option_id: int
    title: str
    description: str
    timeline_impact: float | None
    cost_impact: float
    resource_impact: dict[str, float]
    success_probability: float
    samples: int
    implementation_effort: str
    risks: list[str]
    benefits: list[str]
    kind: str
    finish: str | None
    accepted_finish: str | None
    value_lost: float
    quality_lost: float
    work_lost: float
    changes: list[str]


class Options(OfRun):
    """The alternatives for the rest of a run; nothing of it is adopted."""

    strategy: str = Field(description="What to pass to execute_replan.")
    called_for: str = Field(description="What the state of the run calls for; may be none.")
    recommended_option: int | None
    rationale: str
    options: list[Option]


class Replanned(OfRun):
    """An option that was chosen, and what became of it."""

    executed: bool = Field(
        description="False where the run's own process has not answered yet; ask again with the "
        "same idempotency_key."
    )
    repeated: bool = Field(description="Whether this very choice had been carried out before.")
    option: str
    strategy: str
    author: str
    changes: list[str]
    status: str


class OfHistory(Answer):
    """What finished runs say."""

    plan: str | None = Field(description="Null: every plan.")
    runs: int = Field(description="Finished runs behind it.")
    attempts: int
    reason: str = Field(description="Why figures are null, or nothing is found.")


class Accuracy(OfHistory):
    """How accurate estimates were. An error is (actual − planned) / planned."""

    tasks_analyzed: int
    avg_duration_error: float | None
    duration_error_std: float | None
    resource_usage_accuracy: dict[str, float]
    assumption_validity_rate: float | None
    trend: str | None = Field(description="improving, stable or degrading.")
    dependency_accuracy: float | None
    calibration: Calibration | None = Field(description="How our own forecasts fitted.")
    worst_tasks: list[TaskError]
    reasons: dict[str, str] = Field(description="Field: why it is null.")


class Calibration(BaseModel):
    """How well forecasts that were written down fitted what came."""

    forecasts: int
    runs: int
    coverage: float | None = Field(description="Share of finishes from p10 to p90: 0.8 is right.")
    pinball: float | None = Field(description="Mean pinball loss, as a share of the run.")
    reliability: dict[str, float] = Field(
        description="Quantile: share of finishes at or below; of p50 0.5 is right."
    )
    coverage_by_share: dict[str, float] = Field(
        description="Share of the work done: coverage of the forecasts of then."
    )
    reason: str = Field(description="Why figures are null.")


class TaskError(BaseModel):
    """How far estimates of one task were off."""

    name: str
    samples: int
    runs: int
    bias: float | None
    typical: float | None
    mape: float | None
    spread: float | None


class Pattern(BaseModel):
    """A pattern observed in runs; with null confidence an observation, seen and not tested."""

    pattern_id: str
    description: str
    confidence: float | None
    frequency: int
    affected_tasks: list[str]
    impact: float | None
    actionable: bool
    kind: str
    samples: int
    runs: int
    interval: list[float] | None
    p_corrected: float | None


class Patterns(OfHistory):
    """What recurs from run to run."""

    patterns: list[Pattern]


class Recommendation(BaseModel):
    """What to change in the next plan, and what that would have gained."""

    recommendation_id: str
    area: str
    suggestion: str
    rationale: str
    potential_benefit: str
    implementation_effort: str
    confidence: float | None
    benefit: float | None = Field(description="Mean seconds gained over replayed runs.")
    samples: int
    affected_tasks: list[str]


class Lesson(BaseModel):
    """What earlier runs taught and is remembered, with its evidence as it counts now."""

    plan: str = Field(description="Whose runs taught it; may be another plan's.")
    kind: str
    statement: str
    confidence: float | None = Field(
        description="P(the next run bears it out); null where one run is all there is."
    )
    support: float = Field(description="Evidence for it: runs, each worth less with its age.")
    against: float
    samples: int = Field(description="Runs that said something about it.")
    runs: list[str] = Field(description=f"The newest of them, at most {EVIDENCE}.")
    last: str
    tasks: list[str] = Field(description="Of the plan that was asked for, those it concerns.")
    because: str = Field(description="What it has in common with that plan.")


class Recommendations(OfHistory):
    """What to change in the next plan, what gains most first, and what is remembered for it."""

    recommendations: list[Recommendation]
    lessons: list[Lesson] = Field(
        description="The surest first; without plan_id those of every plan, the newest first. "
        "Their runs need not be those above."
    )


def cut(items: Iterable[Any]) -> tuple[list[Any], bool]:
    """The first of `items`, and whether there are more."""
    found = list(items)
    return found[:MOST], len(found) > MOST


def kept(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `data` that `model` has, lists cut; `truncated` where one was."""
    found = {name: data[name] for name in model.model_fields if name in data}
    long = [name for name, value in found.items() if isinstance(value, list) and len(value) > MOST]
    found |= {name: found[name][:MOST] for name in long}
    if "truncated" in model.model_fields:
        found["truncated"] = bool(long)
    return found


def several(model: type[M], items: Iterable[Mapping[str, Any]]) -> tuple[list[M], bool]:
    """The first of `items` as `model`; whether there are more, or a list in one was cut."""
    first, more = cut(items)
    for item in first:
        more |= any(
            isinstance(item.get(name), list) and len(item[name]) > MOST
            for name in model.model_fields
        )
    return [model(**kept(model, item)) for item in first], more
