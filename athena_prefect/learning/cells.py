"""One row a task and run: what durations were, beside what was planned, without outliers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.findings import Group
from athena_prefect.learning.frame import History
from athena_prefect.learning.statistics import Floats, group_quantiles, group_sums

Codes = NDArray[Any]
QUARTILES = 1.349
"""Standard deviations between a normal distribution's quartiles."""
DENSE = 4_000_000
"""Cells of a table of groups by runs that are held at once: 32 MB a column."""


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
    """`values` no farther from their task's median than so many robust standard deviations.

    The deviation of a normal distribution with these quartiles (1.349 of it lie between).
    """
    low, middle, high = group_quantiles(task, tasks, values, (0.25, 0.5, 0.75))
    reach = sigmas * (high - low) / QUARTILES
    # Where half of the values are equal there is no scale to call another one far.
    reach[reach == 0] = np.inf
    cut: Floats = np.clip(values, (middle - reach)[task], (middle + reach)[task])
    return cut


def layers_of(groups: Sequence[Group], tasks: int) -> list[tuple[NDArray[np.int64], list[int]]]:
    """Groups of several tasks as layers of disjoint ones: by task its group's place, or -1."""
    layers: list[tuple[NDArray[np.int64], list[int]]] = []
    for number, group in enumerate(groups):
        if len(group.tasks) < 2:
            continue
        free = [own for own in layers if (own[0][group.tasks] < 0).all()]
        if not free:
            free = [(np.full(tasks, -1, dtype=np.int64), [])]
            layers += free
        code, members = free[0]
        code[group.tasks] = len(members)
        members.append(number)
    return layers


class Clusters:
    """Sums by group and run, for groups that overlap: over the sets of tasks that all share."""

    def __init__(self, groups: Sequence[Group], tasks: int, runs: int) -> None:
        self.runs = runs
        owners: list[list[int]] = [[] for _ in range(tasks)]
        for number, group in enumerate(groups):
            if len(group.tasks) > 1:
                for task in group.tasks.tolist():
                    owners[task].append(number)
        self.atom = np.full(tasks, -1, dtype=np.int64)
        atoms: dict[tuple[int, ...], int] = {}
        for task, own in enumerate(owners):
            if own:
                self.atom[task] = atoms.setdefault(tuple(own), len(atoms))
        parts: dict[int, list[int]] = {}
        for own_groups, atom in atoms.items():
            for number in own_groups:
                parts.setdefault(number, []).append(atom)
        self.count = len(atoms)
        self.parts = parts

    def tables(
        self, task: Codes, run: Codes, columns: Sequence[Floats | None]
    ) -> Iterator[tuple[list[int], list[Floats]]]:
        """Places of groups, and for each column its sums by group and run (None: cells).

        In blocks, so that many groups of many runs do not need all of the memory.
        """
        if not self.count:
            return
        atom = self.atom[task]
        inside = atom >= 0
        if not inside.all():
            atom, run = atom[inside], run[inside]
            columns = [None if c is None else c[inside] for c in columns]
        key = atom * self.runs + run
        if self.count * self.runs <= DENSE:
            cut = [0, self.count]
        else:
            order = np.argsort(key)
            key = key[order]
            columns = [None if c is None else c[order] for c in columns]
            cut = [*range(0, self.count, max(DENSE // self.runs, 1)), self.count]
        spread = {n: a for n, a in self.parts.items() if len(a) > 1}
        whole = {n: [np.zeros(self.runs) for _ in columns] for n in spread}
        alone = {a[0]: n for n, a in self.parts.items() if len(a) == 1}
        for low, high in pairwise(cut):
            rows = slice(None)
            if len(cut) > 2:
                rows = slice(*np.searchsorted(key, (low * self.runs, high * self.runs)).tolist())
            shape = (high - low, self.runs)
            made = [
                np.bincount(
                    key[rows] - low * self.runs,
                    weights=None if c is None else c[rows],
                    minlength=shape[0] * shape[1],
                )
                .reshape(shape)
                .astype(np.float64, copy=False)
                for c in columns
            ]
            for number, atoms in spread.items():
                own = [a - low for a in atoms if low <= a < high]
                for total, table in zip(whole[number], made, strict=True):
                    total += table[own].sum(axis=0)
            single = [a for a in range(low, high) if a in alone]
            if single:
                yield [alone[a] for a in single], [t[[a - low for a in single]] for t in made]
        if spread:
            yield (
                list(spread),
                [np.stack([whole[n][c] for n in spread]) for c in range(len(columns))],
            )
