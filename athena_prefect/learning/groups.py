"""Groups of tasks of which one figure may hold, and sums over them, also by run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.results import SubjectKind
from athena_prefect.learning.statistics import Floats

Codes = NDArray[Any]
Tasks = NDArray[np.int64]
DENSE = 4_000_000
"""Cells of a table of groups by runs that are held at once: 32 MB a column."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks of which one figure may hold."""

    kind: SubjectKind
    name: str
    tasks: Tasks


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups over so many tasks, with what sums over them need."""

    each: Sequence[Group]
    tasks: int

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[Group]:
        return iter(self.each)

    def __getitem__(self, place: int) -> Group:
        return self.each[place]

    def of(self, *kinds: SubjectKind) -> Groups:
        """Those of these kinds."""
        return Groups([g for g in self.each if g.kind in kinds], self.tasks)

    def some(self, groups: Iterable[Group]) -> Groups:
        """Other groups over the same tasks."""
        return Groups(list(groups), self.tasks)

    @cached_property
    def pairs(self) -> tuple[Tasks, Tasks]:
        """Every (group's place, task of it), as two arrays."""
        if not self.each:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        members = [g.tasks for g in self.each]
        counts = [len(m) for m in members]
        return np.repeat(np.arange(len(members)), counts), np.concatenate(members)

    @cached_property
    def size(self) -> Floats:
        """Tasks of each group."""
        return np.bincount(self.pairs[0], minlength=len(self)).astype(np.float64)

    @cached_property
    def wide(self) -> Tasks:
        """Places of the groups of several tasks."""
        return np.flatnonzero(self.size > 1)

    @cached_property
    def alone(self) -> tuple[Tasks, Tasks]:
        """Places of the groups of one task, and their tasks."""
        places = np.flatnonzero(self.size == 1)
        return places, np.array([self.each[p].tasks[0] for p in places.tolist()], dtype=np.int64)

    @cached_property
    def clusters(self) -> Clusters:
        """Sums of the groups of several tasks by run."""
        return Clusters(self)

    @cached_property
    def _members(self) -> tuple[Tasks, Tasks]:
        """Tasks of the groups of several, one after the other, and where each group begins."""
        members = [self.each[p].tasks for p in self.wide.tolist()]
        if not members:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        bounds = np.cumsum([0, *(len(m) for m in members[:-1])])
        return np.concatenate(members), bounds

    def sums(self, by_task: Floats) -> Floats:
        """Sums over the tasks of each group."""
        found = np.zeros(len(self))
        places, code = self.alone
        found[places] = by_task[code]
        tasks, bounds = self._members
        if len(tasks):
            found[self.wide] = np.add.reduceat(by_task[tasks], bounds)
        return found


def groups_of(
    tasks: Sequence[str],
    task_category: NDArray[Any],
    categories: Sequence[str],
    there: NDArray[np.bool_],
    *,
    plan: str = "",
    resources: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Groups:
    """The groups over the tasks that are there: all, categories, resources, single tasks.

    The wider comes first and no set of tasks comes twice, so that of two names for the
    same tasks the better one stands; a category of one task is that task.
    """
    found: list[Group] = []
    known: set[bytes] = set()

    def offer(kind: SubjectKind, name: str, members: Tasks) -> None:
        key = members.tobytes()
        if len(members) > 1 and key not in known:
            known.add(key)
            found.append(Group(kind, name, members))

    codes = np.flatnonzero(there)
    own = task_category[codes]
    order = np.argsort(own, kind="stable")
    for members in np.split(codes[order], np.flatnonzero(np.diff(own[order])) + 1):
        if len(members):
            offer(SubjectKind.CATEGORY, categories[task_category[members[0]]], members)
    offer(SubjectKind.PLAN, plan, codes)
    for name, uses in (resources or {}).items():
        offer(SubjectKind.RESOURCE, name, np.flatnonzero(there & uses))
    found += [Group(SubjectKind.TASK, tasks[code], np.array([code])) for code in codes.tolist()]
    return Groups(found, len(tasks))


def layers_of(groups: Groups) -> list[tuple[NDArray[np.int64], list[int]]]:
    """Groups of several tasks as layers of disjoint ones: by task its group's place, or -1."""
    layers: list[tuple[NDArray[np.int64], list[int]]] = []
    for number in groups.wide.tolist():
        own = groups[number].tasks
        free = [layer for layer in layers if (layer[0][own] < 0).all()]
        if not free:
            free = [(np.full(groups.tasks, -1, dtype=np.int64), [])]
            layers += free
        code, members = free[0]
        code[own] = len(members)
        members.append(number)
    return layers


class Clusters:
    """Sums by group and run, for groups that overlap: over the sets of tasks that all share."""

    def __init__(self, groups: Groups) -> None:
        code = np.zeros(groups.tasks, dtype=np.int64)
        for layer, members in layers_of(groups):
            code = np.unique(code * (len(members) + 1) + layer + 1, return_inverse=True)[1]
        inside = np.zeros(groups.tasks, dtype=np.bool_)
        for place in groups.wide.tolist():
            inside[groups[place].tasks] = True
        self.atom = np.full(groups.tasks, -1, dtype=np.int64)
        self.atom[inside] = np.unique(code[inside], return_inverse=True)[1]
        self.count = int(self.atom.max(initial=-1)) + 1
        self.parts: dict[int, list[int]] = {
            place: np.unique(self.atom[groups[place].tasks]).tolist()
            for place in groups.wide.tolist()
        }

    def tables(
        self, task: Codes, run: Codes, runs: int, columns: Sequence[Floats | None]
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
        key = atom * runs + run
        if self.count * runs <= DENSE:
            cut = [0, self.count]
        else:
            order = np.argsort(key)
            key = key[order]
            columns = [None if c is None else c[order] for c in columns]
            cut = [*range(0, self.count, max(DENSE // runs, 1)), self.count]
        spread = {n: a for n, a in self.parts.items() if len(a) > 1}
        whole = {n: [np.zeros(runs) for _ in columns] for n in spread}
        alone = {a[0]: n for n, a in self.parts.items() if len(a) == 1}
        for low, high in pairwise(cut):
            rows = slice(None)
            if len(cut) > 2:
                rows = slice(*np.searchsorted(key, (low * runs, high * runs)).tolist())
            shape = (high - low, runs)
            made = [
                np.bincount(
                    key[rows] - low * runs,
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
