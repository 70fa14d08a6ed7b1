"""What fails beside something is kept apart from it, where that is measured to help."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.past import past
from athena_prefect.learning.records import TaskRecord
from athena_prefect.learning.replay import as_it_was, replayed
from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.editing import edited
from athena_prefect.plan.model import Plan
from tests.learning.runs import T0, H, plan_of, record, run_of


def made(plan: Plan, run: int, task: str, start: float, hours: float, **more: Any) -> TaskRecord:
    return TaskRecord(
        task_id=task, run=f"r{run:02}", plan="p", category=plan.get_task(task).group,
        planned_start=T0, planned_duration=plan.get_task(task).planned_duration,
        actual_start=T0 + start * H, actual_duration=hours * H,
        outcome=more.pop("outcome", TaskOutcome.SUCCESS), **more,
    )  # fmt: skip


def runs_of(plan: Plan, failing: str, beside: str, *, again: bool = True) -> list[TaskRecord]:
    """Thirty runs, in half of which `failing` begins while `beside` runs, fails, and is tried
    again once the other is over.
    """
    rng = np.random.default_rng(4)
    found = []
    for run in range(30):
        meets = run % 2 == 0
        found.append(made(plan, run, beside, 0.0, 1.0))
        begin = (0.2 if meets else 1.0) + 0.1 * rng.random()
        if meets and rng.random() < 0.9:
            bad = made(plan, run, failing, begin, 0.7, outcome=TaskOutcome.FAILURE)
            found.append(bad)
            if again:
                found.append(made(plan, run, failing, begin + 1.0, 0.5, attempt=2))
        else:
            found.append(made(plan, run, failing, begin, 0.5))
    return found


def kept_apart(plan: Plan, records: list[TaskRecord]) -> list[Recommendation]:
    found = ExecutionLearner(plan=plan).generate_recommendations(records)
    return [r for r in found if r.recommendation_id.startswith("apart:")]


def test_one_task_that_fails_beside_another_waits_for_it() -> None:
    plan = plan_of(
        tasks=[{"id": "import", "duration": "1h"}, {"id": "test", "duration": "30m"}],
        runner={"max_workers": 4},
    )
    (found,) = kept_apart(plan, runs_of(plan, "test", "import"))
    assert found.area == "dependencies" and found.implementation_effort == "moderate"
    assert found.confidence is not None and found.confidence > 0.9
    assert found.patch == {"tasks": {"test": {"depends_on": [{"task": "import"}]}}}
    assert "faster" in found.potential_benefit and found.data["failed_runs"] == 0
    text = "name: p\ntasks:\n  - id: import\n    duration: 1h\n  - id: test\n    duration: 30m\n"
    assert "depends_on: [{task: import}]" in edited(text, [found.patch])


def test_runs_that_failed_for_good_are_counted() -> None:
    plan = plan_of(
        tasks=[{"id": "import", "duration": "1h"}, {"id": "test", "duration": "30m"}],
        runner={"max_workers": 4},
    )
    (found,) = kept_apart(plan, runs_of(plan, "test", "import", again=False))
    assert found.data["failed_runs"] >= 10
    assert "would not have failed" in found.potential_benefit


def test_several_tasks_are_kept_apart_by_a_resource() -> None:
    plan = plan_of(
        runner={"max_workers": 4},
        tasks=[
            {"id": "import", "duration": "1h"},
            {"id": "t1", "duration": "30m", "category": "integration"},
            {"id": "t2", "duration": "30m", "category": "integration"},
        ],
    )
    one, two = (runs_of(plan, t, "import") for t in ("t1", "t2"))
    records = one + [r for r in two if r.task_id != "import"]
    found = [r for r in kept_apart(plan, records) if r.recommendation_id.endswith(":import")]
    (change,) = found
    assert change.patch["resources"] == {"apart_integration_import": {"capacity": 2}}
    text = (
        "name: p\nrunner: {max_workers: 4}\ntasks:\n  - {id: import, duration: 1h}\n"
        "  - {id: t1, duration: 30m, category: integration}\n"
        "  - {id: t2, duration: 30m, category: integration}\n"
    )
    new = edited(text, [change.patch])
    assert new.count("apart_integration_import") == 4


def test_what_fails_beside_anything_runs_alone() -> None:
    rng = np.random.default_rng(5)
    plan = plan_of(
        tasks=[{"id": t, "duration": "1h"} for t in ("a", "b", "c")]
        + [{"id": "test", "duration": "30m"}, {"id": "after", "duration": "6m",
            "depends_on": ["test"]}],
        runner={"max_workers": 4},
    )  # fmt: skip
    records = []
    for run in range(60):
        meets = run % 4
        for n, task in enumerate("abc"):
            # One of the three runs beside the test, or none; the others come long after.
            records.append(made(plan, run, task, 0.0 if n == meets else 5.0 + n, 1.0))
        begin = 0.2 + 0.1 * rng.random()
        if meets < 3 and rng.random() < 0.9:
            records.append(made(plan, run, "test", begin, 0.7, outcome=TaskOutcome.FAILURE))
        else:
            records.append(made(plan, run, "test", begin, 0.5))
            records.append(made(plan, run, "after", begin + 0.5, 0.1))
    pattern, *_ = ExecutionLearner(plan=plan).extract_execution_patterns(records)
    assert (pattern.kind, pattern.beside) == ("interaction", "anything else")
    (found,) = kept_apart(plan, records)
    assert found.suggestion == (
        "Let test run alone, with a resource apart_test that it takes all of"
    )
    assert found.patch["resources"] == {"apart_test": {"capacity": 3}}
    takes = {t: change["resources"]["apart_test"] for t, change in found.patch["tasks"].items()}
    # What waits for it anyway needs nothing of it.
    assert takes == {"a": 1, "b": 1, "c": 1, "test": 3}
    assert found.benefit is not None and found.samples == pattern.runs
    assert found.data["failed_runs"] >= 30


def test_what_the_plan_keeps_apart_already_is_left_alone() -> None:
    plan = plan_of(
        tasks=[
            {"id": "import", "duration": "1h"},
            {"id": "test", "duration": "30m", "depends_on": ["import"]},
        ],
    )
    assert kept_apart(plan, runs_of(plan, "test", "import")) == []


def test_a_replay_with_a_dependency_or_a_resource_more_serialises() -> None:
    plan = plan_of(
        tasks=[{"id": "a", "duration": "2h"}, {"id": "b", "duration": "1h"}],
        runner={"max_workers": 2},
    )
    run = past(run_of(plan, record("a", (0, 2), (0, 2)), record("b", (0, 1), (0, 1))))
    assert run is not None and as_it_was(run) == 2 * 3600
    assert replayed(run, further=[("a", "b")]) == 3 * 3600
    assert replayed(run, shared=(1.0, np.ones(2))) == 3 * 3600
    assert replayed(run, shared=(2.0, np.ones(2))) == pytest.approx(2 * 3600)
