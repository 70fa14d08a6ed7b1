"""Going on: Prefect's own retry, lost results, deployments run as tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry

from athena_prefect.journal.state import Status
from athena_prefect.runtime.compiler import compile_plan
from athena_prefect.runtime.reconcile import CARRIED, task_runs_of
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import PROJECT, Run, plan_of, run

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def retried(flow: Flow[..., Any], flow_run_id: UUID) -> Any:
    """Run the same flow run again, as a worker does after Retry in the UI."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)
        again = client.read_flow_run(flow_run_id)
    return run_flow(flow, flow_run=again, parameters={}, return_type="state")


def test_prefects_retry_goes_on_where_the_journal_ends(tmp_path: Path) -> None:
    folder = str(tmp_path)
    plan = plan_of(
        {"id": "numbers", "call": "numbers"},
        {"id": "token", "call": "token"},
        {
            "id": "flaky",
            "call": "third_time",
            "with": {"folder": folder},
            "depends_on": ["numbers"],
        },
        {"id": "total", "call": "total", "inputs": {"xs": "numbers"}, "depends_on": ["flaky"]},
    )
    flow = compile_plan(plan, root=PROJECT)
    first: Any = flow(return_state=True)
    assert first.is_failed()
    plan_run = first.state_details.flow_run_id
    token = Run(plan, plan_run, first).value("token")
    assert retried(flow, plan_run).is_failed()
    last = retried(flow, plan_run)
    assert last.is_completed()
    done = Run(plan, plan_run, last)
    assert len(done.state.task("numbers").attempts) == 1
    assert [a.outcome for a in done.state.task("flaky").attempts] == ["failure"] * 2 + ["success"]
    assert done.value("total") == 6
    assert done.value("token") == token
    assert len(done.state.resumed) == 2


def test_finished_work_is_shown_as_carried(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "numbers", "call": "numbers"},
        {"id": "square", "call": "square", "inputs": {"x": "numbers"}, "map_over": "x"},
        {"id": "flaky", "call": "third_time", "with": {"folder": str(tmp_path)}, "retries": 1},
        {"id": "total", "call": "total", "inputs": {"xs": "square"}, "depends_on": ["flaky"]},
    )
    plan_run = uuid4()
    assert run(plan, plan_run).final.is_failed()
    done = run(plan, plan_run)
    assert done.final.is_completed()
    assert done.value("total") == 1 + 4 + 9
    wanted = {"numbers", "square[0]", "square[1]", "square[2]"}
    with get_client(sync_client=True) as client:
        found: dict[str, Any] = {}
        for _ in range(2400):  # records reach the API behind the run's back
            runs = list(task_runs_of(client, [done.final.state_details.flow_run_id]))
            found = {r.name: r for r in runs}
            if "total" in found:
                break
            time.sleep(0.1)
    assert {n for n, r in found.items() if r.state.name == CARRIED} == wanted
    names = {r.id: n for n, r in found.items()}
    edges = {
        names[i.id]
        for given in found["total"].task_inputs.values()
        for i in given
        if getattr(i, "id", None) in names
    }
    assert {"square[0]", "square[1]", "square[2]", "flaky"} <= edges


def test_parameters_keep_their_types_over_a_resume(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "flaky", "call": "third_time", "with": {"folder": str(tmp_path)}, "retries": 1},
        {
            "id": "kinds",
            "call": "kinds",
            "with": {"day": "{{ parameters.day }}", "wait": "{{ parameters.wait }}"},
            "depends_on": ["flaky"],
        },
        parameters={
            "day": {"type": "date", "default": "2026-11-01"},
            "wait": {"type": "duration", "default": "90s"},
        },
    )
    plan_run = uuid4()
    assert run(plan, plan_run).final.is_failed()
    done = run(plan, plan_run)
    assert done.final.is_completed()
    assert done.value("kinds") == ["date", "timedelta"]


@pytest.mark.parametrize("rerunnable", [True, False])
def test_a_lost_result_is_made_again_only_where_the_plan_allows(
    tmp_path: Path, rerunnable: bool
) -> None:
    plan = plan_of(
        {"id": "numbers", "call": "numbers", "rerunnable": rerunnable},
        {
            "id": "flaky",
            "call": "third_time",
            "with": {"folder": str(tmp_path)},
            "depends_on": ["numbers"],
            "retries": 1,
        },
        {"id": "total", "call": "total", "inputs": {"xs": "numbers"}, "depends_on": ["flaky"]},
    )
    plan_run = uuid4()
    first = run(plan, plan_run)
    kept = first.state.task("numbers").in_force
    assert kept is not None
    assert kept.result_key is not None
    path = recording_of(AthenaSettings(), plan).results / kept.result_key
    path.write_bytes(path.read_bytes()[:-3])
    done = run(plan, plan_run)
    numbers = done.state.task("numbers")
    if rerunnable:
        assert done.final.is_completed()
        assert [a.outcome for a in numbers.attempts] == ["success", "success"]
        assert len(numbers.invalidated) == 1
        assert done.value("total") == 6
    else:
        assert done.final.is_failed()
        assert "not rerunnable" in done.final.message
        assert len(numbers.attempts) == 1
        assert done.state.status("total") is Status.BLOCKED


@pytest.fixture(scope="module")
def served(prefect_api: str) -> Iterator[str]:
    """A deployment that a process serves."""
    process = subprocess.Popen(
        [sys.executable, "served.py"],
        cwd=PROJECT,
        env={**os.environ, "PREFECT_API_URL": prefect_api},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with get_client(sync_client=True) as client:
            for _ in range(2400):
                try:
                    client.read_deployment_by_name("other/served")
                    break
                except ObjectNotFound:
                    assert process.poll() is None
                    time.sleep(0.1)
        yield "other/served"
    finally:
        process.terminate()
        process.wait(120)


def test_a_deployment_runs_as_a_task(served: str) -> None:
    done = run(
        plan_of(
            {"id": "other", "deployment": served, "with": {"x": 5}},
            {"id": "bad", "deployment": served, "with": {"fail": True}},
            {"id": "after", "call": "one", "depends_on": ["other"]},
            goals=["after"],
        )
    )
    assert done.final.is_completed()
    assert done.value("other")["state"] == "Completed"
    failed = done.state.task("bad").attempts[0]
    assert "the other flow fails" in failed.data["reason"]
    with get_client(sync_client=True) as client:
        child = client.read_flow_run(UUID(done.value("other")["flow_run_id"]))
    assert child.parameters["x"] == 5
