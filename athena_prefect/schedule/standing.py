"""Where a run stands, as its planner needs to know it, and what may be changed about the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask
from athena_prefect.schedule.problem import RUNNER, Problem
from athena_prefect.schedule.rest import Choice, Rest, Way

Item = tuple[str, int | None]
"""A task, or one item of a mapped task: (task id, map index)."""
Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run of a plan at a moment; seconds from the start of the run."""

    plan: Plan
    """The revision in force."""
    now: float = 0.0
    spans: Mapping[Item, Span] = field(default_factory=dict)
    """Start and end, or expected end, of what has begun and counts."""
    over: frozenset[Item] = frozenset()
    """Those of `spans` that have ended well."""
    modes: Mapping[str, str] = field(default_factory=dict)
    """Task → mode in force, where it is not the default one."""
    items: Mapping[str, int] = field(default_factory=dict)
    """Items of mapped tasks, as far as they are known."""
    left_out: frozenset[str] = frozenset()
    """Tasks that will not run: skipped, or stopped for good."""
    again: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Failed task that is to be done again → the modes in which it may. Of a mapped one only
    the items that have not ended well: `spans` has the others, and they stay."""
    previous: Mapping[Item, float] = field(default_factory=dict)
    """Starts by the order so far."""
    previous_makespan: float | None = None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """What was learned of the default mode's duration, instead of the plan's estimate."""
    deadline: float | None = None
    only_mode: Mapping[str, str] = field(default_factory=dict)
    """Task → the only mode it can be done in, by an assumption's effect."""
    barred: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Task → modes that somebody does not want it done in."""
    pinned: frozenset[str] = frozenset()
    """Tasks that somebody wants left as they are."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Task → how many times as long it takes, by an assumption's effect."""
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Resource → units that there are from now on, by an assumption's effect."""
    overran: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """(Failed task, mode) → share of its attempts in it that ran past the time-out in force."""
    blocked: frozenset[str] = frozenset()
    """Tasks that cannot run, by an assumption's effect; they are `left_out` too."""

    @cached_property
    def _begun(self) -> frozenset[str]:
        return frozenset(item[0] for item in self.spans if item[0] not in self.again)

    def begun(self, task_id: str) -> bool:
        """Whether any of a task has begun that binds the rest of it: what is done again begins
        anew, whatever of it is done already.
        """
        return task_id in self._begun

    @cached_property
    def mapped(self) -> frozenset[str]:
        """The tasks of which each item is a piece of work of its own."""
        return frozenset(t.id for t in self.plan.tasks if t.map_over is not None)

    @cached_property
    def problem(self) -> Problem:
        """All tasks that are not left out, in the modes in force, under what is in force."""
        tasks = [t for t in self.plan.tasks if t.id not in self.left_out]
        modes = {t.id: self.mode_of(t.id) for t in tasks}
        estimates = {}
        for task in tasks:
            estimate = self.estimate_of(task, modes[task.id])
            if estimate is not None:
                estimates[task.id] = estimate
        return Problem.of(
            self.plan,
            modes=modes,
            items={t: n for t, n in self.items.items() if t not in self.left_out},
            skipped=self.left_out,
            estimates=estimates,
        )

    @cached_property
    def bare(self) -> Rest:
        """What is left without any lever, read once. Raises PlanError as `rest_of` does."""
        return _Reading(self).rest()

    def way(self, task_id: str, mode: str) -> Way | None:
        """A task in a mode, read once; None where nobody knows how long it takes in it."""
        known = self._known_ways
        if (task_id, mode) not in known:
            known[task_id, mode] = self._way(self.plan.get_task(task_id), mode)
        return known[task_id, mode]

    @cached_property
    def _known_ways(self) -> dict[tuple[str, str], Way | None]:
        return {}

    def _way(self, task: PlanTask, name: str) -> Way | None:
        estimate = self.estimate_of(task, name)
        if estimate is None:
            return None
        mode = task.mode(name)
        low, likely, high = (
            d.total_seconds() for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
        )
        return Way(
            mode=name,
            estimate=(low, likely, high),
            demands=tuple(
                [1.0 if r == RUNNER else mode.resources.get(r, 0.0) for r in self.problem.resources]
            ),
            quality_lost=1.0 - mode.quality,
        )

    def mode_of(self, task_id: str) -> str:
        """The mode that a task is reckoned with as things stand."""
        if task_id in self.only_mode and not self.begun(task_id):
            return self.only_mode[task_id]
        again = self.again.get(task_id)
        mode = again[0] if again else self.modes.get(task_id, DEFAULT_MODE)
        if mode not in self.barred.get(task_id, ()) or self.begun(task_id):
            return mode
        others = again or self.plan.get_task(task_id).mode_names
        # Where no other is left the checker says so.
        return next(iter(self.allowed(task_id, others)), mode)

    def allowed(self, task_id: str, modes: Iterable[str]) -> tuple[str, ...]:
        """Those of the modes of a task that nobody has barred."""
        barred = self.barred.get(task_id, ())
        return tuple(m for m in modes if m not in barred)

    def estimate_of(self, task: PlanTask, mode: str) -> Estimate | None:
        """The duration of one item in a mode, with what was learned and what is in force."""
        known = self.estimates.get(task.id) if mode == DEFAULT_MODE else None
        estimate = known or task.mode(mode).estimate
        factor = self.factors.get(task.id, 1.0)
        if estimate is None or factor == 1.0:
            return estimate
        return Estimate(
            optimistic=estimate.optimistic * factor,
            likely=estimate.likely * factor,
            pessimistic=estimate.pessimistic * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Levers:
    """What a new revision may do differently; nothing of it is the right to shift the rest."""

    modes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task → further modes in which it may be done."""
    droppable: frozenset[str] = frozenset()
    """Optional tasks that may be left out."""
    soft: frozenset[tuple[str, str]] = frozenset()
    """Soft dependencies that may be cut, (before, after)."""
    capacity: Mapping[str, float] = field(default_factory=dict)
    """Resource → units that there are, instead of the plan's or what is left of them."""
    timeouts: Mapping[str, float] = field(default_factory=dict)
    """Task → its time-out in seconds, instead of the plan's."""
    relaxed: frozenset[str] = frozenset()
    """Tasks whose relaxed criteria become their criteria."""

    def __bool__(self) -> bool:
        return bool(
            self.modes
            or self.droppable
            or self.soft
            or self.capacity
            or self.timeouts
            or self.relaxed
        )

    def hold(self, fewer: Levers) -> bool:
        """Whether every lever of `fewer` is one of these."""
        return (
            all(set(m) <= set(self.modes.get(t, ())) for t, m in fewer.modes.items())
            and fewer.droppable <= self.droppable
            and fewer.soft <= self.soft
            and set(fewer.capacity) <= set(self.capacity)
            and set(fewer.timeouts) <= set(self.timeouts)
            and fewer.relaxed <= self.relaxed
        )


NO_LEVERS = Levers()


def rest_of(standing: Standing, levers: Levers = NO_LEVERS) -> Rest:
    """What is left to be scheduled. Raises PlanError where a duration is not known."""
    return _with_levers(standing, levers) if levers else standing.bare


def choice_of(rest: Rest, levers: Levers) -> Choice:
    """All that `levers` give, made use of: of several modes of a task the first."""
    places: dict[int, int] = {}
    for place, task_id in enumerate(rest.problem.task_ids):
        names = [way.mode for way in rest.ways.get(place, ())]
        wanted = [m for m in levers.modes.get(task_id, ()) if m in names]
        if wanted:
            places[place] = names.index(wanted[0])
    return Choice.of(places, dropped=frozenset(rest.droppable), cut=rest.loose)


class _Reading:
    """A standing being turned into a rest without levers."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.tasks = [t for t in standing.plan.tasks if t.id not in standing.left_out]
        self.problem = standing.problem.with_capacities(standing.capacities)
        self.index = self.problem.task_index
        self.starts, self.durations = self._fixed()

    def _rows(self, item: Item) -> list[int]:
        """The activities that an item is; a mapped task told of as one is all of its own."""
        task = self.index.get(item[0])
        if task is None:
            return []
        first, count = int(self.problem.rows[task]), int(self.problem.items[task])
        if item[1] is None:
            return list(range(first, first + count))
        return [first + item[1]] if 0 <= item[1] < count else []

    def _fixed(self) -> tuple[Floats, Floats]:
        starts = np.full(len(self.problem), np.nan)
        durations = self.problem.durations.copy()
        for item, (begin, end) in self.standing.spans.items():
            for i in self._rows(item):
                starts[i], durations[i] = begin, max(end - begin, 0.0)
        for task, end in enumerate(self.problem.ends.tolist()):
            rows = range(int(self.problem.rows[task]), end)
            # A join is over when the last item is.
            if len(rows) and all(
                (self.problem.task_ids[task], k) in self.standing.over
                or (self.problem.task_ids[task], None) in self.standing.over
                for k in range(len(rows))
            ):
                starts[end] = float((starts[list(rows)] + durations[list(rows)]).max())
                durations[end] = 0.0
        for end, before, lags in self._empty():
            moment = float((starts[before] + durations[before] + lags).max(initial=0.0))
            if self._over[before].all() and moment <= self.standing.now:
                # There was nothing to do: over with what it waited for, and not only now.
                starts[end], durations[end], self._over[end] = moment, 0.0, True
        return starts, durations

    @cached_property
    def _over(self) -> Bools:
        """The activities that have ended well."""
        mask = np.zeros(len(self.problem), dtype=np.bool_)
        for item in self.standing.over:
            mask[self._rows(item)] = True
        for task in self.standing.mapped & self.index.keys():
            first, end = (
                int(of[self.index[task]]) for of in (self.problem.rows, self.problem.ends)
            )
            mask[end] = end > first and mask[first:end].all()
        return mask

    def _empty(self) -> Iterator[tuple[int, Ints, Floats]]:
        """The ends of mapped tasks that turned out to have no items, what is before, and lags."""
        network = self.problem.network
        none = [t for t, n in self.standing.items.items() if n == 0 and t in self.index]
        ends = [int(self.problem.ends[self.index[t]]) for t in none]
        for end in sorted(ends, key=lambda e: int(network.rank[e])):
            arcs = slice(int(network.pred_ptr[end]), int(network.pred_ptr[end + 1]))
            yield end, network.pred[arcs], network.pred_lag[arcs]

    def rest(self) -> Rest:
        standing, problem = self.standing, self.problem
        previous: dict[int, float] = {}
        for item, start in standing.previous.items():
            for i in self._rows(item):
                previous[i] = start
        rest = Rest(
            problem=replace(problem, durations=self.durations, network=self._network()),
            now=standing.now,
            starts=self.starts,
            ways=_ways(standing, {}, self.problem),
            deadline=standing.deadline,
            due={
                self.index[t.id]: t.deadline.total_seconds()
                for t in self.tasks
                if t.deadline is not None and not standing.begun(t.id)
            },
            previous=previous,
            previous_makespan=standing.previous_makespan,
            rates=self._rates(),
        )
        rest.problem.require_durations()
        return rest

    def _network(self) -> Network:
        """Without arcs into what has begun from what has not, or is done again: it waits no more.

        Units that it holds may go to just those, which would look like a circle.
        """
        network, begun = self.problem.network, ~np.isnan(self.starts)
        tail, head, lag, hard = network.arcs
        stale = begun[head] & ~begun[tail]
        if not stale.any():
            return network
        keep = ~stale
        return Network.build(network.ids, tail[keep], head[keep], lag=lag[keep], hard=hard[keep])

    def _rates(self) -> tuple[float, ...]:
        resources = self.standing.plan.resources
        rates = tuple(
            0.0 if name == RUNNER else resources[name].cost_per_hour
            for name in self.problem.resources
        )
        return rates if any(rates) else ()


def _with_levers(standing: Standing, levers: Levers) -> Rest:
    """The rest that all sets of levers have in common, with what these add to it."""
    bare = standing.bare
    droppable, goes_with = _droppable(standing, levers, bare.problem)
    return replace(
        bare,
        problem=bare.problem.with_capacities(levers.capacity) if levers.capacity else bare.problem,
        ways=_ways(standing, levers.modes, bare.problem),
        droppable=droppable,
        goes_with=goes_with,
        loose=frozenset(_loose(levers, bare)),
    )


def _ways(
    standing: Standing, more: Mapping[str, tuple[str, ...]], problem: Problem
) -> dict[int, tuple[Way, ...]]:
    """Task → the modes in which it may be done, where there are several."""
    found = {}
    for task_id in {*standing.again, *more}:
        t = problem.task_index.get(task_id)
        if t is None or standing.begun(task_id) or task_id in standing.only_mode:
            continue
        others = (*standing.again.get(task_id, ()), *more.get(task_id, ()))
        names = (standing.mode_of(task_id), *standing.allowed(task_id, others))
        ways = [standing.way(task_id, name) for name in dict.fromkeys(names)]
        known = tuple(way for way in ways if way is not None)
        if len(known) > 1:
            found[t] = known
    return dict(sorted(found.items()))


def _droppable(
    standing: Standing, levers: Levers, problem: Problem
) -> tuple[dict[int, float], dict[int, tuple[int, ...]]]:
    if not levers.droppable:
        return {}, {}
    plan, index = standing.plan, problem.task_index
    wanted = {t for t in levers.droppable if t in index and not standing.begun(t)}
    takers = takers_of(plan)
    while True:
        # What takes a result cannot stay without it.
        stuck = {
            t for t in wanted if any(o in index and o not in wanted for o in takers.get(t, ()))
        }
        if not stuck:
            break
        wanted -= stuck
    values = {index[t]: plan.get_task(t).value for t in sorted(wanted)}
    goes = {index[t]: tuple(index[o] for o in takers.get(t, ()) if o in index) for t in wanted}
    return values, goes


def _loose(levers: Levers, bare: Rest) -> Iterator[tuple[int, int]]:
    if not levers.soft:
        return
    problem = bare.problem
    tail, head, _, hard = problem.network.arcs
    names = problem.task_ids
    # What has begun waits for nothing any more.
    open_ = ~hard & bare.free[head]
    for a, b in zip(tail[open_].tolist(), head[open_].tolist(), strict=True):
        if (names[problem.task_of[a]], names[problem.task_of[b]]) in levers.soft:
            yield a, b


def takers_of(plan: Plan) -> Mapping[str, tuple[str, ...]]:
    """Task → tasks that take its result, as an input or for their condition."""
    found: dict[str, list[str]] = {}
    for task in plan.tasks:
        sources = {*task.inputs.values(), *([task.when.task] if task.when else [])}
        for source in sources:
            found.setdefault(source, []).append(task.id)
    return {source: tuple(takers) for source, takers in found.items()}
