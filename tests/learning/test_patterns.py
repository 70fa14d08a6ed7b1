"""Patterns: what was planted is found with its size, and chance is not told as a pattern."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.patterns import execution_patterns
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import CheckRecord, RunRecord, TaskRecord
from athena_prefect.learning.results import ExecutionPattern, PatternKind, SubjectKind
from tests.learning.histories import MONDAY, attempt
from tests.learning.planted import KINDS, planted

RUNS = 30


def extracted(records: list[TaskRecord]) -> list[ExecutionPattern]:
    return ExecutionLearner().extract_execution_patterns(records)


def the_one(patterns: list[ExecutionPattern]) -> ExecutionPattern:
    assert len(patterns) == 1, [p.description for p in patterns]
    return patterns[0]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_planted_is_found_and_nothing_else(kind: str, seed: int) -> None:
    made = planted(kind, seed)
    found = execution_patterns(made.history)
    if kind == "none":
        assert found == []
        return
    pattern = the_one(found)
    assert made.found_in(found) is pattern
    assert pattern.confidence is not None and pattern.confidence > 0.5
    assert pattern.interval is not None and pattern.size is not None
    assert pattern.interval[0] < pattern.size < pattern.interval[1]
    assert pattern.p_value is not None and pattern.p_corrected is not None
    assert pattern.p_value <= pattern.p_corrected <= 0.05


def slow(ratio: float, names: list[str], rng: np.random.Generator, **more: str) -> list[TaskRecord]:
    return [
        attempt(n, 100 * ratio * math.exp(rng.normal(0, 0.1)), run=run, at=200.0 * k, **more)  # type: ignore[arg-type]
        for run in range(RUNS)
        for k, n in enumerate(names)
    ]


def test_a_category_is_told_once_and_not_once_a_task() -> None:
    rng = np.random.default_rng(1)
    records = slow(1.2, ["q1", "q2", "q3"], rng, category="qa")
    records += slow(1.0, ["a", "b", "c"], rng)
    pattern = the_one(extracted(records))
    assert (pattern.subject, pattern.subject_kind) == ("qa", SubjectKind.CATEGORY)
    assert pattern.affected_tasks == ("q1", "q2", "q3")
    assert pattern.size == pytest.approx(0.2, abs=0.04)
    assert pattern.description.startswith("qa tasks take ")
    assert "longer than planned" in pattern.description and "30 runs" in pattern.description
    assert pattern.impact is not None and pattern.impact == pytest.approx(-1 / 6, abs=0.03)
    assert pattern.frequency == RUNS and pattern.actionable


def test_one_slow_task_does_not_make_its_category_slow() -> None:
    rng = np.random.default_rng(2)
    records = slow(1.5, ["q1"], rng, category="qa")
    records += slow(1.0, ["q2", "q3", "q4"], rng, category="qa")
    pattern = the_one(extracted(records))
    assert (pattern.subject, pattern.subject_kind) == ("q1", SubjectKind.TASK)


def test_all_tasks_off_are_one_pattern_of_the_plan() -> None:
    rng = np.random.default_rng(3)
    pattern = the_one(extracted(slow(1.3, ["a", "b", "c", "d"], rng)))
    assert (pattern.subject, pattern.subject_kind) == ("nightly", SubjectKind.PLAN)


def test_a_resource_explains_tasks_of_several_categories() -> None:
    rng = np.random.default_rng(4)
    records = [
        attempt(n, 100 * (1.4 if uses else 1.0) * math.exp(rng.normal(0, 0.1)), run=run,
                at=200.0 * k, category=n[0], resources={"warehouse": 1} if uses else {})
        for run in range(RUNS)
        for k, (n, uses) in enumerate(
            [("a1", True), ("a2", False), ("b1", True), ("b2", False), ("c1", True), ("c2", False)]
        )
    ]  # fmt: skip
    pattern = the_one(extracted(records))
    assert (pattern.subject, pattern.subject_kind) == ("warehouse", SubjectKind.RESOURCE)
    assert pattern.description.startswith("tasks that use warehouse take ")


def test_hours_at_which_the_same_tasks_are_slow() -> None:
    rng = np.random.default_rng(5)
    records = []
    for run in range(80):
        hour = int(rng.integers(0, 24))  # runs begin at 4:00
        busy = 9 <= (4 + hour) % 24 < 17
        records += [
            attempt(n, 100 * (1.4 if busy else 1) * math.exp(rng.normal(0, 0.1)), run=run,
                    at=hour * 3600.0 + 10 * k)
            for k, n in enumerate("abc")
        ]  # fmt: skip
    pattern = the_one(extracted(records))
    assert pattern.kind is PatternKind.HOUR
    assert pattern.beside == "from 9:00 to 17:00"
    assert pattern.size == pytest.approx(0.4, abs=0.06)


def test_weekdays_at_which_the_same_tasks_are_slow() -> None:
    rng = np.random.default_rng(6)
    records = [
        attempt(n, 100 * (1.5 if run % 7 == 0 else 1) * math.exp(rng.normal(0, 0.1)), run=run,
                at=200.0 * k)
        for run in range(84)
        for k, n in enumerate("ab")
    ]  # fmt: skip
    pattern = the_one(extracted(records))
    assert (pattern.kind, pattern.beside) == (PatternKind.WEEKDAY, "on Mondays")


def test_minutes_per_hundred_lines() -> None:
    rng = np.random.default_rng(7)
    records = []
    for run in range(40):
        lines = float(np.exp(rng.normal(math.log(250), 0.5)))
        seconds = 18 * lines * math.exp(rng.normal(0, 0.1))
        records.append(attempt("review", seconds, 5000.0, run=run, used={"lines": lines}))
    found = [p for p in extracted(records) if p.kind is PatternKind.SCALING]
    pattern = the_one(found)
    assert pattern.size == pytest.approx(18, rel=0.1) and pattern.unit == "seconds per lines"
    assert (
        pattern.description.startswith("review takes ") and "per 100 lines" in pattern.description
    )


def test_retries_that_never_help() -> None:
    records = []
    for run in range(2 * RUNS):
        bad = run % 2 == 0
        outcome = TaskOutcome.FAILURE if bad else TaskOutcome.SUCCESS
        records.append(attempt("load", 100, run=run, outcome=outcome))
        if bad:
            records += [
                attempt("load", 90, run=run, at=100.0 * k, number=k + 1, outcome=outcome)
                for k in (1, 2)
            ]
    pattern = the_one(extracted(records))
    assert pattern.kind is PatternKind.RETRIES
    assert (pattern.size, pattern.samples, pattern.data["helped"]) == (0, 30, 0)
    assert pattern.interval is not None and 0 < pattern.interval[1] < 0.2
    assert pattern.confidence is not None and pattern.confidence > 0.95


def test_queue_time_is_told_apart_from_run_time() -> None:
    rng = np.random.default_rng(8)
    records = [
        attempt("load", 100 * math.exp(rng.normal(0, 0.05)), run=run, queue=rng.gamma(8, 6))
        for run in range(RUNS)
    ]
    pattern = the_one(extracted(records))
    assert pattern.kind is PatternKind.QUEUE
    assert pattern.size == pytest.approx(0.48, abs=0.1)
    assert "waits" in pattern.description and "before running" in pattern.description


def test_a_resource_that_is_used_less_than_planned() -> None:
    rng = np.random.default_rng(9)
    records = [
        attempt("load", run=run, resources={"cpu": 4}, used={"cpu": 4 * rng.uniform(0.5, 0.7)})
        for run in range(RUNS)
    ]
    pattern = the_one(extracted(records))
    assert (pattern.kind, pattern.beside) == (PatternKind.RESOURCE, "cpu")
    assert pattern.size == pytest.approx(-0.4, abs=0.03)
    assert pattern.description.startswith("load uses ") and "less cpu" in pattern.description


def test_an_assumption_that_does_not_hold() -> None:
    runs = [
        RunRecord(
            run=str(n),
            plan_name="p",
            started=MONDAY,
            checks=(CheckRecord(assumption_id="disk", at=MONDAY, holds=n % 2 == 0),),
        )
        for n in range(20)
    ]
    pattern = the_one(execution_patterns(History.of(runs)))
    assert (pattern.kind, pattern.subject, pattern.size) == (PatternKind.ASSUMPTION, "disk", 0.5)
    assert "10 of 20 runs" in pattern.description


def test_one_run_gives_observations_without_a_confidence() -> None:
    pattern = the_one(extracted([attempt("a", 110), attempt("b", 100, at=200)]))
    assert pattern.observation and pattern.p_value is None and pattern.samples == 1
    assert pattern.description == "a took 10 % longer than planned (seen once)"


def test_two_runs_give_nothing_that_could_be_sure() -> None:
    assert extracted([attempt("a", 200), attempt("a", 210, run=1)]) == []


def test_equal_figures_are_certain_only_as_far_as_clocks_go() -> None:
    records = [attempt("a", 120, run=run) for run in range(8)]
    pattern = the_one(extracted(records))
    assert pattern.size == pytest.approx(0.2)
    assert pattern.interval is not None and pattern.interval[0] < 0.2 < pattern.interval[1]


def test_a_hung_attempt_makes_no_pattern() -> None:
    rng = np.random.default_rng(10)
    records = slow(1.0, ["a", "b"], rng)
    records[0] = attempt("a", 100_000, run=0)
    assert extracted(records) == []


def test_skewed_noise_whose_mean_is_planned_is_no_bias() -> None:
    rng = np.random.default_rng(11)
    records = [attempt("a", 100 * math.exp(rng.normal(-0.18, 0.6)), run=run) for run in range(400)]
    assert extracted(records) == []


def test_items_of_a_mapped_task_are_one_witness_a_run() -> None:
    rng = np.random.default_rng(12)
    records = [
        replace(attempt("a", 100 * day, run=run), map_index=item)
        for run, day in enumerate(np.exp(rng.normal(0, 0.3, 6)))
        for item in range(50)
    ]
    assert extracted(records) == []


def test_the_policy_decides_what_is_worth_telling() -> None:
    rng = np.random.default_rng(13)
    records = slow(1.2, ["a", "b"], rng)
    assert execution_patterns(History.of_records(records), LearningPolicy(least_bias=0.3)) == []
    found = execution_patterns(
        History.of_records(records), LearningPolicy(correction="benjamini-hochberg")
    )
    assert len(found) == 1


def test_of_nothing_there_are_no_patterns() -> None:
    assert ExecutionLearner().extract_execution_patterns() == []
    assert ExecutionLearner().extract_execution_patterns([]) == []


def test_patterns_are_plain_data_with_a_stable_id() -> None:
    rng = np.random.default_rng(14)
    pattern = the_one(extracted(slow(1.3, ["a"], rng)))
    assert pattern.pattern_id == "duration:task:a"
    row = pattern.as_dict()
    assert row["kind"] == "duration" and row["affected_tasks"] == ["a"]


def test_a_task_unlike_its_category_is_told_by_what_it_takes() -> None:
    rng = np.random.default_rng(15)
    names = [f"q{n}" for n in range(10)]
    records = slow(1.6, names[:8], rng, category="qa")
    records += slow(1.25, ["q8"], rng, category="qa") + slow(1.0, ["x", "y", "z"], rng)
    whole, one = sorted(extracted(records), key=lambda p: -len(p.affected_tasks))
    assert (whole.subject, one.subject) == ("qa", "q8")
    # Less than its category by a fifth, and still a quarter longer than planned.
    assert one.size == pytest.approx(0.25, abs=0.08) and "longer than planned" in one.description
    assert one.interval is not None and one.interval[0] < 0.25 < one.interval[1]
