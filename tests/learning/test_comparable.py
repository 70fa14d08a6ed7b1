"""Durations as they would be for the same work."""

from __future__ import annotations

import numpy as np
import pytest

from athena_prefect.learning.comparable import of_one_size, same


def test_what_grows_with_the_work_is_brought_to_the_median_of_it() -> None:
    rng = np.random.default_rng(3)
    rows = rng.uniform(500, 2000, 40)
    rows[20:] *= 2
    seconds = rows / 100 * np.exp(rng.normal(0, 0.05, 40))
    seconds[5] *= 20
    found = np.array(of_one_size(seconds.tolist(), [{"rows": float(r)} for r in rows]))
    assert np.median(found[20:]) == pytest.approx(np.median(found[:20]), rel=0.1)
    assert np.median(found) == pytest.approx(np.median(rows) / 100, rel=0.1)


def test_a_step_that_the_work_does_not_explain_stays() -> None:
    rng = np.random.default_rng(4)
    rows = np.linspace(1000, 1200, 40)
    seconds = 10 * np.exp(rng.normal(0, 0.05, 40))
    seconds[20:] *= 2
    found = np.array(of_one_size(seconds.tolist(), [{"rows": float(r)} for r in rows]))
    assert np.median(found[20:]) / np.median(found[:20]) > 1.6


def test_what_few_reported_or_never_changes_is_left_alone() -> None:
    seconds = [1.0, 2.0, 3.0, 4.0]
    some = [{"rows": 1.0}, {"rows": 2.0}, {}, {}]
    assert of_one_size(seconds, some) == pytest.approx(seconds)
    assert of_one_size(seconds, [{"rows": 5.0}] * 4) == pytest.approx(seconds)
    assert of_one_size([], []) == () and of_one_size([0.0, 1.0], [{}, {}]) == (0.0, 1.0)


def test_a_machine_of_its_own_for_each_run_is_none() -> None:
    pods = [f"pod-{i}" for i in range(5)]
    assert same([*pods, "a", "a", "a", "b", "b"]).tolist() == [0] * 5 + [1] * 3 + [0] * 2
