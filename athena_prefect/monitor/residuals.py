"""Shapes of the residuals of log durations, and what durations say of a category's slowness.

All on one grid of log ratios. A residual is e = log(actual / planned) − θ, where θ is the
slowness of the category in the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from athena_prefect.plan.graph import Floats, Ints

STEP = 0.025
"""Width of a cell of the grid of log ratios: 2.5 %."""
REACH = 6.0
"""Largest log ratio: a factor of 400. What is beyond counts as that, so no tail explodes."""
HALF = round(REACH / STEP)
GRID: Floats = np.arange(-HALF, HALF + 1, dtype=np.float64) * STEP
WIDE: Floats = np.arange(-2 * HALF, 2 * HALF + 1, dtype=np.float64) * STEP
"""Differences of two values of the grid."""
INDEPENDENT = 20.0
"""Tasks of one category that count as independent evidence; more weigh no more than these. Those
of a run are alike (neighbours, the same node, what ends first is short), and a hundred of them
made forecasts too sure: chosen with each recorded application left out, 15 or 30 every time."""
FEW = 24
"""Different values up to which adding up is faster than correlating with all of the grid."""
STRAY = 1e-3
"""Share of durations that no shape foresees: a likelihood that is never zero."""


def spread_of(values: Floats) -> float:
    """Root of the mean square; 0 of no values."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def smooth(values: Floats, weights: Floats, width: float) -> Floats:
    """Density of `values` on `WIDE`, smoothed by a Gaussian of `width`."""
    cells = np.clip(np.rint(values / STEP).astype(np.int64) + 2 * HALF, 0, len(WIDE) - 1)
    mass = np.bincount(cells, weights=weights, minlength=len(WIDE))
    reach = max(round(4 * width / STEP), 1)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * STEP / width))
    density = np.convolve(mass, kernel / kernel.sum(), mode="same")
    total = density.sum()
    result: Floats = density / total if total else np.full(len(WIDE), 1 / len(WIDE))
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """A distribution of residuals e = log(actual / planned) − θ on `WIDE`."""

    mass: Floats

    @cached_property
    def log_density(self) -> Floats:
        """Logarithm of the mass of each cell."""
        flat = STRAY / len(WIDE)
        result: Floats = np.log((1 - STRAY) * self.mass + flat)
        return result

    @cached_property
    def log_survival(self) -> Floats:
        """Logarithm of the probability to lie in or above each cell."""
        above = np.cumsum(self.mass[::-1])[::-1]
        flat = np.linspace(1, 0, len(WIDE), endpoint=False)
        result: Floats = np.log((1 - STRAY) * above + STRAY * flat)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What a category of this run has shown: likelihood of θ, and of each shape."""

    log: Floats
    """Log likelihood on `GRID`, largest 0."""
    joint: Floats
    """Log likelihood of each candidate shape, its prior weight in it, at each θ of `GRID`."""


def likelihood(candidates: Sequence[tuple[float, Shape]], ratios: Floats, least: Floats) -> Seen:
    """What durations with log ratios `ratios`, and running tasks at `least`, say."""
    done = _counted(ratios)
    running = _counted(least)
    number = len(ratios) + len(least)
    temper = min(1.0, INDEPENDENT / number) if number else 1.0
    logs = []
    for weight, shape in candidates:
        log = _summed(shape.log_density, done) + _summed(shape.log_survival, running)
        logs.append(temper * log + np.log(weight + 1e-12))
    table = np.array(logs)
    top = table.max()
    both = np.exp(table - top).sum(axis=0)
    return Seen(log=np.log(both + 1e-300), joint=table - top)


def _counted(ratios: Floats) -> list[tuple[int, int]]:
    """Cells of the grid in which ratios lie, and how many in each."""
    cells = np.clip(np.rint(ratios / STEP).astype(np.int64) + HALF, 0, 2 * HALF)
    found, number = np.unique(cells, return_counts=True)
    return list(zip(found.tolist(), number.tolist(), strict=True))


def _summed(log: Floats, counted: list[tuple[int, int]]) -> Floats:
    """Of each θ of the grid the sum of `log`, on `WIDE`, at the ratios less θ."""
    size = 2 * HALF + 1
    if len(counted) > FEW:
        weights = np.zeros(size)
        for cell, number in counted:
            weights[cell] = number
        spread: Floats = np.correlate(log, weights, "valid")[::-1]
        return spread
    total = np.zeros(size)
    for cell, number in counted:
        # Cell of the difference to each θ, from the largest θ, at index `cell`, to the least.
        total += number * log[cell : cell + size][::-1]
    return total


def draw(cumulative: Floats, luck: Floats) -> Ints:
    """Indices into `cumulative` (ascending, last one 1 or so) at which `luck` falls."""
    place = np.searchsorted(cumulative, luck * cumulative[-1], side="right")
    result: Ints = np.minimum(place, len(cumulative) - 1)
    return result
