"""What was observed against what was expected: holds, violated, or unknown. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from athena_prefect.plan.expectation import MISSING, Expectation, field_of
from athena_prefect.plan.model import Sense
from athena_prefect.plan.units import format_duration, parse_duration

CONFIDENCE_LEVEL = 0.95
"""Of the interval whose half-width is an error margin: what the field takes by default."""
SECONDS = "s"
"""Unit in which an observed number is a length of time."""


class Verdict(StrEnum):
    """Whether an assumption holds. UNKNOWN: it could not be seen."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"

    @property
    def valid(self) -> bool | None:
        """True, False, or None where it is unknown."""
        return None if self is Verdict.UNKNOWN else self is Verdict.HOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict, why, and how sure it is.

    `margin`: half-width of the 95 % interval of the mean of the samples, in the
    observed unit. `confidence`: probability that the verdict is right, given that
    the samples are independent. Both None where there are no samples to rest on.
    """

    verdict: Verdict
    reason: str
    value: Any = None
    """The observed value that counted."""
    margin: float | None = None
    confidence: float | None = None


def unknown(reason: str, value: Any = None) -> Judgement:
    """It could not be seen."""
    return Judgement(verdict=Verdict.UNKNOWN, reason=reason, value=value)


def counted(value: Any, field: str | None, counts: str | None = None) -> Any:
    """The one of the observed values that counts: `field`, the only one, or the kind's own.

    Raises ValueError where several were observed and nothing says which counts.
    """
    if field is not None:
        found = field_of(value, field)
        if found is MISSING:
            known = ", ".join(map(str, value)) if isinstance(value, Mapping) else repr(value)
            raise ValueError(f"nothing observed is called {field!r}; there is {known}")
        return found
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        return next(iter(value.values()))
    if counts is not None and counts in value:
        return value[counts]
    raise ValueError(
        f"several values ({', '.join(map(str, value))}): name the one that counts in check.field"
        if value
        else "no value was given"
    )


def judge(
    observed: Any,
    expected: Any,
    *,
    sense: Sense = Sense.EQUAL,
    tolerance: float = 0.0,
    now: datetime,
    unit: str = "",
    samples: tuple[float, ...] = (),
) -> Judgement:
    """`observed` against `expected`.

    at_least holds when observed ≥ expected − tolerance × |expected|, at_most
    when ≤ expected + tolerance × |expected|, equal when it lies within both; the
    tolerance is absolute where expected is 0. Truth values and texts are only
    equal or not. A mapping says conditions (`min`, `max`, `max_age`, `one_of`,
    `matches`, `is`, `is_not`), as they are written. Without an expected value a
    truth value is expected to be true. What cannot be compared is unknown.
    """
    if observed is None or observed is MISSING:
        return unknown("nothing was observed")
    if isinstance(observed, float) and math.isnan(observed):
        return unknown("what was observed is not a number")
    if expected is None:
        if not isinstance(observed, bool):
            return unknown("the plan does not say what is expected (expected_value)", observed)
        expected = True
    if isinstance(expected, Mapping | Expectation):
        return _conditions(observed, expected, now, unit)
    if isinstance(observed, bool) or isinstance(expected, bool):
        return _same(observed, expected, sense, bool)
    number = _number(observed, unit)
    bound = _number(expected, "") if not isinstance(expected, str) else _length(expected, observed)
    if number is not None and bound is not None:
        return _numbers(number, bound, sense, tolerance, observed, unit, samples)
    if isinstance(observed, str) and isinstance(expected, str):
        return _same(observed, expected, sense, str)
    if type(observed) is type(expected) and sense is Sense.EQUAL:
        holds = observed == expected
        return _told(holds, observed, f"is {_short(observed)}, expected {_short(expected)}")
    return unknown(f"{_short(observed)} cannot be held against {_short(expected)}", observed)


def _same(observed: Any, expected: Any, sense: Sense, kind: type) -> Judgement:
    word = "truth value" if kind is bool else "text"
    if not (isinstance(observed, kind) and isinstance(expected, kind)):
        return unknown(f"{_short(observed)} cannot be held against {_short(expected)}", observed)
    if sense is not Sense.EQUAL:
        return unknown(f"a {word} is only equal or not, never {sense.value}", observed)
    holds = observed == expected
    return _told(holds, observed, f"is {_short(observed)}, expected {_short(expected)}")


def _number(value: Any, unit: str) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _length(expected: str, observed: Any) -> float | None:
    """An expected text as seconds, where a length of time or a number was observed."""
    if isinstance(observed, str):
        return None
    try:
        return parse_duration(expected).total_seconds()
    except ValueError:
        return None


def limits(expected: float, sense: Sense, tolerance: float) -> tuple[float, float]:
    """The least and the greatest value with which the expectation holds."""
    slack = tolerance * abs(expected) if expected else tolerance
    low = -math.inf if sense is Sense.AT_MOST else expected - slack
    high = math.inf if sense is Sense.AT_LEAST else expected + slack
    return low, high


def _numbers(
    number: float,
    expected: float,
    sense: Sense,
    tolerance: float,
    observed: Any,
    unit: str,
    samples: tuple[float, ...],
) -> Judgement:
    low, high = limits(expected, sense, tolerance)
    holds = low <= number <= high
    words = {Sense.AT_LEAST: "at least ", Sense.AT_MOST: "at most ", Sense.EQUAL: ""}[sense]
    slack = f" within {tolerance:g}" if tolerance else ""
    shown = f"{number:g}{_unit(unit)}"
    reason = f"is {shown}, expected {words}{expected:g}{_unit(unit)}{slack}"
    told = _told(holds, observed, reason)
    if len(samples) < 2 or not math.isclose(math.fsum(samples) / len(samples), number):
        return told  # there are none, or they are of another of the observed values
    margin, inside = _certainty(samples, low, high)
    return Judgement(
        verdict=told.verdict, reason=reason, value=observed, margin=margin,
        confidence=None if inside is None else inside if holds else 1.0 - inside,
    )  # fmt: skip


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _conditions(observed: Any, expected: Any, now: datetime, unit: str) -> Judgement:
    try:
        wanted = expected if isinstance(expected, Expectation) else Expectation(**expected)
    except ValueError:
        # A mapping that says no condition is a value like any other.
        return _told(observed == expected, observed, f"is {_short(observed)}")
    numeric = wanted.min is not None or wanted.max is not None
    if numeric and (isinstance(observed, bool) or not isinstance(observed, int | float)):
        return unknown(f"{_short(observed)} is not a number", observed)
    if wanted.matches is not None and not isinstance(observed, str):
        return unknown(f"{_short(observed)} is not text", observed)
    if wanted.max_age is not None:
        age = _age(observed, now, unit)
        if age is None:
            return unknown(f"{_short(observed)} is not a moment with its time zone", observed)
        if age > wanted.max_age:
            told, limit = format_duration(_rounded(age)), format_duration(wanted.max_age)
            return _told(False, observed, f"is {told} old, expected at most {limit}")
        others = wanted.model_fields_set - {"max_age"}
        if not others:
            return _told(True, observed, f"is {format_duration(_rounded(age))} old")
    unmet = wanted.unmet(observed)
    return _told(unmet is None, observed, unmet or f"is {_short(observed)}")


def _rounded(age: timedelta) -> timedelta:
    return max(timedelta(seconds=round(age.total_seconds())), timedelta(0))


def _age(observed: Any, now: datetime, unit: str) -> timedelta | None:
    if isinstance(observed, timedelta):
        return observed
    if unit == SECONDS and isinstance(observed, int | float) and not isinstance(observed, bool):
        return timedelta(seconds=min(float(observed), timedelta.max.total_seconds() / 2))
    if isinstance(observed, str):
        try:
            observed = datetime.fromisoformat(observed)
        except ValueError:
            return None
    if not isinstance(observed, datetime) or observed.tzinfo is None:
        return None
    return now - observed.astimezone(UTC)


def _told(holds: bool, observed: Any, reason: str) -> Judgement:
    verdict = Verdict.HOLDS if holds else Verdict.VIOLATED
    return Judgement(verdict=verdict, reason=reason, value=observed)


def _short(value: Any, most: int = 80) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def _certainty(
    samples: tuple[float, ...], low: float, high: float
) -> tuple[float | None, float | None]:
    """Half-width of the interval of the mean, and P(low ≤ mean ≤ high), by Student's t."""
    count = len(samples)
    mean = math.fsum(samples) / count
    variance = math.fsum((x - mean) ** 2 for x in samples) / (count - 1)
    if not (math.isfinite(mean) and math.isfinite(variance)):
        return None, None
    error, freedom = math.sqrt(variance / count), count - 1
    if error == 0:
        # Equal measurements say nothing of what another one would have been.
        return None, None
    inside = student_cdf((high - mean) / error, freedom) - student_cdf(
        (low - mean) / error, freedom
    )
    return error * student_quantile(0.5 + CONFIDENCE_LEVEL / 2, freedom), inside


def student_cdf(t: float, freedom: int) -> float:
    """P(T ≤ t) of Student's t distribution with a whole number of degrees of freedom.

    The finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    angle = math.atan(t / math.sqrt(freedom))
    cos, sin = math.cos(angle), math.sin(angle)
    if freedom % 2:
        term, total = cos, cos if freedom > 1 else 0.0
        for k in range(3, freedom - 1, 2):
            term *= cos * cos * (k - 1) / k
            total += term
        area = 2 / math.pi * (angle + sin * total)
    else:
        term, total = 1.0, 1.0
        for k in range(2, freedom - 1, 2):
            term *= cos * cos * (k - 1) / k
            total += term
        area = sin * total
    return 0.5 + area / 2


def student_quantile(p: float, freedom: int) -> float:
    """The t with P(T ≤ t) = p, for 0.5 < p < 1, by bisection."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < p:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < p else (low, middle)
    return high
