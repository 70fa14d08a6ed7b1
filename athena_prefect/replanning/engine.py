"""AdaptiveReplanningEngine: says whether to replan, offers the alternatives, makes the revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Protocol

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.constraints import NO_CONSTRAINTS, Constraints
from athena_prefect.replanning.evaluation import (
    BY_SLIP,
    AdaptiveReplanning,
    Reason,
    ReplanningEvaluation,
    Rule,
    Weighing,
    risk_level,
    strategy_of,
)
from athena_prefect.replanning.from_history import with_history
from athena_prefect.replanning.levers import levers_of
from athena_prefect.replanning.option_set import Options
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.outlook import Outlook, exceeds_float, outlook
from athena_prefect.replanning.picture import Picture, Violation, picture
from athena_prefect.replanning.results import AdjustedPlan, ReplanResult
from athena_prefect.replanning.wishes import Wish
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.proposal import Phase6Orchestrator, Proposal, stability
from athena_prefect.schedule.simulation import simulate
from athena_prefect.schedule.standing import Levers

UNHELD = frozenset({Rule.FAILED_REQUIRED, Rule.NO_WAY_ON, Rule.ALL_BLOCKED})
"""Reasons that no cooldown holds back: as it stands, the run does not get to its goals."""


OPTIONS_HOLD = timedelta(seconds=60)
"""How long a set of options stands while nothing happens: as long as somebody reads it. What is
adopted later is made anew from where the run is then."""


class Validator(Protocol):
    """What is asked of an `AssumptionValidator`."""

    def get_violated_assumptions(self) -> Sequence[Violation]:
        """The violations in force."""
        ...


class AdaptiveReplanningEngine:
    """Replanning of the run that a monitor watches.

    Every threshold is in `policy` (the plan's by default). The engine changes
    nothing: what it returns is adopted, or not, by others. It keeps the last
    evaluation, so that a figure which hovers at a threshold does not flap, and the
    last set of options, so that an `option_id` means the same until the state changes.
    """

    def __init__(
        self,
        monitor: ExecutionMonitor,
        validator: Validator,
        orchestrator: Phase6Orchestrator,
        *,
        taught: Phase6Orchestrator | None = None,
        policy: ReplanningPolicy | None = None,
        changeovers: Sequence[timedelta] = (),
        replanned_at: datetime | None = None,
        replans: int | None = None,
        seed: int = 0,
    ) -> None:
        """`taught`: an orchestrator that knows what earlier runs taught, for full replans.

        `changeovers`: how long earlier changes of revision took. `replanned_at`: when the
        revision in force was adopted; `replans`: how many were (by the run's journal).
        """
        self.monitor = monitor
        self.validator = validator
        self.orchestrator = orchestrator
        self.taught = taught or orchestrator
        self.policy = policy or monitor.policy
        self.changeovers = tuple(changeovers)
        self.replanned_at = replanned_at
        self._replans = replans
        self.seed = seed
        self._open_rules: frozenset[Rule] = frozenset()
        self._options: tuple[object, list[ReplanningOption], Options] | None = None
        self._p_accepted: tuple[int, float | None] | None = None

    @property
    def plan(self) -> Plan:
        """The revision in force."""
        return self.monitor.plan

    @property
    def replans(self) -> int:
        """Revisions that the run has adopted."""
        return self.monitor.state.replans if self._replans is None else self._replans

    # Whether

    def evaluate_replanning_need(
        self,
        deviations: PlanDeviation,
        violations: Sequence[Violation],
        *,
        now: datetime | None = None,
    ) -> ReplanningEvaluation:
        """Whether the rest needs another plan, which strategy, and all reasons for one."""
        view = self._view(violations, now)
        ahead = self._outlook(view, deviations)
        weighing = self._weighing(view, ahead)
        reasons = weighing.reasons(ahead.slip, ahead.p_deadline)
        strategy = strategy_of(reasons)
        held = self._held(view, strategy, reasons)
        self._open_rules = frozenset(r.rule for r in reasons)
        called, escalate = strategy, strategy is AdaptiveReplanning.ABORT
        if held and strategy is not AdaptiveReplanning.NONE:
            strategy = AdaptiveReplanning.NONE
            escalate = escalate or self._used_up
        chosen, recommended, gain = None, None, None
        if strategy is not AdaptiveReplanning.NONE:
            options, made = self._option_set(view, ahead, strategy, reasons)
            recommended = made.recommended(options, strategy)
            chosen = None if recommended is None else options[recommended]
            gain = _gain(options)
        late = self._too_late(gain)
        return ReplanningEvaluation(
            replanning_needed=strategy is not AdaptiveReplanning.NONE,
            strategy=strategy,
            confidence=weighing.confidence(called, reasons) if not held else None,
            rationale=_rationale(strategy, reasons, held, late, self._absorbed(view, ahead)),
            affected_tasks=self._affected(view, ahead, reasons),
            estimated_time_impact=None if chosen is None else chosen.timeline_impact,
            estimated_cost_impact=None if chosen is None else chosen.cost_impact,
            risk_level=risk_level(ahead, self.policy, deviations),
            recommended_option=recommended,
            reasons=reasons,
            absorbed=self._absorbed(view, ahead),
            too_late=late,
            escalate=escalate,
            held=held,
            slip=ahead.slip,
            p_deadline=ahead.p_deadline,
            tasks_at_risk=ahead.at_risk,
            hurried=self.hurried if strategy is not AdaptiveReplanning.NONE else "",
            as_of=view.now,
        )

    def _view(self, violations: Sequence[Violation], now: datetime | None = None) -> Picture:
        return picture(self.monitor, violations, now=now, policy=self.policy)

    def _outlook(self, view: Picture, deviations: PlanDeviation) -> Outlook:
        ahead = outlook(
            view, self.orchestrator, deviations, self.monitor.accepted_p50, seed=self.seed
        )
        if len(ahead.finishes) or ahead.p50 is None:
            return ahead
        forecast = self.monitor.forecast(now=view.now)
        return replace(ahead, finishes=np.asarray(forecast.finishes, dtype=np.float64))

    def _weighing(self, view: Picture, ahead: Outlook) -> Weighing:
        beyond = {
            r.id
            for r in view.reaches
            if r.violation.replanning_required
            and exceeds_float(view, self.orchestrator, r, seed=self.seed)
        }
        return Weighing(
            view=view,
            outlook=ahead,
            policy=self.policy,
            has_deadline=self.monitor.deadline is not None,
            p_accepted=self._accepted_probability(),
            one=frozenset(r.id for r in view.reaches if r.id in beyond and len(r.tasks) == 1),
            several=frozenset(r.id for r in view.reaches if r.id in beyond and len(r.tasks) > 1),
            open_rules=self._open_rules,
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
        known = self.monitor.state.acceptance.get("p_deadline")
        baseline = self.monitor.baseline
        if known is not None or not baseline.known:
            return None if known is None else float(known)
        simulation = simulate(
            baseline.problem(self.monitor.plan),
            baseline.arcs,
            samples=baseline.samples,
            rng=np.random.default_rng(baseline.seed),
        )
        return simulation.probability((deadline - self.monitor.started) / timedelta(seconds=1))

    @property
    def _used_up(self) -> bool:
        return self.replans >= self.plan.replanning.max_replans

    def _held(self, view: Picture, strategy: AdaptiveReplanning, reasons: Sequence[Reason]) -> str:
        """Why a response is not begun now; empty where nothing holds it."""
        if strategy in (AdaptiveReplanning.NONE, AdaptiveReplanning.ABORT):
            return ""
        if self._used_up:
            most = self.plan.replanning.max_replans
            return f"all {most} replans of this run are used up: it carries on, and a human is told"
        cooldown = self.plan.replanning.cooldown
        urgent = any(r.rule in UNHELD for r in reasons)
        if self.replanned_at is not None and not urgent:
            left = cooldown - (view.now - self.replanned_at)
            if left > timedelta(0):
                return (
                    f"the last replan was {view.now - self.replanned_at} ago, cooldown {cooldown}"
                )
        return ""

    def _absorbed(self, view: Picture, ahead: Outlook) -> bool:
        """Whether something is late or violated and the finish does not move for it."""
        if ahead.slip is None or ahead.slip > 1e-9:
            return False
        late = any((r.deviation or 0.0) > 0 for r in self.monitor.records)
        return late or bool(view.reaches)

    def _too_late(self, gain: timedelta | None) -> bool:
        if not self.changeovers or gain is None:
            return False
        return gain <= _median(self.changeovers)

    def _affected(
        self, view: Picture, ahead: Outlook, reasons: Sequence[Reason]
    ) -> tuple[str, ...]:
        named = {t for r in reasons for t in r.tasks}
        if any(r.rule in BY_SLIP for r in reasons):
            named |= set(ahead.at_risk)
        cone = view.cone(named)
        return tuple(t for t in view.plan.task_ids if t in cone)

    # What can be done

    def get_replanning_options(
        self,
        deviations: PlanDeviation,
        violations: Sequence[Violation],
        *,
        now: datetime | None = None,
        strategy: AdaptiveReplanning | None = None,
    ) -> list[ReplanningOption]:
        """The alternatives that no other dominates, within one time budget, the abort last.

        They stay within what the strategy (by default the one that is called for) may
        change; where none is called for, within all unfinished tasks.
        """
        view = self._view(violations, now)
        ahead = self._outlook(view, deviations)
        reasons = self._weighing(view, ahead).reasons(ahead.slip, ahead.p_deadline)
        wanted = strategy or strategy_of(reasons)
        return list(self._option_set(view, ahead, wanted, reasons)[0])

    @property
    def hurried(self) -> str:
        """What the time did not suffice for when options were made last; empty where it did."""
        sorts = () if self._options is None else self._options[2].hurried
        if not sorts:
            return ""
        return (
            f"the {self.policy.budget_s:g} s for options were too short to look for the best of "
            f"these: {', '.join(sorts)}; each was tried once (more time: "
            "replanning.policy.budget_s)"
        )

    def recommended_option(self, strategy: AdaptiveReplanning) -> int | None:
        """Index of the recommended one of the options that were made last."""
        if self._options is None:
            return None
        _, options, made = self._options
        return made.recommended(options, strategy)

    def option_like(
        self,
        wish: Wish,
        deviations: PlanDeviation,
        violations: Sequence[Violation],
        *,
        now: datetime | None = None,
    ) -> ReplanningOption | None:
        """The option that was shown, as it is by now: with the same changes.

        It is looked for in the set that the state yields; where that no longer has it,
        exactly its levers are solved. None where it cannot be carried out any more.
        """
        try:
            wanted = AdaptiveReplanning(wish.strategy.lower())
        except ValueError:
            wanted = AdaptiveReplanning.NONE
        within = None if wanted is AdaptiveReplanning.NONE else wanted
        options = self.get_replanning_options(deviations, violations, now=now, strategy=within)
        found = next((o for o in options if wish.means(o)), None)
        if found is not None or wish.changes is None or wish.abort:
            return found
        view = self._view(violations, now)
        allowed = levers_of(
            view.plan, view.standing, view.unfinished, drop=True, policy=self.policy
        )
        if not allowed.hold(wish.levers):
            return None  # some of what it changes has begun, or is not to be had any more
        made = self._options_of(view, self._outlook(view, deviations), wanted)
        again = made.solved(wish.levers, self.policy.budget_s)
        return next((o for o in again if wish.means(o)), None)

    def _option_set(
        self,
        view: Picture,
        ahead: Outlook,
        strategy: AdaptiveReplanning,
        reasons: Sequence[Reason],
    ) -> tuple[list[ReplanningOption], Options]:
        key = (
            self.monitor.state.position,
            tuple((r.id, repr(r.violation.actual_value)) for r in view.reaches),
            strategy,
        )
        known = self._options
        if known is not None and known[0] == key:
            age = view.now - known[2].view.now
            if timedelta(0) <= age < OPTIONS_HOLD:
                return known[1], known[2]
        made = self._options_of(view, ahead, strategy)
        levers = self._levers(view, strategy, reasons, ahead)
        options = made.solved(levers, self.policy.budget_s)
        self._options = (key, options, made)
        return options, made

    def _planner(self, strategy: AdaptiveReplanning) -> Phase6Orchestrator:
        """Who makes revisions: where all is planned anew, what earlier runs taught counts.

        A part of a plan is fitted into the rest of it, which rests on the plan's estimates.
        """
        return self.taught if strategy is AdaptiveReplanning.FULL else self.orchestrator

    def _options_of(self, view: Picture, ahead: Outlook, strategy: AdaptiveReplanning) -> Options:
        baseline = self.monitor.baseline
        return Options(
            view,
            ahead,
            self._planner(strategy),
            accepted_p50=self.monitor.accepted_p50,
            old_starts=dict(baseline.p50_starts),
            seed=self.seed,
        )

    def _levers(
        self,
        view: Picture,
        strategy: AdaptiveReplanning,
        reasons: Sequence[Reason],
        ahead: Outlook,
    ) -> Levers:
        """What a strategy may change."""
        standing = view.standing
        if strategy is AdaptiveReplanning.LOCAL:
            task = self._local_task(view, reasons, ahead)
            scope: Sequence[str] = () if task is None else (task,)
            return levers_of(view.plan, standing, scope, drop=False, policy=self.policy)
        if strategy is AdaptiveReplanning.SEGMENT:
            named = {t for r in reasons for t in r.tasks} | set(ahead.at_risk)
            cone = view.cone(named)
            scope = [t for t in view.unstarted if t in cone][: self.policy.segment_tasks]
            return levers_of(view.plan, standing, scope, drop=True, policy=self.policy)
        return levers_of(view.plan, standing, view.unfinished, drop=True, policy=self.policy)

    def _local_task(self, view: Picture, reasons: Sequence[Reason], ahead: Outlook) -> str | None:
        """The task that a LOCAL adjusts: one that is named, else a critical one, with a lever."""
        named = [t for r in reasons for t in r.tasks if t in view.unstarted]
        critical = [t.id for t in self.monitor.get_critical_path() if t.id in view.unstarted]
        for task in dict.fromkeys((*named, *critical, *ahead.at_risk, *view.unstarted)):
            if levers_of(view.plan, view.standing, (task,), drop=False, policy=self.policy):
                return task
        return named[0] if named else None

    # The revision

    def generate_local_adjustment(
        self,
        current_task_id: str,
        deviation: PlanDeviation,
        *,
        constraints: Mapping[str, Any] | None = None,
    ) -> AdjustedPlan:
        """LOCAL: one task's mode and own soft dependencies; the rest only shifts.

        Raises UnknownNameError, and PlanError for a constraint that is wrong.
        """
        self.plan.get_task(current_task_id)
        view = self._view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints or {}, view.plan)
        levers = levers_of(
            view.plan, view.standing, (current_task_id,), drop=False, policy=self.policy
        )
        slip = deviation.slip
        reason = f"{current_task_id} adjusted" + (
            "" if slip is None else f" at a slip of {slip:.1%}"
        )
        return self._replanned(view, levers, asked, AdaptiveReplanning.LOCAL, reason)

    def replan_segment(
        self,
        segment_start_task: str,
        num_tasks: int,
        constraints: Mapping[str, Any],
    ) -> ReplanResult:
        """SEGMENT: the next unstarted tasks from one on, over all that depends on it.

        Raises UnknownNameError, and PlanError for a number or constraint that is wrong.
        """
        self.plan.get_task(segment_start_task)
        if num_tasks < 1:
            raise PlanError(f"a segment of {num_tasks} tasks; at least one is needed")
        view = self._view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints, view.plan)
        cone = view.cone((segment_start_task,)) | {
            t for r in view.reaches for t in view.cone(r.tasks)
        }
        scope = [t for t in view.unstarted if t in cone][:num_tasks]
        levers = levers_of(view.plan, view.standing, scope, drop=True, policy=self.policy)
        reason = f"segment of {len(scope)} tasks from {segment_start_task}"
        return self._replanned(view, levers, asked, AdaptiveReplanning.SEGMENT, reason)

    def full_replan(self, reason: str, constraints: Mapping[str, Any]) -> ReplanResult:
        """FULL: all unfinished tasks. Raises PlanError for a constraint that is wrong."""
        view = self._view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints, view.plan)
        levers = levers_of(view.plan, view.standing, view.unfinished, drop=True, policy=self.policy)
        return self._replanned(view, levers, asked, AdaptiveReplanning.FULL, reason)

    def adopt(self, option: ReplanningOption, strategy: AdaptiveReplanning) -> ReplanResult:
        """The revision behind an option. Raises PlanError for an abort, which has none."""
        if option.kind is Kind.ABORT or option.proposal is None:
            raise PlanError("an abort has no new plan")
        view = self._view(self.validator.get_violated_assumptions())
        return self._result(view, option.proposal, strategy, option.title)

    def _replanned(
        self,
        view: Picture,
        levers: Levers,
        asked: Constraints,
        strategy: AdaptiveReplanning,
        reason: str,
    ) -> ReplanResult:
        standing = view.standing
        if asked != NO_CONSTRAINTS:
            standing = asked.on(standing, self.monitor.started)
            levers = asked.allowed(levers)
        proposal = self._planner(strategy).propose(
            standing,
            levers,
            objective=Objective.COST,
            budget_s=asked.budget_s or self.policy.budget_s,
            seed=self.seed,
        )
        proposal = with_history(
            proposal,
            self.monitor.learned,
            accept_quantile=self.policy.accept_quantile,
            seed=self.seed,
        )
        return self._result(view, proposal, strategy, reason)

    def _result(
        self, view: Picture, proposal: Proposal, strategy: AdaptiveReplanning, reason: str
    ) -> ReplanResult:
        robust = proposal.robustness
        moment = self.monitor.moment
        confidence = None
        if robust is not None:
            on_time = self.monitor.deadline is not None
            kept_to = robust.probability(robust.accepted) * proposal.within_timeouts
            confidence = proposal.success if on_time else kept_to
        end = self.monitor.accepted_p50 or proposal.answer.makespan or 0.0
        old = dict(self.monitor.baseline.p50_starts)
        return ReplanResult(
            original_plan=view.plan,
            new_plan=proposal.plan if proposal.feasible else view.plan,
            changes=tuple(str(c) for c in proposal.changes) if proposal.feasible else (),
            verification_passed=proposal.feasible,
            confidence=confidence,
            implementation_time=_median(self.changeovers) if self.changeovers else None,
            learning=self._observed(view) | {"lessons": list(proposal.answer.lessons)},
            strategy=strategy,
            reason=reason,
            revision=self.monitor.state.revision + 1,
            modes=proposal.modes,
            details=proposal.changes if proposal.feasible else (),
            finish=None if robust is None else moment(robust.p50),
            accepted_finish=None if robust is None else moment(robust.accepted),
            why_not=proposal.why_not,
            stability=stability(proposal.standing, old, end, proposal)
            if proposal.feasible
            else None,
            proposal=proposal,
        )

    def _observed(self, view: Picture) -> dict[str, Any]:
        """What was seen in this run that the plan did not know."""
        late = {
            r.task_id: r.deviation
            for r in self.monitor.records
            if r.deviation is not None and abs(r.deviation) > 1e-9
        }
        return {
            "violated": [r.id for r in view.reaches],
            "failed": list(view.failed),
            "deviations": late,
        }


def _median(values: Sequence[timedelta]) -> timedelta:
    return timedelta(seconds=median(v.total_seconds() for v in values))


def _gain(options: Sequence[ReplanningOption]) -> timedelta | None:
    """The most that an option gains; None where carrying on never finishes or none is measured."""
    impacts = [o.timeline_impact for o in options if o.timeline_impact is not None]
    return -min(impacts) if impacts else None


def _rationale(
    strategy: AdaptiveReplanning,
    reasons: Sequence[Reason],
    held: str,
    late: bool,
    absorbed: bool,
) -> str:
    words = [str(r) for r in sorted(reasons, key=lambda r: r.strategy is not strategy)]
    if held:
        words.append(held)
    if late:
        words.append("too late: no option gains more than changing over usually takes")
    if absorbed:
        words.append("what is late or violated is absorbed by float")
    return "; ".join(words) or "nothing calls for another plan"
