"""Change-points: found where they are, and nowhere else."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import pytest

from athena_prefect.learning.change_points import (
    ALPHA,
    LEAST,
    _bound,
    _p_value,
    _scores,
    _statistic,
    _variance,
    slower_since,
)


def durations(rng: np.random.Generator, count: int, spread: float = 0.15) -> np.ndarray:
    return np.asarray(60.0 * np.exp(rng.normal(0.0, spread, count)))


def test_no_alarm_in_stable_series_of_any_shape() -> None:
    rng = np.random.default_rng(7)
    series = [durations(rng, 40) for _ in range(10)]
    series += [60.0 * rng.pareto(2.0, 60) + 1.0 for _ in range(5)]
    series += [np.round(durations(rng, 80, 0.02)) for _ in range(5)]
    assert [slower_since(s.tolist(), rng=rng) for s in series] == [None] * 20


def test_false_alarms_stay_below_the_level_that_is_asked_for() -> None:
    rng = np.random.default_rng(11)
    alarms = sum(
        slower_since(durations(rng, 30).tolist(), rng=rng, alpha=0.2, worth=0.0) is not None
        for _ in range(200)
    )
    # 40 of 200 expected at most; 56 would be three standard deviations more.
    assert alarms <= 56


def test_a_slowdown_is_found_with_its_place_and_size() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(20):
        at = int(rng.integers(12, 28))
        series = durations(rng, 40)
        series[at:] *= 1.6
        change = slower_since(series.tolist(), rng=rng)
        if change is None:
            continue
        assert change.p_value <= ALPHA
        assert sum(change.places) == pytest.approx(1.0)
        found += abs(change.index - at) <= 1 and 1.35 < change.ratio < 1.9
    assert found >= 18


def test_what_was_mended_is_not_slow() -> None:
    rng = np.random.default_rng(5)
    series = durations(rng, 60)
    series[20:40] *= 2
    assert slower_since(series.tolist(), rng=rng) is None
    series[50:] *= 3
    change = slower_since(series.tolist(), rng=rng)
    assert change is not None and abs(change.index - 50) <= 1
    assert change.ratio == pytest.approx(3.0, rel=0.25), "against the part just before"


def test_faster_small_and_short_series_are_no_slowdown() -> None:
    rng = np.random.default_rng(9)
    series = durations(rng, 60, 0.01)
    assert slower_since((series * np.repeat([1.0, 0.5], 30)).tolist(), rng=rng) is None
    assert slower_since((series * np.repeat([1.0, 1.05], 30)).tolist(), rng=rng) is None
    assert slower_since([1.0] * (LEAST - 1) + [9.0] * LEAST, rng=rng) is None
    assert slower_since([], rng=rng) is None
    assert slower_since([0.0] * 20 + [1.0] * 20, rng=rng) is None
    assert slower_since([5.0] * 40, rng=rng) is None


def test_a_step_without_any_spread_is_found_exactly() -> None:
    change = slower_since([5.0] * 20 + [9.0] * 20, rng=np.random.default_rng(1))
    assert change is not None
    assert (change.index, change.before, change.after) == (20, 5.0, 9.0)
    assert change.places[20] == pytest.approx(1.0)


def test_one_run_far_out_moves_no_change() -> None:
    rng = np.random.default_rng(2)
    series = durations(rng, 40, 0.05)
    series[25:] *= 1.5
    series[10] *= 30
    change = slower_since(series.tolist(), rng=rng)
    assert change is not None and change.index == 25


def test_runs_are_compared_on_the_same_machine_only() -> None:
    rng = np.random.default_rng(12)
    series = durations(rng, 40, 0.1)
    hosts = np.array([0] * 20 + [1] * 20)
    slower = series * np.where(hosts == 1, 1.8, 1.0)
    assert slower_since(slower.tolist(), rng=rng) is not None
    assert slower_since(slower.tolist(), rng=rng, alike=hosts) is None
    # On two machines by turns, of which one is slower, a step is found all the same.
    turns = np.arange(40) % 2
    both = series * np.where(turns == 1, 3.0, 1.0)
    both[24:] *= 1.5
    change = slower_since(both.tolist(), rng=rng, alike=turns)
    assert change is not None and abs(change.index - 24) <= 1
    assert change.ratio == pytest.approx(1.5, rel=0.1)


def test_the_bound_is_above_what_permutations_say_and_below_a_hundred_times_that() -> None:
    rng = np.random.default_rng(21)
    for kinds in (np.zeros(30, dtype=np.int64), np.arange(30) % 2):
        series = np.log(durations(rng, 30, 0.3))
        series[15:] += 0.35
        series[3] = series[4] = series[20]  # ties
        scores = _scores(series, kinds)
        variance = _variance(scores, kinds)
        found = float(_statistic(scores[None, :], variance).max())
        bound = _bound(kinds, variance, found)
        said = _p_value(scores, kinds, variance, found, rng, ALPHA)
        assert bound > ALPHA, "it does not decide here"
        assert said <= bound <= 100 * said


def test_of_many_tasks_a_clear_change_needs_no_permutation() -> None:
    class Never(np.random.Generator):
        def permuted(self, *_: object, **__: object) -> NoReturn:
            raise AssertionError("permuted")

    series = durations(np.random.default_rng(5), 200, 0.1)
    series[100:] *= 1.6
    change = slower_since(series.tolist(), rng=Never(np.random.PCG64(0)), alpha=1e-6)
    assert change is not None and abs(change.index - 100) <= 1 and change.p_value < 1e-6
