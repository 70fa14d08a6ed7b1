"""What comes of replanning: a revision with everything that speaks for and against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.plan.model import Plan
from athena_prefect.plan.revision import Change
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.foreseen import Foreseen
from athena_prefect.schedule.proposal import Proposal, Stability
from athena_prefect.schedule.robustness import Robustness

OF_ONE_REVISION = frozenset({"stability", "work_lost", "details", "again"})
"""Of what is kept of a revision: what says how it differs from the one before."""


@dataclass(frozen=True, kw_only=True)
class ReplanResult:
    """A new plan for what is left, verified and simulated; `AdjustedPlan` is its other name."""

    original_plan: Plan
    new_plan: Plan
    changes: tuple[str, ...]
    """What changed, in words."""
    verification_passed: bool
    confidence: float | None
    """P(deadline); without one P(accepted finish). None where verification did not pass."""
    implementation_time: timedelta | None
    """Median of the recorded change-over times; None while none is recorded."""
    learning: Mapping[str, Any] = field(default_factory=dict)
    """What was observed that the plan did not know: violations, failures, late tasks."""
    strategy: AdaptiveReplanning
    reason: str = ""
    revision: int = 2
    """Number that the revision would have."""
    modes: Mapping[str, str] = field(default_factory=dict)
    """Task → mode in the new plan, where it is not the default one."""
    details: tuple[Change, ...] = ()
    """The changes as data."""
    finish: datetime | None = None
    """P50 finish."""
    accepted_finish: datetime | None = None
    """Finish that is promised with it."""
    p_deadline: float | None = None
    """P(the plan's deadline), by durations alone; None without one."""
    why_not: str = ""
    """What speaks against it, in words; empty where verification passed."""
    stability: Stability | None = None
    work_lost: timedelta = timedelta(0)
    foreseen: Foreseen | None = None
    """What a monitor of the run forecasts once it is in force; None where it cannot be."""
    proposal: Proposal | None = field(default=None, repr=False, compare=False)

    @property
    def acceptance(self) -> dict[str, Any]:
        """What a REVISED event says of it, in seconds from the start of the run."""
        robust = self.proposal.robustness if self.proposal is not None else None
        if robust is None:
            return {"revision": self.revision}
        return {
            "revision": self.revision,
            # Slip compares forecasts with what is accepted here: like with like.
            "p50": self._forecast_p50(robust),
            "accepted": robust.accepted,
            "p_deadline": self.p_deadline,
            **({} if self.foreseen is None else {"forecast": self.foreseen.as_dict()}),
            "stability": None if self.stability is None else self.stability.value,
            "work_lost": self.work_lost.total_seconds(),
            "details": [c.as_dict() for c in self.details],
            **self._order,
        }

    def _forecast_p50(self, robust: Robustness) -> float:
        if self.foreseen is not None and self.foreseen.p50 is not None:
            return self.foreseen.p50
        return robust.p50 if robust.forecast_p50 is None else robust.forecast_p50

    @property
    def _order(self) -> dict[str, Any]:
        """The schedule that the promise rests on: forecasts and dispatchers go on by it."""
        proposal, items = self.proposal, dict[str, dict[int, float]]()
        assert proposal is not None
        for (task_id, index), (start, _) in proposal.spans.items():
            if index is not None:
                items.setdefault(task_id, {})[index] = float(start)
        planned_with = {**proposal.standing.capacities, **proposal.levers.capacity}
        return {
            "starts": {t: float(s) for t, s in proposal.starts.items()},
            "item_starts": {
                t: [found.get(k) for k in range(max(found) + 1)] for t, found in items.items()
            },
            "planned_with": {n: float(c) for n, c in planned_with.items()},
        }


AdjustedPlan = ReplanResult
