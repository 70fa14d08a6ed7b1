"""One row a task and run: what durations were, beside what was planned, without outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.findings import Group
from athena_prefect.learning.frame import History
from athena_prefect.learning.statistics import MAD_TO_SIGMA, Floats, group_medians, group_sums

Codes = NDArray[Any]
DENSE = 4_000_000
"""Cells of a table of groups by runs: of more groups several are made."""


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
        """Those cells, with a `y` of their own."""
        return Cells(
            self.y[rows], self.task[rows], self.run[rows], self.tasks, self.runs, self.rows[rows]
        )


def cells_of(history: History, rows: Codes, values: Floats) -> Cells:
    """The mean of `values` (one for each of `rows`) over each task and run."""
    tasks, runs = len(history.tasks), len(history.runs)
    task, run = history.task[rows], history.run[rows]
    key = run.astype(np.int64) * max(tasks, 1) + task
    order = np.argsort(key, kind="stable") if (np.diff(key) <= 0).any() else np.arange(len(key))
    key = key[order]
    first = np.flatnonzero(np.concatenate(([True], np.diff(key) > 0))) if len(key) else order
    values = values[order]
    if len(first) < len(key):
        totals = np.add.reduceat(values, first)
        values = totals / np.diff(np.concatenate((first, [len(key)])))
    own = order[first] if len(key) else order
    return Cells(values.copy(), task[own], run[own], tasks, runs, rows[own])


def cut_off(values: Floats, task: Codes, tasks: int, sigmas: float) -> Floats:
    """`values` no farther from their task's median than so many robust standard deviations."""
    middle = group_medians(task, tasks, values)[task]
    off = values - middle
    reach = sigmas * MAD_TO_SIGMA * group_medians(task, tasks, np.abs(off))[task]
    # Where half of the values are equal there is no scale to call another one far.
    reach[reach == 0] = np.inf
    cut: Floats = middle + np.clip(off, -reach, reach)
    return cut


def layers_of(
    groups: list[Group], tasks: int, runs: int
) -> list[tuple[NDArray[np.int64], list[int]]]:
    """Groups of several tasks as layers of disjoint ones: by task its group's place, or -1."""
    layers: list[tuple[NDArray[np.int64], list[int]]] = []
    for number, group in enumerate(groups):
        if len(group.tasks) < 2:
            continue
        for code, members in layers:
            if len(members) < max(DENSE // max(runs, 1), 1) and (code[group.tasks] < 0).all():
                break
        else:
            code, members = np.full(tasks, -1, dtype=np.int64), []
            layers.append((code, members))
        code[group.tasks] = len(members)
        members.append(number)
    return layers


def by_run(code: Codes, groups: int, run: Codes, runs: int, values: Floats | None) -> Floats:
    """Sums of `values` by group and run; rows whose code is -1 are left out."""
    inside = code >= 0
    if inside.all():
        key, weights = code * runs + run, values
    else:
        key = code[inside] * runs + run[inside]
        weights = None if values is None else values[inside]
    table = np.bincount(key, weights=weights, minlength=groups * runs)
    return table.reshape(groups, runs).astype(np.float64)
