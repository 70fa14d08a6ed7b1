"""Where a run stands on its network: earliest times, kept up to date one event at a time.

The network is the revision's partial order: dependencies and resource arcs.
What has ended and what runs is fixed by its actual times; the rest starts as
soon as everything before it has ended, and not before now. One event touches
only the nodes whose times it moves; where those are many, one pass over all
nodes is cheaper and is made instead. Times are seconds from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from heapq import heapify, heappop, heappush

import numpy as np

from athena_prefect.plan.graph import Bools, Floats, Network
from athena_prefect.schedule.passes import backward, forward


class Stage(IntEnum):
    """Where a node stands."""

    WAITING = 0
    RUNNING = 1
    DONE = 2
    DEAD = 3
    """It will not run, and nothing waits for it."""


# Plain numbers: numpy asks an enum's members for a dozen attributes that they do not have.
_WAITING, _RUNNING, _DONE, _DEAD = (int(stage) for stage in Stage)
_NEVER = -np.inf
"""Lag of an arc that does not count."""
_FEW = 200
"""Nodes up to which an update never is a pass over all of them."""
_SHARE = 16
"""One node in so many: an update that looks at more costs more than a pass over all."""


class Course:
    """Earliest starts and finishes of a run's nodes, and how long the rest takes after each."""

    def __init__(
        self, network: Network, durations: Floats, *, instant: Bools | None = None
    ) -> None:
        """`durations`: seconds, P50, shape (n,).

        `instant` nodes are no work: they are over as soon as all before them is.
        """
        count = len(network)
        self.durations = durations.astype(np.float64)
        self.stage = np.zeros(count, dtype=np.int8)
        self.start = np.zeros(count)
        self.finish = np.zeros(count)
        self.now = 0.0
        self.version = 0
        """Counts what changed the network itself: `after` and `latest` hold until the next."""
        self.scope = 0
        """Counts what changed which work there is: drops, returns, other modes."""
        self.touched = 0
        """Nodes looked at since the course was made: the cost of its updates."""
        self._instant = np.zeros(count, dtype=np.bool_) if instant is None else instant
        self._network = network
        self._after: Floats | None = None
        self._order: list[int] = network.order.tolist()
        self._rank: list[int] = network.rank.tolist()
        self._pred_ptr: list[int] = network.pred_ptr.tolist()
        self._pred: list[int] = network.pred.tolist()
        self._pred_lag: list[float] = network.pred_lag.tolist()
        self._succ_ptr: list[int] = network.succ_ptr.tolist()
        self._succ: list[int] = network.succ.tolist()
        self._gone: set[tuple[int, int]] = set()
        self._overtaken_by: dict[int, list[int]] = {}
        self._overtook: dict[int, list[int]] = {}
        self._dirty: set[int] = set()
        self._all_dirty = True

    def __len__(self) -> int:
        return len(self._order)

    # What happens

    def run(self, node: int, start: float, duration: float | None = None) -> bool:
        """Node `node` runs since `start`; whether everything before it has ended.

        Where it has not, the arcs are turned round: what should have been first
        now waits for the node that took its place. `duration`: seconds, where it
        runs in another mode.
        """
        if duration is not None and duration != self.durations[node]:
            self.durations[node] = duration
            self.scope += 1
            self._changed()
        in_order = self.stage[node] != _WAITING or self._turn_round(node)
        self.begin(node, start)
        return in_order

    def begin(self, node: int, start: float) -> None:
        """Node `node` counts as running from `start` on, whatever the order says.

        For the pieces of what is recorded as one: their own starts are not known.
        """
        self._put(node, _RUNNING, start, start + float(self.durations[node]))

    def end(self, node: int, start: float, finish: float) -> None:
        """Node `node` is over, and what waits for it may start."""
        self._put(node, _DONE, start, finish)

    def wait(self, node: int) -> None:
        """Node `node` is still, or once more, to be done."""
        self._put(node, _WAITING, self.now, self.now)

    def drop(self, node: int) -> None:
        """Node `node` will not run, and nothing waits for it."""
        self._put(node, _DEAD, self.now, 0.0)

    def _put(self, node: int, stage: int, start: float, finish: float) -> None:
        if (stage == _DEAD) != (self.stage[node] == _DEAD):
            self.scope += 1
            self._changed()
        self.stage[node] = stage
        self.start[node] = start
        self.finish[node] = finish
        self._dirty.add(node)
        self._dirty.update(self._behind(node))

    def _changed(self) -> None:
        self._after = None
        self.version += 1

    def _turn_round(self, node: int) -> bool:
        open_ = [tail for tail, _ in self._before(node) if not self.is_past(tail)]
        for tail in open_:
            self._gone.add((tail, node))
            if self.stage[tail] == _WAITING and not self._instant[tail]:
                self._overtaken_by.setdefault(tail, []).append(node)
                self._overtook.setdefault(node, []).append(tail)
        if open_:
            self._changed()
        return not open_

    def is_past(self, node: int) -> bool:
        """Whether node `node` is over; one that is no work is when all before it is."""
        if self._instant[node] and self.stage[node] == _WAITING:
            return all(self.stage[tail] >= _DONE for tail, _ in self._before(node))
        return bool(self.stage[node] >= _DONE)

    def _before(self, node: int) -> Iterator[tuple[int, float]]:
        """What `node` waits for, and how long after its end."""
        for arc in range(self._pred_ptr[node], self._pred_ptr[node + 1]):
            if not self._gone or (self._pred[arc], node) not in self._gone:
                yield self._pred[arc], self._pred_lag[arc]
        for other in self._overtaken_by.get(node, ()):
            yield other, 0.0

    def binding(self, node: int) -> tuple[int, float] | None:
        """What `node` waits, or waited, for last, and how long after its end; None if nothing."""
        live = [(t, lag) for t, lag in self._before(node) if self.stage[t] != _DEAD]
        return max(live, key=lambda arc: (self.finish[arc[0]] + arc[1], -arc[0]), default=None)

    def _behind(self, node: int) -> list[int]:
        """What waits for `node`."""
        heads = self._succ[self._succ_ptr[node] : self._succ_ptr[node + 1]]
        if self._gone:
            heads = [h for h in heads if (node, h) not in self._gone]
        return [*heads, *self._overtook.get(node, ())] if node in self._overtook else heads

    # What follows

    def advance(self, now: float) -> None:
        """Bring every time up to date at `now`, seconds from the start of the run."""
        self._all_dirty |= now < self.now
        self.now = now
        late = (self.stage == _WAITING) & (self.start < now) & ~self._instant
        late |= (self.stage == _RUNNING) & (self.finish < now)
        self._dirty.update(np.flatnonzero(late).tolist())
        if self._all_dirty or not self._propagate():
            self._sweep()

    def _propagate(self) -> bool:
        """Reckon anew what changes follow from the dirty nodes; False where they are too many."""
        limit = max(_FEW, len(self) // _SHARE)
        rank, order, queued = self._rank, self._order, self._dirty
        self._dirty = set()
        if len(queued) > limit:
            return False
        heap = [rank[node] for node in queued]
        heapify(heap)
        looked_at = 0
        while heap:
            node = order[heappop(heap)]
            queued.discard(node)
            looked_at += 1
            if looked_at > limit:
                return False
            if not self._retime(node):
                continue
            for head in self._behind(node):
                if head not in queued and self.stage[head] == _WAITING:
                    queued.add(head)
                    heappush(heap, rank[head])
        self.touched += looked_at
        return True

    def _retime(self, node: int) -> bool:
        """Reckon the times of `node` anew; whether what is behind it must look again."""
        stage = self.stage[node]
        if stage >= _DONE:
            return False
        start = float(self.start[node])
        if stage == _WAITING:
            start = 0.0 if self._instant[node] else self.now
            for tail, lag in self._before(node):
                if self.stage[tail] != _DEAD:
                    start = max(start, float(self.finish[tail]) + lag)
        finish = start + float(self.durations[node])
        if stage == _RUNNING:
            finish = max(finish, self.now)
        if finish == self.finish[node] and start == self.start[node]:
            return False
        self.start[node], self.finish[node] = start, finish
        return True

    def _sweep(self) -> None:
        """One forward pass over all nodes."""
        network, waiting = self._current(), self.stage == _WAITING
        running = self.stage == _RUNNING
        ends = np.maximum(self.start + self.durations, self.now)
        self.finish = np.where(running, ends, self.finish)
        # What has begun stands: as a point in time it keeps its finish to the last bit.
        floor = np.where(waiting, np.where(self._instant, 0.0, self.now), self.finish)
        lag = np.where(
            waiting[network.heads] & (self.stage[network.pred] != _DEAD), network.pred_lag, _NEVER
        )
        durations = np.where(waiting, self.durations, 0.0)
        start, finish = forward(network, durations, floor=floor, lag=lag)
        self.start = np.where(waiting, start, self.start)
        self.finish = np.where(waiting, finish, self.finish)
        self.touched += len(self)
        self._dirty.clear()
        self._all_dirty = False

    def _current(self) -> Network:
        """The network with what was turned round; into what has begun no arc leads any more."""
        if not self._gone:
            return self._network
        tail, head, lag, hard = self._network.arcs
        keep = self.stage[head] == _WAITING
        arcs = zip(tail.tolist(), head.tolist(), strict=True)
        keep &= [arc not in self._gone for arc in arcs]
        more = [(t, h) for t, heads in self._overtook.items() for h in heads]
        more = [(t, h) for t, h in more if self.stage[h] == _WAITING]
        return Network.build(
            self._network.ids,
            np.concatenate((tail[keep], np.array([t for t, _ in more], dtype=np.int64))),
            np.concatenate((head[keep], np.array([h for _, h in more], dtype=np.int64))),
            lag=np.concatenate((lag[keep], np.zeros(len(more)))),
            hard=np.concatenate((hard[keep], np.ones(len(more), dtype=np.bool_))),
        )

    @property
    def over(self) -> bool:
        """Whether nothing waits or runs any more."""
        return not self.open.any()

    @property
    def open(self) -> Bools:
        """The nodes that wait or run, but for those that are no work."""
        result: Bools = (self.stage < _DONE) & ~self._instant
        return result

    @property
    def end_of_all(self) -> float:
        """Finish of the last node, in seconds from the start of the run."""
        live = self.stage != _DEAD
        return float(self.finish[live].max(initial=0.0))

    @property
    def after(self) -> Floats:
        """Of each open node: seconds from its finish to the end of what depends on it."""
        if self._after is None:
            network = self._current()
            lag = np.where(self.stage[network.succ] == _DEAD, _NEVER, network.succ_lag)
            self._after = backward(network, self.durations, lag=lag)
        return self._after

    def latest(self, bound: float, own: Floats | None = None) -> Floats:
        """Latest finish of each node, so that nothing that depends on it ends after `bound`,
        nor any node after its `own` bound (inf: none).
        """
        latest = bound - self.after
        if own is None or not np.isfinite(own).any():
            return latest
        network = self._current()
        live = self.stage != _DEAD
        result: list[float] = np.minimum(latest, own).tolist()
        for node in network.order[::-1].tolist():
            for arc in range(int(network.succ_ptr[node]), int(network.succ_ptr[node + 1])):
                head = int(network.succ[arc])
                if live[head]:
                    before = result[head] - float(self.durations[head] + network.succ_lag[arc])
                    result[node] = min(result[node], before)
        return np.asarray(result)

    def floats(self) -> Floats:
        """Total float of each node in seconds: how much later it may end without moving the end."""
        return self.end_of_all - (self.finish + self.after)
