"""Where a run stands on its network: earliest times, kept up to date one event at a time.

The network is the revision's partial order: dependencies and resource arcs.
What has ended and what runs is fixed by its actual times; the rest starts as
soon as everything before it has ended, and not before now. One event touches
only the nodes whose times it moves. Times are seconds from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Stage(IntEnum):
    """Where a node stands."""

    WAITING = 0
    RUNNING = 1
    DONE = 2
    DEAD = 3
    """It will not run, and nothing waits for it."""


class Course:
    """Earliest starts and finishes of a run's nodes, and how long the rest takes after each."""

    def __init__(
        self, durations: Floats, order: Sequence[int], tails: Ints, heads: Ints, lags: Floats
    ) -> None:
        """`durations` (seconds, P50) of the nodes; `order`: the nodes, topologically sorted;
        arc k: node ``heads[k]`` starts at least ``lags[k]`` seconds after ``tails[k]`` ends."""
        count = len(durations)
        self.durations = durations.astype(np.float64)
        self.stage = np.zeros(count, dtype=np.int8)
        self.start = np.zeros(count)
        self.finish = np.zeros(count)
        self.now = 0.0
        self._order = list(order)
        self._rank = [0] * count
        for rank, node in enumerate(self._order):
            self._rank[node] = rank
        self._before: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        self._behind: list[list[tuple[int, float]]] = [[] for _ in range(count)]
        for tail, head, lag in zip(tails.tolist(), heads.tolist(), lags.tolist(), strict=True):
            self._before[head].append((tail, lag))
            self._behind[tail].append((head, lag))
        self._dirty: set[int] = set()
        self._after: Floats | None = None
        self.touched = 0
        """Nodes looked at since the course was made: the cost of its updates."""
        self._dirty.update(range(count))

    def __len__(self) -> int:
        return len(self._order)

    def run(self, node: int, start: float, duration: float | None = None) -> bool:
        """Node `node` runs since `start`; whether everything before it has ended.

        Where it has not, the arcs are turned round: what should have been first
        now waits for the node that took its place.
        """
        if duration is not None and duration != self.durations[node]:
            self.durations[node] = duration
            self._after = None
        in_order = self.stage[node] != Stage.WAITING or self._turn_round(node)
        self._put(node, Stage.RUNNING, start, start + float(self.durations[node]))
        return in_order

    def end(self, node: int, start: float, finish: float) -> None:
        """Node `node` is over, and what waits for it may start."""
        self._put(node, Stage.DONE, start, finish)

    def wait(self, node: int) -> None:
        """Node `node` is still, or once more, to be done."""
        self._put(node, Stage.WAITING, self.now, self.now)

    def drop(self, node: int) -> None:
        """Node `node` will not run, and nothing waits for it."""
        self._after = None
        self._put(node, Stage.DEAD, self.now, 0.0)

    def _put(self, node: int, stage: Stage, start: float, finish: float) -> None:
        if (stage is Stage.DEAD) != (self.stage[node] == Stage.DEAD):
            self._after = None
        self.stage[node] = stage
        self.start[node] = start
        self.finish[node] = finish
        self._dirty.add(node)
        self._dirty.update(head for head, _ in self._behind[node])

    def _turn_round(self, node: int) -> bool:
        open_ = [a for a in self._before[node] if self.stage[a[0]] < Stage.DONE]
        for arc in open_:
            tail, _ = arc
            self._before[node].remove(arc)
            self._behind[tail] = [a for a in self._behind[tail] if a[0] != node]
            if self.stage[tail] == Stage.WAITING:
                self._before[tail].append((node, 0.0))
                self._behind[node].append((tail, 0.0))
        if open_:
            self._after = None
        return not open_

    def advance(self, now: float) -> None:
        """Bring every time up to date at `now`, seconds from the start of the run."""
        if now < self.now:
            self._dirty.update(np.flatnonzero(self.stage < Stage.DONE).tolist())
        self.now = now
        late = (self.stage == Stage.WAITING) & (self.start < now)
        late |= (self.stage == Stage.RUNNING) & (self.finish < now)
        self._dirty.update(np.flatnonzero(late).tolist())
        self._propagate()

    def _propagate(self) -> None:
        rank, order = self._rank, self._order
        heap = [rank[node] for node in self._dirty]
        heapify(heap)
        queued = self._dirty
        self._dirty = set()
        while heap:
            node = order[heappop(heap)]
            queued.discard(node)
            self.touched += 1
            if not self._retime(node):
                continue
            for head, _ in self._behind[node]:
                if head not in queued and self.stage[head] == Stage.WAITING:
                    queued.add(head)
                    heappush(heap, rank[head])

    def _retime(self, node: int) -> bool:
        """Reckon the times of `node` anew; whether what is behind it must look again."""
        stage = self.stage[node]
        if stage >= Stage.DONE:
            return True
        start = float(self.start[node])
        if stage == Stage.WAITING:
            start = self.now
            for tail, lag in self._before[node]:
                if self.stage[tail] != Stage.DEAD:
                    start = max(start, float(self.finish[tail]) + lag)
        finish = max(start + float(self.durations[node]), self.now)
        if finish == self.finish[node] and start == self.start[node]:
            return False
        self.start[node], self.finish[node] = start, finish
        return True

    @property
    def open(self) -> NDArray[np.bool_]:
        """The nodes that wait or run."""
        result: NDArray[np.bool_] = self.stage < Stage.DONE
        return result

    @property
    def end_of_all(self) -> float:
        """Finish of the last node, in seconds from the start of the run."""
        live = self.stage != Stage.DEAD
        return float(self.finish[live].max(initial=0.0))

    @property
    def after(self) -> Floats:
        """Of each node: seconds from its finish to the end of what depends on it."""
        if self._after is None:
            self._after = self._backward(np.zeros(len(self)), largest=True)
        return self._after

    def latest(self, bounds: Floats) -> Floats:
        """Latest finish of each node so that no node passes its bound (inf: none of its own)."""
        return -self._backward(-bounds, largest=True)

    def _backward(self, own: Floats, *, largest: bool) -> Floats:
        result: list[float] = own.tolist()
        durations: list[float] = self.durations.tolist()
        stages: list[int] = self.stage.tolist()
        dead = int(Stage.DEAD)
        for node in self._reverse_order():
            best = result[node]
            for head, lag in self._behind[node]:
                if stages[head] != dead:
                    best = max(best, result[head] + durations[head] + lag)
            result[node] = best
        return np.asarray(result)

    def _reverse_order(self) -> Iterable[int]:
        # An arc that was turned round leads from a running node to a waiting one.
        waiting = (self.stage == Stage.WAITING).tolist()
        yield from (n for n in reversed(self._order) if waiting[n])
        yield from (n for n in reversed(self._order) if not waiting[n])

    def floats(self) -> Floats:
        """Total float of each node in seconds: how much later it may end without moving the end."""
        return self.end_of_all - (self.finish + self.after)
