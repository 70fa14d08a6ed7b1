"""The critical path method: earliest and latest times, floats, a longest chain.

Kelley, Walker 1959, for finish-to-start arcs with lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from athena_prefect.plan.graph import Bools, Floats, Network
from athena_prefect.schedule.passes import backward, forward, rounding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CriticalPath:
    """Times of a network's nodes in seconds, float64, shape (n,), in the order of its ids."""

    network: Network
    earliest_start: Floats
    earliest_finish: Floats
    tail: Floats
    """From a node's finish to the end of all that depends on it."""
    makespan: float
    """Finish of the last node."""
    total_float: Floats
    """How much later a node may end without moving the makespan; exactly 0 where critical."""
    free_float: Floats
    """How much later a node may end without moving any other; at most its total float."""

    @property
    def latest_finish(self) -> Floats:
        """Latest finish that keeps the makespan."""
        return self.makespan - self.tail

    @property
    def latest_start(self) -> Floats:
        """Latest start that keeps the makespan."""
        return self.earliest_start + self.total_float

    @property
    def critical(self) -> Bools:
        """The nodes without total float, up to `passes.rounding`."""
        mask: Bools = self.total_float == 0.0
        return mask

    def path(self) -> tuple[str, ...]:
        """The ids of one longest chain, from its first node to the last finish.

        Of several the one with the lowest indices, seen from its end.
        """
        if not len(self.network):
            return ()
        network, slack = self.network, rounding(self.network, self.makespan)
        node = int(np.argmax(self.earliest_finish))
        chain = [node]
        while True:
            row = slice(network.pred_ptr[node], network.pred_ptr[node + 1])
            reached = self.earliest_finish[network.pred[row]] + network.pred_lag[row]
            binding = network.pred[row][reached >= self.earliest_start[node] - slack]
            if not binding.size:
                return tuple(network.ids[i] for i in reversed(chain))
            node = int(binding.min())
            chain.append(node)


def critical_path(
    network: Network, durations: Floats, *, release: Floats | float = 0.0
) -> CriticalPath:
    """Forward and backward pass with `durations` (seconds, shape (n,)).

    `release`: no node starts before it (one for all, or one for each). With
    releases of its own a node may have float although others wait for it.
    """
    start, finish = forward(network, durations, floor=release)
    tail = backward(network, durations)
    makespan = float(finish.max(initial=0.0))
    slack = rounding(network, makespan)
    return CriticalPath(
        network=network,
        earliest_start=start,
        earliest_finish=finish,
        tail=tail,
        makespan=makespan,
        total_float=_snapped(makespan - tail - finish, slack),
        free_float=_snapped(_free(network, start, finish, makespan), slack),
    )


def _free(network: Network, start: Floats, finish: Floats, makespan: float) -> Floats:
    free = makespan - finish
    inner = np.flatnonzero(np.diff(network.succ_ptr))
    if inner.size:
        latest = start[network.succ] - network.succ_lag
        free[inner] = np.minimum.reduceat(latest, network.succ_ptr[inner]) - finish[inner]
    return free


def _snapped(values: Floats, slack: float) -> Floats:
    """`values` with what is zero but for rounding as exactly zero."""
    result: NDArray[np.float64] = np.where(np.abs(values) <= slack, 0.0, values)
    return result
