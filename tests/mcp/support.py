"""Clients of both kinds over every transport, and the whole lifecycle as an agent meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from athena_prefect.settings import AthenaSettings
from tests.fixtures.plans import RELEASE as RELEASE

HOUR = timedelta(hours=1)

Call = Callable[..., Awaitable[dict[str, Any]]]
"""A tool by its name and arguments; what it answers, errors included."""


class Refused(Exception):
    """A tool answered with an error."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data["message"])
        self.data = data


def answer(is_error: bool, structured: Any, content: Any) -> dict[str, Any]:
    """What a tool answered. Raises Refused."""
    if is_error:
        data = json.loads(content[0].text)
        assert structured is None or structured == data
        assert {"code", "field", "message", "right"} <= data.keys()
        raise Refused(data)
    assert isinstance(structured, dict) and structured["summary"]
    return structured


def environment(settings: AthenaSettings, **more: str) -> dict[str, str]:
    """What a server's process is given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATHENA_", "PREFECT_"))}
    return kept | {"ATHENA_HOME": str(settings.home)} | more


ATHENA = (sys.executable, "-m", "athena_prefect.cli", "mcp")


@contextmanager
def http_server(settings: AthenaSettings, *options: str, token: str = "") -> Iterator[str]:
    """A server of its own process on a free port; its URL."""
    more = {"ATHENA_MCP_TOKEN": token} if token else {}
    process = subprocess.Popen(
        [*ATHENA, "--http", "127.0.0.1:0", *options],
        env=environment(settings, **more),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("athena mcp: http://"), line + process.stderr.read()
        yield line.removeprefix("athena mcp: ").strip()
        assert process.poll() is None, "the server goes on"
    finally:
        process.terminate()
        process.communicate(timeout=30)


@asynccontextmanager
async def fastmcp_client(transport: Any, **more: Any) -> AsyncIterator[Call]:
    """fastmcp's client."""
    from fastmcp import Client

    async with Client(transport, **more) as client:

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(name, arguments, raise_on_error=False)
            return answer(result.is_error, result.structured_content, result.content)

        call.client = client  # type: ignore[attr-defined]
        yield call


@asynccontextmanager
async def reference_client(transport: Any, **more: Any) -> AsyncIterator[Call]:
    """The client of the reference SDK."""
    from mcp.client.client import Client

    async with Client(transport, **more) as client:

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(name, arguments)
            return answer(bool(result.is_error), result.structured_content, result.content)

        call.client = client  # type: ignore[attr-defined]
        yield call


async def lifecycle(call: Call, plan_id: int) -> None:
    """The specification's lifecycle for a plan outside Prefect: its second scenario."""
    # The scenario's 13.5 h lie a moment in the past, so that its figures hold now.
    start = datetime.now(UTC) - 13.5 * HOUR - timedelta(seconds=30)

    def at(hours: float) -> str:
        return (start + hours * HOUR).isoformat()

    begun = await call("start_execution_monitoring", plan_id=plan_id, time=at(0))
    assert begun["new"] and begun["recorded_by"].startswith("callers")
    run = begun["plan_id"]
    for task, began, ended in (("t1", 0, 2), ("t2", 2, 4), ("t3", 4, 7), ("t4", 7, 13.5)):
        await call(
            "record_task_event", plan_id=run, task_id=task, event_type="start", time=at(began)
        )
        told = await call(
            "record_task_event", plan_id=run, task_id=task, event_type="complete",
            outcome="success", actual_duration=(ended - began) * 3600.0, key=f"end-{task}",
            resources_used={"cpu": 3},
        )  # fmt: skip
        assert told["record"]["actual_duration"] == (ended - began) * 3600.0
    deviation = await call("get_plan_deviation")
    assert deviation["completed_tasks"] == 4 and 5400 <= deviation["time_deviation"] < 5600
    found = await call(
        "validate_assumption", plan_id=run, assumption_id="resources_available",
        validation_data={"cpus": 5}, validation_method="external",
    )  # fmt: skip
    assert found["valid"] is False and found["violations"][0]["replanning_required"]
    need = await call("check_replanning_need", plan_id=run)
    assert need["replanning_needed"] and need["strategy"] == "segment" and need["reasons"]
    options = await call("generate_replanning_options", plan_id=run)
    best = options["options"][options["recommended_option"]]
    assert options["strategy"] == "segment" and options["revision"] == 1
    choice = {
        "plan_id": run, "strategy": options["strategy"], "option_id": best["option_id"],
        "revision": 1, "title": best["title"], "idempotency_key": "the-choice", "author": "Ada",
    }  # fmt: skip
    done = await call("execute_replan", **choice)
    assert done["executed"] and done["revision"] == 2 and done["changes"] and not done["repeated"]
    assert (await call("execute_replan", **choice))["repeated"]
    with pytest.raises(Refused, match="Ada") as refused:
        await call("execute_replan", **(choice | {"idempotency_key": "another"}))
    assert refused.value.data["code"] == "stale_revision"
    after = await call("get_plan_deviation", plan_id=plan_id)
    assert after["revision"] == 2 and after["plan_id"] == done["plan_id"]
    for task in ("t5", "t7", "t6", "t8"):
        await call("record_task_event", plan_id=run, task_id=task, event_type="start")
        told = await call(
            "record_task_event", plan_id=run, task_id=task, event_type="complete", outcome="success"
        )
    assert told["status"] == "completed"
