"""Earned value: 1 on plan, below it when late, never a number where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.monitor.earned_value import EarnedValue, WorkItem, earned_value

plans = st.lists(
    st.tuples(st.integers(1, 20), st.integers(1, 100)), min_size=1, max_size=8
)  # (budget, planned finish)


def on_plan(plan: list[tuple[int, int]], now: float) -> list[WorkItem]:
    return [
        WorkItem(budget=b, planned_finish=f, done=f <= now, cost=float(b) if f <= now else 0.0)
        for b, f in plan
    ]


@given(plans, st.floats(0.5, 150))
def test_exactly_on_plan_every_index_is_one(plan: list[tuple[int, int]], now: float) -> None:
    last = max(f for _, f in plan)
    at = min(now, last)
    value = earned_value(on_plan(plan, at), at)
    assert value.ev == value.pv
    assert value.spi in (None, pytest.approx(1.0)) and value.cpi in (None, pytest.approx(1.0))
    assert value.spi_t == pytest.approx(1.0) and value.sv_t == pytest.approx(0.0)
    assert value.eac_t == pytest.approx(last)
    assert value.eac_t_trend == pytest.approx(last)


@given(plans, st.floats(0, 150), st.data())
def test_indices_stay_within_what_they_mean(
    plan: list[tuple[int, int]], now: float, data: st.DataObject
) -> None:
    items = [WorkItem(budget=b, planned_finish=f, done=data.draw(st.booleans())) for b, f in plan]
    value = earned_value(items, now)
    assert 0 <= value.ev <= value.bac == sum(b for b, _ in plan)
    assert 0 <= value.pv <= value.bac
    assert 0 <= value.earned_schedule <= max(f for _, f in plan)
    assert value.eac_t >= now


@given(plans, st.floats(1, 150))
def test_further_along_the_plan_is_never_less_schedule(
    plan: list[tuple[int, int]], now: float
) -> None:
    earlier = -1.0
    for reached in sorted({0, *(f for _, f in plan)}):
        items = [WorkItem(budget=b, planned_finish=f, done=f <= reached) for b, f in plan]
        found = earned_value(items, now).earned_schedule
        assert found >= max(earlier, reached)
        earlier = found


def two(first: bool, second: bool, at: float) -> EarnedValue:
    return earned_value(
        [
            WorkItem(budget=10, planned_finish=10, done=first),
            WorkItem(budget=10, planned_finish=20, done=second),
        ],
        at,
    )


def test_the_formula_of_lipke() -> None:
    # EV = 5 of PV 0 → 10 over 10 s: half of that stretch.
    items = [
        WorkItem(budget=5, planned_finish=10, done=True, cost=4),
        WorkItem(budget=5, planned_finish=10, done=False),
        WorkItem(budget=10, planned_finish=20, done=False),
    ]
    value = earned_value(items, 10)
    assert value.earned_schedule == 5
    assert (value.spi, value.spi_t, value.cpi) == (0.5, 0.5, 1.25)
    assert value.sv_t == -5
    assert value.eac_t == 10 + (20 - 5)
    assert value.eac_t_trend == 10 + (20 - 5) / 0.5


def test_late_is_below_one_also_where_spi_is_one_again() -> None:
    value = two(True, True, 40)
    assert value.spi == 1 and value.spi_t == 0.5 and value.eac_t == 40


def test_guards() -> None:
    start = two(False, False, 0)
    assert (start.spi, start.spi_t, start.cpi, start.eac_t_trend) == (None, None, None, None)
    assert start.eac_t == 20
    nothing_earned = two(False, False, 15)
    assert nothing_earned.earned_schedule == 10 and nothing_earned.spi == 0
    flat = two(True, False, 14)
    assert flat.earned_schedule == 14, "on a flat stretch every moment has earned the same"
    early = two(True, True, 5)
    assert early.earned_schedule == 20 and early.spi_t == 4 and early.eac_t == 5


def test_a_cost_that_was_not_measured_is_none() -> None:
    value = earned_value([WorkItem(budget=1, planned_finish=1, done=True, cost=None)], 1)
    assert value.ac is None and value.cpi is None


def test_a_plan_of_nothing_but_instants() -> None:
    value = earned_value([WorkItem(budget=0, planned_finish=0, done=True)], 0)
    assert value.bac == 0 and value.spi is None
