"""What could be done about the rest of a run, as values, and which is no worse than which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from athena_prefect.schedule.proposal import Proposal, Stability


class Kind(StrEnum):
    """What an option does."""

    EXTEND = "extend"
    ADD_RESOURCES = "add resources"
    REDUCE_SCOPE = "reduce scope"
    PARALLELIZE = "parallelize"
    SUBSTITUTE = "substitute"
    COMBINE = "combine"
    ABORT = "abort"


class Effort(StrEnum):
    """What it takes to carry an option out."""

    TRIVIAL = "trivial"
    """Only times and parameters of tasks change: time-outs, criteria."""
    EASY = "easy"
    """Modes change."""
    MODERATE = "moderate"
    """The graph changes: dependencies are cut, tasks left out."""
    HARD = "hard"
    """People, or capacity from outside, are needed."""


@dataclass(frozen=True, kw_only=True)
class ReplanningOption:
    """One way to go on, measured against carrying on."""

    option_id: int
    title: str
    description: str
    timeline_impact: timedelta | None
    """P50 finish against that of carrying on; where that never finishes, against P50 at
    acceptance. None of an abort."""
    cost_impact: float
    resource_impact: Mapping[str, float]
    """Resource → unit-hours more than by carrying on."""
    success_probability: float
    """P(deadline); without a deadline P(finish ≤ the option's accepted finish)."""
    implementation_effort: Effort
    risks: tuple[str, ...]
    benefits: tuple[str, ...]
    kind: Kind
    samples: int
    """Simulated scenarios behind the probability; 1 where nothing varies."""
    finish: datetime | None = None
    """P50 finish."""
    accepted_finish: datetime | None = None
    """Finish at the accept quantile: what would be promised."""
    value_lost: float = 0.0
    quality_lost: float = 0.0
    work_lost: timedelta = timedelta(0)
    """Work that was done and will not count."""
    stability: Stability | None = None
    extra_change: float | None = None
    """Stability of carrying on less that of this option: the part that the planner chose."""
    in_time: float = 0.0
    """P(deadline); without one P(finish ≤ P50 at acceptance with the slip that is tolerated)."""
    within_timeouts: float = 1.0
    """P(no required task runs past its time-out); a part of both probabilities."""
    lateness: timedelta = timedelta(0)
    """P50 after the deadline, or after what stands in for it."""
    changes: tuple[str, ...] = ()
    lessons: tuple[str, ...] = ()
    """What earlier runs taught and its durations rest on."""
    proposal: Proposal | None = field(default=None, repr=False, compare=False)
    """The revision behind it; None of an abort."""

    @property
    def only_promises(self) -> bool:
        """Whether it changes no task and no capacity: only what is promised, and the order."""
        return self.kind is not Kind.ABORT and not self.changes

    @property
    def price(self) -> float:
        """Cost, value lost and quality lost together."""
        return self.cost_impact + self.value_lost + self.quality_lost

    def as_dict(self) -> dict[str, Any]:
        """The option as JSON-able data; durations in seconds."""
        from athena_prefect.monitor.records import plain

        names = [n for n in self.__dataclass_fields__ if n not in {"proposal", "stability"}]
        kept = None if self.stability is None else self.stability.value
        return {n: plain(getattr(self, n)) for n in names} | {"stability": kept}


def idle(option: ReplanningOption, options: Sequence[ReplanningOption]) -> bool:
    """Whether it adds capacity, from outside, that makes nothing better."""
    if option.proposal is None or not option.proposal.levers.capacity:
        return False
    fewer = (o for o in options if o.proposal is not None and not o.proposal.levers.capacity)
    return any(all(a <= b for a, b in zip(_worth(o), _worth(option), strict=True)) for o in fewer)


def dominates(one: ReplanningOption, other: ReplanningOption) -> bool:
    """Whether one is no worse in anything and better in something, times to the millisecond."""
    mine, its = _worth(one), _worth(other)
    return all(a <= b for a, b in zip(mine, its, strict=True)) and mine != its


def _worth(option: ReplanningOption) -> tuple[float, ...]:
    return (
        round(finish_of(option), 3),
        round(option.cost_impact, 6),
        round(option.quality_lost + option.value_lost, 6),
        round(-option.in_time, 6),
        round(-option.within_timeouts, 6),
    )


def finish_of(option: ReplanningOption) -> float:
    """P50 finish as a timestamp; infinite of an abort."""
    return option.finish.timestamp() if option.finish is not None else float("inf")
