"""What the server says of itself, and how its tools behave towards a client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from athena_prefect import service
from athena_prefect.cli.app import run_command
from athena_prefect.mcp import answering
from athena_prefect.mcp.server import KINDS, make_server
from athena_prefect.service.plans import register
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.sql_journal import SqlJournal
from tests.mcp.support import Call, Refused, fastmcp_client

GOLDEN = Path(__file__).parent / "golden"
PREFECTS_OWN = {
    "get_identity", "get_dashboard", "get_deployments", "get_flow_runs", "get_flow_run_logs",
    "get_task_runs", "get_work_pools", "get_automations", "get_flows", "read_events",
    "get_object_schema", "run_deployment_by_name", "delete_deployment", "review_rate_limits",
    "execution_plans_validate",
}  # fmt: skip
"""Tools of Prefect's own MCP server, as its published sources name them."""


def with_client(
    settings: AthenaSettings,
    use: Callable[[Call], Awaitable[Any]],
    *,
    read_only: bool = False,
    **more: Any,
) -> Any:
    """What `use` returns, given a client of a server over `settings`."""

    async def go() -> Any:
        async with fastmcp_client(make_server(settings, read_only=read_only), **more) as call:
            return await use(call)

    return asyncio.run(go())


def listed(settings: AthenaSettings, **more: Any) -> list[dict[str, Any]]:
    """`tools/list`, as it is sent."""

    async def use(call: Call) -> Any:
        tools = await call.client.list_tools()  # type: ignore[attr-defined]
        return [t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in tools]

    found: list[dict[str, Any]] = with_client(settings, use, **more)
    return found


# -- what there is ------------------------------------------------------------------------------


@pytest.mark.parametrize("read_only", [False, True])
def test_tools_list_is_the_contract(read_only: bool, settings: AthenaSettings) -> None:
    """A change is seen here; where it is meant, delete the file and run the test twice."""
    file = GOLDEN / ("tools-read-only.json" if read_only else "tools.json")
    tools = listed(settings, read_only=read_only)
    for tool in tools:
        tool.pop("_meta", None)
    text = json.dumps(tools, indent=1, ensure_ascii=False) + "\n"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        pytest.fail(f"{file.name} was missing and is written anew")
    assert json.loads(file.read_text()) == tools


def test_every_tool_says_what_it_does(settings: AthenaSettings) -> None:
    for tool in listed(settings):
        hints = tool["annotations"]
        assert tool["title"] and len(tool["description"]) > 80
        assert {"readOnlyHint", "destructiveHint", "idempotentHint"} <= hints.keys()
        assert tool["inputSchema"]["additionalProperties"] is False
        output = tool["outputSchema"]
        assert {"summary", "truncated"} <= output["properties"].keys()
        forbidden = {"call", "callable", "module", "path", "file", "sql", "query", "url", "uri"}
        assert not forbidden & set(tool["inputSchema"]["properties"])


def test_read_only_leaves_out_what_writes(settings: AthenaSettings) -> None:
    names = {t["name"] for t in listed(settings, read_only=True)}
    assert names == {k.name for k in KINDS if k.reads}
    assert all(t["annotations"]["readOnlyHint"] for t in listed(settings, read_only=True))

    async def use(call: Call) -> None:
        with pytest.raises(Refused, match="execute_replan") as refused:
            await call("execute_replan", plan_id=1)
        assert refused.value.data["code"] == "unknown_tool"

    with_client(settings, use, read_only=True)


def test_no_name_is_one_of_prefects(settings: AthenaSettings) -> None:
    assert not {k.name for k in KINDS} & PREFECTS_OWN


# -- resources and prompts ----------------------------------------------------------------------


def test_resources(settings: AthenaSettings, plan_id: int) -> None:
    async def use(call: Call) -> None:
        client = call.client  # type: ignore[attr-defined]

        async def read(address: str) -> Any:
            (found,) = await client.read_resource(address)
            return found

        run = (await call("start_execution_monitoring", plan_id=plan_id))["plan_id"]
        runs = json.loads((await read("athena://runs")).text)
        assert [r["plan_id"] for r in runs] == [run]
        plan = json.loads((await read(f"athena://plans/{run}")).text)
        assert plan["name"] == "release" and len(plan["tasks"]) == 8
        forecast = json.loads((await read(f"athena://plans/{run}/forecast")).text)
        assert forecast["status"] == "running" and forecast["tasks"]["t1"] == "waiting"
        report = await read(f"athena://plans/{plan_id}/report")
        assert report.mime_type == "text/html" and "<svg" in report.text
        revisions = json.loads((await read(f"athena://plans/{run}/revisions")).text)
        assert [r["revision"] for r in revisions] == [1]
        for wrong in ("athena://plans/999/forecast", "athena://plans/x", "athena://plans/..%2f"):
            with pytest.raises(Exception) as refused:
                await read(wrong)
            assert "Traceback" not in str(refused.value) and ".py" not in str(refused.value)

    with_client(settings, use)


def test_prompts_name_tools_that_there_are(settings: AthenaSettings) -> None:
    async def use(call: Call) -> None:
        client = call.client  # type: ignore[attr-defined]
        prompts = {p.name: p for p in await client.list_prompts()}
        assert prompts.keys() == {"why_is_it_late", "post_mortem"}
        for name in prompts:
            found = await client.get_prompt(name, {"plan_id": "7"})
            said = found.messages[0].content.text
            assert "athena://plans/7" in said
            named = {w.strip(".,:?") for w in said.split() if "_" in w} - {"plan_id"}
            assert named <= {k.name for k in KINDS}, "each tool that it names is there"

    with_client(settings, use)


# -- asking a person ----------------------------------------------------------------------------

FORK = """
name: fork
deadline: 40s
resources: {cpu: {capacity: 2, cost_per_hour: 3600}}
replanning: {cooldown: 0s, policy: {budget_s: 5}}
tasks:
  - {id: get, duration: 10s, resources: {cpu: 1}}
  - id: clean
    depends_on: [get]
    duration: 20s
    modes: [{name: wide, duration: 5s, resources: {cpu: 2}}]
  - {id: put, depends_on: [{task: clean, kind: soft}, get], duration: 10s}
goals: [clean, put]
"""


@pytest.fixture
def late_run(settings: AthenaSettings, tmp_path: Path) -> int:
    """A run whose first task took twice as long as planned."""
    file = tmp_path / "fork.yaml"
    file.write_text(FORK)
    start = datetime.now(UTC) - timedelta(seconds=21)
    plan_id = register(file, settings=settings).plan_id
    run = service.begin(plan_id, started_at=start, settings=settings).plan_id
    service.record(run, "get", "start", at=start, settings=settings)
    service.record(
        run, "get", "complete", outcome="success", at=start + timedelta(seconds=20),
        settings=settings,
    )  # fmt: skip
    return run


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_person_is_asked_before_a_run_changes(
    mode: str, settings: AthenaSettings, late_run: int
) -> None:
    asked: list[str] = []
    says = {"yes": False}

    async def answers(message: str, *_: Any) -> Any:
        asked.append(message)
        return dict(says)

    async def use(call: Call) -> None:
        options = await call("generate_replanning_options", plan_id=late_run, strategy="full")
        first = options["options"][0]
        choice = {
            "plan_id": late_run, "strategy": "full", "option_id": first["option_id"],
            "revision": 1, "idempotency_key": "k", "title": first["title"],
        }  # fmt: skip
        with pytest.raises(Refused) as refused:
            await call("execute_replan", **choice)
        assert refused.value.data["code"] == "declined"
        assert (await call("get_plan_deviation", plan_id=late_run))["revision"] == 1
        says["yes"] = True
        done = await call("execute_replan", **choice)
        assert done["revision"] == 2
        count = len(asked)
        again = await call("execute_replan", **choice)
        assert again["repeated"] and len(asked) == count, "what is done is not asked about"
        with pytest.raises(Refused) as stale:
            await call("execute_replan", **choice | {"idempotency_key": "other"})
        assert stale.value.data["code"] == "stale_revision" and len(asked) == count

    with_client(settings, use, mode=mode, elicitation_handler=answers)
    assert asked and "Change the run:" in asked[0] and "Cost" in asked[0]


# -- signs of life, and what goes wrong ---------------------------------------------------------


def test_what_takes_long_says_so(
    settings: AthenaSettings, plan_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "QUIET_SECONDS", 0.05)
    slow = service.standing

    def slower(*args: Any, **more: Any) -> Any:
        time.sleep(0.4)
        return slow(*args, **more)

    monkeypatch.setattr(service, "standing", slower, raising=False)
    told: list[str] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(str(message))

    async def use(call: Call) -> None:
        await call("start_execution_monitoring", plan_id=plan_id)
        await call("get_plan_deviation")

    with_client(settings, use, progress_handler=progress)
    assert any("measuring the deviation" in t for t in told)


def test_a_defect_is_told_without_a_trace(
    settings: AthenaSettings,
    plan_id: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    async def use(call: Call) -> None:
        await call("start_execution_monitoring", plan_id=plan_id)
        monkeypatch.setattr(service, "standing", broken, raising=False)
        with pytest.raises(Refused) as refused:
            await call("get_plan_deviation")
        assert refused.value.data["code"] == "internal"
        assert "secret" not in json.dumps(refused.value.data)
        monkeypatch.undo()
        assert (await call("get_plan_deviation"))["status"] == "running"

    with_client(settings, use)
    assert any(r.exc_info and "secret detail" in str(r.exc_info[1]) for r in caplog.records)


def test_errors_say_what_and_where_and_what_is_right(
    settings: AthenaSettings, plan_id: int
) -> None:
    async def use(call: Call) -> None:
        async def refused(name: str, **arguments: Any) -> dict[str, Any]:
            with pytest.raises(Refused) as error:
                await call(name, **arguments)
            return error.value.data

        none = await refused("get_plan_deviation")
        assert (none["code"], none["field"]) == ("unknown_run", "plan_id") and none["right"]
        first = (await call("start_execution_monitoring", plan_id=plan_id))["plan_id"]
        second = (await call("start_execution_monitoring", plan_id=plan_id, key="b"))["plan_id"]
        several = await refused("get_plan_deviation")
        assert sorted(several["candidates"]) == [first, second]
        event = {"plan_id": first, "task_id": "t1", "event_type": "start"}
        wrong = await refused("record_task_event", **event | {"task_id": "t99"})
        assert (wrong["code"], wrong["field"]) == ("unknown_name", "task_id")
        naive = await refused("record_task_event", **event | {"time": "2025-01-01T00:00:00"})
        assert (naive["code"], naive["field"]) == ("invalid_arguments", "time")
        assert "timezone" in naive["message"]
        deep: Any = 1
        for _ in range(20):
            deep = [deep]
        nested = await refused(
            "validate_assumption", plan_id=first, assumption_id="resources_available",
            validation_data={"cpus": deep},
        )  # fmt: skip
        assert nested["field"] == "validation_data" and "deep" in nested["message"]

    with_client(settings, use)


def test_two_clients_choose_for_one_revision(settings: AthenaSettings, late_run: int) -> None:
    from fastmcp import Client

    async def go() -> None:
        server = make_server(settings)
        async with Client(server) as one, Client(make_server(settings)) as other:
            found = await one.call_tool(
                "generate_replanning_options", {"plan_id": late_run, "strategy": "full"}
            )
            titles = [o["title"] for o in found.structured_content["options"]]
            assert len(titles) >= 2
            results = await asyncio.gather(
                *(
                    client.call_tool(
                        "execute_replan",
                        {
                            "plan_id": late_run, "strategy": "full", "option_id": n,
                            "revision": 1, "idempotency_key": f"k{n}", "title": titles[n],
                            "author": f"client {n}",
                        },
                        raise_on_error=False,
                    )
                    for n, client in enumerate((one, other))
                )
            )  # fmt: skip
        won = [r for r in results if not r.is_error]
        lost = [r for r in results if r.is_error]
        assert len(won) == len(lost) == 1
        told = json.loads(lost[0].content[0].text)
        assert told["code"] in ("stale_revision", "input")
        winner = won[0].structured_content
        assert winner["author"] in told["message"] or winner["status"] in told["message"]

    asyncio.run(go())
    row = service.standing(late_run, settings=settings)
    entries = SqlJournal(Database.open(settings)).read(row.status.plan_run)
    kinds = [str(getattr(e.event, "kind", "")) for e in entries]
    assert kinds.count("chosen") == 1


# -- the command --------------------------------------------------------------------------------


def test_without_the_extra_the_command_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("athena_prefect.cli.serving_mcp.find_spec", lambda _: None)
    assert run_command(["mcp"]) == 2
    assert "pip install 'athena-prefect[mcp]'" in capsys.readouterr().err


def test_the_command_refuses_the_world_without_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ATHENA_HOME", str(tmp_path))
    monkeypatch.delenv("ATHENA_MCP_TOKEN", raising=False)
    assert run_command(["mcp", "--http", "0.0.0.0:0"]) == 2
    assert "ATHENA_MCP_TOKEN" in capsys.readouterr().err
