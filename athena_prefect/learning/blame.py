"""Whose the delay of a run is: shares of it that add up.

Each duration and each wait of the run is moved from what was planned (t = 0) to
what came (t = 1), all at once. The finish is then a convex, piecewise linear
function of t, whose slope is the sum of what moves on the critical chain of the
moment. What a chain's members move while it is critical is their share: the value
of Aumann and Shapley (1974), the one division among players who act bit by bit
that adds up, gives nothing to who changes nothing, and treats equals equally. The
pieces are found exactly, by cutting lines (Eisner and Severance 1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from athena_prefect.learning.arcs import Arc, Arcs
from athena_prefect.learning.past import Past
from athena_prefect.plan.graph import Floats, Ints, Network
from athena_prefect.schedule.passes import forward

DUST = 1e-3
"""Seconds below which a share is none: what is recorded is in milliseconds."""
LOOKS = 60
"""Forward passes at most; what is left between two looks is divided between their two chains."""
NODES = 80_000
"""Nodes to pass over in all, from which a large run gets fewer looks: of 10,000 tasks 8, some
50 ms. The shares still add up; only whose they are is coarser."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blame:
    """The delay of one run, in seconds, node by node: all of it together is `delay`."""

    past: Past
    delay: float
    duration: Floats
    """Of a node's duration that was not the planned one."""
    queue: Floats
    """Of waiting for a slot or a resource otherwise than planned."""
    hold: Floats
    """Of waiting for something else."""
    retries: Floats
    """Of failed attempts."""
    soft: dict[Arc, float]
    """Of waiting for a late task over a soft dependency, which the plan allows to drop."""
    cut: Floats
    """Of not waiting for what the plan has it wait for; nothing or less."""
    chain: tuple[int, ...]
    """The nodes that set the finish of the run as it came, the first first."""


def blame(past: Past) -> Blame:
    """Whose the delay of `past` is.

    First what would have been saved had no task waited for another's lateness over a
    soft dependency; then what is left, of everything else together.
    """
    count = len(past.tasks)
    network = past.network
    late = past.finishes - past.planned_finishes
    arcs = past.arcs
    passes_on = ~arcs.hard & (late[arcs.tail] > DUST)
    soft = arcs[passes_on]
    came = past.wait + past.actual
    chain = tuple(Ways(network).chain(past.finishes, came).tolist())
    lateness: dict[Arc, float] = {}
    constant = np.zeros(0)
    if len(soft):
        # Each soft arc comes from a node of its own, with a given finish.
        own = Arcs(count + np.arange(len(soft)), soft.head, np.zeros(len(soft)), ~soft.hard)
        network = past.network_of(arcs[~passes_on] + own, more=len(soft))
        constant = past.planned_finishes[soft.tail] + soft.lag
        shares = moving(
            network,
            np.concatenate([came, constant]),
            np.concatenate([np.zeros(count), late[soft.tail]]),
        )[count:]
        told = np.flatnonzero(shares > DUST)
        lateness = dict(zip(soft[told], shares[told].tolist(), strict=True))
    planned = past.planned_wait + past.planned
    share = moving(
        network,
        np.concatenate([planned, constant]),
        np.concatenate([came - planned, np.zeros(len(constant))]),
    )
    return _parts(past, share[:count], lateness, chain)


def _parts(past: Past, share: Floats, soft: dict[Arc, float], chain: tuple[int, ...]) -> Blame:
    """A node's share among its duration and its waits, as they moved."""
    lengthened = past.actual - past.planned
    total = lengthened + past.wait - past.planned_wait
    # Critical for so much of the way from plan to run; what did not move has no share.
    critical = np.divide(share, total, out=np.zeros_like(share), where=np.abs(total) > 1e-9)
    # A planned wait that a cut dependency explains is not the resource's.
    freed = np.zeros(len(share))
    freed[past.cut.head] = np.maximum(past.planned_wait[past.cut.head], 0.0)
    return Blame(
        past=past,
        delay=past.delay,
        duration=critical * lengthened,
        queue=critical * (past.queue - (past.planned_wait - freed)),
        hold=critical * past.hold,
        retries=critical * past.retries,
        soft=soft,
        cut=-critical * freed,
        chain=chain,
    )


def moving(network: Network, base: Floats, moved: Floats) -> Floats:
    """What each node adds to the longest way while weights go from `base` to `base + moved`.

    The shares add up to the difference of the two longest ways.
    """
    looked, most = 0, min(LOOKS, max(NODES // max(len(base), 1), 4))
    ways = Ways(network)
    cache: dict[float, tuple[float, Ints, float]] = {}

    def look(t: float) -> tuple[float, Ints, float]:
        """Longest way at t, its nodes, and how fast it grows."""
        nonlocal looked
        if t not in cache:
            looked += 1
            weights = base + t * moved
            finish = forward(network, weights)[1]
            chain = ways.chain(finish, weights)
            value = float(finish.max(initial=0.0))
            cache[t] = value, chain, float(moved[chain].sum())
        return cache[t]

    shares = np.zeros(len(base))
    # Stretches of [0, 1] that are not known to be one piece yet.
    todo = [(0.0, 1.0)]
    while todo:
        low, high = todo.pop()
        start, first, grows = look(low)
        end, last, grew = look(high)
        if not len(first) or not len(last):
            continue
        length = high - low
        tolerance = DUST * 1e-3 + 1e-9 * max(abs(start), abs(end))
        if abs(start + grows * length - end) <= tolerance:
            shares[first] += length * moved[first]
            continue
        if abs(end - grew * length - start) <= tolerance:
            shares[last] += length * moved[last]
            continue
        # Two lines that cross: the finish is convex, so it turns there or before and after.
        cross = low + (end - start - grew * length) / (grows - grew)
        inside = low < cross < high and grows != grew
        middle, _, _ = look(cross) if inside and looked < most else (np.nan, first, 0.0)
        if not inside or looked >= most:
            _halve(shares, moved, (first, last), end - start, length)
        elif abs(middle - (start + grows * (cross - low))) <= tolerance:
            shares[first] += (cross - low) * moved[first]
            shares[last] += (high - cross) * moved[last]
        else:
            todo += [(low, cross), (cross, high)]
    return shares


def _halve(
    shares: Floats, moved: Floats, chains: tuple[Ints, Ints], growth: float, length: float
) -> None:
    """Divide a stretch between the chains at its ends, so that what it grows is kept."""
    first, last = (float(moved[c].sum()) for c in chains)
    # Convex: it grows by no less than at its beginning and no more than at its end.
    part = 0.5 if first == last else (growth / length - last) / (first - last)
    shares[chains[0]] += part * length * moved[chains[0]]
    shares[chains[1]] += (1 - part) * length * moved[chains[1]]


class Ways:
    """The longest ways of a network, followed back from their ends."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def chain(self, finish: Floats, weights: Floats) -> Ints:
        """The nodes of a longest way, the first first."""
        if not len(finish):
            return np.zeros(0, dtype=np.int64)
        network = self._network
        ptr, pred, lag = network.pred_ptr, network.pred, network.pred_lag
        node = int(np.argmax(finish))
        found = [node]
        while (start := float(finish[node] - weights[node])) > 0:
            into = slice(int(ptr[node]), int(ptr[node + 1]))
            tails = pred[into].tolist()
            reached = [float(finish[t]) + g for t, g in zip(tails, lag[into].tolist(), strict=True)]
            if not reached or max(reached) < start - 1e-6 * max(1.0, start):
                break
            # Of several that end together the last, as ever.
            node = tails[len(reached) - 1 - reached[::-1].index(max(reached))]
            found.append(node)
        return np.array(found[::-1], dtype=np.int64)
