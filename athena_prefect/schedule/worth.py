"""What a schedule is worth, reckoned quickly for many schedules that differ in order and ways."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np

from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.schedule.rest import HOUR, Choice, Rest

Value = tuple[float, float]
"""What is minimised, the first first; the second breaks ties."""


class Worth:
    """The value of schedules under one choice of what to drop and cut, in whatever ways.

    The makespan and then the price, unless `late`: then the lateness, and after it
    the makespan or, with `price`, the price. Seconds.
    """

    def __init__(self, rest: Rest, choice: Choice, *, late: bool, price: bool) -> None:
        self.rest = rest
        self.choice = replace(choice, ways=frozenset())
        self.late, self.priced = late, price
        gone = rest.left_out(choice)
        self.stays = ~gone
        due = [(t, at) for t, at in rest.due.items() if t not in choice.dropped]
        self.ends = rest.problem.ends[[t for t, _ in due]] if due else np.zeros(0, np.int64)
        self.dues = np.array([at for _, at in due])
        self.deadline = inf if rest.deadline is None else rest.deadline
        table = rest.way_table
        rates = np.array(rest.rates or [0.0] * len(rest.problem.resources))
        kept = table.owner[self.stays[table.rows]]
        items = np.repeat(np.bincount(kept, minlength=len(table)), table.size)
        cost = (table.demands * rates).sum(axis=1) * table.durations / HOUR * items
        lost = table.quality_lost.copy()
        lost[table.first] = 0.0
        self.price_of_way: Floats = cost + lost
        """Of each way of `rest.way_table`: price of all its items, and quality lost."""
        given = rest.cost_of(self.choice) + rest.lost_by(self.choice)
        self.base = given - float(self.price_of_way[table.first].sum())
        kept_tasks = np.ones(len(rest.problem.task_ids))
        kept_tasks[list(choice.dropped)] = 0.0
        self.counted: Floats = table.items * kept_tasks[table.tasks]
        """Of each task with ways how many items use up budgets."""

    def price(self, places: Ints) -> float:
        """Price, value lost and quality lost with each task in the way that `places` says."""
        return self.base + float(self.price_of_way[self.rest.way_table.first + places].sum())

    def makespan(self, starts: Floats, lengths: Floats) -> float:
        """Finish of all that is not dropped, in seconds from the start of the run."""
        return float((starts + lengths)[self.stays].max(initial=self.rest.now))

    def __call__(self, starts: Floats, lengths: Floats, price: float) -> Value:
        """The value of a schedule with these durations, at this price."""
        whole = self.makespan(starts, lengths)
        if not self.late:
            return whole, price
        lateness = max(0.0, whole - self.deadline)
        if self.ends.size:
            own = (starts + lengths)[self.ends] - self.dues
            lateness = max(lateness, float(own.max()))
        return lateness, price if self.priced else whole
