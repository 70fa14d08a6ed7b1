"""Networks and problems to test with, and networkx as the oracle."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from athena_prefect.plan.graph import Floats, Network
from athena_prefect.schedule.problem import Problem

Arc = tuple[int, int, float]


@dataclass(frozen=True)
class Case:
    """A network as its builder says it, with durations in seconds."""

    durations: tuple[float, ...]
    arcs: tuple[Arc, ...]

    @property
    def seconds(self) -> Floats:
        return np.array(self.durations, dtype=np.float64)

    @property
    def network(self) -> Network:
        return network_of(len(self.durations), self.arcs)

    def relabelled(self, place: list[int]) -> Case:
        """Node i under the number ``place[i]``."""
        durations = [0.0] * len(place)
        for i, new in enumerate(place):
            durations[new] = self.durations[i]
        arcs = tuple((place[a], place[b], lag) for a, b, lag in self.arcs)
        return Case(tuple(durations), arcs)


def network_of(count: int, arcs: tuple[Arc, ...]) -> Network:
    """The network of `count` nodes n0, n1 … and the arcs (tail, head, lag)."""
    tails, heads, lags = ([a[k] for a in arcs] for k in range(3))
    return Network.build([f"n{i}" for i in range(count)], tails, heads, lag=lags)


def wide(count: int, seed: int = 0) -> Case:
    """A random network with about 20 levels or more, wide enough for the passes over levels."""
    rng = np.random.default_rng(seed)
    arcs = {(int(rng.integers(0, max(1, j - count // 20))), j) for j in range(1, count)}
    arcs |= {(int(rng.integers(0, max(1, j - count // 10))), j) for j in range(1, count)}
    listed = tuple((a, b, float(rng.integers(0, 3))) for a, b in sorted(arcs))
    return Case(tuple(rng.integers(0, 20, count).astype(float).tolist()), listed)


@st.composite
def cases(draw: st.DrawFn, most: int = 9) -> Case:
    """Small networks; nodes are numbered in any order."""
    count = draw(st.integers(1, most))
    durations = draw(st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count))
    place = draw(st.permutations(range(count)))
    pairs = [(place[i], place[j]) for j in range(count) for i in range(j)]
    chosen = draw(st.sets(st.sampled_from(pairs), max_size=14)) if pairs else set()
    return Case(
        tuple(durations), tuple((a, b, float(draw(st.integers(0, 2)))) for a, b in sorted(chosen))
    )


@st.composite
def problems(draw: st.DrawFn, *, uncertain: bool = False, most: int = 9) -> Problem:
    """Small problems under two resources, each activity alone within capacity."""
    case = draw(cases(most))
    count = len(case.durations)
    capacities = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    demands = [[draw(st.integers(0, c)) for c in capacities] for _ in range(count)]
    points = np.repeat(case.seconds[:, None], 3, axis=1)
    if uncertain:
        spread = st.lists(st.integers(0, 5), min_size=count, max_size=count)
        points[:, 1] += draw(spread)
        points[:, 2] = points[:, 1] + draw(spread)
    return Problem.build(case.network, points, demands, capacities, resources=["cpu", "disk"])


def longest(case: Case) -> tuple[Floats, Floats, float]:
    """Earliest finishes, tails and makespan by networkx's longest path."""
    count = len(case.durations)
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(count))
    for a, b, lag in case.arcs:
        graph.add_edge(a, b, lag=lag)
    finishes, tails = np.zeros(count), np.zeros(count)
    order = list(nx.topological_sort(graph))
    for node in order:
        before = [finishes[p] + graph.edges[p, node]["lag"] for p in graph.predecessors(node)]
        finishes[node] = max(before, default=0.0) + case.durations[node]
    for node in reversed(order):
        behind = [
            tails[s] + case.durations[s] + graph.edges[node, s]["lag"]
            for s in graph.successors(node)
        ]
        tails[node] = max(behind, default=0.0)
    return finishes, tails, float(finishes.max())


def makespan_by_networkx(case: Case) -> float:
    """The makespan as the weight of networkx's longest path through a source and a sink."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    for i, duration in enumerate(case.durations):
        graph.add_edge(-1, i, weight=0.0)
        graph.add_edge(i, -2, weight=duration)
    for a, b, lag in case.arcs:
        graph.add_edge(a, b, weight=case.durations[a] + lag)
    return float(nx.dag_longest_path_length(graph))
