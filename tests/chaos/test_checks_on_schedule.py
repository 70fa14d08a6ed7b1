"""An assumption of a deployed plan, checked by its schedule on a server with a process worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.check_schedules import read_schedules
from athena_prefect.runtime.recorder import recording_of
from tests.chaos.deployed import Installation, wait_for

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("ATHENA_SLOW_TESTS"), reason="takes minutes: set ATHENA_SLOW_TESTS=1"
    ),
]

FREQUENCY = timedelta(seconds=60)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    try:
        made.start_server()
        made.start_worker()
        with made.client() as client:
            wait_for("the work pool", lambda: client.read_work_pools())
        yield made
    finally:
        made.close()


def test_three_times_in_a_row_and_a_violation_is_told_in_time(
    installation: Installation, tmp_path: Path
) -> None:
    flag, go = tmp_path / "flag", tmp_path / "go"
    flag.touch()
    document = {
        "replanning": {"decide": "off"},  # on a busy machine it takes longer than is planned
        "tasks": [
            {"id": "long", "call": "deeds:wait_for_file", "duration": "10m",
             "with": {"path": str(go), "seconds": 900}},
        ],
        "assumptions": [
            {"id": "flag", "validation_frequency": "60s", "affects": ["long"],
             "check": {"kind": "file_exists", "path": str(flag)}},
        ],
    }  # fmt: skip
    file = installation.write("scheduled-checks", document)
    installation.deploy(file)
    plan = Plan.load(file)
    journal = recording_of(installation.settings, plan).open_journal()
    with installation.client() as client:
        (schedule,) = read_schedules(client, "default")
        assert not schedule.active, "no run lives yet"
        deployment = client.read_deployment_by_name(f"{plan.name}/{plan.name}")
        run = client.create_flow_run_from_deployment(deployment.id).id

        def state() -> ExecutionState:
            return fold_entries(journal.read(UUID(str(run))))

        def by_schedule() -> list[CheckEvent]:
            known = state().checks.get("flag", ())
            return [c for c in known if c.check_id.startswith("scheduled|")]

        wait_for("the schedule", lambda: read_schedules(client, "default")[0].active)
        wait_for("three checks", lambda: len(by_schedule()) >= 3, 600)
        flag.unlink()
        gone = datetime.now(UTC)
        told = wait_for("the event", lambda: violations(client, plan.name), 300)
        late = (datetime.fromisoformat(told[0]["received"]) - gone).total_seconds()
        print(f"told {late:.1f} s after it was violated")
        go.touch()
        wait_for("the end", lambda: state().end_status == "completed")
        wait_for("its pause", lambda: not read_schedules(client, "default")[0].active)
        chosen = FlowRunFilter(tags=FlowRunFilterTags(all_=["athena-check:runs"]))
        checks = client.read_flow_runs(flow_run_filter=chosen, limit=200)
    assert late <= (FREQUENCY + timedelta(seconds=60)).total_seconds()
    known = sorted(state().checks["flag"], key=lambda c: c.at)
    assert [c.check_id.partition("|")[0] for c in known[:4]] == ["timed"] + ["scheduled"] * 3, (
        "the first beside the run, then by its schedule and by nobody else"
    )
    assert [c.verdict for c in known[:4]] == ["holds"] * 4
    assert {c.check_id.partition("|")[0] for c in known[1:]} == {"scheduled"}
    done = [r for r in checks if r.state and r.state.is_completed()]
    assert len(done) >= 4
    gaps = [(b.at - a.at).total_seconds() for a, b in pairwise(known[1:])]
    print(f"scheduled checks {gaps} s apart")


def violations(client: Any, plan: str) -> list[dict[str, Any]]:
    """The events of a violated assumption of the plan."""
    wanted = {
        "filter": {
            "event": {"name": ["athena.assumption.violated"]},
            "resource": {"id": [f"athena.plan.{plan}"]},
        }
    }
    time.sleep(0.5)
    found: list[dict[str, Any]] = client.request("POST", "/events/filter", json=wanted).json()[
        "events"
    ]
    return found
