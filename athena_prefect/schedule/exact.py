"""The rest as a constraint program, solved by CP-SAT within what is left of a budget.

Times are whole ticks from the present: the greatest tick that all times are whole
multiples of, else one so fine that the horizon has `TICKS` of them, with durations
rounded up. Its answer is an order and a choice; the times of a schedule are always
reckoned by generation, from that order, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import ceil, floor, gcd, inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.packing import scale_of, whole
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import backward, forward
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest, Way
from athena_prefect.schedule.schedule import Schedule

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

TICKS = 100_000
"""Ticks to a horizon of times that have no common measure: an error of 10⁻⁵ of the horizon a
task, which generation takes out again."""
FINE = 1e-3
"""Seconds: times that are no multiples of a millisecond have no common measure."""
SHARES = 1_000_000
"""Parts of a unit that values, costs and changes are told apart by."""
LNS_ONLY = 1_000
"""Activities from which only neighbourhoods are searched: a whole search overran its time
(asked for 2 s it took 5 to 10 s), this one kept to it."""


class Aim(StrEnum):
    """What is minimised."""

    MAKESPAN = "makespan"
    TARDINESS = "tardiness"
    """Seconds after the deadline, then the makespan where there is none."""
    COST = "cost"
    """Price, value lost and quality lost, with no more lateness than can be helped."""
    CHANGE = "change"
    """Moves against the previous starts, changed modes and dropped tasks."""


class Outcome(StrEnum):
    """What is known of an answer."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What CP-SAT says; seconds from the start of the run."""

    outcome: Outcome
    bound: float | None = None
    starts: Floats | None = None
    choice: Choice = AS_IT_STANDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that a solution has to keep."""

    makespan: float = inf
    lateness: float = inf
    cost: float = inf


NO_LIMITS = Limits()


class _Task(NamedTuple):
    """Variables of one free activity."""

    start: Any
    end: Any
    low: int
    high: int


def load() -> None:
    """Import OR-Tools now: it takes tenths of a second, once a process, that are in no budget."""
    import ortools.sat.python.cp_model  # noqa: F401


class Program:
    """One rest as a CP-SAT model; built once a solve."""

    def __init__(
        self,
        rest: Rest,
        aim: Aim,
        incumbent: Floats,
        choice: Choice,
        *,
        horizon: float,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """`incumbent` is the hint, a schedule under `choice`; nothing ends after `horizon`."""
        from ortools.sat.python import cp_model

        self.cp = cp_model
        self.rest = rest
        self.aim = aim
        self.incumbent = incumbent
        self.choice = choice
        self.limits = limits
        self.model = cp_model.CpModel()
        self.horizon = max(horizon, rest.now)
        self.tick = self._tick()
        self.present: dict[int, Any] = {}
        self.chosen: dict[int, list[Any]] = {}
        self.kept: dict[tuple[int, int], Any] = {}
        self.tasks: dict[int, _Task] = {}
        self._levers()
        self._variables()
        self._precedence()
        self._capacities()
        self._budgets()
        self._objective()

    # Time

    def _tick(self) -> float:
        rest = self.rest
        free = rest.free
        times = [
            rest.problem.durations[free],
            np.maximum(rest.release[free] - rest.now, 0.0),
            rest.problem.network.pred_lag,
            (rest.starts + rest.problem.durations)[~free] - rest.now,
            np.array([w.duration for ways in rest.ways.values() for w in ways]),
            np.array([at - rest.now for s in rest.steps.values() for at, _ in s]),
        ]
        found = np.unique(np.concatenate(times)) / FINE
        parts = np.round(found)
        self.exact = bool((np.abs(found - parts) <= 1e-6 * np.maximum(1.0, np.abs(found))).all())
        if not self.exact:
            return max((self.horizon - rest.now) / TICKS, 1e-6)
        return FINE * (gcd(*(abs(int(p)) for p in parts.tolist())) or 1)

    def _up(self, seconds: float) -> int:
        return ceil(seconds / self.tick - 1e-6)

    def _down(self, seconds: float) -> int:
        return floor(seconds / self.tick + 1e-6)

    # Variables

    def _levers(self) -> None:
        rest, model = self.rest, self.model
        chosen = dict(self.choice.ways)
        for task in rest.droppable:
            self.present[task] = model.new_bool_var(f"do {task}")
            model.add_hint(self.present[task], task not in self.choice.dropped)
        for task, others in rest.goes_with.items():
            for other in others:
                if task in self.present and other in self.present:
                    model.add_implication(self.present[other], self.present[task])
        for task, ways in rest.ways.items():
            if len(ways) > 1:
                literals = [model.new_bool_var(f"way {task} {k}") for k in range(len(ways))]
                for k, literal in enumerate(literals):
                    model.add_hint(literal, k == chosen.get(task, 0))
                model.add_exactly_one(literals)
                self.chosen[task] = literals
        for arc in rest.loose:
            self.kept[arc] = model.new_bool_var(f"keep {arc}")
            model.add_hint(self.kept[arc], arc not in self.choice.cut)

    def _ways(self, task: int) -> Sequence[Way]:
        return self.rest.ways.get(task, ())

    def _variables(self) -> None:
        rest, model = self.rest, self.model
        self.lengths = self._lengths()
        heads, tails = self._windows()
        hints = (self.incumbent - rest.now) / self.tick
        if not self.exact and not rest.steps:
            hints = self._stretched(heads)
        end = self._up(self.horizon - rest.now)
        for i in np.flatnonzero(rest.free).tolist():
            task = int(rest.problem.task_of[i])
            low, shortest = self._up(heads[i]), self.lengths[i]
            high = max(end - self._down(tails[i]) - shortest, low)
            start = model.new_int_var(low, high, f"s{i}")
            model.add_hint(start, min(max(round(hints[i]), low), high))
            literals = self.chosen.get(task)
            if literals is None or self._is_join(i, task):
                finish = start + shortest
            else:
                lasts = [self._up(w.duration) for w in self._ways(task)]
                finish = start + sum(d * b for d, b in zip(lasts, literals, strict=True))
            self.tasks[i] = _Task(start, finish, low, high)

    def _stretched(self, heads: Floats) -> Floats:
        """The incumbent in ticks, its durations rounded up: on its partial order it stays feasible.

        The horizon makes room for it.
        """
        rest = self.rest
        problem = rest.problem_in(self.choice)
        schedule = Schedule(
            problem=problem,
            starts=self.incumbent,
            finishes=self.incumbent + problem.durations,
            fixed=~rest.free,
        )
        network = problem.network.extended(*partial_order(schedule))
        left = np.where(rest.free, problem.durations, schedule.finishes - rest.now)
        lengths = np.ceil(np.maximum(left, 0.0) / self.tick - 1e-6)
        earliest = np.where(rest.free, np.ceil(heads / self.tick - 1e-6), 0.0)
        lags = np.where(rest.free[network.heads], np.ceil(network.pred_lag / self.tick), -inf)
        over = ~rest.free & (left <= 0)
        lags = np.where(over[network.pred], -inf, lags)
        starts, finishes = forward(network, lengths, floor=earliest, lag=lags)
        self.horizon = max(self.horizon, rest.now + float(finishes.max(initial=0.0)) * self.tick)
        return starts

    def _is_join(self, activity: int, task: int) -> bool:
        return activity not in self.rest.rows_of(task)

    def _lengths(self) -> list[int]:
        """Least duration of each activity, in ticks."""
        lengths = [self._up(d) for d in self.rest.problem.durations.tolist()]
        for task, ways in self.rest.ways.items():
            shortest = min(self._up(w.duration) for w in ways)
            for i in self.rest.rows_of(task):
                if self.rest.free[i]:
                    lengths[i] = shortest
        return lengths

    def _windows(self) -> tuple[Floats, Floats]:
        """Earliest starts and tails in seconds from now, without loose arcs and droppable tasks."""
        rest = self.rest
        network = rest.network_in(Choice(dropped=frozenset(rest.droppable), cut=rest.loose))
        lengths = np.array(self.lengths, dtype=np.float64) * self.tick
        earliest = np.where(rest.free, np.maximum(rest.release - rest.now, 0.0), 0.0)
        tail, head, lag, _ = network.arcs
        begun = ~rest.free[tail]
        finishes = rest.starts + rest.problem.durations - rest.now
        np.maximum.at(earliest, head[begun], finishes[tail[begun]] + lag[begun])
        lags = np.where(begun, -inf, lag)
        heads, _ = forward(network, lengths, floor=earliest, lag=lags)
        return heads, backward(network, lengths)

    # Constraints

    def _precedence(self) -> None:
        rest, model = self.rest, self.model
        tail, head, lag, _ = rest.problem.network.arcs
        finishes = rest.starts + rest.problem.durations - rest.now
        task_of = rest.problem.task_of
        for a, b, wait in zip(tail.tolist(), head.tolist(), lag.tolist(), strict=True):
            if b not in self.tasks:
                continue
            after = self.tasks[b].start
            if a in self.tasks:
                constraint = after >= self.tasks[a].end + self._up(wait)
            elif self._up(finishes[a] + wait) <= self.tasks[b].low and (a, b) not in self.kept:
                continue
            else:
                constraint = after >= self._up(finishes[a] + wait)
            literals = [
                self.present[t] for t in {int(task_of[a]), int(task_of[b])} if t in self.present
            ]
            if (a, b) in self.kept:
                literals.append(self.kept[a, b])
            added = model.add(constraint)
            if literals:
                added.only_enforce_if(literals)

    def _capacities(self) -> None:
        for r in range(len(self.rest.problem.resources)):
            self._capacity(r)

    def _capacity(self, r: int) -> None:
        rest, model, problem = self.rest, self.model, self.rest.problem
        steps = rest.capacity_at(r)
        uses = list(self._uses(r))
        running = [
            (problem.demands[i, r], rest.starts[i] + problem.durations[i])
            for i in np.flatnonzero(~rest.free & (problem.demands[:, r] > 0)).tolist()
            if rest.starts[i] + problem.durations[i] > rest.now
        ]
        amounts = np.array([u for _, u, _ in uses])
        if not uses or (not running and amounts.sum() <= min(c for _, c in steps)):
            return
        have = [c for _, c in steps]
        held = [d for d, _ in running]
        scale = scale_of(np.concatenate((amounts, have, held)))
        most = int(whole(np.array([max(have)]), scale, up=False)[0])
        intervals = [interval for _, _, interval in uses]
        demands: list[int] = whole(amounts, scale, up=True).tolist()
        # What is missing at a moment is taken by an interval that stands for it; what
        # runs may hold more than there is.
        moments = sorted(
            {rest.now, *(e for _, e in running), *(a for a, _ in steps if a > rest.now)}
        )
        for k, at in enumerate(moments):
            there = next(c for a, c in reversed(steps) if a <= at)
            taken = sum(d for d, e in running if e > at)
            left = int(whole(np.array([there]), scale, up=False)[0]) - int(
                whole(np.array([taken]), scale, up=True)[0]
            )
            missing = most - max(left, 0)
            begin = self._down(at - rest.now)
            until = (
                self._up(moments[k + 1] - rest.now)
                if k + 1 < len(moments)
                else self._up(self.horizon - rest.now) + 1
            )
            if missing > 0 and until > begin:
                intervals.append(model.new_fixed_size_interval_var(begin, until - begin, f"off{k}"))
                demands.append(missing)
        model.add_cumulative(intervals, demands, most)

    def _uses(self, r: int) -> Iterator[tuple[int, float, Any]]:
        """(activity, units, interval) of all that may take from a resource."""
        rest = self.rest
        demands = rest.problem.demands[:, r]
        for i, (start, _, _, _) in self.tasks.items():
            task = int(rest.problem.task_of[i])
            ways = self._ways(task)
            if ways and not self._is_join(i, task):
                literals = self.chosen.get(task)
                for k, way in enumerate(ways):
                    if way.demands[r] > 0 and way.duration > 0:
                        literal = None if literals is None else literals[k]
                        yield i, way.demands[r], self._interval(i, k, start, way, task, literal)
            elif demands[i] > 0 and self.lengths[i] > 0:
                yield i, float(demands[i]), self._interval(i, 0, start, None, task, None)

    def _interval(
        self, i: int, k: int, start: Any, way: Way | None, task: int, literal: Any
    ) -> Any:
        if (i, k) not in self._intervals:
            size = self.lengths[i] if way is None else self._up(way.duration)
            presence = self.present.get(task)
            if literal is not None and presence is not None:
                both = self.model.new_bool_var(f"p{i} {k}")
                self.model.add_bool_and([literal, presence]).only_enforce_if(both)
                self.model.add_bool_or([~literal, ~presence, both])
                literal = both
            else:
                literal = literal if literal is not None else presence
            make = self.model
            self._intervals[i, k] = (
                make.new_fixed_size_interval_var(start, size, f"i{i} {k}")
                if literal is None
                else make.new_optional_fixed_size_interval_var(start, size, literal, f"i{i} {k}")
            )
        return self._intervals[i, k]

    @cached_property
    def _intervals(self) -> dict[tuple[int, int], Any]:
        return {}

    def _budgets(self) -> None:
        rest = self.rest
        for b, have in enumerate(rest.budgets):
            rows = [
                (task, k, way.consumes[b] * int(rest.problem.items[task]))
                for task, ways in rest.ways.items()
                for k, way in enumerate(ways)
                if way.consumes
            ]
            scale = scale_of(np.array([have, *(a for _, _, a in rows)]))
            terms: Any = 0
            for task, k, amount in rows:
                part = int(whole(np.array([amount]), scale, up=True)[0])
                terms += part * (self.chosen[task][k] if task in self.chosen else 1)
            self.model.add(terms <= int(whole(np.array([have]), scale, up=False)[0]))

    # What is minimised

    def _objective(self) -> None:
        rest, model = self.rest, self.model
        fixed = (rest.starts + rest.problem.durations)[~rest.free].max(initial=rest.now)
        low = max(self._up(fixed - rest.now), 0)
        end = max(self._up(self.horizon - rest.now), low)
        makespan = model.new_int_var(low, end, "makespan")
        for i, task in self.tasks.items():
            self._present_only(model.add(makespan >= task.end), i)
        self.makespan = makespan
        if self.limits.makespan < inf:
            model.add(makespan <= max(self._up(self.limits.makespan - rest.now), low))
        goal: Any
        if self.aim is Aim.MAKESPAN:
            goal = makespan
        elif self.aim is Aim.TARDINESS:
            goal = self._lateness()
        elif self.aim is Aim.COST:
            goal = self._cost()
        else:
            goal = self._change()
        if self.limits.lateness < inf:
            model.add(self._lateness() <= self._up(self.limits.lateness))
        if self.limits.cost < inf:
            model.add(self._cost() <= ceil(self.limits.cost * SHARES) + 1)
        model.minimize(goal)

    def _present_only(self, constraint: cp_model.Constraint, activity: int) -> None:
        literal = self.present.get(int(self.rest.problem.task_of[activity]))
        if literal is not None:
            constraint.only_enforce_if(literal)

    @cached_property
    def _late(self) -> Any:
        rest, model = self.rest, self.model
        late = model.new_int_var(0, self._up(max(self.horizon - rest.now, 0.0)) * 2 + 1, "late")
        if rest.deadline is not None:
            model.add(late >= self.makespan - self._down(rest.deadline - rest.now))
        for task, due in rest.due.items():
            i = int(rest.problem.ends[task])
            if i in self.tasks:
                end = self.tasks[i].end - self._down(due - rest.now)
                self._present_only(model.add(late >= end), i)
        return late

    def _lateness(self) -> Any:
        return self._late

    def _cost(self) -> Any:
        """Price, quality and value lost, in `SHARES`."""
        total: Any = 0
        rates = np.array(self.rest.rates or [0.0] * len(self.rest.problem.resources))
        for task, literals in self.chosen.items():
            items = len([i for i in self.rest.rows_of(task) if i in self.tasks])
            for way, literal in zip(self._ways(task), literals, strict=True):
                price = items * float(np.dot(way.demands, rates)) * way.duration / 3600
                total += round((price + way.quality_lost) * SHARES) * literal
        for task, literal in self.present.items():
            rows = [i for i in self.rest.rows_of(task) if i in self.tasks]
            price = sum(
                float(self.rest.problem.demands[i] @ rates)
                * float(self.rest.problem.durations[i])
                / 3600
                for i in rows
            )
            if task in self.chosen:
                price = 0.0
            lost = self.rest.droppable[task]
            total += round((lost - price) * SHARES) * (1 - literal)
        return total

    def _change(self) -> Any:
        """Moves as shares of the old rest, half a point a changed mode, one a dropped task."""
        rest, model = self.rest, self.model
        span = max((rest.previous_makespan or self.horizon) - rest.now, self.tick)
        total: Any = 0
        weight = max(round(SHARES * self.tick / span), 1)
        widest = self._up(self.horizon - rest.now) + self._up(span)
        for i, task in self.tasks.items():
            if i not in rest.previous or self._is_join(i, int(rest.problem.task_of[i])):
                continue
            before = round((rest.previous[i] - rest.now) / self.tick)
            moved = model.new_int_var(0, widest, f"moved{i}")
            for side in (task.start - before, before - task.start):
                self._present_only(model.add(moved >= side), i)
            total += weight * moved
        for literals in self.chosen.values():
            total += (SHARES // 2) * (1 - literals[0])
        for literal in self.present.values():
            total += SHARES * (1 - literal)
        for literal in self.kept.values():
            total += (SHARES // 2) * (1 - literal)
        return total

    # Solving

    def solve(self, seconds: float, *, seed: int, workers: int) -> Solution:
        """The best that is found in so many seconds."""
        solver = self.cp.CpSolver()
        given = solver.parameters
        given.max_time_in_seconds = max(seconds, 0.01)
        given.num_workers = workers
        given.random_seed = seed % 2**31
        given.use_lns_only = len(self.tasks) > LNS_ONLY
        status = solver.solve(self.model)
        if status == self.cp.INFEASIBLE:
            return Solution(outcome=Outcome.INFEASIBLE)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return Solution(outcome=Outcome.UNKNOWN)
        optimal = status == self.cp.OPTIMAL
        starts = self.incumbent.copy()
        for i, task in self.tasks.items():
            starts[i] = self.rest.now + solver.value(task.start) * self.tick
        return Solution(
            outcome=Outcome.OPTIMAL if optimal else Outcome.FEASIBLE,
            bound=self._bound(solver.best_objective_bound),
            starts=starts,
            choice=self._choice(solver),
        )

    def _bound(self, bound: float) -> float:
        if self.aim is Aim.MAKESPAN:
            return self.rest.now + bound * self.tick
        return bound * self.tick if self.aim is Aim.TARDINESS else bound / SHARES

    def _choice(self, solver: cp_model.CpSolver) -> Choice:
        ways = {
            task: next(k for k, literal in enumerate(literals) if solver.boolean_value(literal))
            for task, literals in self.chosen.items()
        }
        return Choice.of(
            ways,
            dropped=frozenset(t for t, b in self.present.items() if not solver.boolean_value(b)),
            cut=frozenset(a for a, b in self.kept.items() if not solver.boolean_value(b)),
        )
