"""What nodes of a run wait for: dependencies, and who gives up a resource to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from athena_prefect.plan.graph import Bools, Floats, Ints

SAME = 1.0
"""Seconds within which two moments are one: the dispatcher looks at least every second."""
EXACT = 1e-3
"""The same for planned moments, and for who gave up a resource to whom: what is recorded is in
milliseconds."""


class Arc(NamedTuple):
    """What a node waits for: a dependency, or who gives up a resource to it."""

    tail: int
    head: int
    lag: float
    """Seconds."""
    hard: bool


@dataclass(frozen=True, eq=False)
class Arcs:
    """Arcs as columns; a slice, a mask or places of it are arcs again, iterating gives each."""

    tail: Ints
    head: Ints
    lag: Floats
    hard: Bools

    @classmethod
    def of(cls, arcs: Iterable[Arc]) -> Arcs:
        """Arcs given one by one."""
        found = list(arcs)
        return cls(
            np.array([a.tail for a in found], dtype=np.int64),
            np.array([a.head for a in found], dtype=np.int64),
            np.array([a.lag for a in found], dtype=np.float64),
            np.array([a.hard for a in found], dtype=np.bool_),
        )

    def __len__(self) -> int:
        return len(self.tail)

    def __iter__(self) -> Iterator[Arc]:
        columns = self.tail.tolist(), self.head.tolist(), self.lag.tolist(), self.hard.tolist()
        return (Arc(*values) for values in zip(*columns, strict=True))

    def __getitem__(self, rows: Any) -> Arcs:
        return Arcs(self.tail[rows], self.head[rows], self.lag[rows], self.hard[rows])

    def __add__(self, other: Arcs) -> Arcs:
        columns = ("tail", "head", "lag", "hard")
        return Arcs(*(np.concatenate((getattr(self, c), getattr(other, c))) for c in columns))


def through(arcs: Arcs, start: Floats, durations: Floats) -> Floats:
    """Finishes with every node at its start; those without one start when all before ended."""
    finish = start + durations
    missing = np.isnan(start)
    if not missing.any():
        return finish
    into: dict[int, list[Arc]] = {i: [] for i in np.flatnonzero(missing).tolist()}
    for arc in arcs[missing[arcs.head]]:
        into[arc.head].append(arc)
    # Depth first, so that of two such nodes the earlier is known first.
    todo = list(into)
    while todo:
        head = todo[-1]
        if not np.isnan(finish[head]):
            todo.pop()
            continue
        open_ = [a.tail for a in into[head] if np.isnan(finish[a.tail])]
        if open_:
            todo += open_
            continue
        begin = max((finish[a.tail] + a.lag for a in into[head]), default=0.0)
        finish[head] = begin + durations[head]
        todo.pop()
    return finish


def ready(arcs: Arcs, durations: Floats, start: Floats) -> Floats:
    """When all before a node have ended, with every node at its given start."""
    return arrivals(arcs, through(arcs, start, durations))


def arrivals(arcs: Arcs, finish: Floats) -> Floats:
    """The latest finish plus lag over the arcs into each node, 0 where there is none."""
    found = np.zeros(len(finish))
    np.maximum.at(found, arcs.head, finish[arcs.tail] + arcs.lag)
    return found


def held(arcs: Arcs, start: Floats, durations: Floats) -> tuple[Arcs, Arcs]:
    """The arcs that a run kept, and those that it did not."""
    finish = through(arcs, start, durations)
    # A head without a start compares as not late: it is NaN.
    late = finish[arcs.tail] + arcs.lag > start[arcs.head] + SAME
    return arcs[~late], arcs[late]


def kept_order(
    planned: tuple[Floats, Floats],
    actual: tuple[Floats, Floats],
    demands: Floats,
    ready_at: Floats,
) -> Arcs:
    """Arcs for those that were planned to start when another gave up a resource, and did.

    One for each, from the one that gave it up last: waiting for it is no contention
    that the plan had not reckoned with. `planned`, `actual`: starts and finishes.
    """
    waiting = np.flatnonzero(planned[0] - ready_at > EXACT).tolist()
    if not waiting:
        return Arcs.of(())
    # Plain numbers: numpy's are slow one at a time.
    begins, ends = (a.tolist() for a in planned)
    began, ended = (a.tolist() for a in actual)
    # Which resources it takes, as bits; beyond 62 of them they share the bits.
    bits = np.left_shift(1, np.arange(demands.shape[1]) % 62)
    takes = np.bitwise_or.reduce(np.where(demands > 0, bits, 0), axis=1).tolist()
    ending = _by_moment(planned[1])
    tails, heads = [], []
    for i in waiting:
        moment, here = begins[i], takes[i]
        near = round(moment / SAME)
        best, last = -1, -np.inf
        for k in (near - 1, near, near + 1):
            for j in ending.get(k, ()):
                if (
                    ended[j] > last
                    and abs(ends[j] - moment) <= EXACT
                    and ended[j] <= began[i] + EXACT
                    and takes[j] & here
                    # Strictly later both ways, so that no order closes a circle.
                    and begins[j] < moment
                    and began[j] < began[i]
                ):
                    best, last = j, ended[j]
        if best >= 0:
            tails.append(best)
            heads.append(i)
    return _hard(tails, heads)


def inferred(planned: tuple[Floats, Floats], actual: tuple[Floats, Floats]) -> Arcs:
    """Where the plan is not known: who was planned to start when another ended waits for it.

    One arc for each, from the one that really ended last before it started.
    `planned`, `actual`: starts and finishes.
    """
    both = planned[1] + actual[1]
    known = np.flatnonzero(~np.isnan(both)).tolist()
    ending = _by_moment(np.where(np.isnan(both), np.nan, planned[1]))
    begins, began, ended = planned[0].tolist(), actual[0].tolist(), actual[1].tolist()
    tails, heads = [], []
    for i in known:
        if begins[i] <= 0:
            continue
        moment = round(begins[i] / SAME)
        before = [
            j
            for k in (moment - 1, moment, moment + 1)
            for j in ending.get(k, ())
            if begins[j] < begins[i] and began[j] < began[i] and ended[j] <= began[i] + SAME
        ]
        if before:
            tails.append(max(before, key=ended.__getitem__))
            heads.append(i)
    return _hard(tails, heads)


def _by_moment(moments: Floats) -> dict[int, list[int]]:
    """Nodes by their moment in whole `SAME`s, of those that have one."""
    found: dict[int, list[int]] = defaultdict(list)
    nodes = np.flatnonzero(~np.isnan(moments))
    for node, moment in zip(nodes.tolist(), moments[nodes].tolist(), strict=True):
        found[round(moment / SAME)].append(node)
    return found


def _hard(tails: list[int], heads: list[int]) -> Arcs:
    tail, head = np.array(tails, dtype=np.int64), np.array(heads, dtype=np.int64)
    return Arcs(tail, head, np.zeros(len(tail)), np.ones(len(tail), dtype=np.bool_))
