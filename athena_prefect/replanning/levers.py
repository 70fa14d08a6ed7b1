"""What of a plan may be changed for the rest of a run, and which sets of that are worth solving."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import ceil

from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.options import Kind
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.standing import Levers, Standing


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


def gains_time(levers: Levers) -> bool:
    """Whether any of them can move a date."""
    return bool(levers.modes or levers.soft or levers.droppable or levers.capacity)


def pairs(standing: Standing, levers: Levers) -> Iterator[Levers]:
    """Two sorts of levers together, where there are more than two: what `candidates` leaves out."""
    wide, other = _sorted_modes(standing, levers)
    sorts = [
        Levers(soft=levers.soft),
        Levers(droppable=levers.droppable),
        Levers(modes=other),
        Levers(modes=wide),
        Levers(capacity=levers.capacity),
    ]
    some = [s for s in sorts if s]
    if len(some) < 3:
        return
    for one, two in combinations(some, 2):
        tasks = {**one.modes, **two.modes}
        yield Levers(
            modes={t: (*one.modes.get(t, ()), *two.modes.get(t, ())) for t in tasks},
            droppable=one.droppable | two.droppable,
            soft=one.soft | two.soft,
            capacity={**one.capacity, **two.capacity},
            timeouts=levers.timeouts,
        )


def _sorted_modes(
    standing: Standing, levers: Levers
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Modes that take more of some resource, and the others."""
    wide: dict[str, tuple[str, ...]] = {}
    other: dict[str, tuple[str, ...]] = {}
    for task_id, names in levers.modes.items():
        task = standing.plan.get_task(task_id)
        now = task.mode(standing.mode_of(task_id)).resources
        more = [
            n for n in names if any(a > now.get(r, 0.0) for r, a in task.mode(n).resources.items())
        ]
        rest = [n for n in names if n not in more]
        if more:
            wide[task_id] = tuple(more)
        if rest:
            other[task_id] = tuple(rest)
    return wide, other
