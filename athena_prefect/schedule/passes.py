"""Longest ways through a network, forwards and backwards, with any weights.

Both passes are linear in nodes and arcs. Wide networks go level by level in
numpy, narrow ones (long chains) node by node in a plain loop.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from athena_prefect.plan.graph import NARROW, Floats, Ints, Network

TOLERANCE = 1e-6
"""Seconds below which two moments are the same: the resolution of a `timedelta`."""


def rounding(network: Network, makespan: float) -> float:
    """Seconds that adding up along a longest way can be off by, and no less than TOLERANCE."""
    steps = len(network.levels) + 1
    return max(TOLERANCE, steps * float(np.finfo(np.float64).eps) * abs(makespan))


def forward(
    network: Network,
    durations: Floats,
    *,
    floor: Floats | float = 0.0,
    lag: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Earliest starts and finishes, each of the shape of `durations`, in seconds.

    `durations` of shape (n,), or (n, k) for k cases at once. A start is the latest
    of its `floor` and of its predecessors' finishes plus lag; `lag` replaces the
    network's own, arc by arc as in ``network.pred`` (−inf takes an arc out).
    """
    weights = network.pred_lag if lag is None else lag
    floors = np.broadcast_to(np.asarray(floor, dtype=np.float64), (len(network),))
    if durations.ndim == 1:
        if network.narrow:
            if lag is None and not floors.any():
                return _forward_over_rows(network, durations)
            return _forward_in_a_loop(network, durations, floors, weights)
    elif len(network) * durations.shape[1] < NARROW * len(network.levels):
        passes = [_forward_in_a_loop(network, d, floors, weights) for d in durations.T]
        return np.stack([p[0] for p in passes], axis=1), np.stack([p[1] for p in passes], axis=1)
    layout, order = network.layout, network.order
    bounds, tails, ptr = layout.bounds, layout.in_tail, layout.in_ptr.tolist()
    weight, start, length = weights[layout.in_arc], floors[order], durations[order]
    if durations.ndim == 2:
        weight = weight[:, None]
        start = np.repeat(start[:, None], durations.shape[1], axis=1)
    finish = start + length
    offsets = layout.in_offset
    for a, b in pairwise(bounds[1:]):
        low, high = ptr[a], ptr[b]
        reached = finish[tails[low:high]]
        reached += weight[low:high]
        begin = np.maximum.reduceat(reached, offsets[a:b])
        np.maximum(begin, start[a:b], out=begin)
        start[a:b] = begin
        np.add(begin, length[a:b], out=finish[a:b])
    return _restored(order, start), _restored(order, finish)


def _forward_over_rows(network: Network, durations: Floats) -> tuple[Floats, Floats]:
    """Without floors and with the network's own lags."""
    rows, order = network.rows, network.order
    tails, lags = rows.tails, rows.lags
    start: list[float] = []
    finish: list[float] = []
    at = 0
    for count, length in zip(rows.counts, durations[order].tolist(), strict=True):
        begin = 0.0
        if lags is None:
            for tail in tails[at : at + count]:
                if finish[tail] > begin:
                    begin = finish[tail]
        else:
            for arc in range(at, at + count):
                reached = finish[tails[arc]] + lags[arc]
                if reached > begin:
                    begin = reached
        at += count
        start.append(begin)
        finish.append(begin + length)
    return _restored(order, np.array(start)), _restored(order, np.array(finish))


def _forward_in_a_loop(
    network: Network, durations: Floats, floors: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    ptr, tails = network.pred_ptr.tolist(), network.pred.tolist()
    lags, lengths = weights.tolist(), durations.tolist()
    start: list[float] = floors.tolist()
    finish = [0.0] * len(start)
    for node in network.order.tolist():
        begin = start[node]
        for arc in range(ptr[node], ptr[node + 1]):
            reached = finish[tails[arc]] + lags[arc]
            if reached > begin:
                begin = reached
        start[node] = begin
        finish[node] = begin + lengths[node]
    return np.array(start, dtype=np.float64), np.array(finish, dtype=np.float64)


def backward(network: Network, durations: Floats, *, lag: Floats | None = None) -> Floats:
    """Tails, shape (n,): seconds from each node's finish to the end of all that depends on it.

    A latest finish is a makespan less the tail, so that a new makespan moves all
    of them by one number. `lag` replaces the network's, as in ``network.succ``.
    """
    weights = network.succ_lag if lag is None else lag
    if network.narrow:
        return _backward_in_a_loop(network, durations, weights)
    layout, order = network.layout, network.order
    bounds, inner, heads, ptr = layout.bounds, layout.inner, layout.out_head, layout.out_ptr
    weight = weights[layout.out_arc]
    tail = np.zeros(len(network))
    whole = durations[order]
    length = whole.copy()
    for level in range(len(inner) - 1, -1, -1):
        a, b = bounds[level], inner[level]
        if a == b:
            continue
        row = slice(ptr[a], ptr[b])
        left = whole[heads[row]]
        left += weight[row]
        longest = np.maximum(np.maximum.reduceat(left, ptr[a:b] - ptr[a]), 0.0)
        tail[a:b] = longest
        whole[a:b] = longest + length[a:b]
    return _restored(order, tail)


def _backward_in_a_loop(network: Network, durations: Floats, weights: Floats) -> Floats:
    ptr, heads = network.succ_ptr.tolist(), network.succ.tolist()
    lags, whole = weights.tolist(), durations.tolist()
    tail = [0.0] * len(whole)
    for node in reversed(network.order.tolist()):
        longest = 0.0
        for arc in range(ptr[node], ptr[node + 1]):
            left = whole[heads[arc]] + lags[arc]
            if left > longest:
                longest = left
        tail[node] = longest
        whole[node] += longest
    return np.array(tail, dtype=np.float64)


def _restored(order: Ints, values: Floats) -> Floats:
    """Values by place in `order`, by index."""
    result: NDArray[np.float64] = np.empty_like(values)
    result[order] = values
    return result
