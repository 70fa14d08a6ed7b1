"""What scenarios 2 and 3 of the specification teach of estimates and assumptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.records import run_record
from athena_prefect.learning.results import ExecutionPattern, PatternKind
from tests.scenarios.test_replanning import deviated, shortfall


def learned(run: Any) -> tuple[ExecutionLearner, dict[str, ExecutionPattern]]:
    checks = [c for seen in run.monitor.state.checks.values() for c in seen]
    record = run_record(run.plan, run.monitor.records, started=run.at(0), checks=checks)
    learner = ExecutionLearner()
    patterns = learner.extract_execution_patterns(History.of([record]))
    return learner, {p.pattern_id: p for p in patterns}


def test_scenario_2_teaches_that_the_resource_estimate_needs_improvement(
    drive: Callable[..., Any],
) -> None:
    run = drive(shortfall())
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 6.5))
    AssumptionValidator(run.plan, run.monitor).check_assumption(
        "resources_available", {"cpu": 5}, "external"
    )
    learner, patterns = learned(run)
    found = patterns["resource:resource:cpu"]
    assert found.description == (
        "the estimate of the resource cpu needs improvement: 8 were planned with, 5 were there "
        "(seen once)"
    )
    assert found.size == pytest.approx(5 / 8 - 1)
    assert found.affected_tasks == ("t5", "t6", "t8")
    assert found.confidence is None, "one sample: an observation"
    late = patterns["duration:task:t4"]
    assert late.size == pytest.approx(0.3) and late.description.startswith("t4 took 30 % longer")
    metrics = learner.compute_estimation_accuracy()
    assert metrics.assumption_validity_rate == 0
    assert metrics.avg_duration_error == pytest.approx(0.3 / 4)
    assert metrics.trend is None and "trend" in metrics.reasons


def test_scenario_3_teaches_that_requirements_stable_was_invalid(
    drive: Callable[..., Any],
) -> None:
    run = drive(deviated())
    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    validator = AssumptionValidator(run.plan, run.monitor)
    for assumption in ("requirements_stable", "reviewers_available", "test_env_ready"):
        validator.check_assumption(assumption, {"ok": False}, "external")
    learner, patterns = learned(run)
    found = patterns["assumption:assumption:requirements_stable"]
    assert found.kind is PatternKind.ASSUMPTION
    assert found.description == 'the assumption "requirements stable" was invalid (seen once)'
    assert found.affected_tasks == ("t3",) and found.confidence is None
    assert learner.compute_estimation_accuracy().assumptions["requirements_stable"] == 0


def test_scenario_1_s_only_observation_is_t3(drive: Callable[..., Any]) -> None:
    from tests.scenarios.test_learning_nominal import driven

    learner, patterns = learned(driven(drive))
    assert set(patterns) == {
        "duration:task:t3", "resource:task:t3:cpu", "resource:task:t3:memory",
    }  # fmt: skip
    metrics = learner.compute_estimation_accuracy()
    assert metrics.by_task["t3"].bias == pytest.approx(0.1)
    assert metrics.resource_usage_accuracy["cpu"] == pytest.approx(1 - 0.1 / 5)
    assert metrics.dependency_accuracy == 1.0
