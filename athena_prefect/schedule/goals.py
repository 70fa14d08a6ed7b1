"""What a CP-SAT model minimises."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import ceil, inf
from typing import Any, assert_never

import numpy as np

from athena_prefect.schedule.rest import HOUR
from athena_prefect.schedule.variables import Variables

SHARES = 1_000_000
"""Parts of a unit that values, costs and changes are told apart by."""


class Aim(StrEnum):
    """What is minimised."""

    MAKESPAN = "makespan"
    TARDINESS = "tardiness"
    """Seconds after the deadline, then the makespan where there is none."""
    COST = "cost"
    """Price, value lost and quality lost, with no more lateness than can be helped."""
    CHANGE = "change"
    """Moves against the previous starts, changed modes and dropped tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that a solution has to keep."""

    makespan: float = inf
    lateness: float = inf
    cost: float = inf


NO_LIMITS = Limits()


class Goal:
    """The expressions of one rest that may be minimised or bounded."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.model, self.rest, self.ticks = variables.model, variables.rest, variables.ticks
        self.makespan = self._makespan()

    def minimise(self, aim: Aim, limits: Limits) -> None:
        """Minimise what is aimed at, within limits."""
        model = self.model
        if limits.makespan < inf:
            fixed, most = self.fixed, self.ticks.up(limits.makespan - self.rest.now)
            model.add(self.makespan <= max(most, fixed))
        if limits.lateness < inf:
            model.add(self._lateness <= self.ticks.up(limits.lateness))
        if limits.cost < inf:
            model.add(self._cost() <= ceil(limits.cost * SHARES) + 1)
        match aim:
            case Aim.MAKESPAN:
                model.minimize(self.makespan)
            case Aim.TARDINESS:
                model.minimize(self._lateness)
            case Aim.COST:
                model.minimize(self._cost())
            case Aim.CHANGE:
                model.minimize(self._change())
            case _:
                assert_never(aim)

    @cached_property
    def fixed(self) -> int:
        """Ticks until the last of what has begun ends."""
        rest = self.rest
        ends = (rest.starts + rest.problem.durations)[~rest.free].max(initial=rest.now)
        return max(self.ticks.up(ends - rest.now), 0)

    def _makespan(self) -> Any:
        variables, ticks = self.variables, self.ticks
        end = max(ticks.up(variables.horizon - self.rest.now), self.fixed)
        makespan = self.model.new_int_var(self.fixed, end, "makespan")
        for i, task in variables.tasks.items():
            variables.only_if_present(self.model.add(makespan >= task.end), i)
        # Only a hint of all variables is a solution to begin with.
        self.model.add_hint(makespan, max(min(self.variables.hinted_makespan, end), self.fixed))
        return makespan

    @cached_property
    def _lateness(self) -> Any:
        rest, model = self.rest, self.model
        whole = self.ticks.up(max(self.variables.horizon - rest.now, 0.0))
        late = model.new_int_var(0, 2 * whole + 1, "late")
        if rest.deadline is not None:
            model.add(late >= self.makespan - self.ticks.down(rest.deadline - rest.now))
        for task, due in rest.due.items():
            i = int(rest.problem.ends[task])
            if i in self.variables.tasks:
                end = self.variables.tasks[i].end - self.ticks.down(due - rest.now)
                self.variables.only_if_present(model.add(late >= end), i)
        return late

    def _cost(self) -> Any:
        """Price, quality and value lost, in `SHARES`."""
        total: Any = 0
        rates = np.array(self.rest.rates or [0.0] * len(self.rest.problem.resources))
        for task, literals in self.variables.chosen.items():
            items = len([i for i in self.rest.rows_of(task) if i in self.variables.tasks])
            for way, literal in zip(self.variables.ways_of(task), literals, strict=True):
                price = items * float(np.dot(way.demands, rates)) * way.duration / HOUR
                total += round((price + way.quality_lost) * SHARES) * literal
        for task, literal in self.variables.present.items():
            rows = [i for i in self.rest.rows_of(task) if i in self.variables.tasks]
            price = sum(
                float(self.rest.problem.demands[i] @ rates)
                * float(self.rest.problem.durations[i])
                / HOUR
                for i in rows
            )
            if task in self.variables.chosen:
                price = 0.0
            lost = self.rest.droppable[task]
            total += round((lost - price) * SHARES) * (1 - literal)
        return total

    def _change(self) -> Any:
        """Moves as shares of the old rest, half a point a changed mode, one a dropped task."""
        rest, model = self.rest, self.model
        span = max((rest.previous_makespan or self.variables.horizon) - rest.now, self.ticks.size)
        total: Any = 0
        weight = max(round(SHARES * self.ticks.size / span), 1)
        widest = self.ticks.up(self.variables.horizon - rest.now) + self.ticks.up(span)
        for i, task in self.variables.tasks.items():
            if i not in rest.previous or self.variables.is_join(i, int(rest.problem.task_of[i])):
                continue
            before = round((rest.previous[i] - rest.now) / self.ticks.size)
            moved = model.new_int_var(0, widest, f"moved{i}")
            for side in (task.start - before, before - task.start):
                self.variables.only_if_present(model.add(moved >= side), i)
            total += weight * moved
        for literals in self.variables.chosen.values():
            total += (SHARES // 2) * (1 - literals[0])
        for literal in self.variables.present.values():
            total += SHARES * (1 - literal)
        for literal in self.variables.kept.values():
            total += (SHARES // 2) * (1 - literal)
        return total
