"""The network of a plan as arrays: topological order, levels, ancestors, a cycle's witness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from athena_prefect.errors import CycleError, PlanError

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NARROW = 15
"""Nodes a level below which a plain loop beats one numpy call a level.

Measured: a chain of 100,000 nodes takes 446 ms level by level and 44 ms in a loop.
"""
_PROBE = 32
"""Levels after which the shape of a network is judged, time and again."""


def find_cycle(ids: Sequence[str], arcs: Iterable[tuple[str, str]]) -> tuple[str, ...] | None:
    """A cycle of the arcs (from, to), each node before the one that waits for it; None without one.

    It starts and ends with the same id. Linear in ids and arcs. An arc to or from
    what is not among `ids` closes no cycle and is left out.
    """
    known = set(ids)
    before: dict[str, list[str]] = {name: [] for name in ids}
    behind: dict[str, list[str]] = {name: [] for name in ids}
    for tail, head in arcs:
        if tail in known and head in known:
            before[head].append(tail)
            behind[tail].append(head)
    waits = {name: len(tails) for name, tails in before.items()}
    ready = [name for name, count in waits.items() if not count]
    while ready:
        for head in behind[ready.pop()]:
            waits[head] -= 1
            if not waits[head]:
                ready.append(head)
    # What still waits has a predecessor that still waits: walking back must come round.
    here = next((name for name, count in waits.items() if count), None)
    if here is None:
        return None
    seen: dict[str, int] = {}
    walk: list[str] = []
    while here not in seen:
        seen[here] = len(walk)
        walk.append(here)
        here = next(tail for tail in before[here] if waits[tail])
    return tuple(reversed([*walk[seen[here] :], here]))


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes and finish-to-start arcs in compressed rows, both ways.

    Node i's predecessors are ``pred[pred_ptr[i]:pred_ptr[i + 1]]``, its successors
    likewise. `order` is topological and sorted by level; level k is
    ``order[levels[k]:levels[k + 1]]``, in which nodes that have successors come first.
    A node's level is the number of arcs on the longest way to it.
    """

    ids: tuple[str, ...]
    pred_ptr: Ints
    pred: Ints
    pred_lag: Floats
    """Seconds between the predecessor's finish and the start, arc by arc."""
    pred_hard: Bools
    succ_ptr: Ints
    succ: Ints
    succ_lag: Floats
    succ_hard: Bools
    order: Ints
    levels: Ints

    @classmethod
    def of(cls, plan: Plan) -> Network:
        """The network of a plan's tasks, in document order, all dependencies included.

        Raises CycleError.
        """
        index = {task.id: i for i, task in enumerate(plan.tasks)}
        arcs = [(index[d.task], index[t.id], d) for t in plan.tasks for d in t.upstream]
        return cls.build(
            plan.task_ids,
            [tail for tail, _, _ in arcs],
            [head for _, head, _ in arcs],
            lag=[d.lag.total_seconds() for _, _, d in arcs],
            hard=[d.hard for _, _, d in arcs],
        )

    @classmethod
    def build(
        cls,
        ids: Sequence[str],
        tails: ArrayLike,
        heads: ArrayLike,
        *,
        lag: ArrayLike = 0.0,
        hard: ArrayLike = True,
    ) -> Network:
        """The network with arcs ``tails[k]`` → ``heads[k]`` (indices into `ids`).

        `lag` in seconds and `hard` are one for all arcs or one for each. Linear in
        nodes and arcs, but for sorting the arcs. Raises CycleError, and PlanError for
        an arc to nowhere or a lag that is negative or endless.
        """
        tail = np.asarray(tails, dtype=np.int64)
        head = np.asarray(heads, dtype=np.int64)
        lags = np.broadcast_to(np.asarray(lag, dtype=np.float64), tail.shape)
        firm = np.broadcast_to(np.asarray(hard, dtype=np.bool_), tail.shape)
        count = len(ids)
        _inspect(count, tail, head, lags)
        into, pred_ptr = _rows(head, count)
        out, succ_ptr = _rows(tail, count)
        level = _levels(pred_ptr, succ_ptr, head[out])
        if level is None:
            names = ((ids[t], ids[h]) for t, h in zip(tail.tolist(), head.tolist(), strict=True))
            raise CycleError(find_cycle(ids, names) or ())
        sink = np.diff(succ_ptr) == 0
        order = np.lexsort((sink, level)).astype(np.int64)
        sizes = np.bincount(level)
        return cls(
            ids=tuple(ids),
            pred_ptr=pred_ptr,
            pred=tail[into],
            pred_lag=lags[into],
            pred_hard=firm[into],
            succ_ptr=succ_ptr,
            succ=head[out],
            succ_lag=lags[out],
            succ_hard=firm[out],
            order=order,
            levels=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Id → index."""
        return {name: i for i, name in enumerate(self.ids)}

    @cached_property
    def heads(self) -> Ints:
        """Head of each arc of `pred`."""
        return np.repeat(np.arange(len(self)), np.diff(self.pred_ptr))

    @property
    def arcs(self) -> tuple[Ints, Ints, Floats, Bools]:
        """Tails, heads, lags (s) and hardness of the arcs, sorted by head."""
        return self.pred, self.heads, self.pred_lag, self.pred_hard

    @property
    def narrow(self) -> bool:
        """Whether levels are so small that plain loops are the faster way through."""
        return len(self) < NARROW * (len(self.levels) - 1)

    @cached_property
    def rank(self) -> Ints:
        """Place of each node in `order`."""
        rank = np.empty(len(self), dtype=np.int64)
        rank[self.order] = np.arange(len(self))
        return rank

    @cached_property
    def rows(self) -> Rows:
        """What passes node by node need."""
        return Rows(self)

    @cached_property
    def layout(self) -> Layout:
        """What passes over the levels need."""
        return Layout(self)

    def extended(self, tails: ArrayLike, heads: ArrayLike) -> Network:
        """This network with further hard arcs without lag. Raises CycleError."""
        tail, head, lag, hard = self.arcs
        more = np.asarray(tails, dtype=np.int64)
        return Network.build(
            self.ids,
            np.concatenate((tail, more)),
            np.concatenate((head, np.asarray(heads, dtype=np.int64))),
            lag=np.concatenate((lag, np.zeros(len(more)))),
            hard=np.concatenate((hard, np.ones(len(more), dtype=np.bool_))),
        )

    def reversed(self) -> Network:
        """This network with every arc turned round."""
        tail, head, lag, hard = self.arcs
        return Network.build(self.ids, head, tail, lag=lag, hard=hard)

    def ancestors(self, i: int) -> Ints:
        """Indices of all nodes that lead to node `i`, ascending."""
        return _reached(i, self._pred_lists)

    def descendants(self, i: int) -> Ints:
        """Indices of all nodes that node `i` leads to, ascending."""
        return _reached(i, self._succ_lists)

    @cached_property
    def _pred_lists(self) -> tuple[list[int], list[int]]:
        return self.pred_ptr.tolist(), self.pred.tolist()

    @cached_property
    def _succ_lists(self) -> tuple[list[int], list[int]]:
        return self.succ_ptr.tolist(), self.succ.tolist()


class Rows:
    """A network with its nodes renamed to their places in `order`, as plain numbers.

    Flat lists: so many small ones would each be looked at by the garbage collector.
    """

    def __init__(self, network: Network) -> None:
        picked, ptr = _rows_in_order(network.pred_ptr, network.order)
        lags = network.pred_lag[picked]
        self.counts: list[int] = np.diff(ptr).tolist()
        """Arcs into each place."""
        self.tails: list[int] = network.rank[network.pred[picked]].tolist()
        """Where they come from, place by place."""
        self.lags: list[float] | None = lags.tolist() if lags.any() else None
        """Theirs; None where there is none at all."""


class Layout:
    """A network with its nodes renamed to their places in `order`, for passes over its levels.

    Place k's incoming arcs are ``in_ptr[k]:in_ptr[k + 1]`` of `in_tail` (places) and
    `in_arc` (indices into ``network.pred``), outgoing ones likewise. Level l is
    ``bounds[l]:bounds[l + 1]``, of which those before ``inner[l]`` have successors.
    """

    def __init__(self, network: Network) -> None:
        order, rank = network.order, network.rank
        self.in_arc, self.in_ptr = _rows_in_order(network.pred_ptr, order)
        self.in_tail = rank[network.pred[self.in_arc]]
        self.out_arc, self.out_ptr = _rows_in_order(network.succ_ptr, order)
        self.out_head = rank[network.succ[self.out_arc]]
        has_heads = np.diff(self.out_ptr) > 0
        levels = network.levels
        before = np.concatenate(([0], np.cumsum(has_heads)))
        self.bounds: list[int] = levels.tolist()
        # Where each place's arcs begin, counted from the first arc of its level.
        self.in_offset = self.in_ptr[:-1] - np.repeat(self.in_ptr[levels[:-1]], np.diff(levels))
        # Nodes that have successors come first in their level.
        self.inner: list[int] = (levels[:-1] + before[levels[1:]] - before[levels[:-1]]).tolist()


def _rows_in_order(ptr: Ints, order: Ints) -> tuple[Ints, Ints]:
    sizes = ptr[order + 1] - ptr[order]
    rows = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    picked = np.repeat(ptr[order] - rows[:-1], sizes) + np.arange(rows[-1])
    return picked.astype(np.int64), rows


def _inspect(count: int, tail: Ints, head: Ints, lag: Floats) -> None:
    if tail.shape != head.shape:
        raise PlanError(f"{tail.size} tails and {head.size} heads: an arc has one of each")
    for end in (tail, head):
        if end.size and not 0 <= end.min() <= end.max() < count:
            raise PlanError(f"an arc leads outside the {count} nodes; indices are 0 … {count - 1}")
    if not (np.isfinite(lag) & (lag >= 0)).all():
        raise PlanError("a lag is negative or endless; give seconds, zero or more")


def _rows(key: Ints, count: int) -> tuple[Ints, Ints]:
    """The arcs sorted by `key`, and where each node's row begins."""
    sizes = np.bincount(key, minlength=count)
    return np.argsort(key, kind="stable"), np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def _levels(pred_ptr: Ints, succ_ptr: Ints, succ: Ints) -> Ints | None:
    """Level of each node (Kahn 1962, a whole level at once); None where there is a cycle."""
    count = len(pred_ptr) - 1
    waits = np.diff(pred_ptr)
    level = np.full(count, -1, dtype=np.int64)
    front = np.flatnonzero(waits == 0)
    done = depth = judged = 0
    while front.size:
        level[front] = depth
        done += front.size
        depth += 1
        if depth % _PROBE == 0:
            # Judged by the newest levels: many sources say nothing of what comes behind them.
            if done - judged < NARROW * _PROBE:
                done += _levels_in_a_loop(front, waits, level, succ_ptr, succ)
                break
            judged = done
        heads, hits = np.unique(_gather(succ_ptr, succ, front), return_counts=True)
        waits[heads] -= hits
        front = heads[waits[heads] == 0]
    return level if done == count else None


def _levels_in_a_loop(front: Ints, waits: Ints, level: Ints, succ_ptr: Ints, succ: Ints) -> int:
    """Levels of all nodes behind `front`, written into `level`; how many there were."""
    ready, waiting, depth = front.tolist(), waits.tolist(), level.tolist()
    start, heads = succ_ptr.tolist(), succ.tolist()
    done = -len(ready)
    while ready:
        node = ready.pop()
        done += 1
        after = depth[node] + 1
        for head in heads[start[node] : start[node + 1]]:
            depth[head] = max(depth[head], after)
            waiting[head] -= 1
            if not waiting[head]:
                ready.append(head)
    level[:] = depth
    return done


def _gather(ptr: Ints, values: Ints, nodes: Ints) -> Ints:
    """The rows of `nodes`, one after the other."""
    sizes = ptr[nodes + 1] - ptr[nodes]
    offsets = np.cumsum(sizes) - sizes
    picked: Ints = values[np.repeat(ptr[nodes] - offsets, sizes) + np.arange(sizes.sum())]
    return picked


def _reached(i: int, rows: tuple[list[int], list[int]]) -> Ints:
    start, nodes = rows
    seen: set[int] = set()
    todo = [i]
    while todo:
        node = todo.pop()
        for other in nodes[start[node] : start[node + 1]]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return np.array(sorted(seen), dtype=np.int64)
