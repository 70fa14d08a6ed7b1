"""The real alternatives for what is left of a run, each solved, verified and measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Any

from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.evaluation import AdaptiveReplanning, Outlook
from athena_prefect.replanning.from_history import with_history
from athena_prefect.replanning.picture import Picture
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.exact import load
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.proposal import Phase6Orchestrator, Proposal, Stability, stability
from athena_prefect.schedule.standing import Levers, Standing

HOUR = 3600.0
MOST_OVERRUNS = 3
"""Tasks likely to run past their time-outs that an option's risks name."""
LEAST_BUDGET = 0.02
"""Seconds that every set of levers gets, whatever is left, and no less than three schedules
take: enough to try each sort once."""


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
    def price(self) -> float:
        """Cost, value lost and quality lost together."""
        return self.cost_impact + self.value_lost + self.quality_lost

    def as_dict(self) -> dict[str, Any]:
        """The option as JSON-able data; durations in seconds."""
        from athena_prefect.monitor.records import plain

        names = [n for n in self.__dataclass_fields__ if n not in {"proposal", "stability"}]
        kept = None if self.stability is None else self.stability.value
        return {n: plain(getattr(self, n)) for n in names} | {"stability": kept}


def levers_of(
    plan: Plan,
    standing: Standing,
    scope: Sequence[str],
    *,
    drop: bool,
    policy: ReplanningPolicy | None = None,
) -> Levers:
    """Every lever that the plan declares for the tasks in scope that have not begun.

    Leaving tasks out, and more capacity, concern others than the one task that a
    LOCAL adjusts: they are levers only where `drop`.
    """
    modes, soft = {}, set()
    open_ = {t for t in scope if t not in standing.left_out and not standing.begun(t)}
    for task_id in open_:
        task = plan.get_task(task_id)
        if task_id not in standing.only_mode:
            # What failed is not done again as it was, unless the plan says that it may be.
            may = standing.again.get(task_id, task.mode_names)
            others = [m for m in may if m != standing.mode_of(task_id)]
            known = tuple(m for m in others if standing.estimate_of(task, m) is not None)
            if known:
                modes[task_id] = known
        soft |= {(d.task, task_id) for d in task.upstream if not d.hard}
    return Levers(
        modes=modes,
        droppable=frozenset(t for t in open_ if plan.get_task(t).optional) if drop else frozenset(),
        soft=frozenset(soft),
        capacity=_more_capacity(plan, standing, open_) if drop else {},
        timeouts=_longer_timeouts(standing, open_, modes, policy or plan.replanning.policy),
        relaxed=frozenset(t for t in open_ if _can_relax(plan.get_task(t))),
    )


def _more_capacity(plan: Plan, standing: Standing, scope: Collection[str]) -> dict[str, float]:
    """The most that there can be of what the tasks in scope take.

    Where less was observed than the plan says, nobody can promise more than that.
    """
    taken = {n for t in scope for n in plan.get_task(t).resources}
    return {
        name: resource.max_capacity
        for name, resource in plan.resources.items()
        if name in taken
        and resource.can_grow
        and resource.max_capacity is not None
        and name not in standing.capacities
    }


def _longer_timeouts(
    standing: Standing,
    scope: Collection[str],
    modes: Mapping[str, tuple[str, ...]],
    policy: ReplanningPolicy,
) -> dict[str, float]:
    """Time-outs, in seconds, for tasks that what is known by now makes run past theirs.

    That is: an assumption's effect makes them longer, or they ran past it and are to be
    done again. The plan's own estimate beyond its own time-out is no such thing. The
    task gets the room over its longest estimate that the plan had given it.
    """
    found = {}
    for task_id in scope:
        task = standing.plan.get_task(task_id)
        if task.timeout is None:
            continue
        names = dict.fromkeys((standing.mode_of(task_id), *modes.get(task_id, ())))
        longest = max((_pessimistic(standing, task, n) for n in names), default=0.0)
        limit, factor = task.timeout.total_seconds(), standing.factors.get(task_id, 1.0)
        wanted = max(longest, limit * factor) if factor > 1.0 else 0.0
        if any((task_id, n) in standing.overran for n in names):
            wanted = max(wanted, longest, limit * policy.timeout_growth)
        elif longest <= limit + TOLERANCE:
            continue
        if wanted > limit + TOLERANCE:
            found[task_id] = _rounded_up(wanted)
    return found


def _pessimistic(standing: Standing, task: PlanTask, mode: str) -> float:
    estimate = standing.estimate_of(task, mode)
    return 0.0 if estimate is None else estimate.pessimistic.total_seconds()


def _rounded_up(seconds: float) -> float:
    """Whole seconds from ten on, below that hundredths."""
    step = 1.0 if seconds >= 10 else 0.01
    return round(ceil(seconds / step - TOLERANCE) * step, 2)


def _can_relax(task: PlanTask) -> bool:
    return task.success_criteria is not None and task.success_criteria.relaxed is not None


def candidates(standing: Standing, levers: Levers) -> Iterator[tuple[Kind, Levers]]:
    """Sets of levers worth solving: none, each sort alone, and all together.

    Longer time-outs go with each of them, for without them it may not come to its end.
    """
    wide, other = _sorted_modes(standing, levers)
    found = [
        (Kind.PARALLELIZE, Levers(soft=levers.soft)),
        (Kind.ADD_RESOURCES, Levers(modes=wide)),
        (Kind.ADD_RESOURCES, Levers(capacity=levers.capacity)),
        (Kind.SUBSTITUTE, Levers(modes=other)),
        (Kind.REDUCE_SCOPE, Levers(droppable=levers.droppable)),
    ]
    tried = [(kind, some) for kind, some in found if some]
    yield Kind.EXTEND, Levers()
    if levers.timeouts:
        yield Kind.EXTEND, Levers(timeouts=levers.timeouts)
    for kind, some in tried:
        yield kind, replace(some, timeouts=levers.timeouts)
    if levers.relaxed:
        yield Kind.REDUCE_SCOPE, Levers(relaxed=levers.relaxed, timeouts=levers.timeouts)
    # What relaxes criteria gains no time: it is for a person to choose, not part of all.
    everything = replace(levers, relaxed=frozenset())
    if len(tried) > 1:
        yield Kind.COMBINE, replace(everything, capacity={})
        if levers.capacity:
            yield Kind.COMBINE, everything


def _sorted_modes(
    standing: Standing, levers: Levers
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Modes that take more of some resource, and the others."""
    wide: dict[str, tuple[str, ...]] = {}
    other: dict[str, tuple[str, ...]] = {}
    for task_id, names in levers.modes.items():
        task = standing.plan.get_task(task_id)
        now = standing.resolved(task, standing.mode_of(task_id)).resources
        more = [
            n
            for n in names
            if any(a > now.get(r, 0.0) for r, a in standing.resolved(task, n).resources.items())
        ]
        rest = [n for n in names if n not in more]
        if more:
            wide[task_id] = tuple(more)
        if rest:
            other[task_id] = tuple(rest)
    return wide, other


class Options:
    """The option set of one picture, solved within one budget."""

    def __init__(
        self,
        view: Picture,
        outlook: Outlook,
        orchestrator: Phase6Orchestrator,
        *,
        accepted_p50: float | None,
        old_starts: Mapping[str, float],
        standing: Standing | None = None,
        seed: int,
    ) -> None:
        self.view = view
        self.outlook = outlook
        self.orchestrator = orchestrator
        self.accepted_p50 = accepted_p50
        self.old_starts = old_starts
        self.standing = standing or view.standing
        self.seed = seed
        self.hurried: tuple[Kind, ...] = ()
        """Sorts of levers that there was too little time to look for the best of."""
        self.carry = self._carry()

    def _carry(self) -> Proposal | None:
        """Carrying on, where it gets to the goals."""
        if self.outlook.p50 is None:
            return None
        made = self.orchestrator.propose(self.view.carried_on(), budget_s=0.0, seed=self.seed)
        return self._measured(made)

    def _measured(self, proposal: Proposal) -> Proposal:
        """By what finished runs teach, where the run's forecasts rest on that."""
        return with_history(
            proposal,
            self.view.monitor.learned,
            accept_quantile=self.view.policy.accept_quantile,
            seed=self.seed,
        )

    @property
    def reference(self) -> float | None:
        """P50 finish by carrying on; where that never finishes, that at acceptance; seconds.

        By the same law as the options' own, so that what differs is the option.
        """
        if self.carry is not None and self.carry.robustness is not None:
            return self.carry.robustness.p50
        return self.outlook.p50 if self.outlook.p50 is not None else self.accepted_p50

    def solved(self, levers: Levers, budget_s: float) -> list[ReplanningOption]:
        """The options that no other dominates, the abort last; within the budget."""
        load()
        clock = self.orchestrator.clock
        until = clock() + budget_s
        todo = list(candidates(self.standing, levers))
        found: list[tuple[Kind, Proposal]] = []
        hurried: list[Kind] = []
        for k, (kind, some) in enumerate(todo):
            # What solving leaves is needed to verify and to simulate.
            share = 0.7 * max(until - clock(), 0.0) / (len(todo) - k)
            least = max(LEAST_BUDGET, 3 * self._first_took())
            if some and share < least:
                hurried.append(kind)
            proposal = self.orchestrator.propose(
                self.standing,
                some,
                objective=Objective.COST,
                budget_s=max(share, least),
                seed=self.seed,
            )
            same = any(_same(proposal, other) for _, other in found)
            if proposal.feasible and not same:
                found.append((_kind(kind, proposal), proposal))
        self.hurried = tuple(dict.fromkeys(hurried))
        options = [self._option(kind, self._measured(proposal)) for kind, proposal in found]
        options = [o for o in options if not _idle(o, options)]
        kept = [o for o in options if not any(_dominates(p, o) for p in options if p is not o)]
        return [replace(o, option_id=k) for k, o in enumerate([*kept, self._abort()])]

    def _first_took(self) -> float:
        """Seconds that the first schedule of the rest took."""
        if self.carry is None or not self.carry.answer.history:
            return 0.0
        return self.carry.answer.history[0].seconds

    def recommended(
        self, options: Sequence[ReplanningOption], strategy: AdaptiveReplanning
    ) -> int | None:
        """The cheapest that is in time with enough probability, else the least late one."""
        if strategy is AdaptiveReplanning.NONE:
            return None
        if strategy is AdaptiveReplanning.ABORT:
            return options[-1].option_id
        real = [o for o in options if o.kind is not Kind.ABORT]
        if not real:
            return options[-1].option_id
        sure = [o for o in real if o.in_time >= self.view.policy.min_probability]
        if sure:
            return min(sure, key=lambda o: (o.price, o.lateness, _finish(o))).option_id
        # What is ended for its time-out comes to no end, however early that was planned.
        lasting = [o for o in real if o.within_timeouts >= self.view.policy.min_probability]
        return min(lasting or real, key=lambda o: (o.lateness, o.price, _finish(o))).option_id

    def _option(self, kind: Kind, proposal: Proposal) -> ReplanningOption:
        robust = proposal.robustness
        assert robust is not None
        moment = self.view.monitor.moment
        reference = self.reference
        impact = None if reference is None else timedelta(seconds=robust.p50 - reference)
        bound = self.view.calm.deadline
        has_deadline = self.view.monitor.deadline is not None
        in_time = proposal.success
        assert in_time is not None
        kept_to = robust.probability(robust.accepted) * proposal.within_timeouts
        success = in_time if has_deadline else kept_to
        kept, extra = self._stability(proposal)
        words = tuple(str(c) for c in proposal.changes)
        cost = proposal.cost - (self.carry.cost if self.carry is not None else 0.0)
        return ReplanningOption(
            option_id=0,
            title=_title(kind, proposal),
            description=_described(words, impact),
            timeline_impact=impact,
            cost_impact=cost,
            resource_impact=self._resources(proposal),
            success_probability=success,
            implementation_effort=_effort(proposal),
            risks=tuple(self._risks(proposal, in_time)),
            benefits=tuple(self._benefits(proposal, impact, in_time)),
            kind=kind,
            samples=robust.samples,
            finish=moment(robust.p50),
            accepted_finish=moment(robust.accepted),
            value_lost=proposal.value_lost,
            quality_lost=proposal.quality_lost,
            stability=kept,
            extra_change=extra,
            in_time=in_time,
            within_timeouts=proposal.within_timeouts,
            lateness=timedelta(seconds=max(robust.p50 - bound, 0.0) if bound is not None else 0.0),
            changes=words,
            lessons=proposal.answer.lessons,
            proposal=proposal,
        )

    def _stability(self, proposal: Proposal) -> tuple[Stability, float | None]:
        end = self.accepted_p50 or proposal.answer.makespan or 0.0
        kept = stability(self.standing, self.old_starts, end, proposal)
        if self.carry is None or not self.carry.feasible:
            return kept, None
        alone = stability(self.standing, self.old_starts, end, self.carry)
        return kept, alone.value - kept.value

    def _resources(self, proposal: Proposal) -> dict[str, float]:
        """Unit-hours of each resource, more than by carrying on."""
        new = _unit_hours(proposal)
        old = _unit_hours(self.carry) if self.carry is not None else {}
        return {n: new.get(n, 0.0) - old.get(n, 0.0) for n in self.view.plan.resources}

    def _risks(self, proposal: Proposal, in_time: float) -> Iterator[str]:
        robust = proposal.robustness
        assert robust is not None
        by = "the deadline" if self.view.monitor.deadline is not None else "the tolerated finish"
        if in_time < 1.0:
            how = "by the planned durations" if robust.certain else f"of {robust.samples} scenarios"
            yield f"{by} is missed in {1 - in_time:.0%} {how}"
        for task, chance in sorted(proposal.overruns.items(), key=lambda o: -o[1])[:MOST_OVERRUNS]:
            yield f"{task} runs past its time-out with a probability of {chance:.0%}"
        for task in sorted(proposal.levers.relaxed):
            yield f"a result of {task} that meets only the relaxed criteria counts in full"
        if proposal.value_lost or proposal.answer.dropped:
            named = ", ".join(proposal.answer.dropped)
            yield f"leaves out {named} (value {proposal.value_lost:g})"
        if proposal.quality_lost:
            yield f"results are worth {proposal.quality_lost:g} less"
        for before, after in sorted(proposal.cut):
            yield f"{after} may start before {before} has ended"
        spread = robust.quantiles["p95"] - robust.p50
        if spread > 0:
            yield f"one run in twenty ends more than {_span(spread)} after the P50 finish"

    def _benefits(
        self, proposal: Proposal, impact: timedelta | None, in_time: float
    ) -> Iterator[str]:
        robust = proposal.robustness
        assert robust is not None
        if impact is not None and impact.total_seconds() < -TOLERANCE:
            against = "than carrying on" if self.outlook.p50 is not None else "than was accepted"
            yield f"{_span(-impact.total_seconds())} earlier {against}"
        if proposal.levers.timeouts:
            named = _some(sorted(proposal.levers.timeouts))
            yield f"{named} may take as long as is to be expected by now"
        if self.outlook.p50 is None:
            yield "reaches the goals, which carrying on does not"
        before = self.outlook.p_deadline
        if before is not None and in_time > before:
            yield f"P(deadline) {in_time:.2f} instead of {before:.2f}"
        if not proposal.changes:
            yield "changes nothing but times"

    def _abort(self) -> ReplanningOption:
        running = [
            (end, start)
            for item, (start, end) in self.view.calm.spans.items()
            if item not in self.view.calm.over
        ]
        now = self.view.calm.now
        cancels = self.view.plan.replanning.running_tasks_on_abort == "cancel"
        lost = sum(now - start for _, start in running) if cancels else 0.0
        required = self.view.plan.required & set(self.view.unfinished)
        place = self.view.plan.task_ids.index
        undone = sorted(required, key=place)
        saved = self.carry.cost if self.carry is not None else 0.0
        return ReplanningOption(
            option_id=0,
            title="Abort and escalate",
            description="Stop work and hand over to a human"
            + (f"; {_some(undone)} stay undone" if undone else ""),
            timeline_impact=None,
            cost_impact=-saved,
            resource_impact={
                n: -h for n, h in (_unit_hours(self.carry) if self.carry else {}).items()
            },
            success_probability=0.0,
            implementation_effort=Effort.HARD,
            risks=(f"the goals are not reached: {_some(undone)} are not done",) if undone else (),
            benefits=("nothing more is spent",) if saved else (),
            kind=Kind.ABORT,
            samples=0,
            work_lost=timedelta(seconds=lost),
            in_time=0.0,
        )


def _same(one: Proposal, other: Proposal) -> bool:
    if one.answer.schedule is None or other.answer.schedule is None:
        return False
    mine, its = (
        (p.modes, p.cut, p.answer.dropped, p.levers.capacity, p.levers.timeouts, p.levers.relaxed)
        for p in (one, other)
    )
    return (
        mine == its
        and abs((one.answer.makespan or 0.0) - (other.answer.makespan or 0.0)) <= TOLERANCE
    )


def _kind(tried: Kind, proposal: Proposal) -> Kind:
    """What was made of the levers, where that is less than was tried."""
    kinds = {c.kind for c in proposal.changes} - {ChangeKind.AGAIN, ChangeKind.TIMEOUT}
    if not kinds:
        return Kind.EXTEND
    if tried is not Kind.COMBINE or len(kinds) > 1:
        return tried
    (only,) = kinds
    alone = {
        ChangeKind.DEPENDENCY: Kind.PARALLELIZE,
        ChangeKind.DROPPED: Kind.REDUCE_SCOPE,
        ChangeKind.CAPACITY: Kind.ADD_RESOURCES,
    }
    return alone.get(only, tried)


def _idle(option: ReplanningOption, options: Sequence[ReplanningOption]) -> bool:
    """Whether it adds capacity, from outside, that makes nothing better."""
    if option.proposal is None or not option.proposal.levers.capacity:
        return False
    fewer = (o for o in options if o.proposal is not None and not o.proposal.levers.capacity)
    return any(all(a <= b for a, b in zip(_worth(o), _worth(option), strict=True)) for o in fewer)


def _dominates(one: ReplanningOption, other: ReplanningOption) -> bool:
    """Whether one is no worse in anything and better in something, times to the millisecond."""
    mine, its = _worth(one), _worth(other)
    return all(a <= b for a, b in zip(mine, its, strict=True)) and mine != its


def _worth(option: ReplanningOption) -> tuple[float, ...]:
    return (
        round(_finish(option), 3),
        round(option.cost_impact, 6),
        round(option.quality_lost + option.value_lost, 6),
        round(-option.in_time, 6),
        round(-option.within_timeouts, 6),
    )


def _finish(option: ReplanningOption) -> float:
    return option.finish.timestamp() if option.finish is not None else float("inf")


def _effort(proposal: Proposal) -> Effort:
    kinds = {c.kind for c in proposal.changes}
    if ChangeKind.CAPACITY in kinds:
        return Effort.HARD
    if kinds & {ChangeKind.DEPENDENCY, ChangeKind.DROPPED}:
        return Effort.MODERATE
    return Effort.EASY if kinds & {ChangeKind.MODE, ChangeKind.AGAIN} else Effort.TRIVIAL


def _scope_title(dropped: int, relaxed: int) -> str:
    left = [f"leave out {_count(dropped, 'task')}"] if dropped else []
    left += [f"relax the criteria of {_count(relaxed, 'task')}"] if relaxed else []
    return f"Reduce scope: {' and '.join(left)}"


def _title(kind: Kind, proposal: Proposal) -> str:
    cut, dropped = len(proposal.cut), len(proposal.answer.dropped)
    modes, limits = (
        sum(c.kind is kind for c in proposal.changes)
        for kind in (ChangeKind.MODE, ChangeKind.TIMEOUT)
    )
    titles: dict[Kind, Callable[[], str]] = {
        Kind.EXTEND: lambda: (
            f"Extend the timeline and {_count(limits, 'time-out')}"
            if limits
            else "Extend the timeline"
        ),
        Kind.PARALLELIZE: lambda: (
            f"Parallelize: cut {_count(cut, 'soft dependency', 'soft dependencies')}"
        ),
        Kind.ADD_RESOURCES: lambda: (
            f"Add resources to {_count(modes, 'task')}" if modes else "Add capacity"
        ),
        Kind.SUBSTITUTE: lambda: f"Do {_count(modes, 'task')} in another way",
        Kind.REDUCE_SCOPE: lambda: _scope_title(dropped, len(proposal.levers.relaxed)),
        Kind.COMBINE: lambda: f"Combine {_count(len(proposal.changes), 'change')}",
        Kind.ABORT: lambda: "Abort and escalate",
    }
    return titles[kind]()


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _described(words: Sequence[str], impact: timedelta | None) -> str:
    what = "; ".join(words) or "The rest is done as planned"
    if impact is None or abs(impact.total_seconds()) <= TOLERANCE:
        return what
    side = "earlier" if impact < timedelta(0) else "later"
    return f"{what}; P50 finish {_span(abs(impact.total_seconds()))} {side}"


def _unit_hours(proposal: Proposal) -> dict[str, float]:
    """Resource → units × hours of all that is still to be done."""
    plan, standing, found = proposal.standing.plan, proposal.standing, dict[str, float]()
    for item, (start, finish) in proposal.spans.items():
        if item in standing.over:
            continue
        hours = (finish - max(start, standing.now)) / HOUR
        mode = proposal.modes.get(item[0], DEFAULT_MODE)
        used = standing.resolved(plan.get_task(item[0]), mode).resources
        for name, amount in used.items():
            found[name] = found.get(name, 0.0) + amount * hours
    return found


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _span(seconds: float) -> str:
    from athena_prefect.plan.units import format_duration

    rounded = timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    return format_duration(rounded)
