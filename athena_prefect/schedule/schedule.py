"""When each task of a plan runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledTask:
    """When one task runs, in seconds from the start of the run; a mapped one as a whole."""

    task_id: str
    start: float
    finish: float
    mode: str
    items: int = 1

    @property
    def duration(self) -> float:
        """Seconds from the first item's start to the last one's finish."""
        return self.finish - self.start


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Starts and finishes of a problem's activities, in seconds, shape (n,)."""

    problem: Problem
    starts: Floats
    finishes: Floats
    fixed: Bools
    """The activities that had started already: their starts were given."""

    @property
    def makespan(self) -> float:
        """Finish of the last activity; 0 where there is none."""
        return float(self.finishes.max(initial=0.0))

    @cached_property
    def task_starts(self) -> Floats:
        """Start of each task's first item, shape (tasks,)."""
        return first_of_rows(self.problem, self.starts)

    @cached_property
    def task_finishes(self) -> Floats:
        """Finish of each task, shape (tasks,)."""
        return self.finishes[self.problem.ends]

    @cached_property
    def tasks(self) -> Mapping[str, ScheduledTask]:
        """The schedule by task id, in the order of the plan."""
        problem = self.problem
        return {
            name: ScheduledTask(task_id=name, start=start, finish=finish, mode=mode, items=items)
            for name, start, finish, mode, items in zip(
                problem.task_ids,
                self.task_starts.tolist(),
                self.task_finishes.tolist(),
                problem.modes,
                problem.items.tolist(),
                strict=True,
            )
        }


def first_of_rows(problem: Problem, starts: Floats) -> Floats:
    """Of each task the least of its activities' starts."""
    if not len(problem.task_ids):
        return np.zeros(0)
    return np.minimum.reduceat(starts, problem.rows[:-1])
