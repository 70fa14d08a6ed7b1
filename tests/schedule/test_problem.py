"""A plan as a scheduling problem: items, modes, skipped tasks, what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from athena_prefect.errors import PlanError, UnknownNameError
from athena_prefect.plan.model import Estimate, Plan
from athena_prefect.schedule.problem import RUNNER, Problem
from athena_prefect.schedule.solver import serial_generation
from tests.schedule.problems import network_of

PLAN = Plan(
    name="p",
    resources={"cpu": {"capacity": 4}},
    runner={"max_workers": 2},
    tasks=[
        {
            "id": "a",
            "duration": {"optimistic": 1, "likely": 2, "pessimistic": 9},
            "modes": [{"name": "wide", "duration": 1, "resources": {"cpu": 4}}],
        },
        {
            "id": "b",
            "inputs": {"x": "a"},
            "map_over": "x",
            "expected_items": 3,
            "duration": 6,
            "resources": {"cpu": 1.5},
            "depends_on": [{"task": "a", "lag": "5s"}],
        },
        {"id": "c", "depends_on": ["b"], "duration": {"learned": True, "fallback": "4s"}},
    ],
)


def test_a_mapped_task_is_its_items_and_a_join() -> None:
    problem = Problem.of(PLAN)
    assert problem.network.ids == ("a", "b[0]", "b[1]", "b[2]", "b", "c")
    assert problem.durations.tolist() == [3.0, 6.0, 6.0, 6.0, 0.0, 4.0]
    assert problem.resources == ("cpu", RUNNER)
    assert problem.capacities.tolist() == [4.0, 2.0]
    assert problem.demands[:, 0].tolist() == [0.0, 1.5, 1.5, 1.5, 0.0, 0.0]
    assert problem.demands[:, 1].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    assert list(problem.activities("b")) == [1, 2, 3]
    assert problem.end_of("b") == 4
    assert problem.task_of.tolist() == [0, 1, 1, 1, 1, 2]
    tails, heads, lags, _ = problem.network.arcs
    arcs = set(zip(tails.tolist(), heads.tolist(), lags.tolist(), strict=True))
    assert arcs == {
        *((0, k, 5.0) for k in (1, 2, 3)),
        *((k, 4, 0.0) for k in (1, 2, 3)),
        (4, 5, 0.0),
    }
    # Two slots: two items, then the third.
    schedule = serial_generation(problem)
    assert schedule.tasks["b"].start == 8.0
    assert schedule.tasks["b"].finish == 20.0
    assert schedule.tasks["b"].duration == 12.0
    assert schedule.makespan == 24.0


@pytest.mark.parametrize(("items", "ids"), [(0, ["b"]), (1, ["b"]), (2, ["b[0]", "b[1]", "b"])])
def test_the_known_number_of_items_counts(items: int, ids: list[str]) -> None:
    problem = Problem.of(PLAN, items={"b": items})
    assert list(problem.network.ids) == ["a", *ids, "c"]
    assert len(problem.activities("b")) == items
    assert problem.durations[problem.end_of("b")] == (6.0 if items == 1 else 0.0)


def test_modes_skipped_tasks_and_learned_estimates() -> None:
    problem = Problem.of(PLAN, modes={"a": "wide"})
    assert problem.durations[0] == 1.0
    assert problem.demands[0].tolist() == [4.0, 1.0]
    assert problem.modes == ("wide", "default", "default")
    without = Problem.of(PLAN, skipped=["b"])
    assert without.network.ids == ("a", "c")
    assert not without.network.pred.size
    learned = Estimate(optimistic=1, likely=1, pessimistic=7)
    assert Problem.of(PLAN, estimates={"c": learned}).durations[-1] == 2.0
    for wrong in ({"modes": {"z": "wide"}}, {"items": {"z": 1}}, {"skipped": ["z"]}):
        with pytest.raises(UnknownNameError):
            Problem.of(PLAN, **wrong)
    with pytest.raises(UnknownNameError, match="wide"):
        Problem.of(PLAN, modes={"a": "wied"})
    with pytest.raises(UnknownNameError):
        problem.end_of("z")


def test_what_is_not_known_is_said() -> None:
    plan = Plan(name="p", tasks=[{"id": "a"}, {"id": "b", "duration": 1}])
    problem = Problem.of(plan)
    assert problem.unknown == ("a",)
    assert np.isnan(problem.durations[0])
    with pytest.raises(PlanError, match="no duration is known of a: there is no history"):
        serial_generation(problem)
    assert Problem.of(plan, skipped=["a"]).unknown == ()
    many = Plan(name="p", tasks=[{"id": f"t{i}"} for i in range(7)])
    with pytest.raises(PlanError, match="t4 and 2 more"):
        Problem.of(many).require_durations()


def test_a_resource_of_a_plan_cannot_be_the_runner() -> None:
    with pytest.raises(PlanError):
        Plan(name="p", resources={RUNNER: {"capacity": 1}}, tasks=[{"id": "a"}])


def test_without_a_plan() -> None:
    network = network_of(2, ())
    problem = Problem.build(network, [[1, 2, 9], [3, 3, 3]], [[1], [2]], [2], resources=["cpu"])
    assert problem.durations.tolist() == [3.0, 3.0]
    assert problem.uncertain.tolist() == [True, False]
    assert problem.with_capacities({"cpu": 5}).capacities.tolist() == [5.0]
    with pytest.raises(UnknownNameError):
        problem.with_capacities({"gpu": 5})
    for wrong in ([1.0], [[3, 2, 1], [1, 1, 1]], [-1.0, 1.0]):
        with pytest.raises(PlanError, match="2 activities"):
            Problem.build(network, wrong, [[1], [2]], [2])


def test_everything_skipped() -> None:
    problem = Problem.of(PLAN, skipped=["a", "b", "c"])
    schedule = serial_generation(problem)
    assert schedule.makespan == 0.0
    assert schedule.tasks == {}
