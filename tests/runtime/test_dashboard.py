"""The artifacts of a run: current, few, and with the database's figures; names and tags."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.runtime.dashboard import KINDS, Board, Boards, artifact_key, publish
from athena_prefect.runtime.naming import name_flow_run, run_name, service_run_name
from athena_prefect.service import open_run
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import Run, plan_of, run

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


def artifacts(flow_run: UUID) -> dict[str, Any]:
    """The flow run's artifacts by kind."""
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
    assert all(a.key for a in found)
    return {str(a.key).rpartition("-")[2]: a for a in found}


def flow_run_of(done: Run) -> UUID:
    return UUID(done.state.run_data["flow_run_id"])


@pytest.mark.prefect
def test_a_run_leaves_five_artifacts_with_the_figures_of_its_journal(prefect_api: str) -> None:
    plan = plan_of(
        {"id": "a", "call": "one", "duration": "10ms"},
        {"id": "b", "call": "fail", "duration": "10ms", "depends_on": ["a"]},
        {"id": "c", "call": "one", "duration": "10ms", "depends_on": ["b"]},
        name="shown_plan",
        deadline="1h",
        assumptions=[
            {"id": "memory", "check": {"kind": "memory", "unit": "B"}, "expected_value": 1,
             "milestones": [{"at": "start"}]},
        ],
    )  # fmt: skip
    done = run(plan)
    found = artifacts(flow_run_of(done))
    # A sixth, where that there is no way on was said before the run had ended.
    found.pop("replanning", None)
    kinds = {k: t for k, t in KINDS.items() if k != "replanning"}
    assert {k: a.type for k, a in found.items()} == kinds
    seen = found["assumptions"].data
    (assumed,) = json.loads(seen) if isinstance(seen, str) else seen
    # Unknown where so short a run was over before the check was.
    last = done.state.checks["memory"][-1].verdict
    assert last in ("holds", "unknown")
    assert (assumed["assumption"], assumed["verdict"]) == ("memory", last)
    # A failed run is shown as it ended, not as it last was while it ran.
    status = open_run(str(done.plan_run), settings=AthenaSettings()).status()
    text = str(found["status"].data)
    assert text.startswith("## Failed after ")
    assert "**1 of 3 tasks** (33 %)" in text
    assert float(str(found["progress"].data)) == 33.3
    assert status.deviation is not None
    assert f"**{status.deviation.deviation_severity}**" in text
    assert "| `b` | failure |" in text
    assert "| `c` | blocked |" in text
    for kind in ("gantt", "tasks", "progress"):
        assert f"/artifacts/artifact/{found[kind].id}" in text
    table = found["tasks"].data
    rows = json.loads(table) if isinstance(table, str) else table
    assert [(r["task"], r["status"]) for r in rows] == [
        ("a", "success"), ("b", "failure"), ("c", "blocked"),
    ]  # fmt: skip
    picture = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", str(found["gantt"].data))
    assert picture is not None
    drawn = ElementTree.fromstring(base64.b64decode(picture[1]))
    assert drawn.tag.endswith("svg")
    assert {"a", "b", "c"} <= {e.text for e in drawn.iter() if e.tag.endswith("text")}


@pytest.mark.prefect
def test_one_run_has_one_set_of_artifacts_whoever_publishes(prefect_api: str) -> None:
    done = run(plan_of({"id": "a", "call": "one"}))
    before = artifacts(flow_run_of(done))
    status = open_run(str(done.plan_run), settings=AthenaSettings()).status()
    with get_client(sync_client=True) as client:
        ids = publish(status, client=client)
        board = Board(client, flow_run_of(done))
        board.publish(status)
        assert board.publish(status) == 0, "what has not changed was written again"
    assert dict(ids) == board.ids == {k: a.id for k, a in before.items()}
    assert artifacts(flow_run_of(done)).keys() == before.keys()


def test_a_server_that_does_not_answer_fails_nobody_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Dead:
        def __getattr__(self, name: str) -> Any:
            raise httpx.ConnectError("refused")

    plan = plan_of({"id": "a", "call": "one", "duration": "1m"})
    journal = MemoryJournal()
    plan_run = uuid4()
    journal.append(RunEvent(plan_run=plan_run, kind=RunEventKind.STARTED, at=T0, source=""))
    shown = SimpleNamespace(plan=plan, plan_run=plan_run, flow_run_id=uuid4())
    dead: Any = Dead()
    boards = Boards(run=shown, journal=journal, client=dead, clock=lambda: T0)
    with caplog.at_level(logging.INFO):
        boards.publish()
        boards.publish()
        boards.publish_if_due()  # not due: it has just been tried
    assert len(caplog.records) == 1
    assert "not up to date" in caplog.text


def test_keys_are_ones_that_prefect_takes_and_namespaces_keep_apart() -> None:
    assert artifact_key("Environment_Audit.v2", "status") == "environment-audit-v2-status"
    assert artifact_key("a", "gantt", "prod") == "a-prod-gantt"


@pytest.mark.prefect
def test_a_run_is_named_for_its_plan_day_and_number_and_a_given_name_stays(
    prefect_api: str,
) -> None:
    done = run(plan_of({"id": "a", "call": "hang", "with": {"seconds": 1.5}}, name="named-plan"))
    again = run(plan_of({"id": "a", "call": "hang", "with": {"seconds": 1.5}}, name="named-plan"))
    day = str(again.state.run_data["logical_date"])[:10]
    with get_client(sync_client=True) as client:
        first, second = (client.read_flow_run(flow_run_of(r)) for r in (done, again))
        assert second.name == f"named-plan {day} #2"
        assert {"plan:named-plan", "revision:1"} <= set(first.tags)
        client.update_flow_run(first.id, name="my own")
        mine = client.read_flow_run(first.id)
        name_flow_run(client, mine, plan="named-plan", revision=3, date=T0, number=9)
        mine = client.read_flow_run(first.id)
        assert mine.name == "my own"
        assert sorted(mine.tags) == ["plan:named-plan", "revision:3"]
    assert run_name("p", T0, 4) == "p 2026-01-05 #4"
    assert run_name("p", T0, 4, revision=2) == "p 2026-01-05 #4, revision 2"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("learn", {"plan": "orders"}, "learn orders"),
        ("replan", {"plan_run": "0d0a6f45-593d-45bb-b1a7-5684b00057be"}, "replan 0d0a6f45"),
        (
            "check-assumption",
            {"plan": "deployments/orders/plan.yaml", "assumption": "disk_free"},
            "check disk_free of orders",
        ),
        ("watch-plan", {}, r"watch-plan \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    ],
)
def test_runs_of_the_projects_own_flows_say_what_they_are_about(
    name: str, parameters: dict[str, str], expected: str
) -> None:
    @flow(name=name, flow_run_name=service_run_name, validate_parameters=False)
    def body(
        plan: str | None = None, plan_run: str | None = None, assumption: str | None = None
    ) -> str:
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        return str(context.flow_run.name)

    assert re.fullmatch(expected, body(**parameters))


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_dashboards_are_no_events_and_no_errors_of_a_process_that_ends(tmp_path: Path) -> None:
    """A flow in a process of its own, whose last words come when its interpreter is ending."""
    words = (
        "from tests.runtime.support import PROJECT, plan_of\n"
        "from athena_prefect.runtime.compiler import compile_plan\n"
        "plan = plan_of({'id': 'a', 'call': 'one'}, name='last-words')\n"
        f"compile_plan(plan, root=PROJECT)(plan_run={str(uuid4())!r})\n"
    )
    settings = get_current_settings()
    done = subprocess.run(
        [sys.executable, "-c", words],
        env={
            **os.environ,
            "PREFECT_API_URL": str(settings.api.url),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "ATHENA_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Finished in state Completed" in done.stderr
    assert "Error emitting event" not in done.stderr
    assert "Traceback" not in done.stderr
