"""Distributions, corrections and robust lines, vectorised over many groups at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[Any]

_TERMS = 200
"""Of the continued fraction; it converges to double precision long before."""
_TINY = 1e-300
HILL_FREEDOM, HILL_T = 12.0, 3.0
"""From where, and up to where, the expansion is good to six digits."""
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def student_upper(t: Any, freedom: Any) -> Floats:
    """P(T > t) of Student's t distribution, any real degrees of freedom above 0.

    Near the middle of distributions that are nearly normal by Hill's (1970) expansion,
    to six digits and ten times as fast; else exactly.
    """
    t, freedom = np.broadcast_arrays(np.asarray(t, float), np.asarray(freedom, float))
    half = np.empty(t.shape)
    quick = (freedom >= HILL_FREEDOM) & (np.abs(t) <= HILL_T)
    a = freedom[quick] - 0.5
    b = 48 * a * a
    y = a * np.log1p(t[quick] ** 2 / freedom[quick])
    series = ((((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0) / b
    half[quick] = normal_upper((series + 1.0) * np.sqrt(y))
    far = ~quick
    n = freedom[far]
    with np.errstate(over="ignore"):
        half[far] = 0.5 * beta_below(n / (n + t[far] ** 2), n / 2, np.float64(0.5))
    return np.where(t >= 0, half, 1.0 - half)


def student_two_sided(t: Any, freedom: Any) -> Floats:
    """P(|T| > |t|)."""
    return np.minimum(2.0 * student_upper(np.abs(t), freedom), 1.0)


def student_quantile(p: float, freedom: float) -> float:
    """The t with P(T ≤ t) = p, 0.5 ≤ p < 1.

    By the expansion of Abramowitz and Stegun (1964), 26.7.5, where it is good to four
    digits; else from there by Newton's steps, which come from below without passing it,
    since the upper tail is convex.
    """
    z = NormalDist().inv_cdf(p)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    t = z + first / freedom + second / freedom**2 + third / freedom**3
    if freedom >= HILL_FREEDOM:
        return t
    half = (freedom + 1) / 2
    scale = math.exp(math.lgamma(half) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    for _ in range(_TERMS):
        above = float(student_upper(t, freedom)) - (1 - p)
        step = above / (scale * (1 + t * t / freedom) ** -half)
        t = max(t + step, 0.0)
        if abs(step) <= 1e-9 * max(t, 1.0):
            break
    return t


def normal_upper(z: Any) -> Floats:
    """P(Z > z) of the standard normal distribution.

    By the Chebyshev fit of Press et al. (Numerical Recipes, erfcc), relative error 1.2e-7.
    """
    z = np.asarray(z, float)
    x = np.abs(z) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * x)
    power = np.full(x.shape, _ERFC[-1])
    for coefficient in _ERFC[-2::-1]:
        power = power * t + coefficient
    upper = 0.5 * t * np.exp(-x * x + power)
    found: Floats = np.where(z >= 0, upper, 1.0 - upper)
    return found


def beta_below(x: Any, a: Any, b: Any) -> Floats:
    """Regularised incomplete beta function I_x(a, b), by its continued fraction.

    Lentz's method as modified by Thompson and Barnett (1986).
    """
    x, a, b = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, a, b)))
    if not x.size:
        return np.zeros(x.shape)
    # The fraction converges fast below the mean; above it the mirrored one does.
    mirrored = x > (a + 1) / (a + b + 2)
    x, a, b = np.where(mirrored, 1 - x, x), np.where(mirrored, b, a), np.where(mirrored, a, b)
    with np.errstate(divide="ignore"):
        front = np.exp(a * np.log(x) + b * np.log1p(-x) + _lgamma(a + b) - _lgamma(a) - _lgamma(b))
    c, d = np.ones(x.shape), 1 - (a + b) * x / (a + 1)
    d = 1 / np.where(np.abs(d) < _TINY, _TINY, d)
    h = d.copy()
    for m in range(1, _TERMS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + factor * d
            d = 1 / np.where(np.abs(d) < _TINY, _TINY, d)
            c = 1 + factor / np.where(np.abs(c) < _TINY, _TINY, c)
            h *= d * c
        if np.all(np.abs(d * c - 1) < 1e-14):
            break
    value = np.clip(front * h / a, 0.0, 1.0)
    found: Floats = np.where(mirrored, 1 - value, value)
    return found


def _lgamma(values: Floats) -> Floats:
    unique, back = np.unique(values, return_inverse=True)
    found: Floats = np.array([math.lgamma(v) for v in unique.tolist()])[back]
    shaped: Floats = found.reshape(values.shape)
    return shaped


def binomial_at_most(k: Any, n: Any, p: Any) -> Floats:
    """P(X ≤ k) of n trials with chance p."""
    k, n, p = np.broadcast_arrays(*(np.asarray(v, float) for v in (k, n, p)))
    safe = np.minimum(k, n - 1)
    return np.where(k >= n, 1.0, beta_below(1 - p, np.maximum(n - safe, 1), safe + 1))


def fisher_upper(a: int, b: int, c: int, d: int) -> float:
    """P(at least `a`) in a table ((a, b), (c, d)) with its margins fixed (Fisher, 1935)."""
    rows, columns, total = a + b, a + c, a + b + c + d
    top = min(rows, columns)
    logs = np.array(
        [
            _log_choose(columns, k) + _log_choose(total - columns, rows - k)
            for k in range(a, top + 1)
        ]
    )
    return float(min(np.exp(logs - _log_choose(total, rows)).sum(), 1.0))


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def corrected(p: Floats, method: str) -> Floats:
    """p-values corrected for their number: Holm (1979) or Benjamini and Hochberg (1995)."""
    count = len(p)
    if not count:
        return p
    order = np.argsort(p, kind="stable")
    if method == "holm":
        steps = np.maximum.accumulate(p[order] * np.arange(count, 0, -1))
    else:
        raised = p[order] * count / np.arange(1, count + 1)
        steps = np.minimum.accumulate(raised[::-1])[::-1]
    found = np.empty(count)
    found[order] = np.minimum(steps, 1.0)
    return found


def mann_kendall(series: Floats) -> tuple[float, float]:
    """S = Σ sign(later − earlier) over all pairs, and its variance with ties."""
    n = len(series)
    later = np.sign(series[None, :] - series[:, None])
    s = float(np.triu(later, 1).sum())
    ties = np.unique(series, return_counts=True)[1].astype(float)
    variance = (n * (n - 1) * (2 * n + 5) - (ties * (ties - 1) * (2 * ties + 5)).sum()) / 18
    return s, float(variance)


def group_sums(codes: Codes, groups: int, values: Any = None) -> Floats:
    """Sum of `values` (or the number of rows) of each group."""
    return np.bincount(codes, weights=values, minlength=groups).astype(np.float64)


def group_medians(codes: Codes, groups: int, values: Floats) -> Floats:
    """Median of `values` within each group; NaN of an empty one."""
    return group_quantiles(codes, groups, values, (0.5,))[0]


def group_quantiles(
    codes: Codes, groups: int, values: Floats, quantiles: Sequence[float]
) -> tuple[Floats, ...]:
    """Quantiles of `values` within each group; NaN of an empty one.

    Exact up to the span of the values times 2e-16 times the number of groups: one sort of
    a key that holds both, from which the values are had back, is thirty times as fast as
    sorting by two.
    """
    if not len(values):
        return tuple(np.full(groups, np.nan) for _ in quantiles)
    least, span = values.min(), float(np.ptp(values)) or 1.0
    if groups == 1:
        return tuple(np.array([np.quantile(values, q)]) for q in quantiles)
    # A hair less than 1 apart from the next group's.
    wide = span * 1.0000001
    key = np.sort(codes + (values - least) / wide)
    counts = np.bincount(codes, minlength=groups)
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    there = counts > 0
    found = []
    for quantile in quantiles:
        place = quantile * (counts[there] - 1)
        below = np.floor(place).astype(np.int64)
        low = key[first[there] + below]
        high = key[first[there] + np.minimum(below + 1, counts[there] - 1)]
        column = np.full(groups, np.nan)
        middle = low + (high - low) * (place - below) - np.flatnonzero(there)
        column[there] = middle * wide + least
        found.append(column)
    return tuple(found)
