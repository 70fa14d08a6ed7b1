"""Schedules of checks on a real server: active while a run lives, and never both."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.check_schedules import (
    SCHEDULED_CHECKS,
    CheckSchedule,
    leave_to_schedules,
    needed,
    read_schedules,
    settle,
)
from athena_prefect.service.checking import check_scheduled, pause_unneeded
from athena_prefect.service.deploying import DeployOptions, deploy
from athena_prefect.service.watching import watch_live
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal
from tests.runtime.support import PROJECT

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

PLAN = """
name: watched-over
tasks:
  - {id: load, call: "deeds:one", duration: 10m}
assumptions:
  - {id: memory, validation_frequency: 5m, check: {kind: memory, unit: B}, expected_value: 1}
  - {id: often, validation_frequency: 5s, check: {kind: memory, unit: B}, expected_value: 1}
  - id: always
    active: always
    validation_frequency: 5m
    check: {kind: memory, unit: B}
    expected_value: 1
"""


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path) -> AthenaSettings:
    return AthenaSettings(home=tmp_path / "home", namespace=f"n{uuid4().hex[:8]}")


@pytest.fixture
def file(tmp_path: Path, client: SyncPrefectClient, settings: AthenaSettings) -> Path:
    """The plan, deployed to a pool whose worker is away."""
    from prefect.client.schemas.actions import WorkPoolCreate

    if not any(p.name == "away" for p in client.read_work_pools()):
        client.create_work_pool(WorkPoolCreate(name="away", type="process"))
    project = tmp_path / "project"
    path = project / "deployments" / "watched_over" / "plan.yaml"
    path.parent.mkdir(parents=True)
    (project / "prefect.yaml").write_text("")
    shutil.copy(PROJECT / "deeds.py", project)
    path.write_text(PLAN)
    found = deploy([path], DeployOptions(pool="away"), settings=settings)
    assert {"flows/check_assumption.py", "tasks/assumptions.py"} <= {c.name for c in found.changes}
    again = deploy([path], DeployOptions(pool="away"), settings=settings)
    assert again.changes == (), "deployed twice it changes nothing"
    return path


def schedules(client: SyncPrefectClient, settings: AthenaSettings) -> dict[str, CheckSchedule]:
    return {s.assumption: s for s in read_schedules(client, settings.namespace)}


def started(
    plan: Plan, settings: AthenaSettings, handed: tuple[str, ...], at: datetime | None = None
) -> UUID:
    """A live run that leaves these checks to their schedules."""
    plan_run, now = uuid4(), at or datetime.now(UTC)
    database = Database.open(settings)
    PlanStore(database).open_run(plan_run, plan, started=now, namespace=settings.namespace)
    data: dict[str, Any] = {"revision": 1, "plan": plan.name}
    if handed:
        data[SCHEDULED_CHECKS] = list(handed)
    event = RunEvent(plan_run=plan_run, kind=RunEventKind.STARTED, at=now, source="", data=data)
    SqlJournal(database).append(event)
    return plan_run


def ended(plan_run: UUID, settings: AthenaSettings) -> None:
    now = datetime.now(UTC)
    database = Database.open(settings)
    PlanStore(database).set_run_status(plan_run, "completed", ended=now)


def state_of(plan_run: UUID, settings: AthenaSettings) -> ExecutionState:
    return fold_entries(SqlJournal(Database.open(settings)).read(plan_run))


def test_a_schedule_is_active_while_a_run_needs_it(
    file: Path, client: SyncPrefectClient, settings: AthenaSettings
) -> None:
    plan = Plan.load(file)
    found = schedules(client, settings)
    assert {n: s.active for n, s in found.items()} == {"memory": False, "always": True}
    assert leave_to_schedules(client, plan, settings.namespace) == ("always", "memory")
    first, second = (started(plan, settings, ("always", "memory")) for _ in range(2))
    # Deployed anew while it is active, it stays so.
    deploy([file], DeployOptions(pool="away"), settings=settings)
    assert schedules(client, settings)["memory"].active
    ended(first, settings)
    assert pause_unneeded(file, settings=settings) == 0, "another run lives"
    ended(second, settings)
    assert pause_unneeded(file, settings=settings) == 1
    found = schedules(client, settings)
    assert {n: s.active for n, s in found.items()} == {"memory": False, "always": True}


def test_a_run_that_begins_while_another_one_ends_keeps_its_schedule(
    file: Path, client: SyncPrefectClient, settings: AthenaSettings
) -> None:
    plan = Plan.load(file)
    leave_to_schedules(client, plan, settings.namespace)
    answers = [set[tuple[str, str]](), {(plan.name, "memory")}]
    settle(client, settings.namespace, lambda: answers.pop(0), plan.name)
    assert schedules(client, settings)["memory"].active and not answers


def test_the_watching_flow_does_what_a_vanished_process_left(
    file: Path, client: SyncPrefectClient, settings: AthenaSettings
) -> None:
    plan = Plan.load(file)
    leave_to_schedules(client, plan, settings.namespace)
    plan_run = started(plan, settings, ("memory",))
    watch_live(settings=settings)
    assert schedules(client, settings)["memory"].active
    ended(plan_run, settings)
    assert needed(Database.open(settings), plan.name, settings.namespace) == set()
    watch_live(settings=settings)
    assert not schedules(client, settings)["memory"].active
    again = started(plan, settings, ("memory",))
    assert watch_live(settings=settings).problems == ()
    assert schedules(client, settings)["memory"].active, "and what a live run needs is set active"
    ended(again, settings)


def test_a_paused_deployment_and_one_without_a_pool_are_left_alone(
    file: Path, client: SyncPrefectClient, settings: AthenaSettings
) -> None:
    plan = Plan.load(file)
    client.pause_deployment(schedules(client, settings)["memory"].deployment)
    assert leave_to_schedules(client, plan, settings.namespace) == ("always",)
    deploy([file], DeployOptions(pool=None), settings=settings)
    assert "memory" not in schedules(client, settings), "who is served makes checks beside the run"
    assert leave_to_schedules(client, plan, settings.namespace) == ()


def test_the_schedule_makes_the_check_of_runs_that_left_it_to_it(
    file: Path, settings: AthenaSettings
) -> None:
    plan = Plan.load(file)
    early = datetime.now(UTC) - timedelta(minutes=20)
    ours, own = started(plan, settings, ("memory",), early), started(plan, settings, ())
    first = check_scheduled(file, "memory", settings=settings)
    assert first.plan_run == ours and first.result.valid is True and first.needed
    (check,) = state_of(ours, settings).checks["memory"]
    assert check.check_id.startswith("scheduled|")
    assert "memory" not in state_of(own, settings).checks, "it makes its own"
    again = check_scheduled(file, "memory", settings=settings)
    assert again.result.validation_time == check.at, "a late start of the same check is none"
    assert len(state_of(ours, settings).checks["memory"]) == 1
    for plan_run in (ours, own):
        ended(plan_run, settings)
    unneeded = check_scheduled(file, "memory", settings=settings)
    assert not unneeded.needed and unneeded.plan_run is None and unneeded.result.valid is None
