"""The laws of verdicts."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.assumptions.verdict import (
    Verdict,
    counted,
    judge,
    limits,
    student_cdf,
    student_quantile,
)
from athena_prefect.plan.model import Sense

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
numbers = st.floats(-1e9, 1e9)
tolerances = st.floats(0, 2)
senses = st.sampled_from(Sense)


def verdict(observed: Any, expected: Any, **more: Any) -> Verdict:
    return judge(observed, expected, now=NOW, **more).verdict


@given(numbers, numbers, tolerances)
def test_at_least_is_the_formula_of_its_contract(x: float, e: float, t: float) -> None:
    slack = t * abs(e) if e else t
    assert (verdict(x, e, sense=Sense.AT_LEAST, tolerance=t) is Verdict.HOLDS) == (x >= e - slack)


@given(numbers, numbers, tolerances)
def test_at_most_mirrors_at_least(x: float, e: float, t: float) -> None:
    mirrored = verdict(-x, -e, sense=Sense.AT_LEAST, tolerance=t)
    assert verdict(x, e, sense=Sense.AT_MOST, tolerance=t) is mirrored


@given(numbers, numbers, tolerances)
def test_equal_is_both(x: float, e: float, t: float) -> None:
    both = all(
        verdict(x, e, sense=s, tolerance=t) is Verdict.HOLDS
        for s in (Sense.AT_LEAST, Sense.AT_MOST)
    )
    assert (verdict(x, e, tolerance=t) is Verdict.HOLDS) == both


@given(numbers, senses, tolerances)
def test_what_is_expected_holds(e: float, sense: Sense, t: float) -> None:
    assert verdict(e, e, sense=sense, tolerance=t) is Verdict.HOLDS


@given(numbers, numbers, senses, tolerances, tolerances)
def test_more_tolerance_never_violates(x: float, e: float, s: Sense, t: float, u: float) -> None:
    if verdict(x, e, sense=s, tolerance=t) is Verdict.HOLDS:
        assert verdict(x, e, sense=s, tolerance=t + u) is Verdict.HOLDS


@given(st.one_of(st.none(), st.booleans(), numbers, st.text(), st.lists(st.integers())), senses)
def test_nothing_observed_is_unknown(expected: Any, sense: Sense) -> None:
    assert verdict(None, expected, sense=sense) is Verdict.UNKNOWN
    assert verdict(math.nan, expected, sense=sense) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("observed", "expected", "more", "right"),
    [
        (True, True, {}, "holds"),
        (False, True, {}, "violated"),
        (True, None, {}, "holds"),
        (False, None, {}, "violated"),
        (5, None, {}, "unknown"),
        (1, True, {}, "unknown"),
        (True, 1, {}, "unknown"),
        (True, True, {"sense": Sense.AT_LEAST}, "unknown"),
        ("ready", "ready", {}, "holds"),
        ("busy", "ready", {}, "violated"),
        ("b", "a", {"sense": Sense.AT_LEAST}, "unknown"),
        ("5", 5, {}, "unknown"),
        (0.5, 0, {"tolerance": 0.5}, "holds"),
        (0.6, 0, {"tolerance": 0.5}, "violated"),
        (4.5, 5, {"sense": Sense.AT_LEAST, "tolerance": 0.1}, "holds"),
        (4.4, 5, {"sense": Sense.AT_LEAST, "tolerance": 0.1}, "violated"),
        (-5.5, -5, {"sense": Sense.AT_LEAST, "tolerance": 0.1}, "holds"),
        (3, {"min": 1, "max": 4}, {}, "holds"),
        (5, {"min": 1, "max": 4}, {}, "violated"),
        (5, {"min": 1, "max": 4}, {"tolerance": 1.0}, "violated"),
        (True, {"min": 1}, {}, "unknown"),
        ("x", {"min": 1}, {}, "unknown"),
        ("b", {"one_of": ["a", "b"]}, {}, "holds"),
        (1, {"one_of": [True]}, {}, "violated"),
        ("v1.2", {"matches": "^v1"}, {}, "holds"),
        ("v2.0", {"matches": "^v1"}, {}, "violated"),
        (7, {"matches": "7"}, {}, "unknown"),
        (NOW - timedelta(minutes=59), {"max_age": "1h"}, {}, "holds"),
        ((NOW - timedelta(minutes=61)).isoformat(), {"max_age": "1h"}, {}, "violated"),
        (3599.0, {"max_age": "1h"}, {"unit": "s"}, "holds"),
        (3601.0, {"max_age": "1h"}, {"unit": "s"}, "violated"),
        (3601.0, {"max_age": "1h"}, {}, "unknown"),
        ("2026-11-27T12:00:00", {"max_age": "1h"}, {}, "unknown"),
        (90, "2m", {"sense": Sense.AT_MOST, "unit": "s"}, "holds"),
        (timedelta(minutes=3), "2m", {"sense": Sense.AT_MOST}, "violated"),
        ([1, 2], [1, 2], {}, "holds"),
        ([1], [1, 2], {}, "violated"),
        ({"a": 1}, {"a": 1}, {}, "holds"),
        ({"a": 2}, {"a": 1}, {}, "violated"),
    ],
)
def test_cases(observed: Any, expected: Any, more: dict[str, Any], right: str) -> None:
    found = judge(observed, expected, now=NOW, **more)
    assert found.verdict == right, found.reason
    assert found.reason
    assert found.verdict.valid is {"holds": True, "violated": False, "unknown": None}[right]
    assert found.margin is None and found.confidence is None


def test_the_reason_has_both_numbers_and_the_unit() -> None:
    found = judge(4.2, 5, sense=Sense.AT_LEAST, tolerance=0.1, unit="GB", now=NOW)
    assert found.reason == "is 4.2 GB, expected at least 5 GB within 0.1"


@pytest.mark.parametrize(
    ("value", "field", "counts", "right"),
    [
        (3, None, None, 3),
        ({"only": 3}, None, None, 3),
        ({"a": 1, "b": 2}, "b", "a", 2),
        ({"a": 1, "b": 2}, None, "a", 1),
        ({"a": {"b": 2}, "c": 3}, "a.b", None, 2),
    ],
)
def test_what_counts(value: Any, field: str | None, counts: str | None, right: Any) -> None:
    assert counted(value, field, counts) == right


@pytest.mark.parametrize(
    ("value", "field", "said"),
    [
        ({"a": 1, "b": 2}, None, "a, b"),
        ({"a": 1}, "c", "nothing observed is called 'c'; there is a"),
        ({}, None, "no value was given"),
        (3, "c", "nothing observed is called 'c'"),
    ],
)
def test_what_counts_is_asked_for(value: Any, field: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        counted(value, field)


def test_student_is_the_published_table() -> None:
    # Two-sided 95 %, as every statistics book prints it.
    for freedom, t in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)):
        assert student_quantile(0.975, freedom) == pytest.approx(t, abs=5e-4)
        assert student_cdf(-t, freedom) == pytest.approx(0.025, abs=3e-5)
    assert student_cdf(math.inf, 3) == 1 and student_cdf(-math.inf, 3) == 0


def test_confidence_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        samples = tuple(rng.normal(10, 3, size=6).tolist())
        mean = math.fsum(samples) / 6
        found = judge(mean, 9, sense=Sense.AT_LEAST, now=NOW, samples=samples)
        assert found.margin is not None and found.confidence is not None
        assert found.confidence >= 0.5, "the mean lies on the side of the verdict"
        inside += abs(mean - 10) <= found.margin
    # 400 tries at 95 %: a standard deviation is 1.1 points.
    assert inside / 400 == pytest.approx(0.95, abs=0.035)


def test_samples_of_something_else_and_equal_ones_are_no_basis() -> None:
    told = judge(200, {"min": 200}, now=NOW, samples=(0.1, 0.2))
    assert told.confidence is None
    assert judge(200, 200, now=NOW, samples=(0.1, 0.2)).confidence is None
    assert judge(3.0, 2, sense=Sense.AT_LEAST, now=NOW, samples=(3.0, 3.0)).confidence is None


@given(numbers, senses, tolerances)
def test_limits_are_where_the_verdict_turns(e: float, sense: Sense, t: float) -> None:
    low, high = limits(e, sense, t)
    for edge, beyond in ((low, -math.inf), (high, math.inf)):
        if math.isfinite(edge):
            assert verdict(edge, e, sense=sense, tolerance=t) is Verdict.HOLDS
            outside = math.nextafter(edge, beyond)
            assert verdict(outside, e, sense=sense, tolerance=t) is Verdict.VIOLATED
