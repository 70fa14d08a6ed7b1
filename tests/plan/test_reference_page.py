"""The reference of the plan document is what the model says, and its examples are right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from athena_prefect.plan import document, text
from athena_prefect.plan.model import Plan
from tests.docs.pages import reference

ROOT = Path(__file__).parents[2]
REQUIRED: dict[str, dict[str, Any]] = {
    "Plan": {"name": "p", "tasks": [{"id": "load"}, {"id": "a"}]},
    "Schedule": {"cron": "0 4 * * *"},
    "Deadline": {"at": "06:00"},
    "Resource": {"capacity": 4},
    "PlanTask": {"id": "t"},
    "Estimate": {"optimistic": "1s", "likely": "30s", "pessimistic": "10m"},
    "Dependency": {"task": "a"},
    "When": {"task": "a", "is": 1},
    "Mode": {"name": "wide"},
    "Assumption": {"id": "a"},
    "CheckSpec": {"kind": "sql"},
}


PAGE = reference("plan_document")


def test_the_page_is_current() -> None:
    remedy = "run python docs/reference/generate_plan_document.py"
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.page(), remedy
    assert PAGE.SCHEMA.read_text(encoding="utf-8") == PAGE.schema(), remedy


@pytest.mark.parametrize("section", PAGE.SECTIONS, ids=lambda s: s[0].__name__)
def test_every_field_has_a_meaning_and_an_example_that_is_right(section: Any) -> None:
    model, _, _, examples = section
    fields, _ = PAGE.properties(model)
    assert set(examples) == set(fields)
    assert all(f.get("description") for f in fields.values())
    for name, example in examples.items():
        value = text.parse(f"{name}: {example}", "example").data
        # One moment, or one of several kinds, is given alone.
        alone = name in ("after", "interval", "rrule") or model.__name__ == "Milestone"
        base = {} if alone else REQUIRED.get(model.__name__, {})
        TypeAdapter(model).validate_python({**base, **value})


def test_the_examples_of_the_introduction_are_the_same_plan_but_for_the_spread() -> None:
    content = PAGE.INTRODUCTION
    as_yaml = document.loads(re.findall(r"```yaml\n(name.*?)```", content, re.DOTALL)[0])
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", content, re.DOTALL)[0], names)
    in_python: Plan = names["plan"]
    assert in_python.task_ids == as_yaml.task_ids
    assert in_python.deadline == as_yaml.deadline
    assert in_python.tasks[1] == as_yaml.tasks[1]
