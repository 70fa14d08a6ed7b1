"""The network that a run is watched on: activities in the chained order of a schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.journal.state import Item
from athena_prefect.monitor.accepted import Accepted
from athena_prefect.monitor.course import Course, Stage
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.plan.model import DEFAULT_MODE, Plan
from athena_prefect.schedule.baseline import Baseline
from athena_prefect.schedule.beta_pert import LEVELS, SHAPES, quantile_table
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.partial_order import ResourceArcs, partial_order
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.simulation import Simulation, simulate
from athena_prefect.schedule.solver import serial_generation

JOIN = -1
"""Stands for a map index where a node is the end of a mapped task as a whole."""


@dataclass(frozen=True, kw_only=True)
class Underway:
    """What a new order has to take as given; times are seconds from the start of the run."""

    now: float
    spans: Mapping[Item, tuple[float, float]]
    """Start and end, or expected end, of what has started."""
    modes: Mapping[str, str]
    items: Mapping[str, int]
    """Items of the mapped tasks, as far as they are known."""
    left_out: Collection[str]
    """Tasks that are skipped or will not be done."""
    places: Mapping[Item, float]
    """Starts by the order so far: who was first stays first where nothing speaks against it."""
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Resources of which there is another amount than the plan says."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Tasks that take so many times as long as the plan says."""
    accepted: Accepted | None = None
    """The schedule of the revision that comes into force now."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """A plan's activities with dependencies and resource arcs, and their P50 durations.

    A node is a task, an item of a mapped task, or the join at which a mapped task
    ends. Where durations are unknown no schedule can be made: the network is the
    plan's own then, and unknown durations count as 0 in it.
    """

    plan: Plan
    problem: Problem
    resource_arcs: ResourceArcs
    loose: bool = False
    """Not chained, since durations are unknown."""
    infeasible: str = ""
    """Why no schedule exists; empty where one does."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Tasks that take so many times as long as the plan says."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """What has been learned of durations, instead of the plan's estimates."""
    as_promised: bool = False
    """The order is that of the schedule that was accepted, to the last arc."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        baseline: Baseline,
        *,
        revision: int = 1,
        modes: Mapping[str, str] | None = None,
        estimates: Mapping[str, Estimate] | None = None,
    ) -> Chain:
        """The chain of a plan before it starts: that of its baseline.

        A later revision than the first is another network, and chained anew, its tasks
        in their `modes` where those are not the default ones.
        """
        if revision > 1:
            untouched = replace(_UNTOUCHED, modes=dict(modes or {}))
            return cls.underway(plan, untouched, estimates=estimates)
        learned = dict(estimates or {})
        problem = baseline.problem(plan, estimates=learned)
        loose = bool(problem.unknown)
        return cls(
            plan=plan,
            problem=problem,
            resource_arcs=baseline.arcs,
            loose=loose,
            estimates=learned,
            infeasible="" if loose or baseline.known else "; ".join(baseline.reasons),
        )

    @classmethod
    def underway(
        cls, plan: Plan, given: Underway, *, estimates: Mapping[str, Estimate] | None = None
    ) -> Chain:
        """The chain of what is left: what has started stays, the rest is scheduled from now on."""
        learned = {t: e for t, e in (estimates or {}).items() if t in plan.task_ids}
        problem = Problem.of(
            plan,
            modes={t: m for t, m in given.modes.items() if t not in given.left_out},
            items=given.items,
            skipped=given.left_out,
            # What was learned is of the task as it stands: a mode may say its own duration.
            estimates={
                t: e
                for t, e in learned.items()
                if isinstance(
                    plan.get_task(t).mode(given.modes.get(t, DEFAULT_MODE)).duration,
                    LearnedEstimate,
                )
            },
        )
        factors = {t: f for t, f in given.factors.items() if t in problem.task_index}
        problem = problem.with_capacities(given.capacities).with_factors(factors)
        bare = cls(
            plan=plan,
            problem=problem,
            resource_arcs=ResourceArcs.none(),
            factors=factors,
            estimates=learned,
        )
        starts, durations = bare._fixed(given)
        problem = bare._without_overtaken(~np.isnan(starts))
        bare = replace(bare, problem=problem)
        if np.isnan(durations).any():
            return replace(bare, loose=True)
        promised = bare._promised(given, starts, durations)
        if promised is not None:
            return replace(bare, resource_arcs=partial_order(promised), as_promised=True)
        try:
            schedule = serial_generation(
                replace(problem, durations=durations),
                release=given.now,
                fixed_starts=starts,
                priority=bare._priority(given),
            )
        except InfeasibleError as error:
            return replace(bare, infeasible=str(error))
        return replace(bare, resource_arcs=partial_order(schedule))

    def _promised(self, given: Underway, begun: Floats, durations: Floats) -> Schedule | None:
        """The accepted schedule, where all of it can be kept to; None where it cannot."""
        if given.accepted is None:
            return None
        capacities = {
            n: c for n, c in given.accepted.capacities.items() if n in self.problem.resources
        }
        problem = replace(self.problem.with_capacities(capacities), durations=durations)
        known = given.accepted.starts
        planned = [known.get(i, known.get((i[0], None), np.nan)) for i in self.items]
        starts = np.where(np.isnan(begun), np.array(planned, dtype=np.float64), begun)
        finishes = starts + durations
        network, fixed = problem.network, ~np.isnan(begun)
        for node in network.order[(self.joins & np.isnan(begun))[network.order]].tolist():
            arcs = slice(int(network.pred_ptr[node]), int(network.pred_ptr[node + 1]))
            ends = finishes[network.pred[arcs]] + network.pred_lag[arcs]
            # No work: over with all that is before it, be that long ago.
            fixed[node] = fixed[network.pred[arcs]].all()
            starts[node] = finishes[node] = ends.max(initial=0.0 if fixed[node] else given.now)
        if np.isnan(starts).any() or check(problem, starts, release=given.now, fixed=fixed):
            return None
        return Schedule(problem=problem, starts=starts, finishes=finishes, fixed=fixed)

    def _priority(self, given: Underway) -> Floats | None:
        """The starts of the order so far, of new items those of their task."""
        if not given.places:
            return None
        first: dict[str, float] = {}
        for (task_id, _), start in given.places.items():
            first[task_id] = min(start, first.get(task_id, start))
        starts = [given.places.get(i, first.get(i[0], np.inf)) for i in self.items]
        return np.array(starts, dtype=np.float64)

    def _fixed(self, given: Underway) -> tuple[Floats, Floats]:
        """Starts of what has started, NaN for the rest, and the durations that go with them."""
        starts = np.full(len(self.problem), np.nan)
        durations = self.problem.durations.copy()
        for item, (start, end) in given.spans.items():
            for node in self.nodes_at(item):
                if self.joins[node]:
                    continue  # it follows from the items
                starts[node], durations[node] = start, max(end - start, 0.0)
        return starts, durations

    def _without_overtaken(self, begun: Bools) -> Problem:
        """The problem without dependencies of what has begun on what has not.

        A flow that is only monitored may start a task before one that the plan has first.
        It waits for nothing any more, and resource arcs may lead from it to that one.
        """
        begun = begun.copy()
        for node in np.flatnonzero(self.joins).tolist():
            begun[node] = all(begun[n] for n in self.nodes_of[self.items[node][0]] if n != node)
        tail, head, lag, hard = self.problem.network.arcs
        keep = begun[tail] | ~begun[head] | self.joins[head]
        if keep.all():
            return self.problem
        network = Network.build(
            self.problem.network.ids, tail[keep], head[keep], lag=lag[keep], hard=hard[keep]
        )
        return replace(self.problem, network=network)

    @cached_property
    def network(self) -> Network:
        """Dependencies and resource arcs."""
        return self.problem.network.extended(*self.resource_arcs)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """What each node is: (task, None), (mapped task, map index) or (mapped task, JOIN)."""
        found: list[Item] = []
        for task_id, nodes in self.nodes_of.items():
            mapped = self.is_mapped(task_id)
            count = len(self.problem.activities(task_id))
            found += [
                (task_id, (k if k < count else JOIN) if mapped else None) for k in range(len(nodes))
            ]
        return tuple(found)

    @cached_property
    def nodes_of(self) -> Mapping[str, range]:
        """The nodes of each task, its join included; tasks that are left out have none."""
        rows = self.problem.rows.tolist()
        return {name: range(rows[t], rows[t + 1]) for t, name in enumerate(self.problem.task_ids)}

    @cached_property
    def node_of(self) -> Mapping[Item, int]:
        """The node of each task, item and join."""
        return {item: node for node, item in enumerate(self.items)}

    def nodes_at(self, item: Item) -> Collection[int]:
        """The nodes that an event about `item` concerns: a mapped task as a whole has several."""
        if item[1] is None:
            return self.nodes_of.get(item[0], range(0))
        node = self.node_of.get(item)
        return () if node is None else (node,)

    def known_items(self, task_id: str) -> int:
        """Items of a task in this network."""
        return len(self.problem.activities(task_id))

    def is_mapped(self, task_id: str) -> bool:
        """Whether a task has items."""
        return self.plan.get_task(task_id).map_over is not None

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Place of each task in the plan's document."""
        return {task_id: i for i, task_id in enumerate(self.plan.task_ids)}

    @cached_property
    def modes(self) -> Mapping[str, str]:
        """The mode that each task is reckoned with."""
        return dict(zip(self.problem.task_ids, self.problem.modes, strict=True))

    def mode_of(self, task_id: str) -> str:
        """The mode that a task is reckoned with."""
        return self.modes.get(task_id, DEFAULT_MODE)

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], Ints]:
        """What tasks are grouped by, and of each node an index into that."""
        group = {task_id: self.plan.get_task(task_id).group for task_id in self.nodes_of}
        place: dict[str, int] = {}
        codes = [place.setdefault(group[t], len(place)) for t, _ in self.items]
        return tuple(place), np.array(codes, dtype=np.int64)

    @cached_property
    def joins(self) -> Bools:
        """The nodes that end a mapped task and are no work themselves."""
        mask: Bools = np.array([index == JOIN for _, index in self.items], dtype=np.bool_)
        return mask

    @cached_property
    def unknown(self) -> Bools:
        """The nodes of whose duration nothing is known."""
        mask: Bools = np.isnan(self.problem.durations)
        return mask

    @cached_property
    def medians(self) -> Floats:
        """P50 durations in seconds; 0 where nothing is known."""
        return np.nan_to_num(medians_of(self.problem.estimates))

    def median_in(
        self, task_id: str, mode: str, factors: Mapping[str, float] | None = None
    ) -> float:
        """P50 duration of one item of a task in another mode; 0 where nothing is known.

        `factors`: how many times as long tasks take; by default those of this chain.
        """
        estimate = self.plan.get_task(task_id).mode(mode).estimate or self.estimates.get(task_id)
        if estimate is None:
            return 0.0
        three = (estimate.optimistic, estimate.likely, estimate.pessimistic)
        median = float(medians_of(np.array([[d.total_seconds() for d in three]]))[0])
        return median * (self.factors if factors is None else factors).get(task_id, 1.0)

    @cached_property
    def own_deadlines(self) -> Floats:
        """Tasks' own deadlines in seconds from the start of the run; inf where there is none."""
        bounds = np.full(len(self.problem), np.inf)
        for task in self.plan.tasks:
            if task.deadline is not None and task.id in self.nodes_of:
                nodes = self.nodes_of[task.id]
                bounds[nodes.start : nodes.stop] = task.deadline.total_seconds()
        return bounds

    def course(self) -> Course:
        """A course along this chain on which nothing has happened."""
        return Course(self.network, self.medians, instant=self.joins)

    def simulated(
        self,
        course: Course,
        latest: Floats | None,
        *,
        samples: int,
        rng: np.random.Generator,
        keep: bool = False,
    ) -> Simulation:
        """`samples` scenarios of what is left, from where `course` stands.

        `latest` asks for P(finish > latest finish), `keep` for the samples of all nodes.
        A generator in the same state gives the same luck whatever has happened.
        """
        done, running = course.stage == Stage.DONE, course.stage == Stage.RUNNING
        past = np.flatnonzero(self.joins & (course.stage == Stage.WAITING)).tolist()
        done[[node for node in past if course.is_past(node)]] = True
        return simulate(
            self.problem,
            self.resource_arcs,
            samples=samples,
            rng=rng,
            now=course.now,
            started=np.where(done | running, course.start, np.nan),
            finished=np.where(done, course.finish, np.nan),
            left_out=course.stage == Stage.DEAD,
            limits=latest,
            keep=keep,
            network=self.network,
        )


_UNTOUCHED = Underway(now=0.0, spans={}, modes={}, items={}, left_out=(), places={})
"""Of a run in which nothing has happened."""


def medians_of(estimates: Floats) -> Floats:
    """P50 durations of estimates of shape (n, 3), in seconds; one number is its own.

    Reads one column of `beta_pert.quantile_table`: without the other quantiles it
    is a thousand times as fast as `beta_pert.quantiles`.
    """
    low, likely, high = estimates.T
    width = high - low
    # The median lies half-way between the middle two of an even number of levels.
    middle = quantile_table()[:, LEVELS // 2 - 1 : LEVELS // 2 + 1].mean(axis=1)
    share = np.divide(likely - low, width, out=np.zeros_like(width), where=width > 0)
    place = np.interp(SHAPES * share, np.arange(SHAPES + 1), middle)
    result: Floats = np.where(width > 0, low + width * place, low)
    return result
