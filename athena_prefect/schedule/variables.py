"""The variables of a rest in a CP-SAT model: starts, ways, what is dropped and what is cut."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import backward, forward
from athena_prefect.schedule.rest import Choice, Rest, Way
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.ticks import Ticks

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


class TaskVariables(NamedTuple):
    """Variables of one free activity."""

    start: Any
    end: Any
    low: int
    high: int


class Variables:
    """One rest in variables, hinted by a schedule `incumbent` under `choice`."""

    def __init__(
        self,
        model: cp_model.CpModel,
        rest: Rest,
        incumbent: Floats,
        choice: Choice,
        *,
        horizon: float,
    ) -> None:
        """Nothing ends after `horizon`, seconds from the start of the run."""
        self.model = model
        self.rest = rest
        self.incumbent = incumbent
        self.choice = choice
        self.horizon = max(horizon, rest.now)
        self.ticks = Ticks.of(rest, self.horizon)
        self.present: dict[int, Any] = {}
        """Droppable task → whether it is done."""
        self.chosen: dict[int, list[Any]] = {}
        """Task with several ways → which of them it takes."""
        self.kept: dict[tuple[int, int], Any] = {}
        """Loose arc → whether it counts."""
        self.tasks: dict[int, TaskVariables] = {}
        """Free activity → its times."""
        self.hinted_makespan = 0
        """Ticks until the last free activity ends in the hint."""
        self._levers()
        self._variables()

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

    def ways_of(self, task: int) -> Sequence[Way]:
        """The modes of a task that has modes of its own."""
        return self.rest.ways.get(task, ())

    def _variables(self) -> None:
        rest, model = self.rest, self.model
        self.lengths = self._lengths()
        heads, tails = self._windows()
        hints = (self.incumbent - rest.now) / self.ticks.size
        if not self.ticks.exact and not rest.steps:
            hints = self._stretched(heads)
        end = self.ticks.up(self.horizon - rest.now)
        chosen = dict(self.choice.ways)
        for i in np.flatnonzero(rest.free).tolist():
            task = int(rest.problem.task_of[i])
            low, shortest = self.ticks.up(heads[i]), self.lengths[i]
            high = max(end - self.ticks.down(tails[i]) - shortest, low)
            start = model.new_int_var(low, high, f"s{i}")
            hint = min(max(round(hints[i]), low), high)
            model.add_hint(start, hint)
            literals = self.chosen.get(task)
            if literals is None or self.is_join(i, task):
                finish, last = start + shortest, shortest
            else:
                lasts = [self.ticks.up(w.duration) for w in self.ways_of(task)]
                last = lasts[chosen.get(task, 0)]
                finish = start + sum(d * b for d, b in zip(lasts, literals, strict=True))
            self.tasks[i] = TaskVariables(start, finish, low, high)
            if task not in self.choice.dropped:
                self.hinted_makespan = max(self.hinted_makespan, hint + last)

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
        lengths = np.ceil(np.maximum(left, 0.0) / self.ticks.size - 1e-6)
        earliest = np.where(rest.free, np.ceil(heads / self.ticks.size - 1e-6), 0.0)
        lags = np.where(rest.free[network.heads], np.ceil(network.pred_lag / self.ticks.size), -inf)
        over = ~rest.free & (left <= 0)
        lags = np.where(over[network.pred], -inf, lags)
        starts, finishes = forward(network, lengths, floor=earliest, lag=lags)
        self.horizon = max(
            self.horizon, rest.now + float(finishes.max(initial=0.0)) * self.ticks.size
        )
        return starts

    def is_join(self, activity: int, task: int) -> bool:
        """Whether an activity is what follows the items of a mapped task."""
        return activity not in self.rest.rows_of(task)

    def _lengths(self) -> list[int]:
        """Least duration of each activity, in ticks."""
        lengths = [self.ticks.up(d) for d in self.rest.problem.durations.tolist()]
        for task, ways in self.rest.ways.items():
            shortest = min(self.ticks.up(w.duration) for w in ways)
            for i in self.rest.rows_of(task):
                if self.rest.free[i]:
                    lengths[i] = shortest
        return lengths

    def _windows(self) -> tuple[Floats, Floats]:
        """Earliest starts and tails in seconds from now, without loose arcs and droppable tasks."""
        rest = self.rest
        network = rest.network_in(Choice(dropped=frozenset(rest.droppable), cut=rest.loose))
        lengths = np.array(self.lengths, dtype=np.float64) * self.ticks.size
        earliest = np.where(rest.free, np.maximum(rest.release - rest.now, 0.0), 0.0)
        tail, head, lag, _ = network.arcs
        begun = ~rest.free[tail]
        finishes = rest.starts + rest.problem.durations - rest.now
        np.maximum.at(earliest, head[begun], finishes[tail[begun]] + lag[begun])
        lags = np.where(begun, -inf, lag)
        heads, _ = forward(network, lengths, floor=earliest, lag=lags)
        return heads, backward(network, lengths)

    def only_if_present(self, constraint: cp_model.Constraint, activity: int) -> None:
        """Let a constraint count only where the activity's task is not dropped."""
        literal = self.present.get(int(self.rest.problem.task_of[activity]))
        if literal is not None:
            constraint.only_enforce_if(literal)
