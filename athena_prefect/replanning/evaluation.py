"""Whether what is left of a run needs another plan, how much of it, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from athena_prefect.monitor.deviation import PlanDeviation, severity
from athena_prefect.plan.model import Criticality
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.outlook import Outlook
from athena_prefect.replanning.picture import Picture, Reach


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
    about: tuple[str, ...] = ()
    """Ids of the tasks that failed, or of the assumptions that do not hold; empty where it is
    a figure that calls. Tasks reached or at risk change with every look, these do not."""

    def __str__(self) -> str:
        return self.text

    @property
    def grounds(self) -> tuple[str, ...]:
        """What it rests on, by names that stay the same as long as nothing new happens."""
        return tuple(f"{self.rule}: {name}" for name in self.about) or (str(self.rule),)


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


def grounds_of(evaluation: ReplanningEvaluation, revision: int) -> tuple[str, ...]:
    """What its reasons rest on, under a revision: whether anything is new is seen by that."""
    return tuple(sorted({f"{revision}: {g}" for r in evaluation.reasons for g in r.grounds}))


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
    accepted_p50: float | None
    """P50 finish when the revision in force was accepted, in seconds from the start."""
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
        accepted, least = self.p_accepted, rules.min_probability
        if self.has_deadline and p_deadline is not None and accepted is not None:
            fell = p_deadline < accepted - self._bar(Rule.PROBABILITY, rules.probability_drop)
            if Rule.PROBABILITY in self.open_rules:
                # Of a probability what is missing to certainty is the threshold.
                least += rules.hysteresis * (1.0 - least)
            if p_deadline < least and fell:
                yield Reason(
                    rule=Rule.PROBABILITY,
                    strategy=AdaptiveReplanning.LOCAL,
                    text=f"the deadline holds with probability {p_deadline:.2f}, "
                    f"below {least:g}; it was {accepted:.2f} at acceptance",
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
                    about=(reach.id,),
                )
            if reach.id in self.several:
                yield Reason(
                    rule=Rule.REACHES_SEVERAL,
                    strategy=AdaptiveReplanning.SEGMENT,
                    text=f"{reach.id} is violated: it reaches {_listed(reach.tasks)}, "
                    "at least one beyond its float",
                    tasks=reach.tasks,
                    about=(reach.id,),
                )
            if self._blocks_all(reach):
                yield Reason(
                    rule=Rule.ALL_BLOCKED,
                    strategy=AdaptiveReplanning.ABORT,
                    text=f"{reach.id} is violated, which blocks every required task that is left",
                    tasks=reach.tasks,
                    about=(reach.id,),
                )
        if len(requiring) >= self.policy.full_violations:
            yield Reason(
                rule=Rule.MANY_VIOLATIONS,
                strategy=AdaptiveReplanning.FULL,
                text=f"{len(requiring)} violations require replanning: "
                + ", ".join(r.id for r in requiring),
                tasks=tuple(dict.fromkeys(t for r in requiring for t in r.tasks)),
                about=tuple(r.id for r in requiring),
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
                        about=(task,),
                    )
            elif ways:
                yield Reason(
                    rule=Rule.FAILED_REQUIRED,
                    strategy=AdaptiveReplanning.FULL,
                    text=f"{task} failed, which is required, and can be done {_in(ways)}",
                    tasks=(task,),
                    about=(task,),
                )
            else:
                yield Reason(
                    rule=Rule.NO_WAY_ON,
                    strategy=AdaptiveReplanning.ABORT,
                    text=f"{task} failed, which is required, and there is no way on",
                    tasks=(task,),
                    about=(task,),
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
        accepted = self.accepted_p50
        if self.outlook.slip is None or not accepted or not len(finishes):
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
