"""When the open work of a run ends where only so many tasks run at once, in many scenarios."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.schedule.passes import forward


def slots_of(demands: Floats, capacities: Floats) -> float | None:
    """Tasks that may run at once, where that is all there is to say; else None.

    `demands`: units that each task takes, shape (n, resources). Where they differ, and
    all tasks at once would take more than there is, it depends on which tasks run.
    """
    slots = np.inf
    for demand, capacity in zip(demands.T, capacities.tolist(), strict=True):
        if not demand.any() or (demand.min() < demand.max() and demand.sum() <= capacity):
            continue
        if demand.min() < demand.max():
            return None
        slots = min(slots, float(np.floor(capacity / demand[0] + 1e-9)))
    return max(slots, 1.0)


def first_come(
    network: Network,
    durations: Floats,
    slots: float,
    *,
    now: float = 0.0,
    finish: Floats | None = None,
    start: Floats | None = None,
    instant: Bools | None = None,
) -> tuple[Floats, Floats]:
    """Starts and finishes where who is ready first begins first, on `slots` equal slots.

    `durations`: seconds, shape (n,). `start` and `finish` (NaN: not yet) fix what
    has happened; what runs ends at its start + duration, not before `now`. `instant`
    activities are no work: they take neither time nor a slot.
    """
    count = len(network)
    begun = np.full(count, np.nan) if start is None else start.copy()
    ended = np.full(count, np.nan) if finish is None else finish.copy()
    waiting: list[int] = np.diff(network.pred_ptr).tolist()
    done: Bools = ~np.isnan(ended)
    running = np.flatnonzero(~np.isnan(begun) & ~done)
    ended[running] = np.maximum(begun[running] + durations[running], now)
    for node in np.flatnonzero(done).tolist():
        for after in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]].tolist():
            waiting[after] -= 1
    open_: list[bool] = np.isnan(begun).tolist()
    ready = [(now, node) for node in range(count) if open_[node] and waiting[node] == 0]
    heapify(ready)
    ends = [(float(ended[node]), node) for node in running.tolist()]
    heapify(ends)
    free = slots - len(ends)
    moment = now
    lengths: list[float] = durations.tolist()
    succ_ptr, succ = network.succ_ptr.tolist(), network.succ.tolist()
    lags: list[float] = network.succ_lag.tolist()
    free_of_work: list[bool] = [False] * count if instant is None else instant.tolist()
    while ready or ends:
        while ready and free > 0 and ready[0][0] <= moment:
            _, node = heappop(ready)
            length = 0.0 if free_of_work[node] else lengths[node]
            begun[node], ended[node] = moment, moment + length
            heappush(ends, (moment + length, node))
            free -= 1
        if ready and free > 0 and (not ends or ready[0][0] < ends[0][0]):
            moment = ready[0][0]
            continue
        moment, node = heappop(ends)
        free += 1
        for k in range(succ_ptr[node], succ_ptr[node + 1]):
            after = succ[k]
            waiting[after] -= 1
            if waiting[after] == 0 and open_[after]:
                heappush(ready, (moment + lags[k], after))
    return begun, ended


def finishes_of(
    network: Network,
    durations: Floats,
    slots: float,
    *,
    now: float,
    order: Ints,
    running: Ints,
    ends: Floats,
    instant: Bools | None = None,
) -> Floats:
    """Finishes of the open work in each scenario, shape (running + waiting, samples); seconds.

    The rows are those of `running`, which hold a slot each until `ends`, then those of
    `order`: the waiting activities in the order in which they get a slot, their
    durations `durations` of shape (len(order), samples). `instant` ones need none.
    """
    samples = durations.shape[1]
    if slots >= len(order) + len(running):
        return _unlimited(network, durations, now=now, order=order, running=running, ends=ends)
    place = np.full(len(network), -1, dtype=np.int64)
    place[running] = np.arange(len(running))
    place[order] = len(running) + np.arange(len(order))
    finishes = np.empty((len(running) + len(order), samples))
    finishes[: len(running)] = ends
    count = max(int(slots), 1)
    # When each slot is free, ascending in every scenario; one row a slot. Where more run than
    # there are slots, the last ones to end are what holds the slots.
    free = np.sort(np.concatenate((np.full((count, samples), now), ends)), axis=0)[-count:]
    after = np.empty_like(free)
    pred_ptr, pred = network.pred_ptr.tolist(), place[network.pred].tolist()
    lags = network.pred_lag.tolist()
    rows = list(finishes)
    idle: list[bool] = [False] * len(order) if instant is None else instant[order].tolist()
    for k, node in enumerate(order.tolist()):
        row = rows[len(running) + k]
        if idle[k]:
            row.fill(now)
        else:
            row[:] = free[0]
        for arc in range(pred_ptr[node], pred_ptr[node + 1]):
            before = pred[arc]
            if before >= 0:
                reached = rows[before] + lags[arc] if lags[arc] else rows[before]
                np.maximum(row, reached, out=row)
        if not idle[k]:
            row += durations[k]
            # The first slot is taken and free again at `row`: put into its place among the
            # others, which two passes over all slots do faster than a search for it.
            after[-1] = row
            np.minimum(free[1:], row, out=after[:-1])
            np.maximum(after[1:], free[1:], out=after[1:])
            free, after = after, free
    return finishes


def _unlimited(
    network: Network, durations: Floats, *, now: float, order: Ints, running: Ints, ends: Floats
) -> Floats:
    lengths = np.zeros((len(network), durations.shape[1]))
    floor = np.full(len(network), -np.inf)
    floor[order] = now
    lengths[order] = durations
    floor[running] = 0.0
    lengths[running] = ends
    lag = network.pred_lag.copy()
    into = np.zeros(len(network), dtype=np.bool_)
    into[order] = True
    lag[~into[network.heads]] = -np.inf
    _, finishes = forward(network, lengths, floor=floor, lag=lag)
    result: Floats = finishes[np.concatenate((running, order))]
    return result
