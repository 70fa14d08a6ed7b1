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

from athena_prefect.learning.past import Arc, Past
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
    soft = [a for a in past.arcs if not a.hard and late[a.tail] > DUST]
    chain = _Ways(network).chain(past.finishes, past.wait + past.actual)
    lateness: dict[Arc, float] = {}
    if soft:
        passed = _without(past, soft)
        weights = np.concatenate([past.wait + past.actual, np.zeros(len(soft))])
        base, moved = weights.copy(), np.zeros(count + len(soft))
        for k, arc in enumerate(soft):
            base[count + k] = past.planned_finishes[arc.tail] + arc.lag
            moved[count + k] = late[arc.tail]
        shares = moving(passed, base, moved)
        lateness = {
            a: float(shares[count + k]) for k, a in enumerate(soft) if shares[count + k] > DUST
        }
    network, constant = (network, np.zeros(0)) if not soft else (_without(past, soft), None)
    if constant is None:
        constant = np.array([past.planned_finishes[a.tail] + a.lag for a in soft])
    base = np.concatenate([past.planned_wait + past.planned, constant])
    moved = np.concatenate(
        [past.wait + past.actual - past.planned_wait - past.planned, np.zeros(len(constant))]
    )
    share = moving(network, base, moved)[:count]
    return _parts(past, share, lateness, chain)


def _parts(past: Past, share: Floats, soft: dict[Arc, float], chain: tuple[int, ...]) -> Blame:
    """A node's share among its duration and its waits, as they moved."""
    lengthened = past.actual - past.planned
    total = lengthened + past.wait - past.planned_wait
    # Critical for so much of the way from plan to run; what did not move has no share.
    critical = np.divide(share, total, out=np.zeros_like(share), where=np.abs(total) > 1e-9)
    # A planned wait that a cut dependency explains is not the resource's.
    freed = np.zeros(len(share))
    for arc in past.cut:
        if past.planned_wait[arc.head] > 0:
            freed[arc.head] = past.planned_wait[arc.head]
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


def _without(past: Past, soft: list[Arc]) -> Network:
    """The network in which each soft arc comes from a node of its own, with a given finish."""
    count = len(past.tasks)
    gone = set(soft)
    arcs = [a for a in past.arcs if a not in gone]
    tails = [a.tail for a in arcs] + [count + k for k in range(len(soft))]
    heads = [a.head for a in arcs] + [a.head for a in soft]
    lags = [a.lag for a in arcs] + [0.0] * len(soft)
    names = tuple(str(i) for i in range(count + len(soft)))
    return Network.build(names, tails, heads, lag=lags if lags else 0.0)


def moving(network: Network, base: Floats, moved: Floats) -> Floats:
    """What each node adds to the longest way while weights go from `base` to `base + moved`.

    The shares add up to the difference of the two longest ways.
    """
    looked, most = 0, min(LOOKS, max(NODES // max(len(base), 1), 4))
    ways = _Ways(network)
    cache: dict[float, tuple[float, Ints, float]] = {}

    def look(t: float) -> tuple[float, Ints, float]:
        """Longest way at t, its nodes, and how fast it grows."""
        nonlocal looked
        if t not in cache:
            looked += 1
            weights = base + t * moved
            finish = forward(network, weights)[1]
            chain = np.array(ways.chain(finish, weights), dtype=np.int64)
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


class _Ways:
    """The longest ways of a network, followed back from their ends."""

    def __init__(self, network: Network) -> None:
        # Plain numbers: numpy's are slow one at a time.
        self._ptr = network.pred_ptr.tolist()
        self._pred = network.pred.tolist()
        self._lag = network.pred_lag.tolist()

    def chain(self, finish: Floats, weights: Floats) -> tuple[int, ...]:
        """The nodes of a longest way, the first first."""
        if not len(finish):
            return ()
        ends, lengths = finish.tolist(), weights.tolist()
        node = int(np.argmax(finish))
        found = [node]
        while (start := ends[node] - lengths[node]) > 0:
            best, latest = -1, start - 1e-6 * max(1.0, start)
            for arc in range(self._ptr[node], self._ptr[node + 1]):
                reached = ends[self._pred[arc]] + self._lag[arc]
                if reached >= latest:
                    best, latest = self._pred[arc], reached
            if best < 0:
                break
            node = best
            found.append(node)
        return tuple(reversed(found))
