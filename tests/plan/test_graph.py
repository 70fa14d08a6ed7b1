"""The network of a plan: order, levels, reach and cycles, against networkx."""

from __future__ import annotations

import itertools
import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import CycleError, PlanError
from athena_prefect.plan.graph import Network, find_cycle
from athena_prefect.plan.model import Plan

COUNT = 7
ARCS = st.sets(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)), max_size=20)
IDS = [f"t{i}" for i in range(COUNT)]


def graph_of(arcs: set[tuple[int, int]]) -> nx.DiGraph[int]:
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(COUNT))
    graph.add_edges_from(arcs)
    return graph


@given(ARCS)
def test_a_cycle_is_named_where_there_is_one(arcs: set[tuple[int, int]]) -> None:
    named = [(IDS[a], IDS[b]) for a, b in sorted(arcs)]
    cycle = find_cycle(IDS, named)
    assert (cycle is None) == nx.is_directed_acyclic_graph(graph_of(arcs))
    if cycle is None:
        return
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1
    assert set(itertools.pairwise(cycle)) <= set(named)
    with pytest.raises(CycleError) as caught:
        Network.build(IDS, [a for a, _ in sorted(arcs)], [b for _, b in sorted(arcs)])
    assert caught.value.cycle[0] == caught.value.cycle[-1]


def test_arcs_to_the_unknown_close_no_cycle() -> None:
    assert find_cycle(["a"], [("a", "ghost"), ("ghost", "a")]) is None


def test_a_long_cycle_needs_no_deep_stack() -> None:
    ids = [str(i) for i in range(20_000)]
    arcs = list(zip(ids, [*ids[1:], ids[0]], strict=True))
    cycle = find_cycle(ids, arcs)
    assert cycle is not None
    assert len(cycle) == 20_001


@given(ARCS)
def test_order_levels_and_reach_agree_with_networkx(arcs: set[tuple[int, int]]) -> None:
    forward = {(a, b) for a, b in arcs if a < b}
    graph = graph_of(forward)
    network = Network.build(IDS, [a for a, _ in forward], [b for _, b in forward])
    rank = network.rank
    assert sorted(network.order.tolist()) == list(range(COUNT))
    assert all(rank[a] < rank[b] for a, b in forward)
    for level, nodes in enumerate(nx.topological_generations(graph)):
        row = network.order[network.levels[level] : network.levels[level + 1]]
        assert sorted(row.tolist()) == sorted(nodes)
        leads = [graph.out_degree(n) > 0 for n in row.tolist()]
        assert leads == sorted(leads, reverse=True)
    for node in range(COUNT):
        assert set(network.ancestors(node).tolist()) == nx.ancestors(graph, node)
        assert set(network.descendants(node).tolist()) == nx.descendants(graph, node)


@given(ARCS)
def test_turned_round_twice_is_the_same(arcs: set[tuple[int, int]]) -> None:
    forward = sorted((a, b) for a, b in arcs if a < b)
    network = Network.build(IDS, [a for a, _ in forward], [b for _, b in forward])
    there = network.reversed()
    back = there.reversed()
    assert [(b, a) for a, b in arcs_of(there)] == sorted(
        ((a, b) for a, b in arcs_of(network)), key=lambda arc: (arc[0], arc[1])
    )
    assert arcs_of(back) == arcs_of(network)


def arcs_of(network: Network) -> list[tuple[int, int]]:
    tails, heads, _, _ = network.arcs
    return list(zip(tails.tolist(), heads.tolist(), strict=True))


def test_wide_and_long_networks_are_levelled_alike() -> None:
    # A fan behind a long chain: the shape changes on the way.
    chain = [(i, i + 1) for i in range(200)]
    fan = [(200, 201 + i) for i in range(50)] + [(3, 201 + i) for i in range(50)]
    arcs = chain + fan
    network = Network.build([str(i) for i in range(251)], *zip(*arcs, strict=True))
    assert len(network.levels) == 203
    assert network.narrow
    assert network.order[-50:].tolist() == list(range(201, 251))


def test_a_plan_s_network_has_all_its_arcs() -> None:
    plan = Plan(
        name="p",
        tasks=[
            {"id": "a"},
            {"id": "b", "depends_on": [{"task": "a", "kind": "soft", "lag": "5s"}]},
            {"id": "c", "inputs": {"x": "a"}, "when": {"task": "b", "is": True}},
        ],
    )
    network = Network.of(plan)
    tails, heads, lags, hard = network.arcs
    found = {
        (network.ids[a], network.ids[b], lag, firm)
        for a, b, lag, firm in zip(tails, heads, lags, hard, strict=True)
    }
    assert found == {("a", "b", 5.0, False), ("a", "c", 0.0, True), ("b", "c", 0.0, True)}
    assert network.index == {"a": 0, "b": 1, "c": 2}
    assert len(network) == 3


def test_extended_keeps_what_was_there() -> None:
    network = Network.build(["a", "b", "c"], [0], [1], lag=2.0, hard=False).extended([1], [2])
    assert network.pred_lag.tolist() == [2.0, 0.0]
    assert network.pred_hard.tolist() == [False, True]
    with pytest.raises(CycleError):
        network.extended([2], [0])


@pytest.mark.parametrize(
    ("tails", "heads", "lag", "said"),
    [
        ([0], [0, 1], 0.0, "one of each"),
        ([0], [2], 0.0, "outside"),
        ([-1], [1], 0.0, "outside"),
        ([0], [1], -1.0, "negative"),
        ([0], [1], float("inf"), "endless"),
    ],
)
def test_what_is_no_network_is_refused(
    tails: list[int], heads: list[int], lag: float, said: str
) -> None:
    with pytest.raises(PlanError, match=said):
        Network.build(["a", "b"], tails, heads, lag=lag)


def test_an_empty_network_and_a_pickled_one() -> None:
    empty = Network.build([], [], [])
    assert len(empty) == 0
    assert not empty.order.size
    network = Network.build(["a", "b"], [0], [1])
    again = pickle.loads(pickle.dumps(network))
    assert again.ids == network.ids
    assert np.array_equal(again.order, network.order)
