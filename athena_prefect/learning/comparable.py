"""Durations that can be compared: for the same work, on the same machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from athena_prefect.plan.graph import Floats, Ints

FULL = 0.9
"""Share of the runs that have to report a quantity: of fewer the rest could not be compared."""
STEEPEST = 2.0
"""Power of a quantity that a duration is taken to grow with at most: what compares each with each
grows with the square. More is not the quantity's doing."""
FEWEST = 3
"""Runs on a machine from which it is one that can be told from others."""


def of_one_size(
    seconds: Sequence[float], sizes: Sequence[Mapping[str, float]]
) -> tuple[float, ...]:
    """The durations as they would be for the median of what the runs had to do.

    The slope of log duration over log quantity is the weighted median of the slopes of
    all pairs, by how far apart their quantities are (Sievers 1978): a step in the
    quantity counts, a run far out does not. Of several quantities the one that leaves
    least is taken. As they are where nothing was reported, or always the same.
    """
    given = np.asarray(seconds, dtype=np.float64)
    if len(given) < 2 or not (given > 0).all():
        return tuple(seconds)
    logs = np.log(given)
    best, least = logs, _spread(logs)
    for name in sorted({n for s in sizes for n in s}):
        x = np.array([np.log(q) if (q := s.get(name, 0.0)) > 0 else np.nan for s in sizes])
        known = ~np.isnan(x)
        if known.mean() < FULL:
            continue
        x = np.where(known, x, np.median(x[known])) - np.median(x[known])
        left = logs - np.clip(_slope(x, logs), 0.0, STEEPEST) * x
        if _spread(left) < least:
            best, least = left, _spread(left)
    return tuple(np.exp(best).tolist())


def _spread(values: Floats) -> float:
    """Mean distance from the median."""
    return float(np.abs(values - np.median(values)).mean())


def _slope(x: Floats, y: Floats) -> float:
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    told = np.abs(apart) > 1e-12
    if not told.any():
        return 0.0
    slopes = (y[j] - y[i])[told] / apart[told]
    order = np.argsort(slopes)
    weight = np.cumsum(np.abs(apart[told])[order])
    return float(slopes[order][np.searchsorted(weight, weight[-1] / 2)])


def same(hosts: Sequence[str]) -> Ints:
    """A number for each run: runs with the same were on the same machine.

    Machines that hardly any run was on, such as a container of its own for each, are
    taken for one.
    """
    count = Counter(hosts)
    place = {h: k for k, h in enumerate(sorted(h for h in count if count[h] >= FEWEST), start=1)}
    return np.array([place.get(h, 0) for h in hosts], dtype=np.int64)
