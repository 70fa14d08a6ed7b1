"""Accuracy of estimates: what is counted, and against what is known by hand."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.records import CheckRecord, ForecastRecord, RunRecord, into_runs
from athena_prefect.learning.results import Trend
from athena_prefect.plan.model import Plan
from tests.learning.histories import MONDAY, attempt


def test_bias_mape_and_spread_are_those_of_the_errors() -> None:
    records = [attempt("a", 150, run=0), attempt("a", 90, run=1), attempt("b", 120, run=1)]
    metrics = ExecutionLearner().compute_estimation_accuracy(records)
    errors = np.array([0.5, -0.1, 0.2])
    assert metrics.tasks_analyzed == 2
    assert metrics.avg_duration_error == pytest.approx(errors.mean())
    assert metrics.duration_error_std == pytest.approx(errors.std(ddof=1))
    assert metrics.overall is not None
    assert metrics.overall.mape == pytest.approx(np.abs(errors).mean())
    assert metrics.overall.typical == pytest.approx(0.2)
    assert (metrics.overall.samples, metrics.overall.runs) == (3, 2)
    assert metrics.by_task["a"].bias == pytest.approx(0.2)
    assert metrics.by_task["b"].spread is None


def test_only_successes_that_ran_count() -> None:
    records = [
        attempt("a", 100),
        attempt("a", 5, outcome=TaskOutcome.FAILURE, number=2),
        attempt("a", 0.01, run=1, cached=True),
        attempt("a", None, run=2, outcome=None),
        attempt("b", 100, None),
    ]
    metrics = ExecutionLearner().compute_estimation_accuracy(records)
    assert metrics.overall is not None and metrics.overall.samples == 1
    assert metrics.avg_duration_error == 0


def test_of_nothing_nothing_is_known_and_said_why() -> None:
    metrics = ExecutionLearner().compute_estimation_accuracy()
    assert metrics.avg_duration_error is None and metrics.trend is None
    assert metrics.assumption_validity_rate is None and metrics.dependency_accuracy is None
    assert set(metrics.reasons) == {
        "avg_duration_error", "assumption_validity_rate", "dependency_accuracy", "trend",
    }  # fmt: skip
    assert metrics.calibration is not None and "no forecast" in metrics.calibration.reason


def test_resource_accuracy_is_of_the_measured_ones() -> None:
    records = [
        attempt("a", resources={"cpu": 4, "memory": 8}, used={"cpu": 3}),
        attempt("a", run=1, resources={"cpu": 4}, used={"cpu": 5}),
        attempt("b", run=1, resources={"cpu": 4}),
    ]
    metrics = ExecutionLearner().compute_estimation_accuracy(records)
    assert metrics.resource_usage_accuracy == {"cpu": pytest.approx(0.75)}


@pytest.mark.parametrize(
    ("factor", "trend"),
    [(0.95, Trend.IMPROVING), (1.0, Trend.STABLE), (1.05, Trend.DEGRADING)],
)
def test_the_trend_is_that_of_the_sizes_of_errors(factor: float, trend: Trend) -> None:
    rng = np.random.default_rng(5)
    records = [
        attempt("a", 100 * (1 + 0.3 * factor**run * s * noise), run=run)
        for run in range(20)
        for s, noise in [(1 if run % 2 else -1, rng.uniform(0.8, 1.2))]
    ]
    metrics = ExecutionLearner().compute_estimation_accuracy(records)
    assert metrics.trend is trend
    assert metrics.trend_test is not None and metrics.trend_test.runs == 20


def test_checks_that_could_not_be_made_are_neither_valid_nor_invalid() -> None:
    checks = tuple(
        CheckRecord(assumption_id=a, at=MONDAY, holds=h)
        for a, h in [("disk", True), ("disk", False), ("disk", None), ("api", True)]
    )
    metrics = ExecutionLearner().compute_estimation_accuracy(
        History.of([RunRecord(run="1", checks=checks)])
    )
    assert metrics.assumption_validity_rate == pytest.approx(2 / 3)
    assert metrics.assumptions == {"disk": 0.5, "api": 1.0}


def test_planned_edges_against_what_was_waited_for() -> None:
    plan = Plan.model_validate(
        {
            "name": "nightly",
            "tasks": [
                {"id": "a", "duration": "100s"},
                {"id": "b", "duration": "100s", "depends_on": ["a"]},
                {"id": "c", "duration": "100s", "depends_on": [{"task": "a", "lag": "50s"}]},
            ],
        }
    )
    records = [
        attempt("a", 100),
        attempt("b", 100, at=130, queue=30),  # ready when a ended, then queued
        attempt("c", 100, at=400, queue=0),  # ready 250 s after its lag: for another reason
    ]
    runs = into_runs(records, plan=plan)
    metrics = ExecutionLearner().compute_estimation_accuracy(History.of(runs))
    assert metrics.dependency_accuracy == 0.5


def test_calibration_of_recorded_forecasts() -> None:
    def run(number: int, took: float) -> RunRecord:
        start = MONDAY + timedelta(days=number)
        quantiles = {
            q: start + timedelta(seconds=s) for q, s in [(0.1, 80), (0.5, 100), (0.9, 120)]
        }
        forecast = ForecastRecord(run=str(number), at=start, quantiles=quantiles)
        return RunRecord(
            run=str(number),
            started=start,
            ended=start + timedelta(seconds=took),
            status="completed",
            forecasts=(forecast,),
        )

    metrics = ExecutionLearner().compute_estimation_accuracy(History.of([run(0, 90), run(1, 130)]))
    found = metrics.calibration
    assert found is not None
    assert (found.forecasts, found.runs, found.coverage) == (2, 2, 0.5)
    assert found.reliability == {"p10": 0.0, "p50": 0.5, "p90": 0.5}
    first = (0.1 * 10 + 0.5 * 10 + 0.1 * 30) / 90
    second = (0.1 * 50 + 0.5 * 30 + 0.9 * 10) / 130
    assert found.pinball == pytest.approx((first + second) / 6)


def test_metrics_are_plain_data() -> None:
    row = ExecutionLearner().compute_estimation_accuracy([attempt("a", 120)]).as_dict()
    assert row["by_task"]["a"]["bias"] == pytest.approx(0.2)
    assert row["calibration"]["coverage"] is None
