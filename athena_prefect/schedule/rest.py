"""What is left of a plan at a moment: free work, what runs, and what may be done differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from athena_prefect.errors import InfeasibleError, PlanError
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.schedule.problem import Problem, slack_of
from athena_prefect.schedule.ways import WayTable

HOUR = 3600.0

KEPT = 8
"""Choices whose problems are kept, the newest: a search looks at few again and again."""

Steps = tuple[tuple[float, float], ...]
"""A capacity over time: (from which moment in seconds, how many units), ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One mode in which a task may be done."""

    mode: str
    estimate: tuple[float, float, float]
    """Optimistic, likely and pessimistic duration of one item, in seconds."""
    demands: tuple[float, ...]
    """Units that one item takes while it runs, in the order of the problem's resources."""
    quality_lost: float = 0.0
    """1 − quality of the result."""
    consumes: tuple[float, ...] = ()
    """What one item uses up of each budget (non-renewable resources)."""

    @property
    def duration(self) -> float:
        """PERT mean in seconds."""
        low, likely, high = self.estimate
        return low if low == high else (low + 4 * likely + high) / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a schedule makes use of: nothing of it is the rest as it stands."""

    ways: frozenset[tuple[int, int]] = frozenset()
    """(task, which of its `Rest.ways`), where it is not the first."""
    dropped: frozenset[int] = frozenset()
    """Tasks that are left out."""
    cut: frozenset[tuple[int, int]] = frozenset()
    """Arcs between activities, (before, after), that do not count."""

    def __bool__(self) -> bool:
        return bool(self.ways or self.dropped or self.cut)

    @classmethod
    def of(
        cls,
        ways: Mapping[int, int],
        *,
        dropped: frozenset[int] = frozenset(),
        cut: frozenset[tuple[int, int]] = frozenset(),
    ) -> Choice:
        """The choice with these ways, task → which of `Rest.ways`."""
        changed = frozenset((task, place) for task, place in ways.items() if place)
        return cls(ways=changed, dropped=dropped, cut=cut)


AS_IT_STANDS = Choice()
"""No lever is pulled."""


@dataclass(slots=True)
class SoFar:
    """The order so far moved to the right, once that is made; levers do not change it."""

    problem: Problem | None = None
    """Of which it is: with other capacities it is another one."""
    starts: Floats = field(default_factory=lambda: np.zeros(0))
    seconds: float = 0.0
    """What making it took."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rest:
    """A scheduling problem under way (multi-mode RCPSP with levers); seconds from the run's start.

    Each lever is used only where it is given: tasks with several `ways`, tasks that
    are `droppable`, arcs that are `loose`.
    """

    problem: Problem
    """All activities, each task in the first of its ways; what has begun with the duration
    that it had or is expected to have."""
    now: float = 0.0
    starts: Floats = field(default_factory=lambda: np.zeros(0))
    """When activities began; NaN of those that are free."""
    release: Floats = field(default_factory=lambda: np.zeros(0))
    """Earliest start of each activity, besides `now`."""
    ways: Mapping[int, tuple[Way, ...]] = field(default_factory=dict)
    """Task → its modes, at least one; tasks that are not named have but the problem's."""
    droppable: Mapping[int, float] = field(default_factory=dict)
    """Task → the value that leaving it out loses."""
    goes_with: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Task → droppable tasks that cannot stay when it is left out."""
    loose: frozenset[tuple[int, int]] = frozenset()
    """Arcs between activities that may be cut."""
    steps: Mapping[int, Steps] = field(default_factory=dict)
    """Resource → its capacity over time, where it is not the problem's. What runs is exempt."""
    deadline: float | None = None
    due: Mapping[int, float] = field(default_factory=dict)
    """Task → its own deadline."""
    previous: Mapping[int, float] = field(default_factory=dict)
    """Activity → start in the order so far."""
    previous_makespan: float | None = None
    rates: tuple[float, ...] = ()
    """Price of one unit of each resource for an hour; empty where nothing has a price."""
    budgets: tuple[float, ...] = ()
    """What there is to be used up by all tasks together."""
    so_far: SoFar = field(default_factory=SoFar, repr=False)
    """Shared by the rests that differ in levers alone, so that it is made once."""

    def __post_init__(self) -> None:
        count = len(self.problem)
        for name, missing in (("starts", np.nan), ("release", 0.0)):
            given: Floats = getattr(self, name)
            if not given.size:
                object.__setattr__(self, name, np.full(count, missing))
            elif given.shape != (count,):
                raise PlanError(f"{count} activities, but `{name}` of shape {given.shape}")

    @cached_property
    def free(self) -> Bools:
        """The activities that have not begun."""
        mask: Bools = np.isnan(self.starts)
        return mask

    @cached_property
    def floor(self) -> Floats:
        """Earliest start of each activity; of what has begun its start."""
        return np.where(self.free, np.maximum(self.release, self.now), self.starts)

    @cached_property
    def free_tasks(self) -> Ints:
        """The tasks that have an activity that has not begun."""
        return np.unique(self.problem.task_of[self.free])

    def rows_of(self, task: int) -> range:
        """The activities that are items of a task."""
        first = int(self.problem.rows[task])
        return range(first, first + int(self.problem.items[task]))

    def problem_in(self, choice: Choice) -> Problem:
        """The problem with the chosen modes, the cut arcs and the dropped tasks taken out.

        What is dropped stays as activities of no duration that nothing waits for, so
        that indices mean the same; see `left_out`.
        """
        if not choice:
            return self.problem
        if choice not in self._problems:
            while len(self._problems) >= KEPT:
                del self._problems[next(iter(self._problems))]
            self._problems[choice] = self._problem_in(choice)
        return self._problems[choice]

    @cached_property
    def _problems(self) -> dict[Choice, Problem]:
        return {}

    def _problem_in(self, choice: Choice) -> Problem:
        problem = self.problem
        estimates, durations = problem.estimates.copy(), problem.durations.copy()
        demands = problem.demands.copy()
        modes = list(problem.modes)
        if choice.ways:
            table = self.way_table
            way = (table.first + table.places(choice.ways))[table.owner]
            changed = way != table.first[table.owner]
            rows, way = table.rows[changed], way[changed]
            estimates[rows] = table.estimates[way]
            durations[rows] = table.durations[way]
            demands[rows] = table.demands[way]
            for task, place in choice.ways:
                modes[task] = self.ways[task][place].mode
        out = self.left_out(choice)
        estimates[out], durations[out], demands[out] = 0.0, 0.0, 0.0
        return replace(
            problem,
            network=self.network_in(choice),
            estimates=estimates,
            durations=durations,
            demands=demands,
            modes=tuple(modes),
        )

    def left_out(self, choice: Choice) -> Bools:
        """The activities of the dropped tasks."""
        gone = np.zeros(len(self.problem.task_ids), dtype=np.bool_)
        gone[list(choice.dropped)] = True
        mask: Bools = gone[self.problem.task_of]
        return mask

    def network_in(self, choice: Choice) -> Network:
        """The network without the cut arcs and without those from or to what is dropped."""
        network = self.problem.network
        if not choice.cut and not choice.dropped:
            return network
        tail, head, lag, hard = network.arcs
        out = self.left_out(choice)
        keep = ~(out[tail] | out[head])
        if choice.cut:
            arcs = zip(tail.tolist(), head.tolist(), strict=True)
            keep &= np.array([arc not in choice.cut for arc in arcs], dtype=np.bool_)
        return Network.build(network.ids, tail[keep], head[keep], lag=lag[keep], hard=hard[keep])

    def cost_of(self, choice: Choice) -> float:
        """Σ resources × hours × price of all that is still to be done."""
        if not any(self.rates):
            return 0.0
        problem = self.problem_in(choice)
        hours = np.where(self.free, problem.durations, 0.0) / HOUR
        # Column by column: a product of matrices would wake threads that then wait, spinning.
        return sum(
            rate * float((problem.demands[:, r] * hours).sum())
            for r, rate in enumerate(self.rates)
            if rate
        )

    def lost_by(self, choice: Choice) -> float:
        """Value of what is dropped, and 1 − quality of the chosen modes."""
        return sum(self.droppable.get(t, 0.0) for t in choice.dropped) + sum(
            self.ways[t][w].quality_lost for t, w in choice.ways
        )

    def used_up(self, choice: Choice) -> Floats:
        """What the tasks with several ways use up of each budget."""
        table = self.way_table
        if not len(table):
            return np.zeros(len(self.budgets))
        stays = np.ones(len(self.problem.task_ids))
        stays[list(choice.dropped)] = 0.0
        way = table.first + table.places(choice.ways)
        total: Floats = (table.items * stays[table.tasks]) @ table.consumes[way]
        return total

    def within_budgets(self, choice: Choice) -> bool:
        """Whether no more is used up than there is."""
        if not self.budgets:
            return True
        have = np.array(self.budgets)
        return bool((self.used_up(choice) <= have + slack_of(have)).all())

    def lateness(self, starts: Floats, choice: Choice) -> float:
        """Seconds by which the latest deadline is missed, the plan's or a task's own; 0 if none."""
        finishes = starts + self.problem_in(choice).durations
        late = [0.0]
        if self.deadline is not None:
            late.append(self.makespan(starts, choice) - self.deadline)
        ends = self.problem.ends
        late += [
            float(finishes[ends[t]]) - due for t, due in self.due.items() if t not in choice.dropped
        ]
        return max(late)

    def makespan(self, starts: Floats, choice: Choice) -> float:
        """Finish of the last activity that is not dropped."""
        finishes = starts + self.problem_in(choice).durations
        return float(finishes[~self.left_out(choice)].max(initial=self.now))

    def capacity_at(self, resource: int) -> Steps:
        """The capacity of a resource over time, from −∞ on."""
        whole = float(self.problem.capacities[resource])
        given = self.steps.get(resource, ())
        return ((-np.inf, whole), *given)

    @cached_property
    def last_capacities(self) -> Floats:
        """How much there is of each resource in the end, shape (r,)."""
        return np.array([self.capacity_at(r)[-1][1] for r in range(len(self.problem.resources))])

    @cached_property
    def most_capacities(self) -> Floats:
        """How much there is of each resource at the best moment from now on, shape (r,)."""
        most = []
        for r in range(len(self.problem.resources)):
            steps = self.capacity_at(r)
            ends = [at for at, _ in steps[1:]] + [np.inf]
            most.append(max(c for (_, c), end in zip(steps, ends, strict=True) if end > self.now))
        return np.array(most)

    @cached_property
    def way_table(self) -> WayTable:
        """`ways` as arrays."""
        return WayTable.of(self)

    def require_capacity(self, problem: Problem) -> None:
        """Raises InfeasibleError where a free activity takes more than there is in the end.

        `problem`: this rest's under some choice.
        """
        last = self.last_capacities
        over = (problem.demands > last + slack_of(last)) & (problem.durations > 0)[:, None]
        rows, columns = np.nonzero(over & self.free[:, None])
        for i, r in zip(rows.tolist(), columns.tolist(), strict=True):
            raise InfeasibleError(
                f"{problem.network.ids[i]!r} needs {problem.demands[i, r]:g} of "
                f"{problem.resources[r]!r}, of which there is {last[r]:g}"
            )
