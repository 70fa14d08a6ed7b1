"""Starts that wait for a worker and will never run are taken back by the watching flow."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Scheduled

from athena_prefect.plan.model import Plan
from athena_prefect.service.deploying import DeployOptions, deploy
from athena_prefect.service.watching import watch_live
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from tests.runtime.support import PROJECT

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def test_a_late_start_that_overlapped_a_run_is_taken_back(tmp_path: Path) -> None:
    settings = AthenaSettings(home=tmp_path / "home", namespace=f"n{uuid4().hex[:8]}")
    path = tmp_path / "project" / "deployments" / "late_runs" / "plan.yaml"
    path.parent.mkdir(parents=True)
    (tmp_path / "project" / "prefect.yaml").write_text("")
    shutil.copy(PROJECT / "deeds.py", tmp_path / "project")
    path.write_text(
        "name: late-runs\noverlap: skip\ntasks: [{id: a, call: 'deeds:one', duration: 1s}]\n"
    )
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        if not any(p.name == "away" for p in client.read_work_pools()):
            client.create_work_pool(WorkPoolCreate(name="away", type="process"))
        deploy([path], DeployOptions(pool="away"), settings=settings)
        name = f"late-runs/late-runs@{settings.namespace}"
        deployment = client.read_deployment_by_name(name).id

        def due(minutes: int) -> UUID:
            state: Any = Scheduled(scheduled_time=now - timedelta(minutes=minutes))
            return client.create_flow_run_from_deployment(deployment, state=state).id

        during, afterwards = due(20), due(5)
        database = Database.open(settings)
        store, plan_run = PlanStore(database), uuid4()
        begun = now - timedelta(minutes=30)
        plan = Plan.load(path)
        store.open_run(plan_run, plan, started=begun, namespace=settings.namespace)
        store.set_run_status(plan_run, "completed", ended=now - timedelta(minutes=10))
        found = {r.plan_run: r for r in watch_live(settings=settings).runs}
        assert found[during].status == "skipped"
        assert "worked when it was due" in found[during].remedy
        assert state_of(client, during) == ("CANCELLED", "Skipped")
        assert state_of(client, afterwards)[0] == "SCHEDULED", "it was missed, and is to run"
        assert during not in {r.plan_run for r in watch_live(settings=settings).runs}
        client.delete_flow_run(afterwards)


def state_of(client: SyncPrefectClient, flow_run: UUID) -> tuple[str, str | None]:
    state = client.read_flow_run(flow_run).state
    assert state is not None
    return state.type.value, state.name
