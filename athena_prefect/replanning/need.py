"""Whether the rest of a run needs another plan, by what is ahead of it and what has happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.evaluation import (
    BY_SLIP,
    AdaptiveReplanning,
    Reason,
    Rule,
    Weighing,
    strategy_of,
)
from athena_prefect.replanning.outlook import Outlook, beyond_float, outlook
from athena_prefect.replanning.picture import Picture, Violation, picture
from athena_prefect.schedule.proposal import Phase6Orchestrator
from athena_prefect.schedule.simulation import simulate

UNHELD = frozenset({Rule.FAILED_REQUIRED, Rule.NO_WAY_ON, Rule.ALL_BLOCKED})
"""Reasons that no cooldown holds back: as it stands, the run does not get to its goals."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a run calls for at a moment."""

    view: Picture
    ahead: Outlook
    weighing: Weighing
    reasons: tuple[Reason, ...]

    @property
    def called(self) -> AdaptiveReplanning:
        """The strategy that the strongest reason calls for."""
        return strategy_of(self.reasons)

    @property
    def lost(self) -> tuple[str, ...]:
        """Failed tasks that no goal needs and nothing helps: told, and nothing more."""
        view = self.view
        return tuple(t for t in view.failed if t not in view.plan.required and not view.ways_on(t))

    @property
    def absorbed(self) -> bool:
        """Whether something is late or violated and the finish does not move for it."""
        if self.ahead.slip is None or self.ahead.slip > 1e-9:
            return False
        late = any((r.deviation or 0.0) > 0 for r in self.view.monitor.records)
        return late or bool(self.view.reaches)

    @property
    def affected(self) -> tuple[str, ...]:
        """Tasks that the reasons name, or at risk, with all that depends on them."""
        named = {t for r in self.reasons for t in r.tasks}
        if any(r.rule in BY_SLIP for r in self.reasons):
            named |= set(self.ahead.at_risk)
        cone = self.view.cone(named)
        return tuple(t for t in self.view.plan.task_ids if t in cone)

    def held(self, replans: int, replanned_at: datetime | None) -> str:
        """Why a response is not begun now; empty where nothing holds it.

        `replans`: revisions that the run has adopted, the last one `replanned_at`.
        """
        if self.called in (AdaptiveReplanning.NONE, AdaptiveReplanning.ABORT):
            return ""
        rules = self.view.plan.replanning
        if replans >= rules.max_replans:
            return (
                f"all {rules.max_replans} replans of this run are used up: "
                "it carries on, and a human is told"
            )
        urgent = any(r.rule in UNHELD for r in self.reasons)
        if replanned_at is not None and not urgent:
            ago = self.view.now - replanned_at
            if ago < rules.cooldown:
                return f"the last replan was {ago} ago, cooldown {rules.cooldown}"
        return ""


@dataclass(kw_only=True)
class Watch:
    """Looks at one run, time and again: it knows which rules called the last time."""

    monitor: ExecutionMonitor
    orchestrator: Phase6Orchestrator
    policy: ReplanningPolicy
    seed: int = 0
    open_rules: frozenset[Rule] = frozenset()
    """So that a figure which hovers at a threshold does not flap."""
    _p_accepted: tuple[int, float | None] | None = field(default=None, repr=False)

    def view(self, violations: Sequence[Violation], now: datetime | None = None) -> Picture:
        """Where the run stands under these violations."""
        return picture(self.monitor, violations, now=now, policy=self.policy)

    def ahead(self, view: Picture, deviation: PlanDeviation) -> Outlook:
        """What becomes of it when nothing is changed."""
        found = outlook(
            view, self.orchestrator, deviation, self.monitor.accepted_p50, seed=self.seed
        )
        if len(found.finishes) or found.p50 is None:
            return found
        forecast = self.monitor.finish_alone(now=view.now)
        return replace(found, finishes=np.asarray(forecast.finishes, dtype=np.float64))

    def need(
        self,
        violations: Sequence[Violation],
        deviation: PlanDeviation,
        now: datetime | None = None,
    ) -> Need:
        """What the run calls for, and all reasons for it."""
        view = self.view(violations, now)
        ahead = self.ahead(view, deviation)
        weighing = self._weighing(view, ahead)
        reasons = weighing.reasons(ahead.slip, ahead.p_deadline)
        return Need(view=view, ahead=ahead, weighing=weighing, reasons=reasons)

    def _weighing(self, view: Picture, ahead: Outlook) -> Weighing:
        beyond = beyond_float(view, self.orchestrator, seed=self.seed)
        return Weighing(
            view=view,
            outlook=ahead,
            policy=self.policy,
            has_deadline=self.monitor.deadline is not None,
            p_accepted=self._accepted_probability(),
            accepted_p50=self.monitor.accepted_p50,
            one=frozenset(r.id for r in view.reaches if r.id in beyond and len(r.tasks) == 1),
            several=frozenset(r.id for r in view.reaches if r.id in beyond and len(r.tasks) > 1),
            open_rules=self.open_rules,
        )

    def _accepted_probability(self) -> float | None:
        """P(deadline) when the revision in force was accepted."""
        deadline = self.monitor.deadline
        if deadline is None:
            return None
        revision = self.monitor.state.revision
        if self._p_accepted is None or self._p_accepted[0] != revision:
            self._p_accepted = (revision, self._reckoned_probability(deadline))
        return self._p_accepted[1]

    def _reckoned_probability(self, deadline: datetime) -> float | None:
        baseline = self.monitor.baseline
        accepted = self.monitor.state.acceptance
        known = accepted.get("p_deadline", baseline.p_deadline)
        # Forecasts fall from a forecast: what was promised rests on more than they do.
        known = (accepted.get("forecast") or {}).get("p_deadline", known)
        if known is not None or not baseline.known:
            return None if known is None else float(known)
        simulation = simulate(
            baseline.problem(self.monitor.plan),
            baseline.arcs,
            samples=baseline.samples,
            rng=np.random.default_rng(baseline.seed),
        )
        return simulation.probability((deadline - self.monitor.started) / timedelta(seconds=1))
