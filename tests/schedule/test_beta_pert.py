"""Quantiles of beta-PERT: closed forms, numpy's beta, and the truncated distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.schedule.beta_pert import (
    LEVELS,
    PROBABILITIES,
    quantile_rows,
    quantile_table,
    quantiles,
    remaining_row,
    single_rows,
)


def test_the_ends_of_the_family_have_closed_forms() -> None:
    # Beta(1, 5) and Beta(5, 1).
    table = quantile_table()
    assert np.abs(table[0] - (1 - (1 - PROBABILITIES) ** 0.2)).max() < 1e-6
    assert np.abs(table[-1] - PROBABILITIES**0.2).max() < 1e-6


@pytest.mark.parametrize("likely", [0.0, 0.013, 0.25, 0.5, 0.777, 0.99, 1.0])
def test_agrees_with_numpy_s_beta(likely: float) -> None:
    rng = np.random.default_rng(7)
    drawn = np.sort(rng.beta(1 + 4 * likely, 5 - 4 * likely, 400_000))
    row = quantile_rows(np.array([[0.0, likely, 1.0]]))[0]
    # The empirical distribution at our quantiles (Kolmogorov): error of ours and of 400,000.
    empirical = np.searchsorted(drawn, row) / len(drawn)
    assert np.abs(empirical - PROBABILITIES).max() < 0.004
    assert row.mean() == pytest.approx((4 * likely + 1) / 6, abs=1e-4)
    assert row.var() == pytest.approx(drawn.var(), rel=0.01)


@given(
    st.floats(0, 1e6),
    st.floats(0, 1e6, allow_subnormal=False),
    st.floats(0, 1e6, allow_subnormal=False),
)
def test_rows_ascend_within_the_three_points(low: float, one: float, two: float) -> None:
    estimate = np.array([[low, low + one, low + one + two]])
    row = quantile_rows(estimate)[0]
    assert (np.diff(row) >= -1e-9 * (1 + row[-1])).all()
    assert row[0] >= estimate[0, 0] * (1 - 1e-12)
    assert row[-1] <= estimate[0, 2] * (1 + 1e-12)
    assert np.allclose(single_rows(estimate)[0], row, rtol=1e-5)


def test_quantiles_of_many() -> None:
    estimates = np.array([[1.0, 1.0, 1.0], [0.0, 3.0, 6.0], [0.0, 0.0, 1.0]])
    assert quantiles(estimates, 0.5) == pytest.approx([1.0, 3.0, 1 - 0.5**0.2], abs=1e-4)
    assert quantiles(np.zeros((0, 3)), 0.5).shape == (0,)


@pytest.mark.parametrize("elapsed", [0.0, 0.2, 0.5, 0.9])
def test_what_runs_is_truncated_from_below(elapsed: float) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.beta(2.2, 3.8, 2_000_000)
    left = np.sort(drawn[drawn > elapsed])
    row = remaining_row([0.0, 0.3, 1.0], elapsed)
    assert row.shape == (LEVELS,)
    assert (row >= elapsed).all()
    assert row.mean() == pytest.approx(left.mean(), abs=5 / np.sqrt(len(left)) * left.std() + 1e-4)
    empirical = np.searchsorted(left, row) / len(left)
    assert np.abs(empirical - PROBABILITIES).max() < 2 / np.sqrt(len(left))


def test_past_its_support_it_ends_now() -> None:
    assert set(remaining_row([1.0, 2.0, 3.0], 3.0)) == {3.0}
    assert set(remaining_row([1.0, 2.0, 3.0], 50.0)) == {50.0}
    assert set(remaining_row([2.0, 2.0, 2.0], 1.0)) == {2.0}
    assert set(remaining_row([2.0, 2.0, 2.0], 4.0)) == {4.0}
