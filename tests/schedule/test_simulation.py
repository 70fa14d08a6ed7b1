"""Scenarios: every one of them obeys the network, and together they obey the distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule import simulation
from athena_prefect.schedule.critical_path import critical_path
from athena_prefect.schedule.partial_order import ResourceArcs, partial_order
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.simulation import Simulation, simulate
from athena_prefect.schedule.solver import serial_generation
from tests.schedule.problems import network_of, problems, wide

CLOSE = 1e-4
"""Seconds; deviations are float32, of at most some 100 s here."""


def run(problem: Problem, arcs: ResourceArcs | None = None, **given: object) -> Simulation:
    chosen = {"samples": 50, "keep": True, "rng": np.random.default_rng(1), **given}
    return simulate(problem, arcs or ResourceArcs.none(), **chosen)  # type: ignore[arg-type]


def samples_of(found: Simulation, count: int) -> tuple[Floats, Floats]:
    """Starts and finishes of all activities, shape (n, samples)."""
    assert found.start_samples is not None
    assert found.finish_samples is not None
    starts = np.array([found.start_samples.of(i) for i in range(count)])
    finishes = np.array([found.finish_samples.of(i) for i in range(count)])
    return starts, finishes


@given(problems(uncertain=True), st.integers(0, 20), st.data())
def test_every_scenario_obeys_the_network_and_the_past(
    problem: Problem, now: int, data: st.DataObject
) -> None:
    schedule = serial_generation(problem)
    arcs = partial_order(schedule)
    count = len(problem)
    # The past: what the schedule has begun and ended by now, some of it late.
    begun = schedule.starts < now
    done = (
        begun
        & (schedule.finishes <= now)
        & np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    )
    network = problem.network.extended(*arcs)
    found = run(
        problem,
        arcs,
        now=float(now),
        started=np.where(begun, schedule.starts, np.nan),
        finished=np.where(done, schedule.finishes, np.nan),
        limits=schedule.finishes + 1.0,
        network=network,
    )
    starts, finishes = samples_of(found, count)
    for i in range(count):
        if begun[i]:
            assert np.allclose(starts[i], schedule.starts[i], atol=CLOSE)
            continue
        row = slice(network.pred_ptr[i], network.pred_ptr[i + 1])
        reached = [
            np.full(50, float(now)),
            *(finishes[network.pred[row]].T + network.pred_lag[row]).T,
        ]
        assert np.allclose(starts[i], np.max(reached, axis=0), atol=CLOSE)
    assert (finishes[done] == schedule.finishes[done][:, None]).all()
    length = finishes - starts
    low, high = problem.estimates[:, 0], problem.estimates[:, 2]
    running = begun & ~done
    assert (length[~done] >= low[~done][:, None] - CLOSE).all()
    assert (finishes[running] >= now - CLOSE).all()
    most = np.where(running, np.maximum(high, now - schedule.starts), high)
    assert (length[~done] <= most[~done][:, None] + CLOSE).all()
    assert np.allclose(found.makespans, np.sort(finishes.max(axis=0)), atol=CLOSE)
    assert found.late is not None
    shares = (finishes > schedule.finishes[:, None] + 1.0 + 1e-6).mean(axis=1)
    sure = np.abs(finishes - schedule.finishes[:, None] - 1.0).min(axis=1) > CLOSE
    assert np.allclose(found.late[sure], shares[sure])
    assert np.allclose(found.finish_p50, np.median(finishes, axis=1), atol=CLOSE)
    assert np.allclose(found.start_p50, np.median(starts, axis=1), atol=CLOSE)


@given(problems(), st.integers(0, 10))
def test_what_is_certain_is_exact(problem: Problem, now: int) -> None:
    arcs = partial_order(serial_generation(problem))
    network = problem.network.extended(*arcs)
    _, finishes = forward(network, problem.durations, floor=float(now))
    found = run(problem, arcs, now=float(now), samples=3)
    assert set(found.makespans) == {finishes.max()}
    assert np.array_equal(found.finish_p50, finishes)
    assert found.probability(finishes.max()) == 1.0
    assert found.probability(finishes.max() - 0.001) == 0.0


@given(problems(uncertain=True))
def test_arcs_left_out_as_never_binding_never_bind(problem: Problem) -> None:
    arcs = partial_order(serial_generation(problem))
    quick = run(problem, arcs)
    whole = run(problem, arcs, criticality=True)
    assert np.allclose(quick.makespans, whole.makespans, atol=CLOSE)
    assert np.allclose(quick.finish_p50, whole.finish_p50, atol=CLOSE)


@given(problems(uncertain=True), st.integers(0, 3))
def test_equal_seeds_give_equal_luck(problem: Problem, seed: int) -> None:
    arcs = partial_order(serial_generation(problem))
    one = run(problem, arcs, rng=np.random.default_rng(seed))
    two = run(problem, arcs, rng=np.random.default_rng(seed))
    assert np.array_equal(one.makespans, two.makespans)
    # What is over changes nobody else's luck: it ends as it did in the first scenario.
    starts, finishes = samples_of(one, len(problem))
    first = int(problem.network.order[0])
    three = run(
        problem,
        arcs,
        rng=np.random.default_rng(seed),
        started=np.where(np.arange(len(problem)) == first, starts[:, 0], np.nan),
        finished=np.where(np.arange(len(problem)) == first, finishes[:, 0], np.nan),
    )
    after = samples_of(three, len(problem))[1]
    assert np.allclose(after[:, 0], finishes[:, 0], atol=CLOSE)


def test_a_large_one_keeps_the_distributions() -> None:
    case = wide(400, seed=4)
    points = case.seconds[:, None] * np.array([0.5, 1.0, 3.0])
    problem = Problem.build(case.network, points, np.ones((400, 1)), [12])
    arcs = partial_order(serial_generation(problem))
    found = run(problem, arcs, samples=4000)
    starts, finishes = samples_of(found, 400)
    length = (finishes - starts).mean(axis=1)
    spread = points[:, 2] - points[:, 0]
    # Standard error of a mean of 4,000: the deviation is about a sixth of the range.
    assert (np.abs(length - problem.durations) <= 5 * spread / 6 / np.sqrt(4000) + CLOSE).all()


def test_chunks_of_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.build(network_of(2, ((0, 1, 0.0),)), [[0, 2, 7]] * 2, np.ones((2, 1)), [2])
    whole = run(problem, samples=5000, limits=np.array([4.0, 6.0]), criticality=True)
    monkeypatch.setattr(simulation, "CELLS", 600)
    parts = run(problem, samples=5000, limits=np.array([4.0, 6.0]), criticality=True)
    assert parts.quantile(0.5) == pytest.approx(whole.quantile(0.5), abs=0.15)
    assert parts.late == pytest.approx(whole.late, abs=0.04)
    assert parts.criticality is not None
    assert parts.criticality.tolist() == [1.0, 1.0]


@given(problems())
def test_where_all_is_certain_criticality_is_the_critical_path(problem: Problem) -> None:
    found = run(problem, samples=2, criticality=True)
    expected = critical_path(problem.network, problem.durations).critical
    assert found.criticality is not None
    assert found.criticality.tolist() == expected.astype(float).tolist()


def test_equal_parallel_tasks_are_critical_half_the_time() -> None:
    problem = Problem.build(
        network_of(3, ()), [[0, 5, 9], [0, 5, 9], [0, 0, 0]], np.ones((3, 1)), [9]
    )
    found = run(problem, samples=10_000, criticality=True)
    assert found.criticality is not None
    assert found.criticality[:2] == pytest.approx([0.5, 0.5], abs=0.02)
    assert found.criticality[2] == 0.0


def test_what_runs_is_conditioned_on_its_age_and_then_ends_now() -> None:
    problem = Problem.build(network_of(1, ()), [[10, 20, 60]], np.ones((1, 1)), [1])
    started = np.array([100.0])
    fresh = run(problem, now=100.0, started=started, samples=4000).quantile(0.5)
    old = run(problem, now=130.0, started=started, samples=4000)
    rng = np.random.default_rng(0)
    drawn = 10 + 50 * rng.beta(1.8, 4.2, 100_000)
    assert fresh == pytest.approx(100 + np.median(drawn), abs=0.7)
    assert old.quantile(0.5) == pytest.approx(100 + np.median(drawn[drawn > 30]), abs=0.7)
    assert old.makespans[0] >= 130.0
    assert set(run(problem, now=161.0, started=started).makespans) == {161.0}


def test_who_overtook_keeps_its_unit() -> None:
    # One slot, n0 before n1 by the schedule; but n1 has started.
    problem = Problem.build(network_of(3, ((0, 2, 1.0),)), [5.0, 7.0, 1.0], np.ones((3, 1)), [1])
    arcs = ResourceArcs(np.array([0, 1]), np.array([1, 2]))
    started = np.array([np.nan, 0.0, np.nan])
    found = run(problem, arcs, now=2.0, started=started)
    assert found.finish_p50.tolist() == [12.0, 7.0, 14.0]


def test_what_is_left_out_delays_nobody() -> None:
    network = network_of(3, ((0, 1, 0.0), (1, 2, 0.0)))
    problem = Problem.build(network, [5.0, np.nan, 1.0], np.ones((3, 1)), [1])
    out: Bools = np.array([False, True, False])
    found = run(problem, left_out=out, limits=np.zeros(3), criticality=True)
    assert found.quantile(0.5) == 5.0
    assert np.isnan(found.finish_p50).tolist() == out.tolist()
    assert found.late is not None
    assert np.isnan(found.late).tolist() == out.tolist()
    with pytest.raises(PlanError, match="no duration is known of n1"):
        run(problem)
    over = np.array([5.0, 6.0, np.nan])
    assert run(problem, started=over - 1, finished=over, now=6.0).quantile(0.5) == 7.0


def test_releases_hold() -> None:
    problem = Problem.build(network_of(2, ()), [[1, 2, 3], [1, 1, 1]], np.ones((2, 1)), [2])
    found = run(problem, now=1.0, release=np.array([0.0, 9.0]))
    assert found.start_p50.tolist() == [1.0, 9.0]
    assert set(found.makespans) == {10.0}


def test_an_empty_problem_is_over() -> None:
    problem = Problem.build(network_of(0, ()), np.zeros(0), np.zeros((0, 1)), [1])
    assert set(run(problem).makespans) == {0.0}


def test_what_cannot_be_simulated_is_refused() -> None:
    problem = Problem.build(network_of(1, ()), [1.0], np.ones((1, 1)), [1])
    with pytest.raises(PlanError, match="at least one"):
        run(problem, samples=0)
    with pytest.raises(PlanError, match="`started` of shape"):
        run(problem, started=np.zeros(2))
    with pytest.raises(PlanError, match="limits of shape"):
        run(problem, limits=np.zeros(2))
    with pytest.raises(PlanError, match="finished before it started"):
        run(problem, started=np.ones(1), finished=np.zeros(1))
    with pytest.raises(PlanError, match="keep=True"):
        _ = run(problem, keep=False).finish_p50
