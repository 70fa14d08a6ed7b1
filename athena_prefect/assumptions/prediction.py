"""How likely an assumption fails before it is needed, from its own history. Pure.

A number with a trend: the robust line of Theil (1950) and Sen (1968) through
what was observed, and Student's t for where it will be. A truth value, or a
number with too short a history: how often it went from holding to not holding,
with Jeffreys' prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from athena_prefect.assumptions.verdict import student_cdf

FEWEST = 5
"""Numbers from which a line is drawn: with fewer its slope is not known from its noise."""
NEWEST = 200
"""Observations that count: the pairs of a line grow with their square, and old ones tell of
other times."""
PRIOR = 0.5
"""Both parameters of the Beta prior (Jeffreys): as if half a failure and half a success had
been seen."""
MAD_TO_SIGMA = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""
STALE_AFTER = 2.0
"""Times its frequency after which the last observation is called stale: one has been missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One observation of the past: when, whether it held, and the number where it was one."""

    at: datetime
    holds: bool
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """P(it does not hold when it is needed), and what that rests on."""

    probability: float | None
    reason: str
    samples: int = 0
    needed_at: datetime | None = None


def predict(
    history: Sequence[Seen],
    *,
    now: datetime,
    needed_at: datetime,
    limits: tuple[float, float] | None = None,
    frequency: timedelta | None = None,
    unit: str = "",
) -> Prediction:
    """The chance that the assumption does not hold at `needed_at`.

    `history` without the checks that could not be made, in order. `limits`: the
    least and the greatest number with which it holds.
    """
    if not history:
        return Prediction(probability=None, reason="it was never observed", needed_at=needed_at)
    recent = history[-NEWEST:]
    numbers: list[tuple[datetime, float]] = [(s.at, s.value) for s in recent if s.value is not None]
    found: tuple[float, str] | None = None
    if limits is not None and len(numbers) == len(recent) >= FEWEST:
        found = _trend(numbers, limits, needed_at, unit)
    probability, reason = found or _rate(recent, needed_at, frequency)
    if frequency is not None and now - recent[-1].at > frequency * STALE_AFTER:
        age = _words(now - recent[-1].at)
        reason += f"; the last observation is {age} old, though it is due every {_words(frequency)}"
    return Prediction(
        probability=probability, reason=reason, samples=len(recent), needed_at=needed_at
    )


def _trend(
    numbers: Sequence[tuple[datetime, float]],
    limits: tuple[float, float],
    needed_at: datetime,
    unit: str,
) -> tuple[float, str] | None:
    origin = numbers[-1][0]
    t = np.array([(at - origin).total_seconds() for at, _ in numbers])
    v = np.array([value for _, value in numbers])
    if np.ptp(t) == 0 or not np.isfinite(v).all():
        return None
    slope = sen_slope(t, v)
    level = float(np.median(v - slope * t))
    residuals = v - level - slope * t
    count = len(t)
    # The median of two fitted parameters' residuals is too near to them by n / (n − 2).
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(residuals))) * math.sqrt(count / (count - 2))
    if sigma == 0:
        # Half of the points or more lie on the line: what the others do still counts.
        sigma = float(np.sqrt(np.sum(residuals**2) / (count - 2)))
    at = (needed_at - origin).total_seconds()
    mean = level + slope * at
    spread = float(np.sum((t - t.mean()) ** 2))
    error = sigma * math.sqrt(1 + 1 / count + (at - t.mean()) ** 2 / spread)
    low, high = limits
    inside = _below(high, mean, error, count - 2) - _below(low, mean, error, count - 2)
    # So many observations can tell no chance that is nearer to 0 or 1 than this.
    edge = PRIOR / (count + 1)
    probability = min(max(1.0 - inside, edge), 1.0 - edge)
    bound = low if abs(mean - low) < abs(mean - high) else high
    per_hour = slope * 3600
    shown = f" {unit}" if unit else ""
    return probability, (
        f"{v[-1]:.4g}{shown} and {_direction(per_hour)}{abs(per_hour):.3g}{shown} an hour: "
        f"{mean:.4g} ± {error:.2g}{shown} when it is needed, the limit is {bound:.4g}{shown} "
        f"({count} observations)"
    )


def _below(bound: float, mean: float, error: float, freedom: int) -> float:
    if math.isinf(bound):
        return 1.0 if bound > 0 else 0.0
    if error == 0:
        return 1.0 if mean <= bound else 0.0
    return student_cdf((bound - mean) / error, freedom)


def sen_slope(t: np.ndarray, v: np.ndarray) -> float:
    """The median of the slopes of all pairs of points at different moments."""
    i, j = np.triu_indices(len(t), 1)
    apart = t[j] - t[i]
    told = apart != 0
    return float(np.median((v[j] - v[i])[told] / apart[told]))


def _rate(
    history: Sequence[Seen], needed_at: datetime, frequency: timedelta | None
) -> tuple[float, str]:
    """The chance to stop holding at one of the checks until then."""
    pairs = [(a.holds, b.holds) for a, b in pairwise(history)]
    if not history[-1].holds:
        held = sum(1 for a, _ in pairs if not a)
        back = sum(1 for a, b in pairs if not a and b)
        rest = _survives(back, held, 1)
        return rest, f"it does not hold, and came back {back} of {held} times"
    held = sum(1 for a, _ in pairs if a)
    failed = sum(1 for a, b in pairs if a and not b)
    ahead = needed_at - history[-1].at
    checks = max(math.ceil(ahead / frequency), 1) if frequency else 1
    # What never failed says nothing of times many times as long as it was watched: the prior
    # alone would call anything likely to fail that is needed late enough.
    told = checks if failed else min(checks, max(held, 1))
    probability = 1.0 - _survives(failed, held, told)
    times = "check" if checks == 1 else f"{checks} checks"
    return probability, (
        f"it stopped holding {failed} times in {held} checks; until it is needed "
        f"{'there is' if checks == 1 else 'there are'} {'one' if checks == 1 else ''}"
        f"{' ' if checks == 1 else ''}{times}"
        + (f", of which {told} are reckoned with: so many were seen" if told < checks else "")
    )


def _survives(failed: int, tried: int, ahead: int) -> float:
    """E[(1 − p)^ahead] with p ~ Beta(PRIOR + failed, PRIOR + tried − failed)."""
    a, b = PRIOR + failed, PRIOR + tried - failed
    log = math.lgamma(b + ahead) + math.lgamma(a + b) - math.lgamma(b) - math.lgamma(a + b + ahead)
    return math.exp(log)


def _direction(change: float) -> str:
    return "falling by " if change < 0 else "rising by " if change > 0 else "changing by "


def _words(span: timedelta) -> str:
    from athena_prefect.plan.units import format_duration

    return format_duration(timedelta(seconds=round(span.total_seconds())))
