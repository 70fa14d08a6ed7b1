"""The incremental pass against a pass from scratch, whatever happens in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.incremental import ForwardPass
from athena_prefect.schedule.passes import backward, forward
from tests.schedule.problems import Case, cases, network_of, wide


def from_scratch(case: Case, durations: Floats, begun: Floats) -> tuple[Floats, Floats]:
    network = case.network
    fixed = ~np.isnan(begun)
    lag = np.where(fixed[network.heads], -np.inf, network.pred_lag)
    return forward(network, durations, floor=np.where(fixed, begun, 0.0), lag=lag)


@given(cases(), st.data())
def test_equals_a_pass_from_scratch(case: Case, data: st.DataObject) -> None:
    count = len(case.durations)
    course = ForwardPass(case.network, case.seconds)
    durations, begun = case.seconds, np.full(count, np.nan)
    for _ in range(data.draw(st.integers(1, 25))):
        node = data.draw(st.integers(0, count - 1))
        before = course.finishes
        kind = data.draw(st.sampled_from(["start", "finish", "duration"]))
        amount = float(data.draw(st.integers(0, 12)))
        if kind == "start":
            begun[node] = amount
            moved = course.update(node, start=amount)
        elif kind == "duration":
            durations[node] = amount
            moved = course.update(node, duration=amount)
        else:
            if np.isnan(begun[node]):
                begun[node] = course.starts[node]
            durations[node] = amount
            moved = course.update(node, finish=begun[node] + amount)
        starts, finishes = from_scratch(case, durations, begun)
        assert np.array_equal(course.starts, starts)
        assert np.array_equal(course.finishes, finishes)
        assert course.makespan == finishes.max()
        assert set(np.flatnonzero(before != finishes).tolist()) <= set(moved)


@given(cases(), st.data())
def test_latest_starts_follow_from_the_makespan(case: Case, data: st.DataObject) -> None:
    course = ForwardPass(case.network, case.seconds, release=1.0)
    node = data.draw(st.integers(0, len(case.durations) - 1))
    longer = case.seconds
    longer[node] += 3
    course.update(node, duration=float(longer[node]))
    tails = backward(case.network, longer)
    assert np.array_equal(course.tails, tails)
    for i in range(len(longer)):
        assert course.latest_start(i) == course.makespan - tails[i] - longer[i]
        assert course.total_float(i) == course.makespan - tails[i] - course.finishes[i] >= 0


def test_an_event_touches_only_what_it_moves() -> None:
    case = wide(2000)
    course = ForwardPass(case.network, case.seconds)
    last = int(case.network.order[-1])
    course.update(last, start=float(course.starts[last]))
    assert course.touched == 1
    for node in case.network.order[:300].tolist():
        course.update(node, start=float(course.starts[node]))
        course.update(node, finish=float(course.starts[node]) + case.durations[node] + 1)
    assert course.touched < 300 * 200


def test_an_end_before_the_start_is_refused() -> None:
    course = ForwardPass(network_of(1, ()), np.ones(1))
    course.update(0, start=5.0)
    with pytest.raises(PlanError, match="'n0' would end before it starts"):
        course.update(0, finish=4.0)
    assert ForwardPass(network_of(0, ()), np.zeros(0)).makespan == 0.0
