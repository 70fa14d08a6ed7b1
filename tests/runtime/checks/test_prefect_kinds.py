"""Checks of what Prefect knows, against a real server; and servers that are none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Running, Scheduled
from pydantic import SecretStr

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.making import Made, make
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.runtime.blocks import AthenaDatabase
from tests.assumptions.checks.web import Reply, serving

pytestmark = pytest.mark.prefect


@flow
def nightly() -> None:
    """Never run here: its deployment's runs are set to their states."""


def seen(kind: str, **options: Any) -> Made:
    return make(kind_named(kind).model_validate(options), CheckContext(now=datetime.now(UTC)))


def value(kind: str, **options: Any) -> Any:
    made = seen(kind, **options)
    assert made.observation is not None, made.error
    return made.observation.value


@pytest.fixture(scope="module")
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as made:
        yield made


def asked(client: SyncPrefectClient, verb: Any, path: Any, body: Any) -> Any:
    """What the server answers."""
    answer = client.request(verb, path, json=body)
    return answer.json() if answer.content else None


def run_in(client: SyncPrefectClient, deployment: Any, *states: State[Any]) -> Any:
    """A run of the deployment that went through the states."""
    made = client.create_flow_run_from_deployment(deployment, state=states[0])
    for state in states[1:]:
        client.set_flow_run_state(made.id, state, force=True)
    return made


def deploy(client: SyncPrefectClient, name: str, pool: str) -> Any:
    flow_id = client.create_flow_from_name("nightly")
    body = {"name": name, "flow_id": str(flow_id), "work_pool_name": pool, "entrypoint": "a.py:f"}
    return asked(client, "POST", "/deployments/", body)["id"]


def pool_of(client: SyncPrefectClient, name: str, limit: int | None) -> str:
    body = {"name": name, "type": "process", "concurrency_limit": limit}
    asked(client, "POST", "/work_pools/", body)
    return name


def test_a_work_pool(client: SyncPrefectClient) -> None:
    pool = pool_of(client, "kinds-pool", 3)
    empty = {"workers": 0, "late": 0, "free": 3, "paused": False}
    assert value("work_pool", pool=pool) == empty
    deployment = deploy(client, "in-pool", pool)
    now = datetime.now(UTC)
    run_in(client, deployment, Scheduled(scheduled_time=now - timedelta(minutes=2)))
    run_in(client, deployment, Scheduled(scheduled_time=now + timedelta(hours=2)))
    run_in(client, deployment, Running())
    for worker in ("one", "two"):
        body = {"name": worker, "heartbeat_interval_seconds": 60}
        asked(client, "POST", f"/work_pools/{pool}/workers/heartbeat", body)
    full = {"workers": 2, "late": 1, "free": 2, "paused": False}
    assert value("work_pool", pool=pool) == full
    assert value("work_pool", pool=pool, late_after="10m")["late"] == 0
    assert value("work_pool", pool=pool, queue="default")["late"] == 1
    assert value("work_pool", pool=pool, queue="default")["free"] is None
    assert "knows no such work pool 'none'" in seen("work_pool", pool="none").error
    assert "queue 'none'" in seen("work_pool", pool=pool, queue="none").error


def test_a_worker_that_runs(client: SyncPrefectClient, prefect_api: str, tmp_path: Path) -> None:
    pool = pool_of(client, "worker-pool", None)
    command = ["-m", "prefect", "worker", "start", "--pool", pool, "--name", "real"]
    environment = {**os.environ, "PREFECT_API_URL": prefect_api}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=log, stderr=log, cwd=tmp_path
        )
    try:
        for _ in range(240):
            if worker.poll() is not None or value("work_pool", pool=pool)["workers"]:
                break
            time.sleep(0.5)
        assert value("work_pool", pool=pool)["workers"] == 1, (tmp_path / "log").read_text()
    finally:
        worker.terminate()
        worker.wait(60)


def test_the_last_success_of_a_deployment(client: SyncPrefectClient) -> None:
    pool = pool_of(client, "success-pool", None)
    deployment = deploy(client, "main", pool)
    name = "nightly/main"
    never = seen("deployment_success", deployment=name).observation
    assert never is not None and never.value == {"age": None, "succeeded": None}
    run_in(client, deployment, Running(), Failed())
    assert value("deployment_success", deployment=name) == {"age": None, "succeeded": False}
    run_in(client, deployment, Running(), Completed())
    after = value("deployment_success", deployment=name)
    assert after["succeeded"] is True and 0 <= after["age"] < 60
    run_in(client, deployment, Running(), Completed(name="Superseded"))
    assert value("deployment_success", deployment=name)["succeeded"] is True
    run_in(client, deployment, Running(), Cancelled())
    later = value("deployment_success", deployment=name)
    assert later["succeeded"] is False and later["age"] >= after["age"]
    assert "knows no such deployment" in seen("deployment_success", deployment="a/b").error


def test_a_variable(client: SyncPrefectClient) -> None:
    for name, content in (("kinds_text", "open"), ("kinds_map", {"a": 1}), ("kinds_null", None)):
        asked(client, "POST", "/variables/", {"name": name, "value": content})
    assert value("variable", name="kinds_text") == "open"
    assert value("variable", name="kinds_map") == {"a": 1}
    assert "is null" in seen("variable", name="kinds_null").error
    assert "no such variable 'kinds_none'" in seen("variable", name="kinds_none").error


def test_a_concurrency_limit(client: SyncPrefectClient) -> None:
    body = {"name": "kinds-limit", "limit": 3, "active_slots": 1}
    made = asked(client, "POST", "/v2/concurrency_limits/", body)
    assert value("concurrency_limit", name="kinds-limit") == {"free": 2, "taken": 1, "limit": 3}
    asked(client, "PATCH", f"/v2/concurrency_limits/{made['id']}", {"active": False})
    assert "switched off" in seen("concurrency_limit", name="kinds-limit").error
    assert "no such global" in seen("concurrency_limit", name="kinds-none").error


def test_a_database_from_a_block(client: SyncPrefectClient, tmp_path: Path) -> None:
    import sqlite3

    from prefect.blocks.system import Secret

    with sqlite3.connect(tmp_path / "a.db") as file:
        file.execute("CREATE TABLE t (n)")
    file.close()
    url = f"sqlite:///{tmp_path / 'a.db'}"
    Secret(value=url).save("kinds-url", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert value("row_count", table="t", block="secret/kinds-url") == 0
    assert "no Prefect block secret/none" in seen("row_count", table="t", block="secret/none").error
    AthenaDatabase(url=SecretStr(url)).save("kinds-db", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert value("row_count", table="t", block="athena-database/kinds-db") == 0


def test_servers_that_are_none() -> None:
    with serving() as site:
        for reply, said in (
            (Reply(b"no", 401), "HTTP 401: the credentials are missing or refused"),
            (Reply(b"no", 500), "HTTP 500"),
            (Reply(b"<html>hello</html>"), "no usable answer"),
        ):
            site.answers["/api/variables/name/a"] = reply
            settings = {PREFECT_API_URL: f"{site.url}/api", PREFECT_API_KEY: "hunter2"}
            with temporary_settings(settings):
                told = seen("variable", name="a").error
            assert said in told and "hunter2" not in told
        site.answers["/api/variables/name/a"] = lambda _: Reply(status=500 + site.closing.wait(5))
        with temporary_settings({PREFECT_API_URL: f"{site.url}/api"}):
            told = seen("variable", name="a", timeout="500ms").error
        assert told == "Prefect's API: no answer within 0.4 s"
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert "Connect" in seen("variable", name="a").error
    with temporary_settings({PREFECT_API_URL: None}):
        assert "no Prefect API is configured" in seen("variable", name="a").error
        told = seen("row_count", table="t", block="secret/a").error
        assert "no Prefect API is configured" in told
