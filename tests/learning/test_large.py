"""What is done for large histories changes no answer, or says what it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from athena_prefect.learning import accuracy, groups, scaling
from athena_prefect.learning.accuracy import estimation_accuracy
from athena_prefect.learning.beside import beside, sampled_runs
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.patterns import execution_patterns
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.rows import with_tasks
from tests.learning.histories import attempt
from tests.learning.planted import planted
from tests.learning.runs import plan_of, record, run_of


@pytest.mark.parametrize("kind", ["bias", "contention", "drift"])
def test_tables_in_blocks_give_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = planted(kind, 3).history
    whole, metrics = execution_patterns(history), estimation_accuracy(history)
    monkeypatch.setattr(groups, "DENSE", 2 * len(history.runs))
    monkeypatch.setattr(accuracy, "DENSE", 0)
    found = execution_patterns(history)
    assert [p.pattern_id for p in found] == [p.pattern_id for p in whole]
    for one, other in zip(found, whole, strict=True):
        assert one.size == pytest.approx(other.size)
        assert one.p_value == pytest.approx(other.p_value)
    assert estimation_accuracy(history) == metrics


def test_an_even_choice_of_runs_still_finds_contention() -> None:
    made = planted("contention", 3, runs=400)
    policy = LearningPolicy(most_cells=50_000)
    found = execution_patterns(made.history, policy)
    pattern = made.found_in(found)
    assert pattern is not None
    assert pattern.runs < 300, "it says how many runs it rests on"
    assert not [p for p in found if p.kind is PatternKind.DURATION], "its effect is no bias"


def test_runs_are_chosen_evenly_of_each_plan() -> None:
    records = [
        attempt("a", run=run, plan=plan) for plan in ("p", "q") for run in range(50)
    ]  # fmt: skip
    history = History.of_records(records)
    kept = sampled_runs(history, 10, 500)
    by_plan = np.bincount(history.run_plan[kept], minlength=2)
    assert by_plan.tolist() == [25, 25]
    assert sampled_runs(history, 1, 1000).all()


def test_beside_is_what_runs_at_the_start_or_soon_after() -> None:
    history = History.of_records(
        [
            attempt("a", 100, at=0),
            attempt("b", 50, at=10),  # begins beside a, a runs when it starts
            attempt("c", 50, at=90),
            attempt("d", 50, at=100),  # begins when a ends: not beside it
            attempt("a", 10, at=60, number=2),  # the same task again
        ]
    )
    rows = np.arange(len(history))
    at_start, later = beside(history, rows, [np.zeros(5), np.full(5, 50.0)], np.zeros(5))
    a, b, c, d = (history.categories.index(n) for n in "abcd")
    assert not at_start[0].any()
    assert later[0, b] and not later[0, c] and not later[0, d] and not later[0, a]
    assert at_start[1, a] and at_start[1, -1]
    assert at_start[2, a] and not at_start[3, a]


def test_beside_does_not_reach_into_another_run() -> None:
    history = History.of_records([attempt("a", 200_000), attempt("b", run=1)])
    (found,) = beside(history, np.arange(2), [np.full(2, 1e6)], np.zeros(2))
    assert not found.any()


def test_long_tasks_that_meet_more_are_no_contention() -> None:
    rng = np.random.default_rng(21)
    records = []
    for run in range(80):
        records.append(attempt("a", 100 * math.exp(rng.normal(0, 0.4)), run=run))
        records.append(attempt("b", 50, 50, run=run, at=float(rng.uniform(0, 200))))
    assert execution_patterns(History.of_records(records)) == []


def test_a_line_through_many_points_takes_some_of_them() -> None:
    rng = np.random.default_rng(22)
    x = rng.uniform(10, 100, 5000)
    line = scaling.robust_line(x, 3 * x + 7 + rng.normal(0, 5, 5000), 0.9)
    assert line is not None
    assert line.low < 3 < line.high and line.slope == pytest.approx(3, abs=0.05)
    assert line.level == pytest.approx(7, abs=3)
    assert scaling.robust_line(np.ones(10), np.arange(10.0), 0.9) is None


def test_two_plans_keep_their_own_patterns() -> None:
    rng = np.random.default_rng(23)
    records = [
        attempt("a", 100 * (1.3 if plan == "slow" else 1) * math.exp(rng.normal(0, 0.1)),
                run=run, plan=plan, category=plan)
        for plan in ("slow", "fast")
        for run in range(30)
    ]  # fmt: skip
    (pattern,) = execution_patterns(History.of_records(records))
    assert (pattern.plan, pattern.subject) == ("slow", "a")


def test_columns_are_replayed_by_their_newest_runs() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}])
    runs = [run_of(plan, record("a", (0, 1), (0, 1.5), run=f"r{i:02}")) for i in range(30)]
    found = with_tasks(History.of(runs))
    assert [r.run for r in found] == [f"r{i:02}" for i in range(10, 30)]
    assert all(len(r.tasks) == 1 and r.tasks[0].planned_start is not None for r in found)


def test_delays_are_put_down_once_for_all_that_is_asked() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}])
    records = [record("a", (0, 1), (0, 1.5))]
    learner = ExecutionLearner(plan=plan)
    first = learner.blames(records)
    learner.generate_recommendations(records)
    assert learner.blames() is first
    assert learner.blames(list(records)) is not first
