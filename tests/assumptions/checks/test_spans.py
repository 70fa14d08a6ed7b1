"""Spans of time: what is taken and what is left are the whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.assumptions.checks.spans import Span, intersected, length, without

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def span(begin: int, lasts: int) -> Span:
    return T0 + timedelta(minutes=begin), T0 + timedelta(minutes=begin + lasts)


SPANS = st.lists(st.builds(span, st.integers(0, 100), st.integers(0, 30)), max_size=8)
WINDOW = st.lists(st.integers(1, 20), min_size=1, max_size=4)


def apart(lengths: list[int]) -> list[Span]:
    """Spans that do not touch."""
    return [span(40 * n, lasts) for n, lasts in enumerate(lengths)]


@given(WINDOW, SPANS)
def test_what_is_left_and_taken_is_the_whole(lengths: list[int], taken: list[Span]) -> None:
    window = apart(lengths)
    left = without(window, taken)
    minutes = {
        (a + timedelta(minutes=n)) for a, b in window for n in range(int((b - a).seconds / 60))
    }
    free = {m for m in minutes if not any(c <= m < d for c, d in taken)}
    assert length(left) == 60 * len(free)
    assert all(a < b for a, b in left)
    assert length(without(left, taken)) == length(left)


@given(WINDOW, SPANS)
def test_what_two_have_in_common_is_in_both(lengths: list[int], others: list[Span]) -> None:
    window = apart(lengths)
    for a, b in intersected(window, others):
        assert any(c <= a and b <= d for c, d in window)
        assert any(c <= a and b <= d for c, d in others)
    assert length(intersected(window, window)) == length(window)
