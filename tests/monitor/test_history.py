"""History as columns, and the passes under limited slots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import PlanError
from athena_prefect.monitor.capacity import finishes_of, first_come
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.plan.graph import Network
from tests.monitor.generated import history_of, population


def one(key: str, *tasks: PastTask) -> PastRun:
    return PastRun(key=key, plan="p", tasks=tasks)


def test_columns_of_some_runs_are_those_of_a_history_of_them() -> None:
    runs = population(1, 4)
    whole, part = history_of(runs), history_of(runs[1:3])
    found = whole.without({runs[0].key, runs[3].key})
    assert found.keys == part.keys
    for name in ("rows", "planned", "actual", "started", "tail", "head", "slots", "taken"):
        assert np.array_equal(getattr(found, name), getattr(part, name)), name
    assert found.network(1).pred.tolist() == part.network(1).pred.tolist()


def test_slots_are_the_most_that_ran_at_once_where_they_are_not_given() -> None:
    tasks = [
        PastTask(id=str(k), category="c", planned=1, actual=10, started=10.0 * (k // 2))
        for k in range(6)
    ]
    history = History.of(
        [one("a", *tasks), one("b", PastTask(id="x", category="c", planned=1, actual=1))]
    )
    assert history.slots.tolist() == [2.0, np.inf]
    assert history.timed(0) and not history.timed(1)


def taking(amounts: dict[str, float], starts: list[float]) -> PastRun:
    """Tasks of 10 s that took so much of `cpu`, of which there were 4."""
    tasks = [
        PastTask(
            id=name, category="c", planned=5, actual=10, started=start, resources={"cpu": amount}
        )
        for (name, amount), start in zip(amounts.items(), starts, strict=True)
    ]
    return PastRun(key="a", plan="p", tasks=tasks, capacities={"cpu": 4})


def test_tasks_that_took_different_amounts_waited_for_units_in_their_order() -> None:
    history = History.of([taking({"a": 3, "b": 2, "c": 2}, [0, 10, 10])])
    slots, network = history.capacity(0)
    tail, head, _, _ = network.arcs
    assert np.isinf(slots)
    assert set(zip(tail.tolist(), head.tolist(), strict=True)) == {(0, 1), (0, 2)}
    # What clocks make of it: `c` began a little before `a` had ended.
    early = History.of([taking({"a": 3, "b": 2, "c": 2}, [0, 10, 9.9995])])
    assert sorted(early.capacity(0)[1].arcs[1].tolist()) == [1, 2]


def test_equal_amounts_are_so_many_slots_whatever_ran_at_once() -> None:
    history = History.of([taking({"a": 2, "b": 2, "c": 2}, [0, 10, 20])])
    assert history.slots.tolist() == [2.0]
    slots, network = history.capacity(0)
    assert slots == 2.0 and not len(network.pred)


def test_what_is_planned_to_take_no_time_takes_no_slot() -> None:
    run = taking({"a": 2, "b": 2, "gate": 0, "c": 2}, [0, 0, 10, 10])
    gate = replace(run.tasks[2], planned=0.0, actual=0.01)
    history = History.of([replace(run, tasks=[*run.tasks[:2], gate, run.tasks[3]])])
    slots, network = history.capacity(0)
    assert slots == 2.0 == history.peak(0) and not len(network.pred)
    assert history.instant.tolist() == [False, False, True, False]
    assert history.work.tasks == ("a", "b", "c") and history.work.planned.tolist() == [5.0] * 3
    # Nor does it where others take different amounts and units go from one to the other.
    uneven = replace(run.tasks[1], resources={"cpu": 3})
    full = replace(gate, started=0.0, actual=5.0, resources={"cpu": 4})
    later = replace(run.tasks[3], started=10.0)
    history = History.of([replace(run, tasks=[run.tasks[0], full, uneven, later])])
    slots, network = history.capacity(0)
    assert np.isinf(slots) and 1 not in network.arcs[0] and 1 not in network.arcs[1]


def test_what_began_before_its_predecessor_ended_waited_for_no_units_of_it() -> None:
    run = taking({"a": 3, "b": 2, "c": 2}, [0, 10, 10])
    first = replace(run.tasks[0], after=("b",))
    history = History.of([replace(run, tasks=[first, *run.tasks[1:]])])
    slots, network = history.capacity(0)
    assert slots == 2.0 and network.pred.tolist() == [1]


def test_no_estimate_is_held_against_the_median() -> None:
    history = History.of(
        [one(str(k), PastTask(id="x", category="c", planned=None, actual=k)) for k in (1, 2, 9)]
    )
    assert history.planned.tolist() == [2.0, 2.0, 2.0]
    assert history.typical("c", "p") == 2.0
    assert history.typical("d", "p") is None


def test_a_run_told_twice_is_refused() -> None:
    task = PastTask(id="x", category="c", planned=1, actual=1)
    with pytest.raises(PlanError, match="'a' is in the history twice"):
        History.of([one("a", task), one("a", task)])


@given(seed=st.integers(0, 1000), count=st.integers(1, 25), slots=st.sampled_from([1, 2, 3, 100]))
def test_many_scenarios_at_once_are_single_ones(seed: int, count: int, slots: int) -> None:
    """Given the order in which slots were taken, the vectorised pass is the list schedule."""
    rng = np.random.default_rng(seed)
    arcs = [(a, b) for b in range(count) for a in range(b) if rng.random() < 2 / count]
    network = Network.build(
        [str(k) for k in range(count)], [a for a, _ in arcs], [b for _, b in arcs]
    )
    durations = rng.uniform(1, 10, count)
    starts, finishes = first_come(network, durations, slots)
    order = np.lexsort((network.rank, starts))
    none = np.zeros(0, dtype=np.int64)
    found = finishes_of(
        network,
        np.repeat(durations[order, None], 2, axis=1),
        slots,
        now=0.0,
        order=order,
        running=none,
        ends=np.zeros((0, 2)),
    )
    assert found[:, 0] == pytest.approx(finishes[order])
    busy = [((starts <= s) & (finishes > s)).sum() for s in starts]
    assert max(busy) <= slots
