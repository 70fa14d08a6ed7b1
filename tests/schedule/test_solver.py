"""Generated schedules: feasible always, optimal where the optimum is known, no worse improved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import InfeasibleError, PlanError
from athena_prefect.schedule import generation
from athena_prefect.schedule.critical_path import critical_path
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generation import Walls
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.solver import improved, serial_generation
from tests.schedule.problems import network_of, problems, wide


@given(problems())
def test_generated_and_improved_schedules_are_feasible(problem: Problem) -> None:
    schedule = serial_generation(problem)
    assert check(problem, schedule.starts) == ()
    better = improved(schedule)
    assert check(problem, better.starts) == ()
    assert better.makespan <= schedule.makespan
    relaxed = critical_path(problem.network, problem.durations)
    assert (schedule.starts >= relaxed.earliest_start).all()
    work = (problem.demands * problem.durations[:, None]).sum(axis=0) / problem.capacities
    assert schedule.makespan >= max(relaxed.makespan, *work) - 1e-9


@given(problems(), st.data())
def test_any_priority_gives_an_active_schedule(problem: Problem, data: st.DataObject) -> None:
    priority = np.array(data.draw(st.permutations(range(len(problem)))), dtype=np.float64)
    schedule = serial_generation(problem, priority=priority)
    assert check(problem, schedule.starts) == ()
    # Active: nothing can start a unit earlier with the rest as it is.
    for i in range(len(problem)):
        if schedule.starts[i] > 0 and problem.durations[i] > 0:
            earlier = schedule.starts.copy()
            earlier[i] -= 1
            assert check(problem, earlier)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_learned_of_long_searches_changes_no_schedule(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    case = wide(400, seed)
    demands = rng.integers(0, 4, (400, 2)).astype(float)
    lengths = case.seconds if seed % 2 else rng.uniform(0.1, 20.0, 400)
    problem = Problem.build(case.network, lengths, demands, [4.0, 5.0])
    # By luck, so that most wait long and find what is full between.
    priorities = [rng.permutation(400).astype(float) for _ in range(5)]
    without = [serial_generation(problem, priority=p).starts for p in priorities]
    learned = []
    learn = Walls.learn

    def noted(walls: Walls, activity: int, needs: int, begin: float, end: float) -> None:
        learned.append(activity)
        learn(walls, activity, needs, begin, end)

    monkeypatch.setattr(Walls, "learn", noted)
    monkeypatch.setattr(generation, "LONG", 0)
    monkeypatch.setattr(generation, "MANY", 0)
    for priority, starts in zip(priorities, without, strict=True):
        assert (serial_generation(problem, priority=priority).starts == starts).all()
    assert len(learned) > 1000


@given(problems(), st.integers(0, 12), st.data())
def test_what_has_started_stays_and_the_rest_starts_from_now(
    problem: Problem, now: int, data: st.DataObject
) -> None:
    before = serial_generation(problem)
    begun = before.starts < now
    fixed = np.where(begun, before.starts, np.nan)
    late = data.draw(st.integers(0, 3))
    durations = problem.durations + np.where(begun, late, 0)
    changed = replace(problem, durations=durations)
    after = serial_generation(changed, release=float(now), fixed_starts=fixed)
    assert np.array_equal(after.starts[begun], before.starts[begun])
    assert (after.starts[~begun] >= now).all()
    assert np.array_equal(after.fixed, begun)
    assert check(changed, after.starts, release=now, fixed=begun) == ()
    better = improved(after, release=float(now))
    assert np.array_equal(better.starts[begun], before.starts[begun])
    assert check(changed, better.starts, release=now, fixed=begun) == ()


def test_known_optima() -> None:
    # Four independent hours on two machines; and three that must follow each other.
    free = network_of(4, ())
    two = Problem.build(free, [1.0] * 4, np.ones((4, 1)), [2])
    assert serial_generation(two).makespan == 2.0
    one = Problem.build(free, [1.0] * 4, np.ones((4, 1)), [1])
    assert serial_generation(one).makespan == 4.0


def test_improvement_finds_what_generation_misses() -> None:
    # The long job has no successor, so by latest finish it comes last; moved right, it is first.
    network = network_of(7, tuple((i, i + 1, 0.0) for i in range(3)))
    problem = Problem.build(network, [1, 1, 1, 1, 3, 2, 1], np.ones((7, 1)), [2])
    first = serial_generation(problem, priority=np.array([0, 1, 2, 3, 9, 8, 7], dtype=float))
    assert improved(first).makespan == 5.0 <= first.makespan


def test_more_than_there_is_names_the_conflict() -> None:
    problem = Problem.build(network_of(1, ()), [1.0], [[3.0]], [2], resources=["cpu"])
    with pytest.raises(InfeasibleError, match="'n0' needs 3 of 'cpu', of which there is 2"):
        serial_generation(problem)
    # What runs already is exempt, and what takes no time takes nothing.
    running = serial_generation(problem, fixed_starts=np.array([0.0]))
    assert running.makespan == 1.0
    instant = replace(problem, durations=np.zeros(1))
    assert serial_generation(instant).makespan == 0.0


def test_overload_by_what_runs_is_waited_out() -> None:
    # Three run, the capacity has become 2: the fourth starts when two of them are over.
    problem = Problem.build(network_of(4, ()), [3.0, 5.0, 9.0, 1.0], np.ones((4, 1)), [2])
    fixed = np.array([0.0, 0.0, 0.0, np.nan])
    assert serial_generation(problem, fixed_starts=fixed, release=1.0).starts[3] == 5.0


def test_amounts_that_are_not_exact_in_binary_fit() -> None:
    problem = Problem.build(network_of(3, ()), [1.0] * 3, [[0.1], [0.2], [0.3]], [0.6])
    schedule = serial_generation(problem)
    assert schedule.makespan == 1.0
    assert check(problem, schedule.starts) == ()


def test_a_large_problem_is_feasible() -> None:
    case = wide(600, seed=3)
    rng = np.random.default_rng(5)
    demands = rng.integers(0, 5, (600, 3))
    problem = Problem.build(case.network, case.seconds, demands, [9, 9, 9])
    schedule = improved(serial_generation(problem), rounds=2)
    assert check(problem, schedule.starts) == ()


def test_priorities_of_another_shape_are_refused() -> None:
    problem = Problem.build(network_of(2, ()), [1.0, 1.0], np.ones((2, 1)), [2])
    with pytest.raises(PlanError, match="2 activities"):
        serial_generation(problem, priority=np.zeros(3))
