"""Earliest times that follow one event at a time, touching only what it moves."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Floats, Network
from athena_prefect.schedule.passes import backward, forward


class ForwardPass:
    """Earliest starts and finishes of a network, kept up to date; seconds.

    Tails (from a node's finish to the end of all that depends on it) do not change
    when something starts or ends, so a latest start is one makespan less a kept
    number. It belongs to one thread.
    """

    def __init__(
        self, network: Network, durations: Floats, *, release: Floats | float = 0.0
    ) -> None:
        """Reckon everything once: linear in nodes and arcs."""
        self.network = network
        start, finish = forward(network, durations, floor=release)
        count = len(network)
        self._floor: list[float] = np.broadcast_to(np.asarray(release), (count,)).tolist()
        self._start: list[float] = start.tolist()
        self._finish: list[float] = finish.tolist()
        self._durations: list[float] = durations.tolist()
        self._fixed = [False] * count
        self._tails: Floats | None = None
        self._rank: list[int] = network.rank.tolist()
        self._order: list[int] = network.order.tolist()
        self._before = (
            network.pred_ptr.tolist(),
            network.pred.tolist(),
            network.pred_lag.tolist(),
        )
        self._behind = network.succ_ptr.tolist(), network.succ.tolist()
        # All finishes, the latest first; entries that are no longer true are dropped when met.
        self._latest = [(-f, i) for i, f in enumerate(self._finish)]
        heapify(self._latest)
        self.touched = 0
        """Nodes looked at since it was made: what updates have cost."""

    @property
    def starts(self) -> Floats:
        """Earliest starts, shape (n,)."""
        return np.array(self._start, dtype=np.float64)

    @property
    def finishes(self) -> Floats:
        """Earliest finishes, shape (n,)."""
        return np.array(self._finish, dtype=np.float64)

    @property
    def makespan(self) -> float:
        """Finish of the last node; 0 where there is none."""
        heap = self._latest
        while heap and -heap[0][0] != self._finish[heap[0][1]]:
            heappop(heap)
        return max(0.0, -heap[0][0]) if heap else 0.0

    @property
    def tails(self) -> Floats:
        """From each node's finish to the end of all that depends on it, shape (n,)."""
        if self._tails is None:
            self._tails = backward(self.network, np.array(self._durations, dtype=np.float64))
        return self._tails

    def latest_start(self, node: int) -> float:
        """Start of `node` that just keeps the makespan."""
        return self.makespan - float(self.tails[node]) - self._durations[node]

    def total_float(self, node: int) -> float:
        """How much later `node` may end without moving the makespan."""
        return self.makespan - float(self.tails[node]) - self._finish[node]

    def update(
        self,
        node: int,
        *,
        start: float | None = None,
        finish: float | None = None,
        duration: float | None = None,
    ) -> tuple[int, ...]:
        """Take in what has become known of `node`; the nodes whose times moved, in order.

        `start`: it has started then, whatever it waits for. `finish`: it ends then.
        `duration`: how long it takes. Raises PlanError where finish is before start.
        """
        if start is not None:
            self._start[node] = start
            self._fixed[node] = True
        if finish is not None:
            duration = finish - self._start[node]
            self._fixed[node] = True
        if duration is not None:
            if duration < 0:
                raise PlanError(f"{self.network.ids[node]!r} would end before it starts")
            if duration != self._durations[node] and finish is None:
                self._tails = None
            self._durations[node] = duration
        return self._propagate(node)

    def _propagate(self, first: int) -> tuple[int, ...]:
        rows, heads = self._behind
        rank, order = self._rank, self._order
        queue, queued, moved = [rank[first]], {first}, []
        while queue:
            node = order[heappop(queue)]
            self.touched += 1
            if not self._retime(node) and node != first:
                continue
            moved.append(node)
            for head in heads[rows[node] : rows[node + 1]]:
                if head not in queued and not self._fixed[head]:
                    queued.add(head)
                    heappush(queue, rank[head])
        if len(self._latest) > 2 * len(order) + 1:
            self._latest = [(-f, i) for i, f in enumerate(self._finish)]
            heapify(self._latest)
        return tuple(moved)

    def _retime(self, node: int) -> bool:
        """Reckon the times of `node` anew; whether they moved."""
        start = self._start[node]
        if not self._fixed[node]:
            rows, tails, lags = self._before
            start = self._floor[node]
            for arc in range(rows[node], rows[node + 1]):
                start = max(start, self._finish[tails[arc]] + lags[arc])
        finish = start + self._durations[node]
        if start == self._start[node] and finish == self._finish[node]:
            return False
        self._start[node], self._finish[node] = start, finish
        heappush(self._latest, (-finish, node))
        return True
