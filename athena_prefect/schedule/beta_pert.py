"""Durations between three points: the beta-PERT distribution and its quantiles.

Beta-PERT with λ = 4 (Vose 2008): o + (p − o)·Beta(α, 6 − α), α = 1 + 4 (m − o) / (p − o),
whose mean is the PERT mean. All shapes form a family of one parameter, so one
table of quantiles serves them all.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from athena_prefect.plan.graph import Floats, Ints

Singles = NDArray[np.float32]

LEVELS = 512
"""Probabilities that a duration is sampled at, the midpoints of as many equal steps: a
sampled distribution function is off by 1/1024 at most, a fifth of the standard error of
10,000 samples."""
SHAPES = 128
"""Steps of α from 1 to 5; between them quantiles are interpolated, off by 1e-4 of the range."""
_GRID = 4096
"""Steps of the numerical integration of a density."""

PROBABILITIES: Floats = (np.arange(LEVELS) + 0.5) / LEVELS
"""The probabilities of the table's columns."""
PROBABILITIES.setflags(write=False)


@cache
def quantile_table() -> Floats:
    """Quantiles of Beta(α, 6 − α) on [0, 1]; row k has α = 1 + 4 k / SHAPES; read-only."""
    table = np.array([_truncated(1 + 4 * k / SHAPES, 0.0) for k in range(SHAPES + 1)])
    table.setflags(write=False)
    return table


def _truncated(alpha: float, beyond: float) -> Floats:
    """Quantiles at `PROBABILITIES` of Beta(α, 6 − α), given that it exceeds `beyond` < 1."""
    # With x = sin² t the density has no singular derivative, and the ends are finely cut.
    angle = np.linspace(np.arcsin(np.sqrt(beyond)), np.pi / 2, _GRID + 1)
    with np.errstate(divide="ignore"):
        sine, cosine = np.log(np.sin(angle)), np.log(np.cos(angle).clip(min=0.0))
        logarithm = (2 * alpha - 1) * sine + (11 - 2 * alpha) * cosine
    density = np.exp(logarithm - logarithm.max())
    mass = np.concatenate(([0.0], np.cumsum(density[1:] + density[:-1])))
    quantiles: Floats = np.sin(np.interp(PROBABILITIES, mass / mass[-1], angle)) ** 2
    return quantiles


def quantile_rows(estimates: Floats) -> Floats:
    """Durations at `PROBABILITIES` of estimates of shape (n, 3); shape (n, LEVELS), in seconds."""
    below, weight, width = _place(estimates)
    table = quantile_table()
    rows: Floats = table[below]
    rows += weight[:, None] * (table[below + 1] - rows)
    rows *= width[:, None]
    rows += estimates[:, 0, None]
    return rows


def _place(estimates: Floats) -> tuple[Ints, Floats, Floats]:
    """Row of the table below each shape, the share of the next one, and the width (s)."""
    low, likely, high = estimates.T
    width = high - low
    place = SHAPES * np.divide(likely - low, width, out=np.zeros_like(width), where=width > 0)
    below = np.minimum(place.astype(np.int64), SHAPES - 1)
    return below, place - below, width


def quantiles(estimates: Floats, probability: float) -> Floats:
    """The quantile of each estimate of shape (n, 3), in seconds; one number is its own."""
    result: Floats = estimates[:, 0].copy()
    spread = np.flatnonzero(estimates[:, 2] > estimates[:, 0])
    # In blocks: a row of quantiles is 8 kB.
    for block in np.array_split(spread, max(1, len(spread) // 4096)):
        rows = quantile_rows(estimates[block])
        result[block] = [np.interp(probability, PROBABILITIES, row) for row in rows]
    return result


def remaining_row(estimate: ArrayLike, elapsed: float) -> Floats:
    """Durations, shape (LEVELS,), of what has run for `elapsed` seconds and is not over.

    The distribution truncated from below; past its support the duration is
    `elapsed`: it is forecast to end now.
    """
    three = np.asarray(estimate, dtype=np.float64)
    if elapsed >= three[2]:
        return np.full(LEVELS, elapsed)
    if three[0] == three[2]:
        return np.full(LEVELS, three[0])
    width = three[2] - three[0]
    alpha = 1 + 4 * (three[1] - three[0]) / width
    beyond = max(0.0, (elapsed - three[0]) / width)
    if beyond >= 1.0:
        return np.full(LEVELS, elapsed)
    rest: Floats = np.maximum(three[0] + width * _truncated(alpha, beyond), elapsed)
    return rest


@cache
def _single_table() -> Singles:
    return quantile_table().astype(np.float32)


def single_rows(estimates: Floats) -> Singles:
    """`quantile_rows` in float32, as sampling needs them."""
    below, weight, width = _place(estimates)
    table = _single_table()
    rows = table[below]
    steps = table[below + 1]
    steps -= rows
    steps *= weight.astype(np.float32)[:, None]
    rows += steps
    rows *= width.astype(np.float32)[:, None]
    rows += estimates[:, :1].astype(np.float32)
    return rows
