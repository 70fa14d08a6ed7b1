"""What the rest of a run calls for, its options, and the revision behind one of them.

In the run's own process, on the monitor that dashboards and telling share.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.replanning.account import account
from athena_prefect.replanning.evaluation import (
    AdaptiveReplanning,
    ReplanningEvaluation,
    grounds_of,
)
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.replanning.wishes import Wish
from athena_prefect.runtime.adopting import Revision, priority_of
from athena_prefect.runtime.continuing import changeovers, last_revised

if TYPE_CHECKING:
    from athena_prefect.journal.journal import Entry
    from athena_prefect.replanning.asked import OwnQuestion
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.runtime.facts import RunFacts


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """What was found, for whoever chooses."""

    evaluation: ReplanningEvaluation
    options: tuple[ReplanningOption, ...]
    recommended: int | None
    position: int
    """Of the journal: what it rests on."""
    at: datetime
    key: str
    """Says for which reasons, so that the same proposal is made once."""
    about: tuple[str, ...]
    """What those rest on, see `grounds_of`."""
    account: Mapping[str, Any] = field(default_factory=dict)
    """What the journal keeps of it: the options, what the recommended one moves, its order."""

    @property
    def best(self) -> ReplanningOption | None:
        """The option that is recommended."""
        return next((o for o in self.options if o.option_id == self.recommended), None)

    @classmethod
    def asked_before(cls, question: OwnQuestion) -> Proposed:
        """What an earlier process has asked, as it wrote it down; its schedules are gone."""
        data = question.data
        recommended = data.get("recommended")
        evaluation = ReplanningEvaluation(
            replanning_needed=True,
            strategy=AdaptiveReplanning(str(data["strategy"])),
            confidence=None,
            rationale=str(data.get("reason") or ""),
            affected_tasks=(),
            estimated_time_impact=None,
            estimated_cost_impact=None,
            risk_level="",
            recommended_option=recommended,
        )
        return cls(
            evaluation=evaluation,
            options=(),
            recommended=recommended,
            position=question.position,
            at=question.at,
            key=question.key,
            about=tuple(data.get("about") or ()),
            account=data,
        )


@dataclass(slots=True)
class Finder:
    """Evaluates one run, and solves its options, with what its change-overs have cost so far."""

    facts: RunFacts
    clock: Callable[[], datetime]
    changeovers: list[timedelta] = field(default_factory=list)
    replanned_at: datetime | None = None
    _engine: AdaptiveReplanningEngine | None = None

    def remember(self, entries: Iterable[Entry]) -> None:
        """Know what an earlier process knew: when the run was replanned, and how long it took."""
        known = tuple(entries)
        self.replanned_at = last_revised(known)
        self.changeovers.extend(changeovers(known))

    def propose(self, monitor: ExecutionMonitor, strategy: str | None) -> Proposed:
        """Evaluate the run; the options within what that calls for, or within `strategy`."""
        now = self.clock()
        engine = self._engine_of(monitor)
        violations = engine.validator.get_violated_assumptions()
        deviation = monitor.get_plan_deviation(now=now)
        evaluation = engine.evaluate_replanning_need(deviation, violations, now=now)
        wanted = AdaptiveReplanning(strategy.lower()) if strategy else evaluation.strategy
        options: list[ReplanningOption] = []
        recommended = evaluation.recommended_option
        if strategy or wanted is not AdaptiveReplanning.NONE:
            options = engine.get_replanning_options(
                deviation,
                violations,
                now=now,
                strategy=None if wanted is AdaptiveReplanning.NONE else wanted,
            )
            recommended = engine.recommended_option(wanted)
        about = grounds_of(evaluation, monitor.state.revision)
        return Proposed(
            evaluation=evaluation,
            options=tuple(options),
            recommended=recommended,
            position=monitor.state.position,
            at=now,
            key=f"{monitor.state.revision}:{evaluation.strategy}:{_short(about)}",
            about=about,
            account=account(
                options,
                None if recommended is None else options[recommended],
                monitor.brought_up(now)[1],
            ),
        )

    def like(self, monitor: ExecutionMonitor, wish: Wish) -> ReplanningOption | None:
        """What was chosen, by its own levers, where the set that is solved no longer has it."""
        now, engine = self.clock(), self._engine_of(monitor)
        violations = engine.validator.get_violated_assumptions()
        return engine.option_like(wish, monitor.get_plan_deviation(now=now), violations, now=now)

    def revision(
        self, monitor: ExecutionMonitor, found: Proposed, option: ReplanningOption, author: str
    ) -> Revision:
        """The revision behind an option, verified."""
        strategy = found.evaluation.strategy
        if strategy is AdaptiveReplanning.NONE:
            strategy = AdaptiveReplanning.FULL  # nothing called for it: a person did
        result = self._engine_of(monitor).adopt(option, strategy)
        promised = {k: v for k, v in result.acceptance.items() if k != "revision"}
        starts = result.proposal.starts if result.proposal is not None else {}
        return Revision(
            number=result.revision,
            plan=result.new_plan,
            modes=result.modes,
            changes=result.details,
            priority=priority_of(starts, result.new_plan),
            promised=promised,
            strategy=str(strategy),
            reason=found.evaluation.rationale,
            author=author,
            option=option.title,
        )

    def watch(self, revision: Revision) -> None:
        """A revision is in force: the monitor watches that one from now on."""
        self.replanned_at = self.clock()
        facts = self.facts
        with facts.shared.using() as old:
            if old is None:
                return
            context = ExecutionContext(
                plan_run=facts.plan_run,
                clock=old.context.clock,
                started_at=old.started,
                journal=old.context.journal,
            )
            facts.shared.put(ExecutionMonitor(revision.plan, context))

    def _engine_of(self, monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
        if self._engine is None or self._engine.monitor is not monitor:
            from athena_prefect.orchestrator import engine_of

            self._engine = engine_of(
                monitor,
                clock=time.perf_counter,
                lessons=self.facts.recall(monitor.plan),
                changeovers=tuple(self.changeovers),
                replanned_at=self.replanned_at,
            )
        return self._engine


def _short(about: tuple[str, ...]) -> str:
    """What stands for them in an event's key, however many tasks have failed."""
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
