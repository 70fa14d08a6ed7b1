"""Writes plan-document.md and plan.schema.json from the model, when it is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from athena_prefect.plan.assumption import Assumption, CheckSpec, Effect, Milestone
from athena_prefect.plan.document import json_schema
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.expectation import Expectation
from athena_prefect.plan.model import Plan
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.plan.task import Dependency, Mode, PlanTask, SuccessCriteria, When
from athena_prefect.plan.terms import (
    Deadline,
    Parameter,
    Replanning,
    Resource,
    Results,
    Runner,
    Schedule,
)

PAGE = Path(__file__).with_name("plan-document.md")
SCHEMA = Path(__file__).with_name("plan.schema.json")

SECTIONS: list[tuple[type[BaseModel], str, str, dict[str, str]]] = [
    (Plan, "The plan", "the top of the document", {
        "schema": "1", "name": "load-sales", "description": "Loads the sales of the day",
        "tags": "[sales]", "schedule": '{cron: "0 4 * * 1-5"}', "overlap": "queue",
        "catch_up": "true", "deadline": "2h", "resources": "{cpu: {capacity: 4}}",
        "runner": "{kind: processes}", "results": "{storage: s3-bucket/results}",
        "parameters": "{folder: {default: data}}", "goals": "[load]",
        "tasks": "[{id: load, duration: 10m}]",
        "assumptions": "[{id: source_open, description: The source answers}]",
        "replanning": "{decide: ask}",
    }),
    (Schedule, "Schedule", "`schedule`", {
        "cron": '"0 4 * * 1-5"', "interval": "1h", "rrule": "FREQ=WEEKLY;BYDAY=MO",
        "timezone": "Europe/Berlin",
    }),
    (Deadline, "Deadline", "`deadline`", {
        "after": "2h", "at": "06:00", "timezone": "Europe/Berlin", "days": "working",
    }),
    (Resource, "Resource", "each value of `resources`", {
        "capacity": "8", "cost_per_hour": "0.05", "concurrency_limit": "warehouse",
        "max_capacity": "12",
    }),
    (Runner, "Runner", "`runner`", {"kind": "processes", "max_workers": "4"}),
    (Results, "Results", "`results`", {"storage": "s3-bucket/results"}),
    (Parameter, "Parameter", "each value of `parameters`", {
        "type": "date", "default": "data", "description": "What is loaded", "required": "true",
    }),
    (PlanTask, "Task", "each element of `tasks`", {
        "id": "load", "description": "Loads the rows", "call": "tasks.sales:load",
        "deployment": "load-sales/nightly", "with": '{day: "{{ run.logical_date }}"}',
        "depends_on": "[extract, {task: warm_up, kind: soft}]", "inputs": "{rows: extract}",
        "map_over": "rows", "expected_items": "40",
        "when": "{task: extract, field: changed, is: true}",
        "duration": "{optimistic: 20s, likely: 30s, pessimistic: 90s}",
        "resources": "{cpu: 1, memory_gb: 0.5}", "retries": "2", "retry_delay": "30s",
        "timeout": "10m", "isolation": "process", "rerunnable": "true", "deadline": "1h",
        "category": "load", "tags": "[io]",
        "modes": "[{name: wide, duration: 10s, resources: {cpu: 4}}]",
        "success_criteria": "{rows: {min: 100}, relaxed: {rows: {min: 50}}}",
        "optional": "true", "value": "0.2",
    }),
    (Estimate, "Duration, three-point", "`duration` of a task or mode", {
        "optimistic": "20s", "likely": "30s", "pessimistic": "90s",
    }),
    (LearnedEstimate, "Duration, learned", "`duration` of a task or mode", {
        "learned": "true", "fallback": "30s",
    }),
    (Dependency, "Dependency", "each element of `depends_on`", {
        "task": "extract", "kind": "soft", "lag": "5s",
    }),
    (When, "Condition", "`when` of a task", {
        "task": "extract", "field": "changed", "is": "true", "is_not": "null", "min": "1",
        "max": "100", "max_age": "1d", "one_of": "[new, changed]", "matches": '"^ok"',
    }),
    (Mode, "Mode", "each element of a task's `modes`", {
        "name": "wide", "call": "tasks.sales:load_wide", "deployment": "load-sales/wide",
        "with": "{workers: 4}", "duration": "10s", "resources": "{cpu: 4}", "quality": "0.9",
    }),
    (SuccessCriteria, "Success criteria", "`success_criteria` of a task", {
        "relaxed": "{rows: {min: 50}}",
    }),
    (Expectation, "Expectation", "each value of the success criteria", {
        "is": "ok", "is_not": "null", "min": "100", "max": "1e6", "max_age": "1d",
        "one_of": "[ok, empty]", "matches": '"^ok"',
    }),
    (Assumption, "Assumption", "each element of `assumptions`", {
        "id": "disk_free", "description": "The disk has room", "criticality": "high",
        "validation_method": "sensor", "validation_frequency": "30s",
        "milestones": "[{before: load}, {at: start}]", "active": "always",
        "check": "{kind: disk_free, path: ., unit: GB}", "expected_value": "5",
        "sense": "at_least", "tolerance": "0.1", "affects": "[load]",
        "impact": "Loading fails half-way", "mitigation": "Use the snapshot",
        "effect": "{mode: snapshot}",
    }),
    (Milestone, "Milestone", "each element of `milestones`", {
        "before": "load", "after": "extract", "at": "start",
    }),
    (CheckSpec, "Check", "`check` of an assumption", {"kind": "disk_free", "field": "free"}),
    (Effect, "Effect", "`effect` of an assumption", {
        "mode": "snapshot", "duration_factor": "1.5", "capacity": "{cpu: observed}",
        "block": "true",
    }),
    (Replanning, "Replanning", "`replanning`", {
        "decide": "ask", "answer_within": "30m", "unanswered": "recommended",
        "max_replans": "3", "cooldown": "5m", "abort": "auto",
        "running_tasks_on_abort": "cancel", "policy": "{segment_slip: 0.2}",
    }),
    (ReplanningPolicy, "Policy", "`replanning.policy`", {
        "tolerated_slip": "0.05", "segment_slip": "0.2", "medium_slip": "0.05",
        "high_slip": "0.2", "critical_slip": "0.6", "medium_probability": "0.95",
        "high_probability": "0.8", "critical_probability": "0.5", "min_probability": "0.8",
        "probability_drop": "0.2", "risk_probability": "0.6", "accept_quantile": "0.8",
        "forecast_runs": "5", "estimates_trusted": "1",
        "full_violations": "2", "full_risk_share": "0.4", "segment_tasks": "8",
        "resource_buffer": "0.1", "budget_s": "2",
        "hysteresis": "0.1", "timeout_growth": "1.5",
        "unknown_in_a_row": "5",
    }),
]  # fmt: skip
"""Each part, its heading, where it stands, and an example of each field as YAML."""

INTRODUCTION = """\
# The plan document

*Generated from the model by `docs/reference/generate_plan_document.py`.*

A plan is one YAML or JSON file. `athena validate PLAN` reports all its defects at
once, each with file, line, field and what would be right. Editors complete and check
it with its JSON Schema, [plan.schema.json](plan.schema.json), which
`athena_prefect.plan.document.json_schema()` returns too. For VS Code and other users of
the YAML language server, write at the top of a plan:

```yaml
# yaml-language-server: $schema=PATH/TO/plan.schema.json
```

- **YAML 1.2**: only `true` and `false` are truth values; `06:00`, `yes` and
  `2026-11-30` are text. Anchors, aliases and `<<` work within bounds; tags do not.
- **Durations** are written `20s`, `10m`, `1h30m`, `2d`, `PT20S`; a bare number is seconds.
  Units: `ms s m h d w`.
- **Amounts** are plain numbers: the unit belongs in the resource's name (`memory_gb: 0.5`).
- **Shares** are fractions: `0.15`, never `15`.
- **Names** are letters, digits, `_`, `.` and `-`, at most 255, beginning with a letter,
  a digit or `_`.
- **Checks** of assumptions name a kind and give its options: [all kinds](checks.md).
- **Templates** stand in `with` and in a check's options: `{{ parameters.NAME }}`,
  `{{ run.logical_date }}` (also `id`, `started_at`, `plan`), `{{ secret.NAME }}`,
  `{{ variable.NAME }}`. A text that is one template keeps the value's type; there are
  no expressions.

## An example

```yaml
name: load-sales
deadline: 2h
resources: {cpu: {capacity: 4}}
tasks:
  - {id: extract, duration: {optimistic: 5m, likely: 10m, pessimistic: 30m}, resources: {cpu: 1}}
  - {id: load, depends_on: [extract], duration: 20m, resources: {cpu: 2}}
```

Without a `call` or `deployment` a task is only monitored. The same plan in Python:

```python
from athena_prefect.plan.model import Plan, PlanTask

plan = Plan(
    name="load-sales",
    deadline="2h",
    resources={"cpu": {"capacity": 4}},
    tasks=[
        PlanTask(id="extract", duration="10m", resources={"cpu": 1}),
        PlanTask(id="load", depends_on=["extract"], duration="20m", resources={"cpu": 2}),
    ],
)
```

## What the whole document must meet

Names of tasks, modes, assumptions and goals are there once and refer to something; no
task waits for itself, directly or around a cycle; a demand fits its resource's capacity
(that of a mapped task is one item's); a task has a `call` or a `deployment`, not both;
`map_over` names one of the inputs, and only a mapped task has `expected_items`; goals are
not optional; a required task takes no result of an optional one; each task in `affects`
declares the mode that `effect: {mode: …}` names; an effect names the tasks it affects.
"""


def type_of(schema: dict[str, Any]) -> str:
    """A JSON Schema in a reader's words."""
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    if schema.get("examples") == ["20s", "10m", "1h30m"]:
        return "duration"
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const']).strip(chr(34))}`"
    if "anyOf" in schema:
        options = [type_of(o) for o in schema["anyOf"] if o.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    if kind == "object":
        return _mapping(schema)
    words = {
        "number": "number",
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
    }
    return words.get(str(kind), "any value") + _range(schema)


def _mapping(schema: dict[str, Any]) -> str:
    values = schema.get("additionalProperties")
    named = next(iter(schema.get("patternProperties", {}).values()), values)
    return f"mapping of name to {type_of(named)}" if isinstance(named, dict) else "mapping"


def _range(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return f" {', '.join(bounds)}" if bounds else ""


def _named(definition: str) -> str:
    for model, heading, *_ in SECTIONS:
        if model.__name__ == definition:
            return f"[{heading.lower()}](#{heading.lower().replace(' ', '-').replace(',', '')})"
    return type_of(json_schema()["$defs"][definition])


def _default(field: dict[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    value = field.get("default")
    if ("$ref" in field and "default" not in field) or (isinstance(value, dict) and value):
        return "its defaults"
    if value in (None, "", [], {}):
        return "none"
    return f"`{json.dumps(value).strip(chr(34))}`"


def properties(model: type[BaseModel]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a part as its JSON Schema has them, and which are required."""
    whole = json_schema()
    schema = whole if model is Plan else whole["$defs"][model.__name__]
    options = [schema, *schema.get("anyOf", ())]
    found = next(o for o in options if "properties" in o)
    return found["properties"], found.get("required", [])


def _section(
    model: type[BaseModel], heading: str, place: str, examples: dict[str, str]
) -> Iterator[str]:
    fields, required = properties(model)
    yield f"## {heading}\n"
    yield f"Where: {place}. {' '.join((model.__doc__ or '').split())}\n"
    yield "| field | type | default | meaning | example |"
    yield "|---|---|---|---|---|"
    for name, field in fields.items():
        meaning = " ".join(field.get("description", "").replace("``", "`").split())
        default = _default(field, name in required)
        example = f"`{name}: {examples[name]}`"
        yield f"| `{name}` | {type_of(field)} | {default} | {meaning} | {example} |"
    yield ""


def page() -> str:
    """The whole page."""
    lines = [line for section in SECTIONS for line in _section(*section)]
    return INTRODUCTION + "\n" + "\n".join(lines).rstrip().replace("``", "`") + "\n"


def schema() -> str:
    """The JSON Schema file for editors."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
