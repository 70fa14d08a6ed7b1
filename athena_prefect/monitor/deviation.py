"""How far a plan run is off, and how bad that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.monitor.records import plain
from athena_prefect.plan.model import Criticality
from athena_prefect.plan.policy import ReplanningPolicy

_SCALE = tuple(Criticality)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDeviation:
    """How far a plan run is off its baseline and off what was last promised.

    Shares are fractions. What is not known is None, and `reason` says why.
    """

    time_deviation: timedelta | None
    """Forecast P50 finish − baseline finish."""
    time_deviation_percent: float | None
    """That over the baseline's duration: a fraction (0.15), despite the name."""
    resource_deviation: Mapping[str, float | None]
    """(used − planned) / planned over the tasks where it was measured; None if none."""
    completion_rate: float | None
    completed_tasks: int
    """Tasks that ended with success or partial success."""
    total_tasks: int
    """Tasks of the revision in force that are not skipped; a mapped task once."""
    tasks_at_risk: tuple[str, ...]
    critical_path: tuple[str, ...]
    """Unfinished tasks without float, resource arcs included, in order of their start."""
    estimated_completion: datetime | None
    """Forecast P50 finish."""
    confidence: float | None
    """P(finish ≤ deadline), without a deadline P(finish ≤ accepted finish)."""
    deviation_severity: Criticality | None
    slip: float | None = None
    """(Forecast P50 − P50 at acceptance) / (that P50 − start): what strategies look at."""
    deadline_probability: float | None = None
    deadline: datetime | None = None
    baseline_finish: datetime | None = None
    accepted_finish: datetime | None = None
    """Finish that was promised when the revision in force was accepted."""
    quantiles: Mapping[str, datetime] = field(default_factory=dict)
    """Forecast finish: p10, p50, p80, p90, p95."""
    as_of: datetime | None = None
    """When the simulation behind the quantiles was made."""
    samples: int = 0
    basis: str = ""
    """What the forecast rests on: so many finished runs and records, or the plan's estimates."""
    revision: int = 1
    blocked: bool = False
    """A required task cannot be done as the plan stands."""
    finished: bool = False
    reason: str = ""
    """Why a figure is None."""

    def as_dict(self) -> dict[str, Any]:
        """The deviation as JSON-able data: times in ISO 8601, durations in seconds."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


def slip_severity(slip: float, policy: ReplanningPolicy) -> Criticality:
    """Low < medium_slip ≤ medium < high_slip ≤ high < critical_slip ≤ critical."""
    steps = (policy.medium_slip, policy.high_slip, policy.critical_slip)
    return _SCALE[sum(slip >= step for step in steps)]


def probability_severity(probability: float, policy: ReplanningPolicy) -> Criticality:
    """Low from medium_probability on; a step worse below each threshold."""
    steps = (policy.medium_probability, policy.high_probability, policy.critical_probability)
    return _SCALE[sum(probability < step for step in steps)]


def severity(
    slip: float | None, deadline_probability: float | None, policy: ReplanningPolicy
) -> Criticality | None:
    """The worse of what slip and P(deadline) say; None where neither is known.

    `deadline_probability` is None where there is no deadline.
    """
    found = []
    if slip is not None:
        found.append(slip_severity(slip, policy))
    if deadline_probability is not None:
        found.append(probability_severity(deadline_probability, policy))
    return max(found, key=_SCALE.index, default=None)
