"""Plan runs end to end: runners, secrets, shared limits, resources, leases, inputs."""

from __future__ import annotations

import itertools
import re
import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from athena_prefect.errors import CallableError, LeaseHeldError, ParameterError
from athena_prefect.journal.state import Status
from athena_prefect.plan.document import dump
from athena_prefect.runtime.compiler import compile_plan
from athena_prefect.settings import AthenaSettings
from tests.chaos.support import start
from tests.runtime.support import PROJECT, Run, plan_of, run

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def test_a_process_runner_records_as_threads_do(prefect_api: str, tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "numbers", "call": "numbers"},
        {"id": "square", "call": "square", "inputs": {"x": "numbers"}, "map_over": "x"},
        {"id": "total", "call": "total", "inputs": {"xs": "square"}},
        {"id": "fail", "call": "fail", "retries": 1},
        name="in-processes",
        runner={"kind": "processes", "max_workers": 2},
        goals=["total"],
    )
    path, plan_run = tmp_path / "plan.yaml", uuid4()
    dump(plan, path)
    # In a process of its own: Prefect's threads beside a pool see the server of the
    # environment, not the one that this session's context names.
    output, errors = start(path, plan_run, PREFECT_API_URL=prefect_api).communicate(timeout=300)
    assert output.startswith("COMPLETED"), output + errors
    done = Run(plan, plan_run, None)
    assert done.value("total") == 14
    assert [a.outcome for a in done.state.task("fail").attempts] == ["failure", "failure"]


def test_a_failed_goal_fails_the_flow_and_says_why() -> None:
    done = run(
        plan_of(
            {"id": "fail", "call": "fail"},
            {"id": "after", "call": "one", "depends_on": ["fail"]},
        )
    )
    assert done.final.is_failed()
    assert (
        done.final.message == "fail failed: ValueError: as it must; after is blocked: fail failed"
    )
    assert done.state.end_status == "failed"


def everything_written(home: Path) -> str:
    text = ""
    for path in sorted(home.rglob("*")):
        if path.is_file():
            text += path.read_bytes().decode("latin-1")
    return text


def test_a_secret_is_used_and_never_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    word = "correct-horse-battery-staple"
    monkeypatch.setenv("ATHENA_SECRET_DB_PASSWORD", word)
    password = {"password": "{{ secret.db-password }}"}
    done = run(
        plan_of(
            {"id": "in", "call": "log_in", "with": password},
            {"id": "leak", "call": "leak", "with": password},
            {"id": "apart", "call": "leak", "with": password, "isolation": "process"},
            goals=["in"],
        )
    )
    assert done.value("in") == f"logged in with {len(word)} characters"
    reasons = [done.state.task(t).attempts[0].data["reason"] for t in ("leak", "apart")]
    assert all("********" in r for r in reasons)
    assert word not in everything_written(AthenaSettings().home)
    assert word not in caplog.text


def test_a_missing_secret_names_the_remedy() -> None:
    done = run(plan_of({"id": "in", "call": "log_in", "with": {"password": "{{ secret.nope }}"}}))
    assert "ATHENA_SECRET_NOPE" in done.final.message


def test_a_calls_arguments_are_checked_before_anything_starts() -> None:
    plan = plan_of({"id": "a", "call": "one"}, {"id": "b", "call": "hang", "with": {"secs": 3}})
    with pytest.raises(ParameterError, match=r"'b'.*secs"):
        run(plan).final.result()
    unknown = plan_of({"id": "a", "call": "oen"})
    with pytest.raises(CallableError, match="oen"):
        run(unknown).final.result()


def test_resources_are_never_taken_beyond_their_capacity() -> None:
    names = [f"t{i}" for i in range(6)]
    plan = plan_of(
        *(
            {"id": n, "call": "hang", "with": {"seconds": 0.05}, "resources": {"cpu": 0.7}}
            for n in names
        ),
        resources={"cpu": {"capacity": 1.4}},
    )
    state = run(plan).state
    spans = [(a.started, a.ended) for n in names for a in state.task(n).attempts]
    for began, _ in spans:
        assert began is not None
        together = sum(s <= began < e for s, e in spans if s is not None and e is not None)
        assert together <= 2
    waited = [state.task(n) for n in names]
    assert sum(t.ready is not None and t.ready < t.attempts[0].started for t in waited) >= 4  # type: ignore[operator]


def test_a_shared_limit_holds_back_and_is_given_back() -> None:
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name="warehouse", limit=1)
        )
        plan = plan_of(
            *(
                {"id": f"t{i}", "call": "hang", "with": {"seconds": 0.1}, "resources": {"db": 1}}
                for i in range(3)
            ),
            resources={"db": {"capacity": 3, "concurrency_limit": "warehouse"}},
        )
        done = run(plan)
        assert done.final.is_completed()
        spans = sorted(
            (a.started, a.ended) for i in range(3) for a in done.state.task(f"t{i}").attempts
        )
        assert all(e <= s for (_, e), (s, _) in itertools.pairwise(spans))  # type: ignore[operator]
        limit = client.read_global_concurrency_limit_by_name("warehouse")
        assert limit.active_slots == 0


def test_a_limit_that_can_never_be_had_ends_the_plan_with_the_reason() -> None:
    done = run(
        plan_of(
            {"id": "a", "call": "one", "resources": {"db": 1}},
            resources={"db": {"capacity": 1, "concurrency_limit": "no-such-limit"}},
        )
    )
    assert done.final.is_failed()
    assert "prefect gcl create no-such-limit" in done.final.message


def test_a_plan_runs_once_at_a_time() -> None:
    from datetime import timedelta

    from athena_prefect.storage.db import Database
    from athena_prefect.storage.lease import Leases

    plan_run = uuid4()
    leases = Leases(Database.open(AthenaSettings()))
    held = leases.acquire(plan_run, "somebody else", ttl=timedelta(minutes=5))
    plan = plan_of({"id": "a", "call": "one"})
    done = run(plan, plan_run)
    with pytest.raises(LeaseHeldError, match="somebody else"):
        done.final.result()
    assert not done.state.tasks
    leases.release(held)
    assert run(plan, plan_run).final.is_completed()


def test_parameters_are_typed_and_reach_the_call() -> None:
    plan = plan_of(
        {"id": "a", "call": "square", "with": {"x": "{{ parameters.x }}"}},
        parameters={"x": {"type": "integer", "default": 3}},
    )
    assert run(plan).value("a") == 9
    assert run(plan, x=5).value("a") == 25
    schema = compile_plan(plan, root=PROJECT).parameters.properties
    assert schema["x"]["type"] == "integer"
    assert schema["x"]["default"] == 3


def test_a_run_without_a_given_id_takes_its_flow_runs() -> None:
    plan = plan_of({"id": "a", "call": "token"})
    final: Any = compile_plan(plan, root=PROJECT)(return_state=True)
    done = Run(plan, final.state_details.flow_run_id, final)
    assert done.state.status("a") is Status.SUCCESS
    assert UUID(done.value("a"))


def test_execution_records_are_in_the_table() -> None:
    done = run(
        plan_of(
            {"id": "a", "call": "facts"}, {"id": "b", "call": "fail", "retries": 1}, goals=["a"]
        )
    )
    path = AthenaSettings().database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "select task_id, attempt, outcome from execution_records where plan_run in (?, ?) "
            "order by task_id, attempt",
            (done.plan_run.hex, str(done.plan_run)),
        ).fetchall()
    assert rows == [("a", 1, "success"), ("b", 1, "failure"), ("b", 2, "failure")]


def test_the_flows_log_has_no_line_about_our_hooks(caplog: pytest.LogCaptureFixture) -> None:
    run(plan_of({"id": "a", "call": "one"}))
    assert not re.search("athena_record", caplog.text)


def run_slow_once(capacity: int) -> Run:
    """A run of one task whose first body takes two and a half times its time-out."""
    slow = {
        "id": "slow",
        "call": "slow_once",
        "with": {"name": str(uuid4())},
        "timeout": "2s",  # enough for the second on a busy machine, too
        "retries": 1,
        "rerunnable": True,
        "resources": {"cpu": 1},
    }
    return run(plan_of(slow, resources={"cpu": {"capacity": capacity}}))


def test_a_rerunnable_task_is_tried_again_beside_its_overdue_body() -> None:
    done = run_slow_once(capacity=2)
    assert done.final.is_completed()
    attempts = done.state.task("slow").attempts
    assert [a.state_name for a in attempts] == ["TimedOut", "Completed"]
    assert done.value("slow") == 2


def test_a_rerunnable_task_waits_for_the_resources_that_its_overdue_body_keeps() -> None:
    first, second = run_slow_once(capacity=1).state.task("slow").attempts
    assert first.started is not None
    assert second.started is not None
    assert (second.started - first.started).total_seconds() >= 5.0
