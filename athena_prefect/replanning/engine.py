"""AdaptiveReplanningEngine: says whether to replan, offers the alternatives, makes the revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from athena_prefect.errors import PlanError
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.constraints import NO_CONSTRAINTS, Constraints
from athena_prefect.replanning.evaluation import (
    AdaptiveReplanning,
    ReplanningEvaluation,
    risk_level,
)
from athena_prefect.replanning.from_history import with_history
from athena_prefect.replanning.need import Need, Watch
from athena_prefect.replanning.option_set import Options
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.outlook import Outlook
from athena_prefect.replanning.picture import Picture, Violation
from athena_prefect.replanning.results import AdjustedPlan, ReplanResult
from athena_prefect.replanning.revising import median_of, result_of
from athena_prefect.replanning.scope import (
    levers_of_all,
    levers_of_segment,
    levers_of_task,
    levers_within,
)
from athena_prefect.replanning.wishes import Wish
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.proposal import Phase6Orchestrator
from athena_prefect.schedule.standing import Levers

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
        """`taught`: an orchestrator that knows what earlier runs taught; revisions come from it.

        Whether to replan at all goes by `orchestrator`: a lesson is no slip.

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
        self._watch = Watch(
            monitor=monitor, orchestrator=orchestrator, policy=self.policy, seed=seed
        )
        self._options: tuple[object, list[ReplanningOption], Options] | None = None

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
        need = self._watch.need(violations, deviations, now)
        ahead, reasons, called = need.ahead, need.reasons, need.called
        held = need.held(self.replans, self.replanned_at)
        self._watch.open_rules = frozenset(r.rule for r in reasons)
        strategy = AdaptiveReplanning.NONE if held else called
        used_up = self.replans >= self.plan.replanning.max_replans
        chosen, recommended, gain, conflict = None, None, None, ""
        if strategy is not AdaptiveReplanning.NONE:
            options, made = self._option_set(need, strategy)
            conflict = made.conflict
            recommended = made.recommended(options, strategy)
            chosen = None if recommended is None else options[recommended]
            # What never finishes by itself gains by whatever gets it to its goals.
            gain = None if ahead.p50 is None else _gain(options)
        usual = median_of(self.changeovers)
        late = usual is not None and gain is not None and gain <= usual
        return ReplanningEvaluation(
            replanning_needed=strategy is not AdaptiveReplanning.NONE,
            strategy=strategy,
            confidence=need.weighing.confidence(called, reasons) if not held else None,
            rationale=_rationale(need, strategy, held=held, late=late, conflict=conflict),
            affected_tasks=need.affected,
            estimated_time_impact=None if chosen is None else chosen.timeline_impact,
            estimated_cost_impact=None if chosen is None else chosen.cost_impact,
            risk_level=risk_level(ahead, self.policy, deviations),
            recommended_option=recommended,
            reasons=reasons,
            absorbed=need.absorbed,
            too_late=late,
            escalate=called is AdaptiveReplanning.ABORT or (bool(held) and used_up),
            held=held,
            slip=ahead.slip,
            p_deadline=ahead.p_deadline,
            tasks_at_risk=ahead.at_risk,
            hurried=self.hurried if strategy is not AdaptiveReplanning.NONE else "",
            as_of=need.view.now,
        )

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
        need = self._watch.need(violations, deviations, now)
        return list(self._option_set(need, strategy or need.called)[0])

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
        view = self._watch.view(violations, now)
        if not levers_of_all(view, self.policy).hold(wish.levers):
            return None  # some of what it changes has begun, or is not to be had any more
        made = self._options_of(view, self._watch.ahead(view, deviations))
        same = made.exactly(wish.levers, self.policy.budget_s)
        return same if same is not None and wish.means(same) else None

    def _option_set(
        self, need: Need, strategy: AdaptiveReplanning
    ) -> tuple[list[ReplanningOption], Options]:
        view = need.view
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
        made = self._options_of(view, need.ahead)
        levers = levers_within(strategy, need, self.policy)
        options = made.solved(levers, self.policy.budget_s)
        self._options = (key, options, made)
        return options, made

    def _options_of(self, view: Picture, ahead: Outlook) -> Options:
        return Options(
            view,
            ahead,
            self.taught,
            accepted_p50=self.monitor.accepted_p50,
            old_starts=dict(self.monitor.accepted_starts),
            seed=self.seed,
        )

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
        view = self._watch.view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints or {}, view.plan)
        levers = levers_of_task(view, current_task_id, self.policy)
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
        if type(num_tasks) is not int or num_tasks < 1:
            raise PlanError(f"a segment of {num_tasks!r} tasks; give a whole number of at least 1")
        view = self._watch.view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints, view.plan)
        named = (segment_start_task, *(t for r in view.reaches for t in r.tasks))
        scope, levers = levers_of_segment(view, named, num_tasks, self.policy)
        reason = f"segment of {len(scope)} tasks from {segment_start_task}"
        return self._replanned(view, levers, asked, AdaptiveReplanning.SEGMENT, reason)

    def full_replan(self, reason: str, constraints: Mapping[str, Any]) -> ReplanResult:
        """FULL: all unfinished tasks. Raises PlanError for a constraint that is wrong."""
        view = self._watch.view(self.validator.get_violated_assumptions())
        asked = Constraints.of(constraints, view.plan)
        levers = levers_of_all(view, self.policy)
        return self._replanned(view, levers, asked, AdaptiveReplanning.FULL, reason)

    def adopt(self, option: ReplanningOption, strategy: AdaptiveReplanning) -> ReplanResult:
        """The revision behind an option. Raises PlanError for an abort, which has none."""
        if option.kind is Kind.ABORT or option.proposal is None:
            raise PlanError("an abort has no new plan")
        view = self._watch.view(self.validator.get_violated_assumptions())
        return result_of(
            view, option.proposal, strategy, option.title, changeovers=self.changeovers
        )

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
            standing = view.standing_with(asked.replace)
            asked.check(standing)
            standing = asked.on(standing, self.monitor.started)
            levers = asked.allowed(levers, view.plan)
        proposal = self.taught.propose(
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
            trust=self.policy.estimates_trusted,
            seed=self.seed,
        )
        return result_of(
            view, proposal, strategy, reason, changeovers=self.changeovers,
            due=asked.deadline is not None,
        )  # fmt: skip


def _gain(options: Sequence[ReplanningOption]) -> timedelta | None:
    """The most that an option gains; None where none is measured."""
    impacts = [o.timeline_impact for o in options if o.timeline_impact is not None]
    return -min(impacts) if impacts else None


def _rationale(
    need: Need, strategy: AdaptiveReplanning, *, held: str, late: bool, conflict: str
) -> str:
    words = [str(r) for r in sorted(need.reasons, key=lambda r: r.strategy is not strategy)]
    if need.lost:
        words.append(f"{', '.join(need.lost)} failed and cannot be helped, but is not required")
    if conflict:
        words.append(f"the rest cannot be done as things stand: {conflict}")
    if held:
        words.append(held)
    if late:
        words.append("too late: no option gains more than changing over usually takes")
    if need.absorbed:
        words.append("what is late or violated is absorbed by float")
    return "; ".join(words) or "nothing calls for another plan"
