"""Resource arcs: whatever the durations, no resource is ever overloaded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.solver import improved, serial_generation
from tests.schedule.problems import network_of, problems, wide


@given(problems(), st.data())
def test_feasible_whatever_the_durations(problem: Problem, data: st.DataObject) -> None:
    schedule = serial_generation(problem)
    if data.draw(st.booleans()):
        schedule = improved(schedule)
    network = problem.network.extended(*partial_order(schedule))
    assert (forward(network, problem.durations)[0] <= schedule.starts).all()
    count = len(problem)
    factors = data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    turned_out = problem.durations * np.array(factors)
    starts, _ = forward(network, turned_out)
    assert check(replace(problem, durations=turned_out), starts) == ()


@given(problems(), st.integers(1, 15), st.data())
def test_feasible_in_the_middle_of_a_run(problem: Problem, now: int, data: st.DataObject) -> None:
    begun = serial_generation(problem).starts < now
    fixed = np.where(begun, serial_generation(problem).starts, np.nan)
    schedule = serial_generation(problem, release=float(now), fixed_starts=fixed)
    arcs = partial_order(schedule)
    assert not begun[arcs.succ].any()
    network = problem.network.extended(*arcs)
    count = len(problem)
    factors = np.array(data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))
    over = begun & (schedule.finishes <= now)
    longer = np.where(over, problem.durations, problem.durations * factors)
    floor = np.where(begun, schedule.starts, float(now))
    lag = np.where(begun[network.heads], -np.inf, network.pred_lag)
    starts, _ = forward(network, longer, floor=floor, lag=lag)
    assert np.array_equal(starts[begun], schedule.starts[begun])
    assert check(replace(problem, durations=longer), starts, fixed=begun) == ()


def test_units_of_predecessors_come_first_and_need_no_arc() -> None:
    network = network_of(4, ((0, 2, 0.0), (1, 3, 0.0)))
    problem = Problem.build(network, [1.0] * 4, np.ones((4, 1)), [2])
    assert not partial_order(serial_generation(problem)).pred.size


def test_overload_is_paid_back_before_anybody_else_starts() -> None:
    # Three run on what has become two units: the fourth waits for two of them to be over,
    # for the one whose unit it gets and for the one that pays the overload back.
    problem = Problem.build(network_of(4, ()), [3.0, 5.0, 9.0, 1.0], np.ones((4, 1)), [2])
    fixed = np.array([0.0, 0.0, 0.0, np.nan])
    arcs = partial_order(serial_generation(problem, fixed_starts=fixed, release=1.0))
    assert list(zip(arcs.pred, arcs.succ, strict=True)) == [(0, 3), (1, 3)]


@settings(max_examples=200)
@given(problems(), st.integers(1, 15), st.data())
def test_feasible_after_a_loss_of_capacity(problem: Problem, now: int, data: st.DataObject) -> None:
    begun = serial_generation(problem).starts < now
    fixed = np.where(begun, serial_generation(problem).starts, np.nan)
    most = problem.demands[~begun].max(axis=0, initial=0.0)
    # No less than what each of the rest needs by itself, but less than what runs may hold.
    spare = data.draw(st.integers(0, 1))
    left = np.minimum(most + spare, np.maximum(most, problem.capacities))
    less = replace(problem, capacities=left)
    schedule = serial_generation(less, release=float(now), fixed_starts=fixed)
    network = problem.network.extended(*partial_order(schedule))
    count = len(problem)
    factors = np.array(data.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))
    over = begun & (schedule.finishes <= now - data.draw(st.integers(0, 1)))
    longer = np.where(over, problem.durations, problem.durations * factors)
    floor = np.where(begun, schedule.starts, float(now))
    lag = np.where(begun[network.heads], -np.inf, network.pred_lag)
    starts, ends = forward(network, longer, floor=floor, lag=lag)
    for i in np.flatnonzero(~begun & (longer > 0)).tolist():
        runs = (starts <= starts[i]) & (starts[i] < ends)
        takes = problem.demands[i] > 0
        assert (problem.demands[runs].sum(axis=0) <= less.capacities + 1e-9)[takes].all()


def test_fractions_and_a_large_problem() -> None:
    case = wide(300, seed=1)
    rng = np.random.default_rng(2)
    demands = rng.integers(0, 5, (300, 3)) / 10
    problem = Problem.build(case.network, case.seconds, demands, [0.9, 0.9, 0.9])
    network = problem.network.extended(*partial_order(serial_generation(problem)))
    for _ in range(5):
        other = problem.durations * rng.random(300)
        starts, _ = forward(network, other)
        assert check(replace(problem, durations=other), starts) == ()
