"""The critical path method: its laws, and networkx as the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.schedule.critical_path import critical_path
from athena_prefect.schedule.passes import backward, forward, rounding
from tests.schedule.problems import Case, cases, longest, makespan_by_networkx, network_of, wide


@given(cases())
def test_times_agree_with_networkx(case: Case) -> None:
    finishes, tails, makespan = longest(case)
    found = critical_path(case.network, case.seconds)
    assert np.array_equal(found.earliest_finish, finishes)
    assert np.array_equal(found.tail, tails)
    assert found.makespan == makespan == makespan_by_networkx(case)
    assert np.array_equal(found.latest_finish, makespan - tails)
    assert np.array_equal(found.latest_start, makespan - tails - case.seconds)
    assert np.array_equal(found.earliest_start, finishes - case.seconds)


@pytest.mark.parametrize("count", [400, 3000])
def test_levels_and_loop_agree_with_networkx(count: int) -> None:
    case = wide(count)
    network = case.network
    assert not network.narrow
    finishes, tails, makespan = longest(case)
    found = critical_path(network, case.seconds)
    assert np.array_equal(found.earliest_finish, finishes)
    assert np.array_equal(found.tail, tails)
    assert found.makespan == makespan
    chain = tuple((i, i + 1, 1.0) for i in range(499))
    line = Case(tuple(float(i % 7) for i in range(500)), chain)
    assert line.network.narrow
    finishes, tails, _ = longest(line)
    assert np.array_equal(forward(line.network, line.seconds)[1], finishes)
    assert np.array_equal(backward(line.network, line.seconds), tails)


@given(cases())
def test_float_is_zero_exactly_where_more_time_moves_the_end(case: Case) -> None:
    found = critical_path(case.network, case.seconds)
    for node in range(len(case.durations)):
        longer = case.seconds
        longer[node] += 1.0
        moved = critical_path(case.network, longer).makespan > found.makespan
        assert moved == bool(found.total_float[node] < 1.0)
    assert np.array_equal(found.critical, found.total_float == 0)
    assert (found.total_float >= 0).all()


@given(cases())
def test_a_longest_chain_is_critical_and_as_long_as_the_makespan(case: Case) -> None:
    network = case.network
    found = critical_path(network, case.seconds)
    chain = [network.index[name] for name in found.path()]
    assert found.critical[chain].all()
    lags = {(a, b): lag for a, b, lag in case.arcs}
    length = sum(case.durations[i] for i in chain)
    length += sum(lags[arc] for arc in itertools.pairwise(chain))
    assert length == found.makespan


@given(cases())
def test_free_float_delays_nobody_and_no_more_does_not(case: Case) -> None:
    network = case.network
    found = critical_path(network, case.seconds)
    assert (found.free_float >= 0).all()
    assert (found.free_float <= found.total_float).all()
    for node in range(len(case.durations)):
        longer = case.seconds
        longer[node] += found.free_float[node]
        after = critical_path(network, longer)
        others = np.arange(len(longer)) != node
        assert np.array_equal(after.earliest_start[others], found.earliest_start[others])
        assert after.makespan == found.makespan


@given(cases(), st.data())
def test_longer_durations_make_nothing_earlier(case: Case, data: st.DataObject) -> None:
    more = data.draw(
        st.lists(st.integers(0, 5), min_size=len(case.durations), max_size=len(case.durations))
    )
    before = critical_path(case.network, case.seconds)
    after = critical_path(case.network, case.seconds + np.array(more))
    assert (after.earliest_start >= before.earliest_start).all()
    assert after.makespan >= before.makespan


@given(cases(), st.data())
def test_names_make_no_difference(case: Case, data: st.DataObject) -> None:
    place = data.draw(st.permutations(range(len(case.durations))))
    other = case.relabelled(place)
    one = critical_path(case.network, case.seconds)
    two = critical_path(other.network, other.seconds)
    assert np.array_equal(one.earliest_start, two.earliest_start[place])
    assert np.array_equal(one.total_float, two.total_float[place])
    assert np.array_equal(one.free_float, two.free_float[place])


@given(cases(), st.integers(0, 30))
def test_backwards_is_forwards_through_the_turned_network(case: Case, release: int) -> None:
    network = case.network
    turned, _ = forward(network.reversed(), case.seconds)
    assert np.array_equal(backward(network, case.seconds), turned)
    late = critical_path(network, case.seconds, release=float(release))
    assert late.makespan == critical_path(network, case.seconds).makespan + release


def test_rounding_of_decimal_fractions_makes_no_float() -> None:
    # 0.1 + 0.2 is not 0.3 in binary.
    network = network_of(4, ((0, 1, 0.0), (1, 3, 0.0), (2, 3, 0.0)))
    found = critical_path(network, np.array([0.1, 0.2, 0.3, 1.0]))
    assert found.critical.all()
    assert found.total_float.tolist() == [0.0] * 4
    assert rounding(network, 1e12) > rounding(network, 1.0)


def test_an_empty_network_has_no_path() -> None:
    found = critical_path(network_of(0, ()), np.zeros(0))
    assert found.path() == ()
    assert found.makespan == 0.0
