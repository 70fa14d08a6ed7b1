"""Severity: monotone in how bad things are, and never a word about what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.monitor.deviation import PlanDeviation, severity
from athena_prefect.plan.model import Criticality
from athena_prefect.plan.policy import ReplanningPolicy

POLICY = ReplanningPolicy()
SCALE = list(Criticality)
shares = st.floats(-2, 5)
probabilities = st.floats(0, 1)


@pytest.mark.parametrize(
    ("slip", "expected"),
    [
        (-1.0, "low"),
        (0.0, "low"),
        (0.0999, "low"),
        (0.10, "medium"),
        (0.2499, "medium"),
        (0.25, "high"),
        (0.4999, "high"),
        (0.50, "critical"),
        (9.0, "critical"),
    ],
)
def test_severity_of_a_slip(slip: float, expected: str) -> None:
    assert severity(slip, None, POLICY) == expected


@pytest.mark.parametrize(
    ("probability", "expected"),
    [(1.0, "low"), (0.9, "low"), (0.89, "medium"), (0.7, "medium"), (0.69, "high"),
     (0.4, "high"), (0.39, "critical"), (0.0, "critical")],
)  # fmt: skip
def test_severity_of_a_deadline_in_danger(probability: float, expected: str) -> None:
    assert severity(0.0, probability, POLICY) == expected


@given(shares, probabilities)
def test_the_worse_of_the_two_counts(slip: float, probability: float) -> None:
    both = severity(slip, probability, POLICY)
    single = [severity(slip, None, POLICY), severity(None, probability, POLICY)]
    assert both is not None and both in single
    assert all(SCALE.index(both) >= SCALE.index(s) for s in single if s)


@given(st.lists(shares, min_size=2, max_size=5), probabilities)
def test_a_larger_slip_is_never_less_severe(slips: list[float], probability: float) -> None:
    found = [severity(s, probability, POLICY) for s in sorted(slips)]
    assert all(SCALE.index(a) <= SCALE.index(b) for a, b in pairwise(found) if a and b)


def test_nothing_known_is_no_severity() -> None:
    assert severity(None, None, POLICY) is None


def test_thresholds_are_the_policys() -> None:
    policy = ReplanningPolicy(medium_slip=0.01, high_slip=0.02, critical_slip=0.03)
    assert severity(0.025, None, policy) is Criticality.HIGH


def test_a_deviation_is_plain_data_for_tools() -> None:
    deviation = PlanDeviation(
        time_deviation=timedelta(minutes=12),
        time_deviation_percent=0.02,
        resource_deviation={"cpu": -0.02, "memory": None},
        completion_rate=1.0,
        completed_tasks=5,
        total_tasks=5,
        tasks_at_risk=(),
        critical_path=("a",),
        estimated_completion=datetime(2026, 1, 1, tzinfo=UTC),
        confidence=None,
        deviation_severity=Criticality.LOW,
    )
    row = json.loads(json.dumps(deviation.as_dict()))
    assert row["time_deviation"] == 720
    assert row["estimated_completion"] == "2026-01-01T00:00:00+00:00"
    assert row["deviation_severity"] == "low" == deviation.deviation_severity
    assert row["critical_path"] == ["a"] and row["confidence"] is None
