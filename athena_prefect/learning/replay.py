"""A finished run once more, with something changed: when would it have ended?

Tasks take what they took, failed attempts and outside waits included, and start in
the order in which they started, each as soon as all that it depends on has ended
and there is enough of every resource. What the change gains is the difference of
two replays, so that what a replay does not know of the run is in both.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.learning.past import Past
from athena_prefect.plan.graph import Floats


def replayed(
    past: Past,
    *,
    without: Collection[tuple[str, str]] = (),
    capacities: Mapping[str, float] | None = None,
    demands: Floats | None = None,
) -> float:
    """Makespan in seconds of the run without some dependencies (before, after), or with other
    amounts of some resources, or other demands of shape (n, resources).

    A task that asks for more of a resource than there is gets all of it. Raises
    PlanError where the plan, and so its resources, is not known.
    """
    if not past.names:
        raise PlanError("a run can be replayed only where its plan is known")
    there = past.capacities.copy()
    for name, amount in (capacities or {}).items():
        there[past.names.index(name)] = amount
    takes = np.minimum(past.demands if demands is None else demands, there)
    return _Replay(past, frozenset(without), there, takes).makespan()


@lru_cache(maxsize=64)
def as_it_was(past: Past) -> float:
    """Makespan of the run replayed with nothing changed."""
    return replayed(past)


def gain(past: Past, **changes: object) -> float:
    """Seconds by which the run would have ended earlier."""
    return as_it_was(past) - replayed(past, **changes)  # type: ignore[arg-type]


class _Replay:
    """The events of one replay."""

    def __init__(
        self, past: Past, without: frozenset[tuple[str, str]], capacities: Floats, takes: Floats
    ) -> None:
        count = len(past.tasks)
        self.free = capacities.tolist()
        self.lengths = (past.actual + past.retries).tolist()
        self.holds = past.hold.tolist()
        self.left = [0] * count
        self.behind: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        for arc in past.arcs[: past.dependencies]:
            if without and (past.tasks[arc.tail], past.tasks[arc.head]) in without:
                continue
            self.behind[arc.tail].append((arc.head, arc.lag))
            self.left[arc.head] += 1
        self.ready_at = [0.0] * count
        self.rank = [0] * count
        for place, node in enumerate(past.order.tolist()):
            self.rank[node] = place
        # Nodes that take the same wait in one line: where its first does not fit, none does.
        # (Rows as bytes: sorting rows of numbers takes ten times as long.)
        rows = np.ascontiguousarray(takes).view(
            np.dtype((np.void, takes.itemsize * takes.shape[1]))
        )
        _, first, which = np.unique(rows.ravel(), return_index=True, return_inverse=True)
        kinds = takes[first]
        self.kinds: list[list[tuple[int, float]]] = [
            [(r, float(a)) for r, a in enumerate(kind.tolist()) if a > 0] for kind in kinds
        ]
        self.kind = which.reshape(-1).tolist()
        self.lines: list[list[tuple[int, int]]] = [[] for _ in kinds]
        self.waiting = 0

    def makespan(self) -> float:
        """The moment at which the last node ends."""
        events: list[tuple[float, int, int]] = []
        for node, left in enumerate(self.left):
            if not left:
                heapq.heappush(events, (self.holds[node], 0, node))
        now = 0.0
        while events:
            now = events[0][0]
            # All that ends, or becomes ready, at one moment is seen before anything starts.
            while events and events[0][0] <= now + 1e-9:
                _, ends, node = heapq.heappop(events)
                if ends:
                    self._end(node, now, events)
                else:
                    heapq.heappush(self.lines[self.kind[node]], (self.rank[node], node))
                    self.waiting += 1
            self._start(now, events)
        return now

    def _end(self, node: int, now: float, events: list[tuple[float, int, int]]) -> None:
        for resource, amount in self.kinds[self.kind[node]]:
            self.free[resource] += amount
        for head, lag in self.behind[node]:
            self.left[head] -= 1
            self.ready_at[head] = max(self.ready_at[head], now + lag)
            if not self.left[head]:
                heapq.heappush(events, (self.ready_at[head] + self.holds[head], 0, head))

    def _start(self, now: float, events: list[tuple[float, int, int]]) -> None:
        while self.waiting:
            fits = [
                (line[0], kind)
                for kind, line in enumerate(self.lines)
                if line and all(self.free[r] >= a - 1e-9 for r, a in self.kinds[kind])
            ]
            if not fits:
                return
            (_, node), kind = min(fits)
            heapq.heappop(self.lines[kind])
            self.waiting -= 1
            for resource, amount in self.kinds[kind]:
                self.free[resource] -= amount
            heapq.heappush(events, (now + self.lengths[node], 1, node))
