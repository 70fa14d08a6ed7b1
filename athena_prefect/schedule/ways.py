"""The ways of all tasks as arrays, for what looks at many of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from athena_prefect.plan.graph import Bools, Floats, Ints
from athena_prefect.schedule.problem import slack_of

if TYPE_CHECKING:
    from athena_prefect.schedule.rest import Rest


@dataclass(frozen=True, kw_only=True, eq=False)
class WayTable:
    """All ways of k tasks, one after the other: w in all; one vector says which each task takes.

    Such a vector of places, shape (k,), counts from each task's first way.
    """

    tasks: Ints
    """The tasks that have ways of their own, ascending, shape (k,)."""
    first: Ints
    """Of each the row of its first way, shape (k,)."""
    size: Ints
    """Of each how many it has, shape (k,)."""
    items: Ints
    """Of each how many items it has, shape (k,)."""
    estimates: Floats
    """Seconds, shape (w, 3)."""
    durations: Floats
    """PERT means in seconds, shape (w,)."""
    demands: Floats
    """Units of each resource, shape (w, r)."""
    consumes: Floats
    """What one item uses up of each budget, shape (w, b)."""
    quality_lost: Floats
    """1 − quality, shape (w,)."""
    names: tuple[str, ...]
    """The mode that each way is."""
    fits: Bools
    """The ways that do not need more than there is in the end, shape (w,)."""
    rows: Ints
    """The activities that ways speak of: items that have not begun."""
    owner: Ints
    """Of each of `rows` which of the k tasks it belongs to."""

    @classmethod
    def of(cls, rest: Rest) -> Self:
        """The table of what is left of a plan."""
        tasks = np.array(sorted(rest.ways), dtype=np.int64)
        lists = [rest.ways[t] for t in tasks.tolist()]
        ways = [way for several in lists for way in several]
        size = np.array([len(several) for several in lists], dtype=np.int64)
        resources, budgets = len(rest.problem.resources), len(rest.budgets)
        nothing = (0.0,) * budgets
        demands = np.array([w.demands for w in ways], dtype=float).reshape(len(ways), resources)
        durations = np.array([w.duration for w in ways], dtype=np.float64)
        there = rest.last_capacities
        enough = demands <= there + slack_of(there)
        fits: Bools = enough.all(axis=1) | (durations <= 0)
        place = np.full(len(rest.problem.task_ids), -1)
        place[tasks] = np.arange(len(tasks))
        owner = place[rest.problem.task_of]
        joins = np.zeros(len(owner), dtype=np.bool_)
        joins[rest.problem.ends[rest.problem.items != 1]] = True
        rows = np.flatnonzero((owner >= 0) & rest.free & ~joins)
        return cls(
            tasks=tasks,
            first=np.cumsum(size) - size,
            size=size,
            items=rest.problem.items[tasks],
            estimates=np.array([w.estimate for w in ways], dtype=float).reshape(len(ways), 3),
            durations=durations,
            demands=demands,
            consumes=np.array([w.consumes or nothing for w in ways], dtype=float).reshape(
                len(ways), budgets
            ),
            quality_lost=np.array([w.quality_lost for w in ways], dtype=np.float64),
            names=tuple(w.mode for w in ways),
            fits=fits,
            rows=rows,
            owner=owner[rows],
        )

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    def places(self, ways: Iterable[tuple[int, int]]) -> Ints:
        """Which way each task takes where `ways` says it of some; the first of the others."""
        result = np.zeros(len(self), dtype=np.int64)
        given = np.array(list(ways), dtype=np.int64).reshape(-1, 2)
        result[np.searchsorted(self.tasks, given[:, 0])] = given[:, 1]
        return result

    def chosen(self, places: Ints) -> dict[int, int]:
        """Task → which of its ways, as `Choice.of` wants it."""
        return dict(zip(self.tasks.tolist(), places.tolist(), strict=True))

    @cached_property
    def shortest(self) -> Floats:
        """Of each task the least duration of a way that fits, in seconds; inf where none does."""
        if not len(self):
            return np.zeros(0)
        return np.minimum.reduceat(np.where(self.fits, self.durations, np.inf), self.first)

    def least(self, score: Floats) -> Ints:
        """Of each task the place of its way of least `score`, shape (w,), among those that fit."""
        if not len(self):
            return np.zeros(0, dtype=np.int64)
        allowed = np.where(self.fits, score, np.inf)
        lowest = np.repeat(np.minimum.reduceat(allowed, self.first), self.size)
        index = np.arange(len(score)) - np.repeat(self.first, self.size)
        best = np.where(allowed <= lowest, index, len(score))
        result: Ints = np.minimum.reduceat(best, self.first)
        return result

    def used(self, places: Ints) -> Floats:
        """What all items together use up of each budget."""
        total: Floats = self.items @ self.consumes[self.first + places]
        return total
