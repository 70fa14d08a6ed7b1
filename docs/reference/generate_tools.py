"""Writes tools.md from the server itself: ``python docs/reference/generate_tools.py``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("tools.md")

HEAD = """\
# Tools for agents

`athena mcp` serves these over the Model Context Protocol; [how to connect an agent](../how-to/connect-an-agent.md). This page is made from the server: `python docs/reference/generate_tools.py`.

Durations are seconds, shares are fractions (0.15 is 15 %), moments are ISO 8601 in UTC. What is not known is null, and `reason` says why. Every reply has a `summary` of one or two sentences, and `truncated`, which is true where a list was cut to 25 entries; the resources have all of it.

A refused call changes nothing. Its answer is an error with `code`, `field` (the argument), `message`, and `right`, what would be right:

| code | what |
|---|---|
| `invalid_arguments` | an argument does not fit the schema |
| `unknown_name` | no such plan, task, assumption or resource |
| `unknown_run` | no live run, or several, which `candidates` lists |
| `recording` | the event contradicts what is known |
| `stale_revision` | another revision is in force than the one that was chosen for |
| `declined` | the person who was asked said no |
| `run` | the run's own process refuses |
| `input` | anything else that is wrong with the call |
| `storage`, `storage_unavailable`, `schema`, `lease_held` | the database, or others that write to the same run |
| `unknown_tool` | no such tool, or the server is read-only |
| `internal` | a defect of athena; the server's log has it |
"""


async def _listed() -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    from fastmcp import Client

    from athena_prefect.mcp.server import make_server
    from athena_prefect.settings import AthenaSettings

    with tempfile.TemporaryDirectory() as home:
        async with Client(make_server(AthenaSettings(home=Path(home)))) as client:
            return (
                list(await client.list_tools()),
                list(await client.list_resources()),
                list(await client.list_resource_templates()),
                list(await client.list_prompts()),
            )


def page() -> str:
    """The whole page."""
    tools, resources, templates, prompts = asyncio.run(_listed())
    parts = [
        HEAD,
        *(_tool(t) for t in tools),
        "## Resources\n",
        "| address | what | type |",
        "|---|---|---|",
    ]
    for one in [*resources, *templates]:
        address = getattr(one, "uri", None) or one.uri_template
        parts.append(f"| `{address}` | {_line(one.description)} | `{one.mime_type}` |")
    parts += ["\n## Prompts\n", "| name | what |", "|---|---|"]
    parts += [f"| `{p.name}` | {_line(p.description)} |" for p in prompts]
    return "\n".join(parts) + "\n"


def _tool(tool: Any) -> str:
    hints = tool.annotations
    words = ["reads"] if hints.read_only_hint else ["writes"]
    if hints.destructive_hint:
        words.append("changes what is there")
    if hints.idempotent_hint and not hints.read_only_hint:
        words.append("safe to repeat")
    lines = [
        f"## `{tool.name}`\n",
        f"*{tool.title}: {', '.join(words)}.*\n",
        f"{tool.description}\n",
        "| argument | type | |",
        "|---|---|---|",
    ]
    needed = set(tool.input_schema.get("required", ()))
    for name, schema in tool.input_schema["properties"].items():
        told = _line(schema.get("description", ""))
        must = " Needed." if name in needed else ""
        lines.append(f"| `{name}` | {_type(schema)} | {told}{must} |")
    lines += ["\n| answer | type | |", "|---|---|---|"]
    for name, schema in tool.output_schema["properties"].items():
        if name not in ("summary", "truncated"):
            lines.append(f"| `{name}` | {_type(schema)} | {_line(schema.get('description', ''))} |")
    return "\n".join(lines) + "\n"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(s) for s in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and "properties" in schema:
        return "{" + ", ".join(schema["properties"]) + "}"
    if kind == "object":
        more = schema.get("additionalProperties")
        return f"mapping to {_type(more)}" if isinstance(more, dict) and more else "mapping"
    return "moment" if schema.get("format") == "date-time" else kind


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
