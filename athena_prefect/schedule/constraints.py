"""What a schedule has to keep, as constraints of a CP-SAT model: order, capacities, budgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from athena_prefect.schedule.packing import scale_of, whole
from athena_prefect.schedule.rest import Way
from athena_prefect.schedule.variables import Variables


class Interval(NamedTuple):
    """An activity in one of its ways."""

    variable: Any
    size: int
    literal: Any
    """Whether it is done so; None where it always is."""


class Constraints:
    """Constraints on the variables of one rest, each family added by its method."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.model, self.rest, self.ticks = variables.model, variables.rest, variables.ticks
        self._intervals: dict[tuple[int, int], Interval] = {}

    def precedence(self) -> None:
        """Starts after what is waited for."""
        rest, model, ticks, given = self.rest, self.model, self.ticks, self.variables
        tail, head, lag, _ = rest.problem.network.arcs
        finishes = rest.starts + rest.problem.durations - rest.now
        task_of = rest.problem.task_of
        for a, b, wait in zip(tail.tolist(), head.tolist(), lag.tolist(), strict=True):
            if b not in given.tasks:
                continue
            after = given.tasks[b].start
            if a in given.tasks:
                constraint = after >= given.tasks[a].end + ticks.up(wait)
            else:
                over = ticks.up(finishes[a] + wait)
                if over <= given.tasks[b].low and (a, b) not in given.kept:
                    continue
                constraint = after >= over
            both = {int(task_of[a]), int(task_of[b])}
            literals = [given.present[t] for t in both if t in given.present]
            if (a, b) in given.kept:
                literals.append(given.kept[a, b])
            added = model.add(constraint)
            if literals:
                added.only_enforce_if(literals)

    def capacities(self) -> None:
        """No more of each resource at any moment than there is."""
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
        intervals = [interval.variable for _, _, interval in uses]
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
            begin = self.ticks.down(at - rest.now)
            until = (
                self.ticks.up(moments[k + 1] - rest.now)
                if k + 1 < len(moments)
                else self.ticks.up(self.variables.horizon - rest.now) + 1
            )
            if missing > 0 and until > begin:
                intervals.append(model.new_fixed_size_interval_var(begin, until - begin, f"off{k}"))
                demands.append(missing)
        model.add_cumulative(intervals, demands, most)

    def work(self, makespan: Any) -> None:
        """What is done on a resource takes up no more than there is of it until the makespan.

        This follows from the capacities, but no start stands in it: it says to the linear
        relaxation, and so to the search, which ways are too much work together.
        """
        if not self.variables.chosen:
            return
        rest = self.rest
        for r in range(len(rest.problem.resources)):
            uses = list(self._uses(r))
            have = np.array([c for _, c in rest.capacity_at(r)])
            amounts = np.array([u for _, u, _ in uses])
            scale = scale_of(np.concatenate((amounts, have)))
            demands: list[int] = whole(amounts, scale, up=True).tolist()
            total: Any = 0
            for demand, (_, _, interval) in zip(demands, uses, strict=True):
                total += (
                    demand * interval.size * (1 if interval.literal is None else interval.literal)
                )
            if uses:
                self.model.add(total <= int(whole(have, scale, up=False).max()) * makespan)

    def _uses(self, r: int) -> Iterator[tuple[int, float, Interval]]:
        """(activity, units, interval) of all that may take from a resource."""
        rest = self.rest
        demands = rest.problem.demands[:, r]
        for i, (start, _, _, _) in self.variables.tasks.items():
            task = int(rest.problem.task_of[i])
            ways = self.variables.ways_of(task)
            if ways and not self.variables.is_join(i, task):
                literals = self.variables.chosen.get(task)
                for k, way in enumerate(ways):
                    if way.demands[r] > 0 and way.duration > 0:
                        literal = None if literals is None else literals[k]
                        yield i, way.demands[r], self._interval(i, k, start, way, task, literal)
            elif demands[i] > 0 and self.variables.lengths[i] > 0:
                yield i, float(demands[i]), self._interval(i, 0, start, None, task, None)

    def _interval(
        self, i: int, k: int, start: Any, way: Way | None, task: int, literal: Any
    ) -> Interval:
        if (i, k) not in self._intervals:
            size = self.variables.lengths[i] if way is None else self.ticks.up(way.duration)
            presence = self.variables.present.get(task)
            if literal is not None and presence is not None:
                both = self.model.new_bool_var(f"p{i} {k}")
                self.model.add_bool_and([literal, presence]).only_enforce_if(both)
                self.model.add_bool_or([~literal, ~presence, both])
                literal = both
            else:
                literal = literal if literal is not None else presence
            make = self.model
            variable = (
                make.new_fixed_size_interval_var(start, size, f"i{i} {k}")
                if literal is None
                else make.new_optional_fixed_size_interval_var(start, size, literal, f"i{i} {k}")
            )
            self._intervals[i, k] = Interval(variable, size, literal)
        return self._intervals[i, k]

    def budgets(self) -> None:
        """No more used up of each budget than there is."""
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
                terms += part * (
                    self.variables.chosen[task][k] if task in self.variables.chosen else 1
                )
            self.model.add(terms <= int(whole(np.array([have]), scale, up=False)[0]))
