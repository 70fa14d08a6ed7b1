"""The incremental pass against a from-scratch longest path (networkx), whatever happens."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.monitor.course import Course, Stage
from athena_prefect.plan.graph import Network

Arc = tuple[int, int, float]


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[float], list[Arc]]:
    count = draw(st.integers(1, 9))
    durations = draw(st.lists(st.integers(0, 9).map(float), min_size=count, max_size=count))
    pairs = [(i, j) for j in range(count) for i in range(j)]
    chosen = draw(st.sets(st.sampled_from(pairs), max_size=14)) if pairs else set()
    return durations, [(i, j, float(draw(st.integers(0, 2)))) for i, j in sorted(chosen)]


def course_of(durations: list[float], arcs: list[Arc]) -> Course:
    tails, heads, lags = ([a[k] for a in arcs] for k in range(3))
    names = [str(k) for k in range(len(durations))]
    return Course(Network.build(names, tails, heads, lag=lags), np.array(durations))


def longest_path(durations: list[float], arcs: list[Arc]) -> float:
    graph: nx.DiGraph[str | int] = nx.DiGraph()
    graph.add_nodes_from(["source", "sink"])
    for node, duration in enumerate(durations):
        graph.add_edge("source", node, w=0.0)
        graph.add_edge(node, "sink", w=duration)
    for tail, head, lag in arcs:
        graph.add_edge(tail, head, w=durations[tail] + lag)
    return float(nx.dag_longest_path_length(graph, weight="w"))


@given(networks())
def test_before_anything_happens_it_is_the_longest_path(
    network: tuple[list[float], list[Arc]],
) -> None:
    course = course_of(*network)
    course.advance(0)
    assert course.end_of_all == longest_path(*network)


@given(networks())
def test_float_is_zero_exactly_on_the_critical_path(
    network: tuple[list[float], list[Arc]],
) -> None:
    durations, arcs = network
    course = course_of(durations, arcs)
    course.advance(0)
    floats = course.floats()
    assert (floats >= 0).all() and floats.min() == 0
    for node in range(len(durations)):
        longer = [d + (1.0 if i == node else 0.0) for i, d in enumerate(durations)]
        moved = longest_path(longer, arcs) - longest_path(durations, arcs)
        assert moved == max(0.0, 1.0 - floats[node])


@given(networks(), st.integers(0, 20))
def test_latest_finish_is_the_bound_less_what_comes_after(
    network: tuple[list[float], list[Arc]], spare: int
) -> None:
    course = course_of(*network)
    course.advance(0)
    bound = course.end_of_all + spare
    latest = course.latest(bound)
    assert (latest == bound - course.after).all()
    assert (latest - course.finish == course.floats() + spare).all()


def _rebuilt(course: Course, durations: list[float], arcs: list[Arc]) -> Course:
    fresh = course_of(durations, arcs)
    for node, stage in enumerate(course.stage):
        start, finish = float(course.start[node]), float(course.finish[node])
        if stage == Stage.DONE:
            fresh.end(node, start, finish)
        elif stage == Stage.RUNNING:
            fresh.run(node, start)
        elif stage == Stage.DEAD:
            fresh.drop(node)
    fresh.advance(course.now)
    return fresh


@settings(max_examples=200)
@given(networks(), st.data())
def test_one_event_at_a_time_gives_what_starting_afresh_gives(
    network: tuple[list[float], list[Arc]], data: st.DataObject
) -> None:
    durations, arcs = network
    course = course_of(durations, arcs)
    now = 0.0
    course.advance(now)
    for _ in range(data.draw(st.integers(0, 12))):
        now += data.draw(st.integers(0, 4))
        running = [n for n in range(len(durations)) if course.stage[n] == Stage.RUNNING]
        ready = [
            n
            for n in range(len(durations))
            if course.stage[n] == Stage.WAITING
            and all(course.stage[t] >= Stage.DONE for t, h, _ in arcs if h == n)
        ]
        if running and (not ready or data.draw(st.booleans())):
            node = data.draw(st.sampled_from(running))
            act = data.draw(st.sampled_from(["end", "wait", "drop"]))
            if act == "end":
                course.end(node, float(course.start[node]), now)
            elif act == "wait":
                course.wait(node)
            else:
                course.drop(node)
        elif ready:
            assert course.run(data.draw(st.sampled_from(ready)), now), "all before it has ended"
        course.advance(now)
        fresh = _rebuilt(course, durations, arcs)
        live = course.stage != Stage.DEAD
        assert (course.start[live] == fresh.start[live]).all()
        assert (course.finish[live] == fresh.finish[live]).all()
        assert (course.after == fresh.after).all()


def test_one_event_looks_only_at_what_it_moves() -> None:
    # 1,000 chains of two: the end of one's first task concerns one other node.
    arcs = [(2 * k, 2 * k + 1, 0.0) for k in range(1000)]
    course = course_of([1.0] * 2000, arcs)
    course.advance(0)
    for k in range(1000):
        course.run(2 * k, 0)
    course.advance(0)
    before = course.touched
    course.end(0, 0.0, 1.5)
    course.advance(0.5)
    assert course.touched - before <= 3


def test_what_runs_out_of_order_takes_the_place_of_what_should_have_been_first() -> None:
    course = course_of([2.0, 3.0], [(0, 1, 0.0)])
    course.advance(0)
    assert not course.run(1, 0.0)
    course.advance(0)
    assert course.start.tolist() == [3.0, 0.0]
    assert course.end_of_all == 5.0
    assert course.floats().tolist() == [0.0, 0.0]


def test_a_dropped_node_holds_nothing_up() -> None:
    course = course_of([2.0, 3.0, 1.0], [(0, 1, 0.0), (1, 2, 0.0)])
    course.advance(0)
    course.drop(1)
    course.advance(0)
    assert course.start[2] == 0.0 and course.end_of_all == 2.0
    assert course.open.tolist() == [True, False, True]


def test_a_task_past_its_duration_is_forecast_to_end_now() -> None:
    course = course_of([2.0, 3.0], [(0, 1, 1.0)])
    course.run(0, 0.0)
    course.advance(5)
    assert course.finish.tolist() == [5.0, 9.0]


def test_time_may_be_looked_at_from_an_earlier_moment() -> None:
    course = course_of([2.0], [])
    course.advance(7)
    assert course.finish[0] == 9.0
    course.advance(1)
    assert course.finish[0] == 3.0


def test_a_mode_that_runs_brings_its_own_duration() -> None:
    course = course_of([2.0, 1.0], [(0, 1, 0.0)])
    course.advance(0)
    course.run(0, 0.0, 6.0)
    course.advance(0)
    assert course.end_of_all == 7.0
