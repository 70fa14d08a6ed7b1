"""For how long, and for what, the nodes of a run waited."""

from __future__ import annotations

import numpy as np

from athena_prefect.learning.arcs import EXACT, SAME, Arcs
from athena_prefect.plan.graph import Bools, Floats

UNKNOWN = "(unknown)"
"""The resource that was waited for, where the plan's own do not explain it."""
MOST_AMOUNTS = 50
"""Different amounts of a resource for which its shortness is reckoned; more are rounded up to so
many, each of which is a pass over the use of the resource."""


def queued(
    gap: Floats,
    queue: Floats,
    begun: Floats,
    occupied: Floats,
    demands: Floats,
    capacities: Floats,
    names: tuple[str, ...],
    planned_wait: Floats,
) -> tuple[Floats, tuple[str, ...]]:
    """How long each node waited for a resource, and for which one.

    What the dispatcher said (`queue`, NaN where nothing) counts; where it said nothing,
    the time during which there was less of a resource than the node takes. `gap` is
    all of the wait before `begun`, `occupied` how long a node kept its resources.
    """
    found = np.where(np.isnan(queue), 0.0, np.minimum(np.nan_to_num(queue), gap))
    shortness = short(begun, gap, occupied, demands, capacities)
    longest = shortness.max(axis=1)
    untold = np.isnan(queue)
    found[untold] = np.minimum(longest, gap)[untold]
    resource = np.full(len(gap), "", dtype=object)
    waits = (found > SAME) | (planned_wait > SAME)
    if len(names):
        named = np.array(names, dtype=object)
        planned = waits & (planned_wait > SAME) & (longest <= 0)
        resource[planned] = named[np.argmax(demands / capacities, axis=1)[planned]]
        seen = (longest > 0) & (found > 0)
        resource[seen] = named[shortness.argmax(axis=1)[seen]]
    resource[(found > SAME) & (longest <= 0)] = UNKNOWN
    return found, tuple(resource.tolist())


def short(
    begun: Floats, gap: Floats, occupied: Floats, demands: Floats, capacities: Floats
) -> Floats:
    """Seconds of each wait of `gap` before `begun` in which a resource had too little left, for
    each resource; shape (n, resources), or one column of zeros where there is none.
    """
    found = np.zeros((len(gap), max(len(capacities), 1)))
    for r in range(len(capacities)):
        times, used = _usage(begun, occupied, demands[:, r])
        rows = np.flatnonzero((demands[:, r] > 0) & (gap > 0))
        amounts, kind = np.unique(demands[rows, r], return_inverse=True)
        if len(amounts) > MOST_AMOUNTS:
            steps = np.linspace(0, len(amounts) - 1, MOST_AMOUNTS).astype(np.int64)
            kind, amounts = np.searchsorted(steps, kind), amounts[steps]
        for place, amount in enumerate(amounts.tolist()):
            own = rows[kind == place]
            scarce = used > capacities[r] - amount + 1e-9
            found[own, r] = _during(times, scarce, (begun - gap)[own], begun[own])
    return found


def _usage(start: Floats, length: Floats, demand: Floats) -> tuple[Floats, Floats]:
    """Times at which the use of a resource changes, and the use from each of them on."""
    there = ~np.isnan(start) & (demand > 0)
    times = np.concatenate([start[there], (start + length)[there]])
    change = np.concatenate([demand[there], -demand[there]])
    order = np.lexsort((change, times))
    return times[order], np.cumsum(change[order])


def _during(times: Floats, scarce: Bools, since: Floats, until: Floats) -> Floats:
    """Seconds of each [since, until) during which a step curve is on."""
    if not len(times):
        return np.zeros(len(since))
    total = np.concatenate([[0.0], np.cumsum(np.diff(times) * scarce[:-1])])
    result: Floats = np.interp(until, times, total) - np.interp(since, times, total)
    return result


def as_in_the_baseline(
    arcs: Arcs,
    planned: Floats,
    planned_start: Floats,
    actual: Floats,
    demands: Floats,
    capacities: Floats,
) -> Floats:
    """Planned durations as the baseline reckoned with them.

    A baseline may rest on what was learned and not on the document's estimates. Then
    a task was planned to start later than its predecessor's estimate ends, though
    there was enough of every resource: so long the predecessor was expected to take.
    A duration that nobody knew, and that no other start tells, is taken as it came:
    it is not put down to anybody.
    """
    unknown = np.isnan(planned)
    lengths = np.where(unknown, 0.0, planned)
    reached = (planned_start + lengths)[arcs.tail] + arcs.lag
    reached = np.where(np.isnan(reached), -np.inf, reached)
    # By head the arc that is reached last, of equal ones the first.
    order = np.lexsort((-np.arange(len(arcs)), reached, arcs.head))
    newest = np.flatnonzero(np.diff(arcs.head[order], append=-1))
    best = order[newest]
    best = best[reached[best] > -np.inf]
    last = np.full(len(planned), np.nan)
    binding = np.full(len(planned), -1, dtype=np.int64)
    last[arcs.head[best]], binding[arcs.head[best]] = reached[best], arcs.tail[best]
    gap = np.nan_to_num(planned_start - last)
    gap = np.where(gap > EXACT, gap, 0.0)
    longer = np.full(len(planned), np.inf)
    if gap.any():
        scarce = short(planned_start, gap, lengths, demands, capacities).max(axis=1)
        left = gap - scarce
        late = np.flatnonzero((left > SAME) & (gap > 0))
        np.minimum.at(longer, binding[late], left[late])
    told = np.isfinite(longer)
    result = lengths + np.where(told, longer, 0.0)
    return np.where(unknown & ~told, actual, result)
