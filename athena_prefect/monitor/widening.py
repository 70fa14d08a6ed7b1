"""How much wider or narrower forecasts have to be, by those that were written down.

What runs were told is judged when they are over. Where fewer than eight in ten finishes lay
between the quantiles 0.1 and 0.9 the next forecast is wider, where more did it is narrower
(adaptive conformal inference: Gibbs, Candès 2021, here by runs instead of step by step).
"""

from __future__ import annotations

import math

import numpy as np

from athena_prefect.monitor.history import SHORTEST, History
from athena_prefect.monitor.recorded import PastForecast

COVERED = 0.8
"""Share of finishes that lie between the quantiles 0.1 and 0.9."""
PRIOR = 10.0
"""Finished runs with recorded forecasts that the width as it is weighs: of ten runs a coverage is
known to some 13 points."""
MOST = 2.0
"""Factor by which widths are changed at most."""


def widening(history: History, plan: str) -> float:
    """Factor for the spread of log remaining times; 1 where nothing was recorded."""
    scores: list[float] = []
    weights: list[float] = []
    for run in history.of_plan(plan).tolist():
        end = history.end(run)
        if math.isnan(end):
            continue
        found = [s for f in history.told[run] if (s := _score(f, end)) is not None]
        scores += found
        weights += [1 / len(found) for _ in found]
    if not scores:
        return 1.0
    order = np.argsort(scores, kind="stable")
    values, weight = np.array(scores)[order], np.array(weights)[order]
    runs = float(weight.sum())
    # One run that is still to come may be off by more than all.
    place = min(int(np.searchsorted(np.cumsum(weight), COVERED * (runs + 1))), len(values) - 1)
    factor = float(np.clip(values[place], 1 / MOST, MOST))
    return float(factor ** (runs / (runs + PRIOR)))


def _score(told: PastForecast, end: float) -> float | None:
    """How far the finish lay from the median, in widths from there to the interval's end."""
    known = all(q in told.quantiles for q in (0.1, 0.5, 0.9))
    if not told.from_history or not known or end <= told.at:
        return None
    low, middle, high = (
        math.log(max(told.quantiles[q] - told.at, SHORTEST)) for q in (0.1, 0.5, 0.9)
    )
    off = math.log(max(end - told.at, SHORTEST)) - middle
    width = high - middle if off > 0 else middle - low
    return abs(off) / width if width > 1e-6 else None
