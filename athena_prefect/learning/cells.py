"""One row a task and run: what durations were, beside what was planned, without outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.frame import History
from athena_prefect.learning.statistics import Floats, group_quantiles, group_sums

Codes = NDArray[Any]
QUARTILES = 1.349
"""Standard deviations between a normal distribution's quartiles."""


@dataclass(slots=True)
class Cells:
    """A figure for each task and run: of a mapped task the mean over its items.

    `y` is changed in place as effects are explained. Rows are in the order of runs.
    """

    y: Floats
    task: Codes
    run: Codes
    tasks: int
    runs: int
    rows: Codes
    """A row of the history for each cell: the first one of the task in the run."""

    def __len__(self) -> int:
        return len(self.y)

    def counts(self) -> Floats:
        """Cells of each task."""
        return group_sums(self.task, self.tasks)

    def demeaned(self) -> Floats:
        """`y` less its task's mean: what is left when each task is as slow as it is."""
        mean = group_sums(self.task, self.tasks, self.y) / np.maximum(self.counts(), 1)
        rest: Floats = self.y - mean[self.task]
        return rest

    def taken(self, rows: Codes) -> Cells:
        """Those cells, with a `y` of their own and their runs numbered anew."""
        runs, run = np.unique(self.run[rows], return_inverse=True)
        return Cells(self.y[rows], self.task[rows], run, self.tasks, len(runs), self.rows[rows])


def cells_of(history: History, rows: Codes, values: Floats) -> Cells:
    """The mean of `values` (one for each of `rows`) over each task and run."""
    tasks, runs = len(history.tasks), len(history.runs)
    # Codes as wide as the machine counts with: each sum over groups would widen them again.
    task, run = history.task[rows].astype(np.intp), history.run[rows].astype(np.intp)
    key = run * max(tasks, 1) + task
    if (key[1:] > key[:-1]).all():
        return Cells(values.copy(), task, run, tasks, runs, rows)
    order = np.argsort(key, kind="stable") if (key[1:] < key[:-1]).any() else np.arange(len(key))
    key = key[order]
    first = np.flatnonzero(np.concatenate(([True], key[1:] > key[:-1])))
    values = values[order]
    if len(first) < len(key):
        totals = np.add.reduceat(values, first)
        values = totals / np.diff(np.concatenate((first, [len(key)])))
    own = order[first]
    return Cells(values, task[own], run[own], tasks, runs, rows[own])


def cut_off(values: Floats, task: Codes, tasks: int, sigmas: float, least: float = 0.0) -> Floats:
    """`values` no farther from their task's median than so many robust standard deviations, or
    than `least` where that is more.

    The deviation of a normal distribution with these quartiles (1.349 of it lie between).
    """
    low, middle, high = group_quantiles(task, tasks, values, (0.25, 0.5, 0.75))
    reach = np.maximum(sigmas * (high - low) / QUARTILES, np.where(high > low, least, 0.0))
    # Where half of the values are equal there is no scale to call another one far.
    reach[reach == 0] = np.inf
    cut: Floats = np.clip(values, (middle - reach)[task], (middle + reach)[task])
    return cut
