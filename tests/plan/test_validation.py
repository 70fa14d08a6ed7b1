"""The rules of the whole plan: each broken one is found, and a sound plan passes."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import PlanDocumentError
from athena_prefect.plan.model import Plan


def plan(*tasks: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"name": "x", "tasks": list(tasks), **rest}


def found(data: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(PlanDocumentError) as caught:
        Plan.model_validate(data)
    return [(d.field, f"{d.message} ({d.remedy})") for d in caught.value.defects]


A: dict[str, Any] = {"id": "a"}
B: dict[str, Any] = {"id": "b", "depends_on": ["a"]}
M: dict[str, Any] = {"name": "m"}
CPU = {"cpu": {"capacity": 2}}

RULES: list[tuple[dict[str, Any], str, str]] = [
    (plan(A, {"id": "a"}), "tasks[1].id", "task 'a' is there twice (first: tasks[0].id)"),
    (plan(A, {"id": "b", "depends_on": ["aa"]}), "tasks[1].depends_on[0]", "did you mean 'a'?"),
    (plan(A, {"id": "b", "depends_on": ["zz"]}), "tasks[1].depends_on[0]", "known are a, b"),
    (plan(A, {"id": "b", "depends_on": ["a", "a"]}), "tasks[1].depends_on[1]", "is there twice"),
    (plan({"id": "a", "depends_on": ["a"]}), "tasks[0].depends_on[0]", "depends on itself"),
    (plan({"id": "a", "inputs": {"x": "a"}}), "tasks[0].inputs.x", "depends on itself"),
    (plan(A, {"id": "b", "inputs": {"x": "q"}}), "tasks[1].inputs.x", "no task 'q'"),
    (plan(A, {"id": "b", "when": {"task": "q", "is": 1}}), "tasks[1].when.task", "no task 'q'"),
    (plan(A, {"id": "b", "inputs": {"x": "a"}, "map_over": "y"}), "tasks[1].map_over", "no input"),
    (plan({"id": "a", "expected_items": 3}), "tasks[0].expected_items", "is not mapped"),
    (plan({"id": "a", "call": "m:f", "deployment": "f/d"}), "tasks[0].deployment", "one of the"),
    (plan({"id": "a", "modes": [{**M, "call": "m:f", "deployment": "f/d"}]}),
     "tasks[0].modes[0].deployment", "one of the"),
    (plan({"id": "a", "resources": {"gpu": 1}}), "tasks[0].resources.gpu", "under resources"),
    (plan({"id": "a", "resources": {"cpu": 3}}, resources=CPU), "tasks[0].resources.cpu",
     "needs 3 of 'cpu', of which there is 2"),
    (plan({"id": "a", "modes": [{**M, "resources": {"cpu": 3}}]}, resources=CPU),
     "tasks[0].modes[0].resources.cpu", "could never start"),
    (plan({"id": "a", "modes": [M, M]}), "tasks[0].modes[1].name", "mode 'm' is there twice"),
    (plan({"id": "a", "modes": [{"name": "default"}]}), "tasks[0].modes[0].name", "own fields"),
    (plan({"id": "a", "timeout": 0}), "tasks[0].timeout", "a timeout of zero"),
    (plan({"id": "a", "deadline": 0}), "tasks[0].deadline", "a deadline of zero"),
    (plan(A, deadline=0), "deadline", "a deadline of zero"),
    (plan({"id": "a", "success_criteria": {}}), "tasks[0].success_criteria", "asks nothing"),
    (plan({"id": "a", "success_criteria": {"relaxed": {"n": 1}}}), "tasks[0].success_criteria",
     "asks nothing"),
    (plan(A, goals=["q"]), "goals[0]", "no task 'q'"),
    (plan(A, goals=["a", "a"]), "goals[1]", "goal 'a' is there twice"),
    (plan(A, {**B, "optional": True}, goals=["b"]), "goals[0]", "goal 'b' is optional"),
    (plan({"id": "a", "optional": True}), "goals", "nothing is required"),
    (plan({"id": "a", "optional": True}, {"id": "b", "inputs": {"x": "a"}}), "tasks[1].inputs.x",
     "required task 'b' takes the result of optional 'a'"),
    (plan({"id": "a", "optional": True}, {"id": "b", "when": {"task": "a", "is": 1}}),
     "tasks[1].when.task", "takes the result of optional"),
    (plan({"id": "a", "with": {"x": ["{{ parameters.n }}"]}}), "tasks[0].with.x[0]",
     "no parameter 'n'"),
    (plan({"id": "a", "with": {"x": "{{ run.n }}"}}), "tasks[0].with.x", "a run has no 'n'"),
    (plan({"id": "a", "modes": [{**M, "with": {"x": "{{ env.n }}"}}]}),
     "tasks[0].modes[0].with.x", "templates know no 'env'"),
    (plan({"id": "a", "with": {"x": "{{ run.id"}}), "tasks[0].with.x", "without"),
    (plan(A, assumptions=[{"id": "s"}, {"id": "s"}]), "assumptions[1].id", "is there twice"),
    (plan(A, assumptions=[{"id": "s", "affects": ["q"]}]), "assumptions[0].affects[0]", "no task"),
    (plan(A, assumptions=[{"id": "s", "affects": ["a", "a"]}]), "assumptions[0].affects[1]",
     "twice"),
    (plan(A, assumptions=[{"id": "s", "milestones": [{"after": "q"}]}]),
     "assumptions[0].milestones[0].after", "no task 'q'"),
    (plan(A, assumptions=[{"id": "s", "validation_frequency": 0}]),
     "assumptions[0].validation_frequency", "a frequency of zero"),
    (plan(A, assumptions=[{"id": "s", "effect": {"block": True}}]), "assumptions[0].effect",
     "an effect on no task"),
    (plan(A, assumptions=[{"id": "s", "affects": ["a"], "effect": {"capacity": {"gpu": 1}}}]),
     "assumptions[0].effect.capacity.gpu", "no resource 'gpu'"),
    (plan(A, assumptions=[{"id": "s", "affects": ["a"], "effect": {"mode": "m"}}]),
     "assumptions[0].effect.mode", "task 'a' has no mode 'm' (its modes: none)"),
    (plan(A, assumptions=[{"id": "s", "check": {"kind": "sql", "url": "{{ parameters.u }}"}}]),
     "assumptions[0].check.url", "no parameter 'u'"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "field", "said"), RULES, ids=[r[1] for r in RULES])
def test_each_rule_is_one_defect_at_its_place(data: dict[str, Any], field: str, said: str) -> None:
    ((where, what),) = found(data)
    assert where == field
    assert said in what


def test_cycles_are_named_each_once() -> None:
    data = plan(
        {"id": "a", "depends_on": ["c"]},
        {"id": "b", "inputs": {"x": "a"}},
        {"id": "c", "depends_on": [{"task": "b", "kind": "soft"}]},
        {"id": "d", "depends_on": ["e"]},
        {"id": "e", "when": {"task": "d", "is": 1}},
    )
    assert [what.partition(" (")[0] for _, what in found(data)] == [
        "dependency cycle: a -> b -> c -> a",
        "dependency cycle: d -> e -> d",
    ]


@given(st.data(), st.integers(1, 8))
def test_a_plan_exists_exactly_when_its_graph_has_no_cycle(draw: st.DataObject, size: int) -> None:
    ids = [f"t{i}" for i in range(size)]
    arcs = draw.draw(st.sets(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=14))
    graph = nx.DiGraph(arcs)
    tasks = [{"id": i, "depends_on": sorted(u for u, v in arcs if v == i)} for i in ids]
    if nx.is_directed_acyclic_graph(graph):
        assert Plan.model_validate(plan(*tasks)).task_ids == tuple(ids)
    else:
        assert all("cycle" in what or "itself" in what for _, what in found(plan(*tasks)))


def test_what_may_be() -> None:
    Plan.model_validate(
        plan(
            {"id": "a", "resources": {"cpu": 2}, "with": {"x": "{{ parameters.n }}"}},
            {"id": "o", "optional": True, "depends_on": ["a"]},
            {"id": "p", "optional": True, "inputs": {"x": "o"}},
            {"id": "b", "depends_on": ["o"], "inputs": {"x": "a"}, "map_over": "x"},
            {"id": "side", "inputs": {"x": "o"}},
            goals=["b"],
            resources=CPU,
            parameters={"n": {"type": "integer"}},
            assumptions=[{"id": "s", "affects": ["a"], "effect": {"mode": "default"}}],
        )
    )


def test_shape_errors_do_not_hide_the_rules_of_the_whole() -> None:
    data = plan(
        {"id": "a", "duration": "20 sek", "depends_on": ["nowhere"]},
        {"id": "b", "depends_on": ["a", "a"], "colour": "red"},
        {"id": "c c"},
        {"id": "d", "depends_on": ["c c", "b"], "retries": -1},
        {"id": "e", "depends_on": ["f"]},
        {"id": "f", "depends_on": ["e"], "timeout": "?"},
        resources={"cpu": {"capacity": 0}},
    )
    assert [field for field, _ in found(data)] == [
        "resources.cpu.capacity",
        "tasks[0].depends_on[0]",
        "tasks[0].duration",
        "tasks[1].colour",
        "tasks[1].depends_on[1]",
        "tasks[2].id",
        "tasks[3].depends_on[0]",
        "tasks[3].retries",
        "tasks[4]",
        "tasks[5].timeout",
    ]


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        # Nothing is held against a plan that the broken part may have said.
        (plan({"id": "a", "resources": {"cpu": 1}}, resources=[1]), ["resources"]),
        (plan({"id": "a", "resources": {"cpu": 1}}, resources={"cpu": 4}), ["resources.cpu"]),
        (plan({"id": "a", "map_over": "x", "inputs": {"x": 3}}), ["tasks[0].inputs.x"]),
        (plan({"id": "a", "map_over": [], "expected_items": 3}), ["tasks[0].map_over"]),
        (plan({"id": "a", "modes": [{"name": "m", "quality": 3}]},
              assumptions=[{"id": "s", "affects": ["a"], "effect": {"mode": "m"}}]),
         ["tasks[0].modes[0].quality"]),
        (plan({"id": "a", "modes": [{"nam": "m"}]},
              assumptions=[{"id": "s", "affects": ["a"], "effect": {"mode": "m"}}]),
         ["tasks[0].modes[0].nam", "tasks[0].modes[0].name"]),
        (plan({"id": "o", "optional": True}, {"id": "b", "optional": "?", "inputs": {"x": "o"}}),
         ["tasks[1].optional"]),
        (plan({"id": "a", "success_criteria": {"n": {"mn": 1}}}),
         ["tasks[0].success_criteria.n.mn"]),
        (plan(A, assumptions=[{"id": "s", "affects": "a", "effect": {"block": True}}]),
         ["assumptions[0].affects"]),
        (plan(A, schedule={"cron": 5}), ["schedule.cron"]),
        ({"tasks": [A]}, ["name"]),
        ({"name": 5, "tasks": [{"id": "a", "depends_on": ["q"]}]},
         ["name", "tasks[0].depends_on[0]"]),
        ({"name": "x", "tasks": []}, ["tasks"]),
        ({"name": "x"}, ["tasks"]),
        ({"name": "x", "tasks": [{"id": 1}]}, ["tasks[0].id"]),
        ({"name": "x", "tasks": 5, "goals": ["a"]}, ["tasks"]),
        ({}, ["name", "tasks"]),
    ],
)  # fmt: skip
def test_a_broken_part_makes_no_second_defect(data: dict[str, Any], fields: list[str]) -> None:
    assert [field for field, _ in found(data)] == fields


def test_defects_behind_defects_show_too() -> None:
    data = plan(A, parameters={"n": {"type": "integer", "default": "x", "colour": 1}})
    assert [field for field, _ in found(data)] == ["parameters.n", "parameters.n.colour"]
