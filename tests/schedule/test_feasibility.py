"""The checker: it finds what is broken, wherever it is, by brute force's account."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.schedule.feasibility import ConflictKind, check
from athena_prefect.schedule.problem import Problem
from tests.schedule.problems import network_of, problems


def broken(problem: Problem, starts: list[int]) -> bool:
    """Whether the schedule breaks anything, unit by unit of time."""
    durations = problem.durations
    tails, heads, lags, _ = problem.network.arcs
    for a, b, lag in zip(tails, heads, lags, strict=True):
        if starts[b] < starts[a] + durations[a] + lag:
            return True
    for moment in range(60):
        runs = [i for i, s in enumerate(starts) if s <= moment < s + durations[i]]
        if (problem.demands[runs].sum(axis=0) > problem.capacities).any():
            return True
    return False


@given(problems(most=6), st.data())
def test_agrees_with_brute_force(problem: Problem, data: st.DataObject) -> None:
    count = len(problem)
    starts = data.draw(st.lists(st.integers(0, 15), min_size=count, max_size=count))
    assert bool(check(problem, starts)) == broken(problem, starts)


def test_says_what_is_wrong_in_words() -> None:
    network = network_of(3, ((0, 1, 2.0),))
    problem = Problem.build(network, [4.0, 1.0, 5.0], [[1], [1], [2]], [2], resources=["cpu"])
    found = check(problem, [0.0, 5.0, 1.0], release=[0, 0, 3.0])
    assert {c.kind for c in found} == {
        ConflictKind.CAPACITY,
        ConflictKind.RELEASE,
        ConflictKind.PRECEDENCE,
    }
    words = " / ".join(map(str, found))
    assert "'n1' starts at 5 s, but waits for 'n0', which ends at 4 s and a lag of 2 s" in words
    assert "'n0', 'n2' take 3 of 'cpu', of which there is 2" in words
    assert "'n2' starts at 1 s, not before 3 s is right" in words


def test_starts_that_are_none() -> None:
    problem = Problem.build(network_of(2, ()), [1.0, 1.0], np.ones((2, 1)), [2])
    assert [c.kind for c in check(problem, [np.nan, -1.0])] == [ConflictKind.START] * 2
    assert check(problem, [0.0])[0].kind is ConflictKind.START


def test_what_has_started_is_held_to_nothing() -> None:
    network = network_of(2, ((0, 1, 0.0),))
    problem = Problem.build(network, [4.0, 4.0], [[2], [2]], [1])
    both = np.array([True, True])
    assert check(problem, [0.0, 1.0], fixed=both) == ()
    assert len(check(problem, [0.0, 1.0])) == 3
