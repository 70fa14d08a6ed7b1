"""A finished run once more, with something changed: when would it have ended?

Tasks take what they took, failed attempts and outside waits included, and start in
the order in which they started, each as soon as all that it depends on has ended
and there is enough of every resource. What the change gains is the difference of
two replays, so that what a replay does not know of the run is in both.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Mapping
from functools import lru_cache
from heapq import heapify, heappop, heappush

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.learning.arcs import Arcs
from athena_prefect.learning.past import Past
from athena_prefect.plan.graph import Floats

DUST = 1e-9
"""Rounding of amounts and of seconds."""
PASSED_BY = 5
"""Kinds of demands that do not fit which are passed by, at a moment, for one that does: a
dispatcher has few kinds of tasks waiting, and a replay must not look at every one each time."""


def replayed(
    past: Past,
    *,
    without: Collection[tuple[str, str]] = (),
    capacities: Mapping[str, float] | None = None,
    demands: Floats | None = None,
    further: Collection[tuple[str, str]] = (),
    shared: tuple[float, Floats] | None = None,
    retries: Floats | None = None,
    holds: Floats | None = None,
    durations: Floats | None = None,
) -> float:
    """Makespan in seconds of the run without some dependencies (before, after), with `further`
    ones, with other amounts of some resources, or other demands of shape (n, resources).

    `shared`: a resource more, its capacity and what each node takes of it; `retries`:
    other seconds of failed attempts, `holds`: of outside waits, `durations`: of work, by
    node. A task that asks for more of a resource than there is gets all of it. Raises
    PlanError where the plan, and so its resources, is not known.
    """
    if not past.names:
        raise PlanError("a run can be replayed only where its plan is known")
    there = past.capacities.copy()
    for name, amount in (capacities or {}).items():
        there[past.names.index(name)] = amount
    takes = past.demands if demands is None else demands
    if shared is not None:
        there = np.append(there, shared[0])
        takes = np.column_stack([takes, shared[1]])
    lengths = past.actual if durations is None else durations
    lengths = lengths + (past.retries if retries is None else retries)
    arcs = _arcs(past, without, further)
    takes = np.minimum(takes, there)
    return _Replay(
        past, arcs, there, takes, lengths, past.hold if holds is None else holds
    ).makespan()


def _arcs(
    past: Past, without: Collection[tuple[str, str]], further: Collection[tuple[str, str]]
) -> Arcs:
    """The dependencies that are kept, and those that are added."""
    arcs = past.planned_arcs
    place = {name: i for i, name in enumerate(past.names_of_tasks)} if without or further else {}
    for before, after in without:
        if before in place and after in place:
            tails, heads = past.codes[arcs.tail], past.codes[arcs.head]
            arcs = arcs[(tails != place[before]) | (heads != place[after])]
    for before, after in further:
        tail, head = past.last_of(before), past.nodes_of[after]
        count = len(head)
        # What held a node back did so after what it waited for then, not after this.
        lags = -past.hold[list(head)]
        arcs += Arcs(
            np.full(count, tail),
            np.array(head, dtype=np.int64),
            lags,
            np.ones(count, dtype=np.bool_),
        )
    return arcs


@lru_cache(maxsize=64)
def as_it_was(past: Past) -> float:
    """Makespan of the run replayed with nothing changed."""
    return replayed(past)


def gain(past: Past, **changes: object) -> float:
    """Seconds by which the run would have ended earlier."""
    return as_it_was(past) - replayed(past, **changes)  # type: ignore[arg-type]


class _Replay:
    """The events of one replay.

    Flat lists of plain numbers throughout: of ten thousand nodes, small lists and rows
    of numbers would take most of the time.
    """

    def __init__(
        self,
        past: Past,
        arcs: Arcs,
        capacities: Floats,
        takes: Floats,
        lengths: Floats,
        holds: Floats,
    ) -> None:
        count = len(past.tasks)
        self.free: list[float] = capacities.tolist()
        self.lengths: list[float] = lengths.tolist()
        self.holds: list[float] = holds.tolist()
        self.left: list[int] = np.bincount(arcs.head, minlength=count).tolist()
        order = np.argsort(arcs.tail, kind="stable")
        self.heads: list[int] = arcs.head[order].tolist()
        self.lags: list[float] = arcs.lag[order].tolist()
        sizes = np.bincount(arcs.tail, minlength=count)
        self.ptr: list[int] = np.concatenate(([0], np.cumsum(sizes))).tolist()
        self.ready_at = [0.0] * count
        rank = np.empty(count, dtype=np.int64)
        rank[past.order] = np.arange(count)
        self.rank: list[int] = rank.tolist()
        self.node: list[int] = past.order.tolist()
        """By rank."""
        # Nodes that take the same wait in one line: where its first does not fit, none does.
        # (Rows as bytes: sorting rows of numbers takes ten times as long.)
        rows = np.ascontiguousarray(takes).view(
            np.dtype((np.void, takes.itemsize * takes.shape[1]))
        )
        _, first, which = np.unique(rows.ravel(), return_index=True, return_inverse=True)
        self.needs: list[list[tuple[int, float]]] = [
            [(r, a) for r, a in enumerate(kind) if a > 0] for kind in takes[first].tolist()
        ]
        self.kind: list[int] = which.reshape(-1).tolist()
        self.lines: dict[int, list[int]] = {}
        """By kind the ranks of those that wait, the first first."""
        self.fronts: list[int] = []
        """Ranks of the lines' first ones, in order."""

    def makespan(self) -> float:
        """The moment at which the last node ends."""
        events: list[tuple[float, int]] = [
            (self.holds[node], node) for node, left in enumerate(self.left) if not left
        ]
        heapify(events)
        now = 0.0
        while events:
            now = events[0][0]
            # All that ends, or becomes ready, at one moment is seen before anything starts.
            while events and events[0][0] <= now + DUST:
                node = heappop(events)[1]
                if node < 0:
                    self._end(~node, now, events)
                else:
                    self._wait(self.rank[node], self.kind[node])
            if self.fronts:
                self._start(now, events)
        return now

    def _wait(self, rank: int, kind: int) -> None:
        line = self.lines.setdefault(kind, [])
        if not line or rank < line[0]:
            if line:
                del self.fronts[bisect_left(self.fronts, line[0])]
            insort(self.fronts, rank)
        heappush(line, rank)

    def _end(self, node: int, now: float, events: list[tuple[float, int]]) -> None:
        free, left, ready_at = self.free, self.left, self.ready_at
        for resource, amount in self.needs[self.kind[node]]:
            free[resource] += amount
        for arc in range(self.ptr[node], self.ptr[node + 1]):
            head, reached = self.heads[arc], now + self.lags[arc]
            if reached > ready_at[head]:
                ready_at[head] = reached
            left[head] -= 1
            if not left[head]:
                heappush(events, (ready_at[head] + self.holds[head], head))

    def _start(self, now: float, events: list[tuple[float, int]]) -> None:
        free, fronts = self.free, self.fronts
        place = 0
        while place < min(len(fronts), PASSED_BY):
            node = self.node[fronts[place]]
            kind = self.kind[node]
            for resource, amount in self.needs[kind]:
                if free[resource] < amount - DUST:
                    place += 1
                    break
            else:
                for resource, amount in self.needs[kind]:
                    free[resource] -= amount
                line = self.lines[kind]
                heappop(line)
                del fronts[place]
                if line:
                    insort(fronts, line[0])
                heappush(events, (now + self.lengths[node], ~node))
