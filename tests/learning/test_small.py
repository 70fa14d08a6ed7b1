"""Small histories of plain records: what is planted is found, and clocks make no pattern."""

from __future__ import annotations

import math

import numpy as np
import pytest

from athena_prefect.learning.beside import beside
from athena_prefect.learning.contrasts import beyond
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.results import ExecutionPattern, PatternKind
from athena_prefect.learning.statistics import fisher_upper
from athena_prefect.learning.tables import more_often, more_often_in_all
from tests.learning.histories import attempt
from tests.learning.small import small


def told(kind: str, seeds: range) -> list[tuple[bool, list[ExecutionPattern]]]:
    found = []
    for seed in seeds:
        made = small(kind, seed)
        patterns = ExecutionLearner().extract_execution_patterns(list(made.records))
        others = [p for p in patterns if not made.is_it(p)]
        found.append((any(made.right(p) for p in patterns), others))
    return found


@pytest.mark.parametrize("kind", ["bias", "contention", "scaling"])
def test_what_is_planted_in_few_runs_is_found_with_its_size(kind: str) -> None:
    found = told(kind, range(100, 110))
    assert sum(right for right, _ in found) >= 9
    assert sum(len(others) for _, others in found) <= 1


def test_nothing_is_told_of_few_runs_without_a_pattern() -> None:
    assert sum(len(others) for _, others in told("none", range(200, 220))) <= 1


def test_two_tasks_that_slow_one_another_down_are_told_by_their_names() -> None:
    rng = np.random.default_rng(30)
    records = []
    for run in range(30):
        slow = 1.6 if run % 2 else 1.0
        for task, at in (("a", 0.0), ("b", 0.0 if run % 2 else 500.0), ("c", 1000.0)):
            factor = (slow if task in "ab" else 1.0) * math.exp(rng.normal(0, 0.1))
            records.append(attempt(task, 100 * factor, run=run, at=at))
    found = ExecutionLearner().extract_execution_patterns(records)
    assert {(p.kind, p.subject, p.beside) for p in found} == {
        (PatternKind.CONTENTION, "a", "b"),
        (PatternKind.CONTENTION, "b", "a"),
    }


def test_what_begins_as_another_ends_only_touches_it() -> None:
    history = History.of_records([attempt("a", 100.0004), attempt("b", 50, at=100.0)])
    reaches, touch = [np.zeros(2), np.full(2, 200.0)], np.array([1.0, 0.5])
    assert not beside(history, np.arange(2), reaches, touch).any()
    # Without any tolerance the four tenths of a millisecond count.
    assert beside(history, np.arange(2), reaches, np.zeros(2)).any()


def test_the_exception_is_told_and_not_what_is_as_planned() -> None:
    rng = np.random.default_rng(31)
    records = []
    for run in range(60):
        hour = run * 7 % 24  # runs begin at 4:00
        slow = 8 <= (4 + hour) % 24 < 22
        actual = 100 * (1.5 if slow else 1.0) * math.exp(rng.normal(0, 0.1))
        records.append(attempt("a", actual, run=run, at=hour * 3600.0))
    (pattern,) = ExecutionLearner().extract_execution_patterns(records)
    assert (pattern.kind, pattern.beside) == (PatternKind.HOUR, "from 8:00 to 22:00")
    assert pattern.size == pytest.approx(0.5, abs=0.08)
    assert (pattern.data["from"], pattern.data["until"]) == (8, 22)


def mondays(spread: float, slow: dict[int, float], weeks: int = 4) -> list[ExecutionPattern]:
    """Daily runs of four weeks, of which those of the days in `slow` take so many times as long."""
    rng = np.random.default_rng(12)
    records = [
        attempt(n, 100 * (slow.get(day, 1.0) if n == "a" else 1) * math.exp(rng.normal(0, spread)),
                run=day, at=200.0 * k)
        for day in range(7 * weeks)
        for k, n in enumerate("abc")
    ]  # fmt: skip
    return ExecutionLearner().extract_execution_patterns(records)


def test_three_mondays_that_all_lie_beyond_the_other_days_are_told() -> None:
    (pattern,) = mondays(0.1, dict.fromkeys((0, 7, 14), 1.6), weeks=3)
    assert (pattern.kind, pattern.subject, pattern.beside) == (
        PatternKind.WEEKDAY,
        "a",
        "on Mondays",
    )
    assert pattern.size == pytest.approx(0.6, abs=0.15)


def test_two_outliers_on_mondays_are_no_pattern_of_mondays() -> None:
    assert mondays(0.1, {0: 3.0, 14: 3.0}) == []


def test_a_few_are_beyond_the_others_or_not() -> None:
    x = np.array([True] * 3 + [False] * 17)
    apart = np.concatenate((np.full(3, 9.0), np.arange(17.0) / 3))
    assert beyond(apart, x) == pytest.approx(1 / math.comb(20, 3))
    assert beyond(-apart, x) == beyond(apart, ~x) == beyond(apart, x)
    # Two far out and one in the middle of the others are not.
    assert beyond(np.concatenate(([9.0, 9.0, 2.5], np.arange(17.0) / 3)), x) > 0.1
    # Of nothing at all, every choice of few is so with the chance that it says.
    rng = np.random.default_rng(3)
    found = [beyond(rng.standard_t(2, 20), x) <= 0.01 for _ in range(4000)]
    assert np.mean(found) <= 0.02 + 0.007, "either side"


def test_an_exact_test_that_does_not_fix_the_number_of_failures() -> None:
    for table in ((9, 6, 1, 14), (7, 3, 1, 9), (30, 30, 5, 55)):
        assert more_often(*table) <= fisher_upper(*table)
    assert more_often(0, 10, 5, 5) > 0.5
    # By its definition: the worst chance, over all tables that are as telling.
    a, b, c, d = 3, 1, 0, 4
    own = fisher_upper(a, b, c, d)
    worst = 0.0
    for chance in np.arange(1, 100) / 100:
        total = 0.0
        for i in range(5):
            for j in range(5):
                if fisher_upper(i, 4 - i, j, 4 - j) <= own * (1 + 1e-9):
                    ways = math.comb(4, i) * math.comb(4, j)
                    total += ways * chance ** (i + j) * (1 - chance) ** (8 - i - j)
        worst = max(worst, total)
    assert more_often(a, b, c, d) == pytest.approx(worst, rel=1e-9)


def test_several_tables_together_are_one_where_there_is_one() -> None:
    table = (6, 4, 2, 8)
    assert more_often_in_all([table]) == pytest.approx(fisher_upper(*table))
    assert more_often_in_all([table, table]) < more_often_in_all([table])
    # Tables without failures, or without one side, say nothing.
    assert more_often_in_all([table, (0, 5, 0, 5), (3, 2, 0, 0)]) == pytest.approx(
        fisher_upper(*table)
    )
    many = (600, 400, 500, 500)
    assert more_often_in_all([many, many]) == pytest.approx(0.0, abs=1e-6)
