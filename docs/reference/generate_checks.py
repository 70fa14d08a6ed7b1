"""Writes checks.md from the kinds themselves: ``python docs/reference/generate_checks.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from athena_prefect.assumptions.checks.base import Check
from athena_prefect.assumptions.checks.registry import BUILT_IN, kind_named
from athena_prefect.plan.units import format_duration, parse_duration

PAGE = Path(__file__).with_name("checks.md")

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "This machine": {
        "disk_free": ("{kind: disk_free, path: ., unit: GB}", "5"),
        "memory": ("{kind: memory, unit: GiB}", "2"),
        "cpu_load": ("{kind: cpu_load, over: 5m}", "1.5"),
        "process": ("{kind: process, name: postgres}", "true"),
    },
    "Files and objects": {
        "file_exists": ("{kind: file_exists, path: data/in.csv}", "true"),
        "file_age": ('{kind: file_age, path: "s3://bucket/in.csv"}', "{max_age: 1d}"),
        "file_size": ("{kind: file_size, path: data/in.csv, unit: MB}", "1"),
    },
    "Reachability": {
        "tcp": ("{kind: tcp, host: db.example, port: 5432}", "true"),
        "http": ('{kind: http, url: "https://api.example/health", field: status}', "200"),
    },
    "Databases": {
        "sql": ("{kind: sql, env: SALES_URL, query: SELECT max(price) FROM sales}", "{max: 1000}"),
        "row_count": ("{kind: row_count, env: SALES_URL, table: sales}", "1000"),
        "newest": ("{kind: newest, block: secret/sales, table: sales, column: at}", "2h"),
        "null_share": ("{kind: null_share, env: SALES_URL, table: sales, column: note}", "0.1"),
        "schema_drift": (
            "{kind: schema_drift, env: SALES_URL, table: sales, columns: {id: bigint, at: null}}",
            "true",
        ),
    },
    "Prefect": {
        "work_pool": ("{kind: work_pool, pool: nightly}", "1"),
        "deployment_success": ("{kind: deployment_success, deployment: load/nightly}", "1d"),
        "variable": ("{kind: variable, name: market}", "open"),
        "concurrency_limit": ("{kind: concurrency_limit, name: warehouse}", "1"),
    },
    "Systems outside": {
        "http_json": (
            '{kind: http_json, url: "https://api.example/jobs", path: "$.jobs[*].n", take: sum}',
            "{max: 100}",
        ),
        "issues": ("{kind: issues, tracker: github, project: acme/shop, labels: [blocker]}", "0"),
        "calendar": (
            "{kind: calendar, source: team.ics, people: [Anna, Ben], lasts: 1d, "
            "hours: 09:00-17:00, timezone: Europe/Berlin}",
            "0.5",
        ),
        "git_changes": ("{kind: git_changes, branch: origin/main, paths: [sql]}", "0"),
        "dbt_freshness": ('{kind: dbt_freshness, select: ["raw.*"]}', "true"),
        "pandera": ('{kind: pandera, schema: "tasks.schemas:ORDERS", path: in.csv}', "true"),
    },
    "The project's own": {
        "function": ('{kind: function, call: "tasks.checks:rows_there"}', "true"),
    },
}
"""The kinds in groups, each with an example: the check, and what is expected."""

HEAD = """\
# Kinds of checks

*Generated from the kinds by `docs/reference/generate_checks.py`.*

An assumption's `check` names a kind and gives its options; any of them may be a
[template](plan-document.md). What was observed is held against `expected_value` in the
kind's own sense, unless the assumption says another. Where a kind observes several values,
one of them counts; `field` names another.

A check that could not be made (no answer in time, refused credentials, an answer that is
none) is *unknown*, with its reason, and neither holds nor is violated. No secret stands in a
message. Kinds that need more than the library brings are marked with the extra; install it
with `pip install 'athena-prefect[checks]'`.

What fetches from the web reads at most 10 MB, follows at most five redirects, never one from
https to http or to another scheme, and sends its headers to no other server. What reads a
database does so in a transaction that cannot write. To add a kind, see
[Write your own check](../how-to/write-your-own-check.md).
"""
EXTRA = ("http_json", "calendar", "pandera")
SENSES = {"at_least": "at least", "at_most": "at most", "equal": "equal"}


def type_of(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON Schema in a reader's words."""
    if "$ref" in schema:
        return type_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if schema.get("examples") == ["20s", "10m", "1h30m"]:
        return "duration"
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if "anyOf" in schema:
        options = [type_of(o, definitions) for o in schema["anyOf"] if o.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'], definitions)}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        known = isinstance(values, dict) and values
        return f"mapping of name to {type_of(values, definitions)}" if known else "mapping"
    words = {
        "number": "number", "string": "text", "integer": "whole number",
        "boolean": "true or false",
    }  # fmt: skip
    signs = {"minimum": "≥", "maximum": "≤"}
    bounds = ", ".join(f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema)
    return " ".join(filter(None, [words.get(str(schema.get("type")), "any value"), bounds]))


def default_of(field: dict[str, Any], required: bool) -> str:
    """What an option is where the plan does not say it."""
    if required:
        return "**required**"
    value = field.get("default")
    if type_of(field, {}) == "duration" and value is not None:
        value = format_duration(parse_duration(value))
    return "none" if value in (None, "", [], {}) else f"`{json.dumps(value).strip(chr(34))}`"


def options_of(kind: type[Check]) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """A kind's options as its JSON Schema has them, the required ones, and definitions."""
    schema = kind.model_json_schema()
    fields = dict(schema["properties"])
    fields["timeout"] = fields.pop("timeout")  # everybody's, so last
    return fields, schema.get("required", []), schema.get("$defs", {})


def section(name: str, example: str, expected: str) -> Iterator[str]:
    """What the page says of one kind."""
    kind = kind_named(name)
    yield f"### `{name}`\n"
    yield " ".join((kind.__doc__ or "").replace("``", "`").split()) + "\n"
    facts = [f"Sense: {SENSES[kind.sense]}", f"method: {kind.method}"]
    facts += [f"counts: `{kind.counts}`"] if kind.counts else []
    facts += ["extra: `checks`"] if name in EXTRA else []
    yield "; ".join(facts) + ".\n"
    yield f"`check: {example}`, `expected_value: {expected}`\n"
    yield "| option | type | default | meaning |"
    yield "|---|---|---|---|"
    fields, required, definitions = options_of(kind)
    for option, field in fields.items():
        meaning = " ".join(field.get("description", "").replace("``", "`").split())
        kind_of = type_of(field, definitions)
        default = default_of(field, option in required)
        yield f"| `{option}` | {kind_of} | {default} | {meaning} |"
    yield ""


def page() -> str:
    """The whole page."""
    lines = []
    for group, kinds in GROUPS.items():
        lines.append(f"## {group}\n")
        for name, (example, expected) in kinds.items():
            lines += section(name, example, expected)
    return HEAD + "\n" + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    assert {name for kinds in GROUPS.values() for name in kinds} == set(BUILT_IN)
    PAGE.write_text(page(), encoding="utf-8")
