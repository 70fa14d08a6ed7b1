"""The audit's plan: sound, and each task's arguments are what its function takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from athena_prefect.plan.expectation import field_of
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.plan.references import resolve
from athena_prefect.plan.templates import Template, render
from tests.tasks.sites import Site

ROOT = Path(__file__).parents[2]
PLAN = Plan.load(ROOT / "deployments" / "environment_audit" / "plan.yaml")


def carry_out(plan: Plan, values: dict[str, Any], modes: dict[str, str]) -> dict[str, Any]:
    """The results of all tasks, one after the other, as the runtime would call them."""
    done: dict[str, Any] = {}

    def look_up(template: Template) -> Any:
        if template.namespace == "parameters":
            return values[template.name]
        return {"id": "run-1", "logical_date": "2026-01-05"}[template.name]

    def call(task: PlanTask) -> Any:
        mode = task.mode(modes.get(task.id, "default"))
        assert mode.call is not None
        function = resolve(mode.call, ROOT)
        arguments = {**render(mode.with_, look_up), **{k: done[v] for k, v in task.inputs.items()}}
        if task.map_over is None:
            return function(**arguments)
        items = arguments.pop(task.map_over)
        return [function(**{**arguments, task.map_over: item}) for item in items]

    left = list(plan.tasks)
    while left:
        task = next(t for t in left if not {d.task for d in t.upstream} & {o.id for o in left})
        left.remove(task)
        if task.when and task.when.unmet(field_of(done[task.when.task], task.when.field or "")):
            continue
        done[task.id] = call(task)
    return done


def test_the_plan_shows_what_plans_can_say() -> None:
    assert 12 <= len(PLAN.tasks) <= 15
    assert any(t.optional for t in PLAN.tasks)
    assert any(t.modes for t in PLAN.tasks)
    assert any(t.when for t in PLAN.tasks)
    assert any(t.map_over for t in PLAN.tasks)
    assert any(not d.hard for t in PLAN.tasks for d in t.depends_on)
    assert PLAN.deadline is not None
    assert len({a.check.kind for a in PLAN.assumptions if a.check}) >= 5
    assert any(a.check is None for a in PLAN.assumptions), "and one that a person answers"


@pytest.mark.parametrize("mode", ["default", "sample"])
def test_every_task_does_its_work(site: Site, tmp_path: Path, mode: str) -> None:
    site.install("app", requires=["lib"], files={f"app/m{n}.py": str(n) for n in range(40)})
    site.install("lib", headers=["License-Expression: MIT"])
    (site.path / "app/m7.py").write_text("changed")
    values = {"folder": str(tmp_path), "warehouse": "", "chunks": 4, "paths": [str(site.path)]}
    done = carry_out(PLAN, values, {"hash": mode})
    assert set(done) >= {t.id for t in PLAN.tasks} - {"repairs"}
    assert done["check"]["problem_count"] == 0
    assert Path(done["publish"]["path"]).stat().st_size > 1000
    if mode == "default":
        assert done["repairs"]["distributions"] == ["app"]


@pytest.mark.parametrize("task", PLAN.tasks, ids=lambda t: t.id)
def test_criteria_name_fields_of_what_the_function_returns(task: PlanTask) -> None:
    if task.success_criteria:
        assert task.call is not None
        returned = resolve(task.call, ROOT).__annotations__["return"]
        module = __import__(task.call.partition(":")[0], fromlist=["x"])
        assert set(task.success_criteria.fields) <= vars(module)[returned].__annotations__.keys()
