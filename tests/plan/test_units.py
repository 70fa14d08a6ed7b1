"""Durations: what people write is read, what is a slip of the pen is refused with the remedy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.plan.units import LONGEST, format_duration, parse_duration

durations = st.timedeltas(min_value=timedelta(0), max_value=LONGEST)


@given(durations)
def test_what_is_written_is_read_back_exactly(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value
    assert parse_duration(value) == value


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("20s", 20), ("20 s", 20), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800), ("1w", 604800),
        ("250ms", 0.25), ("90", 90), (90, 90), (0.5, 0.5), ("PT20S", 20), ("P1DT2H", 93600),
        ("5 minutes", 300), ("1 hour 2 min", 3720), (" 3s ", 3), ("3 SEC", 3),
    ],
)  # fmt: skip
def test_forms_people_write(written: Any, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("20 sek", "did you mean s?"), ("30 minutes?", "write e.g."), ("5 M", "did you mean m?"),
        ("512MB", "unknown unit 'MB'"), ("30s 1m", "larger unit first"), ("1m 1m", "each once"),
        ("-5s", "write e.g."), (-5, "negative"), ("99999h", "longer than ten years"),
        (10**400, "longer than ten years"), ("9" * 400 + "d", "longer than ten years"),
        (float("nan"), "write e.g."), (float("inf"), "write e.g."), (True, "write e.g."),
        (None, "write e.g."), ("", "write e.g."), ("PT", "write e.g."), ([1], "list"),
        ("٣s", "write e.g."), ("5 µs", "unknown unit"), ("5 zz", "known are ms, s, m, h, d, w"),
    ],
)  # fmt: skip
def test_slips_are_refused_with_what_would_be_right(written: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(written)
    assert said in str(caught.value)


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats()))
def test_nothing_else_is_raised(value: Any) -> None:
    try:
        assert timedelta(0) <= parse_duration(value) <= LONGEST
    except ValueError:
        pass
