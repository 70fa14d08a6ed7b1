"""Distributions and corrections against published tables and sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from athena_prefect.assumptions.verdict import student_cdf
from athena_prefect.learning import statistics as st


@pytest.mark.parametrize("freedom", [1, 2, 5, 30, 1000])
def test_student_agrees_with_the_finite_sums(freedom: int) -> None:
    for t in (-3.0, -0.5, 0.0, 0.7, 2.0, 5.0):
        assert float(st.student_upper(t, freedom)) == pytest.approx(
            1 - student_cdf(t, freedom), abs=1e-6
        )


def test_student_quantiles_are_those_of_the_tables() -> None:
    # Abramowitz and Stegun (1964), table 26.10.
    found = [st.student_quantile(0.975, n) for n in (1, 5, 30)]
    assert found == pytest.approx([12.706, 2.571, 2.042], abs=5e-4)


def test_far_tails_keep_their_size() -> None:
    assert float(st.student_two_sided(40.0, 100)) < 1e-60
    assert float(st.normal_upper(1.959964)) == pytest.approx(0.025, rel=1e-5)


def test_binomial_tail_is_the_sum_of_its_terms() -> None:
    for k, n, p in [(0, 10, 0.25), (3, 12, 0.5), (12, 12, 0.3)]:
        terms = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))
        assert float(st.binomial_at_most(k, n, p)) == pytest.approx(terms)


def test_fisher_on_the_lady_tasting_tea() -> None:
    assert st.fisher_upper(3, 1, 1, 3) == pytest.approx(17 / 70)
    assert st.fisher_upper(4, 0, 0, 4) == pytest.approx(1 / 70)


def test_corrections_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03])
    assert st.corrected(p, "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert st.corrected(p, "benjamini-hochberg") == pytest.approx([0.03, 0.04, 0.04])
    assert len(st.corrected(np.zeros(0), "holm")) == 0


def test_mann_kendall_counts_ordered_pairs() -> None:
    s, variance = st.mann_kendall(np.array([1.0, 2.0, 3.0, 4.0]))
    assert s == 6 and variance == pytest.approx(4 * 3 * 13 / 18)
    assert st.mann_kendall(np.array([1.0, 1.0, 1.0]))[1] == 0


def test_medians_of_groups_are_medians() -> None:
    rng = np.random.default_rng(1)
    codes, values = rng.integers(0, 7, 200), rng.normal(size=200)
    codes[codes == 4] = 3
    found = st.group_medians(codes, 7, values)
    for g in range(7):
        own = values[codes == g]
        assert np.isnan(found[g]) if not len(own) else abs(found[g] - np.median(own)) < 1e-12
