"""Whether what is left of a run needs another plan, how much of it, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from athena_prefect.monitor.chain import medians_of
from athena_prefect.monitor.deviation import PlanDeviation, severity
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Criticality
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.picture import Picture, Reach
from athena_prefect.schedule.overruns import overruns_of
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.passes import TOLERANCE, backward, forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.proposal import Phase6Orchestrator, arcs_of, running_of
from athena_prefect.schedule.robustness import Robustness, assess
from athena_prefect.schedule.situation import NEVER
from athena_prefect.schedule.standing import Standing


class AdaptiveReplanning(StrEnum):
    """How much of the rest is planned anew, from nothing to all, and beyond."""

    NONE = "none"
    LOCAL = "local"
    """One task."""
    SEGMENT = "segment"
    """The next unstarted tasks of what is reached."""
    FULL = "full"
    """All unfinished tasks."""
    ABORT = "abort"
    """There is no way to the goals."""


_SCALE = tuple(AdaptiveReplanning)


class Rule(StrEnum):
    """What calls for a strategy."""

    SLIP = "slip"
    PROBABILITY = "probability"
    REACHES_ONE = "reaches one"
    FAILED_OPTIONAL = "failed, not required"
    RISK = "risk"
    REACHES_SEVERAL = "reaches several"
    MANY_VIOLATIONS = "many violations"
    MOST_AT_RISK = "most at risk"
    FAILED_REQUIRED = "failed, with a way on"
    NO_WAY_ON = "failed, without a way on"
    ALL_BLOCKED = "all blocked"


BY_SLIP = frozenset({Rule.SLIP, Rule.RISK, Rule.MOST_AT_RISK, Rule.PROBABILITY})
"""Rules that look at the forecast; the others look at events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason for a strategy, in words."""

    rule: Rule
    strategy: AdaptiveReplanning
    text: str
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What becomes of the run when nothing is changed; seconds from the start of the run."""

    robustness: Robustness | None
    """None where it never finishes; `reason` says why."""
    p50: float | None
    slip: float | None
    """(P50 − P50 at acceptance) / that P50."""
    p_deadline: float | None
    at_risk: tuple[str, ...]
    reason: str = ""
    finishes: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class ReplanningEvaluation:
    """Whether replanning is needed, which strategy, and on what that rests."""

    replanning_needed: bool
    strategy: AdaptiveReplanning
    confidence: float | None
    """Share of the simulated scenarios whose own slip gives the same strategy; None where
    the reasons are events."""
    rationale: str
    affected_tasks: tuple[str, ...]
    estimated_time_impact: timedelta | None
    """Of the recommended option, against carrying on."""
    estimated_cost_impact: float | None
    risk_level: str
    """low, medium or high: the severity of the deviation."""
    recommended_option: int | None
    """Index into the options; None where there is nothing to be done."""
    reasons: tuple[Reason, ...] = ()
    """All that was found, each with the strategy that it calls for."""
    absorbed: bool = False
    """Something is late or violated, and float takes it up."""
    too_late: bool = False
    """No option gains more than changing over usually takes."""
    escalate: bool = False
    """A human should look: nothing more may be, or can be, done by itself."""
    held: str = ""
    """Why a response that is called for is not begun now; empty where nothing holds it."""
    hurried: str = ""
    """What the time for options did not suffice for; empty where it did."""
    slip: float | None = None
    p_deadline: float | None = None
    tasks_at_risk: tuple[str, ...] = ()
    as_of: datetime | None = None


def outlook(
    view: Picture,
    orchestrator: Phase6Orchestrator,
    deviation: PlanDeviation,
    accepted_p50: float | None,
    *,
    seed: int,
) -> Outlook:
    """What becomes of the run when it carries on under the violations in force.

    Without violations and failures that is what the monitor forecasts.
    """
    finish = deviation.estimated_completion
    if not view.reaches and not view.failed and finish is not None:
        p50 = (finish - view.monitor.started) / timedelta(seconds=1)
        return Outlook(
            robustness=None,
            p50=p50,
            slip=deviation.slip,
            p_deadline=deviation.deadline_probability,
            at_risk=deviation.tasks_at_risk,
        )
    standing = view.carried_on()
    stopped = view.stopped(standing)
    if stopped:
        causes = [t for t in view.failed if t in stopped] or sorted(stopped)
        place = view.plan.task_ids.index
        return Outlook(
            robustness=None,
            p50=None,
            slip=None,
            p_deadline=None if deviation.deadline is None else 0.0,
            at_risk=tuple(sorted({*stopped, *deviation.tasks_at_risk}, key=place)),
            reason=f"{', '.join(causes)} cannot be done as things stand",
        )
    answer = orchestrator.generate(standing, budget_s=0.0, seed=seed)
    if answer.schedule is None and np.isnan(standing.problem.durations).any():
        # Nobody knows how long it takes: that is no reason to call it late.
        return Outlook(
            robustness=None, p50=None, slip=None, p_deadline=None,
            at_risk=deviation.tasks_at_risk, reason=answer.conflict,
        )  # fmt: skip
    if answer.schedule is None:
        return Outlook(
            robustness=None, p50=None, slip=None,
            p_deadline=None if deviation.deadline is None else 0.0,
            at_risk=view.unfinished, reason=answer.conflict,
        )  # fmt: skip
    limits = _latest(standing, answer.schedule.problem, arcs_of(answer))
    robust = assess(
        answer.rest,
        answer.schedule,
        arcs_of(answer),
        accept_quantile=view.policy.accept_quantile,
        seed=seed,
        running=running_of(standing, answer),
        limits=limits,
    )
    risky = {t for t, p in robust.late.items() if p > view.policy.risk_probability}
    risky |= set(view.failed) | set(standing.left_out & set(view.unfinished))
    open_ = set(view.unfinished)
    slip = None
    if accepted_p50:
        slip = (robust.p50 - accepted_p50) / accepted_p50
    return Outlook(
        robustness=robust,
        p50=robust.p50,
        slip=slip,
        p_deadline=None if deviation.deadline is None else robust.p_deadline,
        at_risk=tuple(t for t in view.plan.task_ids if t in risky and t in open_),
        finishes=robust.finishes,
    )


def _latest(standing: Standing, problem: Problem, arcs: ResourceArcs) -> Floats | None:
    """Latest finish of each activity, reckoned back from the deadline or what stands for it."""
    if standing.deadline is None:
        return None
    network = problem.network.extended(*arcs)
    return np.asarray(standing.deadline - backward(network, medians_of(problem.estimates)))


def exceeds_float(
    view: Picture, orchestrator: Phase6Orchestrator, reach: Reach, *, seed: int
) -> bool:
    """Whether the effect of a violation delays a task that it reaches by more than its float.

    Against the same run under all other violations.
    """
    effect = reach.effect
    if effect is None or not reach.tasks:
        return False
    if effect.block:
        return True
    others = [r for r in view.reaches if r is not reach]
    without, with_it = view.carried_on(others), view.carried_on()
    if view.failed:
        # What failed is taken to go on, so that there is a schedule to look at.
        again = view.standing.again
        left = view.standing.left_out
        without = replace(without, again=again, left_out=left)
        with_it = replace(with_it, again=again, left_out=left)
    calm = orchestrator.generate(without, budget_s=0.0, seed=seed)
    struck = orchestrator.generate(with_it, budget_s=0.0, seed=seed)
    if calm.schedule is None or struck.schedule is None:
        return struck.schedule is None
    problem = calm.schedule.problem
    network = problem.network.extended(*arcs_of(calm))
    lag = np.where(calm.rest.free[network.heads], network.pred_lag, NEVER)
    _, finish = forward(network, problem.durations, floor=calm.rest.floor, lag=lag)
    latest = float(finish.max(initial=0.0)) - backward(network, problem.durations)
    by_task = dict(zip(problem.task_ids, latest[problem.ends].tolist(), strict=True))
    if any(p > view.policy.risk_probability for p in _overruns(with_it, without, reach.tasks)):
        return True
    ends = struck.schedule.tasks
    return any(
        t in by_task and t in ends and ends[t].finish > by_task[t] + TOLERANCE for t in reach.tasks
    )


def _overruns(struck: Standing, calm: Standing, tasks: Sequence[str]) -> Iterator[float]:
    """How likely tasks are to run past their time-outs, where they would not without the effect.

    No float helps a task that is ended for its time-out.
    """
    modes = {t: struck.mode_of(t) for t in tasks}
    before = overruns_of(calm, calm.plan, modes, {})
    after = overruns_of(struck, struck.plan, modes, {})
    yield from (after[t] for t in tasks if after.get(t, 0.0) > before.get(t, 0.0))


def strategy_of(reasons: Sequence[Reason]) -> AdaptiveReplanning:
    """The strongest strategy that a reason calls for."""
    called = (r.strategy for r in reasons)
    return max(called, key=_SCALE.index, default=AdaptiveReplanning.NONE)


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """What reasons are found in; see `reasons`."""

    view: Picture
    outlook: Outlook
    policy: ReplanningPolicy
    has_deadline: bool
    p_accepted: float | None
    """P(deadline) when the revision in force was accepted."""
    one: frozenset[str]
    """Ids of violations that reach one task and exceed its float."""
    several: frozenset[str]
    """Ids of violations that reach several tasks, at least one beyond its float."""
    open_rules: frozenset[Rule] = frozenset()
    """Rules that called the last time: their thresholds are lower, so that a figure which
    hovers there does not flap."""

    def _bar(self, rule: Rule, threshold: float) -> float:
        return threshold * (1.0 - self.policy.hysteresis) if rule in self.open_rules else threshold

    def reasons(self, slip: float | None, p_deadline: float | None) -> tuple[Reason, ...]:
        """Every reason for a response; with another slip than the outlook's, what it would be.

        Where nothing is left to be done there is nothing to respond with.
        """
        if not self.view.unfinished:
            return ()
        return tuple((*self._events(), *self._figures(slip, p_deadline)))

    def _figures(self, slip: float | None, p_deadline: float | None) -> Iterator[Reason]:
        rules, risky = self.policy, self.outlook.at_risk
        if slip is not None and slip > self._bar(Rule.SLIP, rules.tolerated_slip):
            yield Reason(
                rule=Rule.SLIP,
                strategy=AdaptiveReplanning.LOCAL,
                text=f"the finish slips by {slip:.1%}, more than {rules.tolerated_slip:.0%}",
            )
        accepted = self.p_accepted
        if self.has_deadline and p_deadline is not None and accepted is not None:
            fell = p_deadline < accepted - rules.probability_drop
            if p_deadline < rules.min_probability and fell:
                yield Reason(
                    rule=Rule.PROBABILITY,
                    strategy=AdaptiveReplanning.LOCAL,
                    text=f"the deadline holds with probability {p_deadline:.2f}, "
                    f"below {rules.min_probability:g}; it was {accepted:.2f} at acceptance",
                )
        if slip is None:
            return
        if risky and slip > self._bar(Rule.RISK, rules.segment_slip):
            yield Reason(
                rule=Rule.RISK,
                strategy=AdaptiveReplanning.SEGMENT,
                text=f"{_listed(risky)} at risk, and the finish slips by {slip:.1%}, "
                f"more than {rules.segment_slip:.0%}",
                tasks=risky,
            )
        total = len(self.view.plan.tasks)
        most = len(risky) > rules.full_risk_share * total
        if most and slip > self._bar(Rule.MOST_AT_RISK, rules.segment_slip):
            yield Reason(
                rule=Rule.MOST_AT_RISK,
                strategy=AdaptiveReplanning.FULL,
                text=f"{len(risky)} of all {total} tasks are at risk, more than "
                f"{rules.full_risk_share:.0%}, and the finish slips by {slip:.1%}",
                tasks=risky,
            )

    def _events(self) -> Iterator[Reason]:
        yield from self._failures()
        requiring = [r for r in self.view.reaches if r.violation.replanning_required]
        for reach in requiring:
            if reach.id in self.one:
                yield Reason(
                    rule=Rule.REACHES_ONE,
                    strategy=AdaptiveReplanning.LOCAL,
                    text=f"{reach.id} is violated: it delays {reach.tasks[0]} beyond its float",
                    tasks=reach.tasks,
                )
            if reach.id in self.several:
                yield Reason(
                    rule=Rule.REACHES_SEVERAL,
                    strategy=AdaptiveReplanning.SEGMENT,
                    text=f"{reach.id} is violated: it reaches {_listed(reach.tasks)}, "
                    "at least one beyond its float",
                    tasks=reach.tasks,
                )
            if self._blocks_all(reach):
                yield Reason(
                    rule=Rule.ALL_BLOCKED,
                    strategy=AdaptiveReplanning.ABORT,
                    text=f"{reach.id} is violated, which blocks every required task that is left",
                    tasks=reach.tasks,
                )
        if len(requiring) >= self.policy.full_violations:
            yield Reason(
                rule=Rule.MANY_VIOLATIONS,
                strategy=AdaptiveReplanning.FULL,
                text=f"{len(requiring)} violations require replanning: "
                + ", ".join(r.id for r in requiring),
                tasks=tuple(dict.fromkeys(t for r in requiring for t in r.tasks)),
            )

    def _failures(self) -> Iterator[Reason]:
        view = self.view
        for task in view.failed:
            ways = view.ways_on(task)
            if task not in view.plan.required:
                if ways:
                    yield Reason(
                        rule=Rule.FAILED_OPTIONAL,
                        strategy=AdaptiveReplanning.LOCAL,
                        text=f"{task} failed; it is not required, and can be done {_in(ways)}",
                        tasks=(task,),
                    )
            elif ways:
                yield Reason(
                    rule=Rule.FAILED_REQUIRED,
                    strategy=AdaptiveReplanning.FULL,
                    text=f"{task} failed, which is required, and can be done {_in(ways)}",
                    tasks=(task,),
                )
            else:
                yield Reason(
                    rule=Rule.NO_WAY_ON,
                    strategy=AdaptiveReplanning.ABORT,
                    text=f"{task} failed, which is required, and there is no way on",
                    tasks=(task,),
                )

    def _blocks_all(self, reach: Reach) -> bool:
        if reach.effect is None or not reach.effect.block:
            return False
        left = self.view.plan.required & set(self.view.unfinished)
        return reach.criticality is Criticality.CRITICAL and bool(left) and left <= set(reach.tasks)

    def confidence(self, strategy: AdaptiveReplanning, reasons: Collection[Reason]) -> float | None:
        """Share of the scenarios whose own slip gives the same strategy."""
        strongest = [r for r in reasons if r.strategy is strategy]
        if any(r.rule not in BY_SLIP for r in strongest):
            return None
        finishes = self.outlook.finishes
        p50, slip = self.outlook.p50, self.outlook.slip
        if p50 is None or slip is None or not len(finishes):
            return None
        accepted = p50 / (1.0 + slip)
        if not accepted:
            return None
        # Equal slips give equal strategies: each is weighed once.
        slips, counts = np.unique((finishes - accepted) / accepted, return_counts=True)
        same = [
            strategy_of(self.reasons(float(s), self.outlook.p_deadline)) is strategy
            for s in slips.tolist()
        ]
        return float(counts[np.array(same)].sum() / counts.sum())


def risk_level(outlook: Outlook, policy: ReplanningPolicy, deviation: PlanDeviation) -> str:
    """low, medium or high: the severity of what is ahead, critical counted as high."""
    if outlook.p50 is None and (outlook.at_risk or outlook.p_deadline is not None):
        return "high"
    found = severity(outlook.slip, outlook.p_deadline, policy) or deviation.deviation_severity
    if found is Criticality.CRITICAL:
        return "high"
    return str(found or Criticality.LOW)


def _in(ways: Sequence[str]) -> str:
    return f"in mode {' or '.join(ways)}" if ways != ("default",) else "again"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
