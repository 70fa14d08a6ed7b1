"""Plans on a real server: deployed, deployed again, repaired, taken off it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.workers.process import ProcessWorker

from athena_prefect.errors import InputError, ServerError, UnknownNameError
from athena_prefect.runtime.deployment.remote import Remote
from athena_prefect.runtime.watching import Api
from athena_prefect.service.deploying import Deployed, DeployOptions, _server, deploy, undeploy
from athena_prefect.settings import AthenaSettings

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

POOL = "deploying"


@pytest.fixture(scope="module")
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        try:
            template = ProcessWorker.get_default_base_job_template()
            made = WorkPoolCreate(name=POOL, type="process", base_job_template=template)
            client.create_work_pool(made)
        except ObjectAlreadyExists:
            pass
        yield client


class Project:
    """A project with plans, and the server that they are deployed to."""

    def __init__(self, root: Path, settings: AthenaSettings, client: SyncPrefectClient) -> None:
        self.root, self.settings, self.client = root, settings, client
        root.mkdir()
        (root / "prefect.yaml").write_text("")
        (root / "steps.py").write_text("def work():\n    return 1\n")

    def plan(self, name: str, **more: Any) -> Path:
        tasks = [{"id": "only", "call": "steps:work", "duration": "1s"}]
        path = self.root / "deployments" / name / "plan.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"name": name, "tasks": tasks, **more}))
        return path

    def deploy(self, *files: Path, **more: Any) -> Deployed:
        dry_run = more.pop("dry_run", False)
        options = DeployOptions(**{"pool": POOL, **more})
        return deploy(files, options, settings=self.settings, dry_run=dry_run)

    def undeploy(self, *names: str, **more: Any) -> Deployed:
        return undeploy(names, settings=self.settings, **more)

    @property
    def there(self) -> set[str]:
        return {d.deployment for d in Remote(self.client).deployments(self.settings.namespace)}

    def deployment(self, flow: str, name: str) -> Any:
        return self.client.read_deployment_by_name(f"{flow}/{name}@{self.settings.namespace}")


@pytest.fixture
def project(tmp_path: Path, client: SyncPrefectClient) -> Iterator[Project]:
    """A project in a namespace of its own."""
    namespace = f"t{uuid4().hex[:8]}"
    settings = AthenaSettings(home=tmp_path / "home", namespace=namespace)
    made = Project(tmp_path / "project", settings, client)
    yield made
    if made.there:
        made.undeploy(everything=True)


def said(result: Deployed) -> list[tuple[str, str, str]]:
    return [(c.action.value, c.kind, c.name.partition("@")[0]) for c in result.changes]


def test_a_dry_run_writes_nothing(project: Project) -> None:
    file = project.plan("orders", schedule={"interval": "1h"})
    told = project.deploy(file, dry_run=True)
    assert {kind for _, kind, _ in said(told)} == {
        "flow file", "plan", "block", "deployment", "automation",
    }  # fmt: skip
    assert {action for action, _, _ in said(told)} == {"create"}
    assert project.there == set()
    assert not (project.root / "flows").exists()
    assert not (project.root.parent / "home").exists()
    assert said(project.deploy(file)) == said(told)


def test_twice_changes_nothing_and_drift_is_repaired(project: Project) -> None:
    file = project.plan(
        "orders",
        description="Orders of the day",
        schedule={"interval": "1h", "timezone": "Europe/Berlin"},
        parameters={"day": {"type": "date", "default": "2026-11-01"}},
    )
    project.deploy(file)
    before = project.deployment("orders", "orders")
    assert project.deploy(file).changes == ()
    assert project.deployment("orders", "orders").updated == before.updated
    (project.root / "flows" / "orders.py").unlink()
    project.client.update_deployment_schedule(before.id, before.schedules[0].id, active=False)
    drifted = {"tags": [*before.tags, "x"], "job_variables": {}}
    project.client.request(
        "PATCH", "/deployments/{id}", path_params={"id": before.id}, json=drifted
    )
    repaired = project.deploy(file)
    assert said(repaired) == [
        ("create", "flow file", "flows/orders.py"), ("update", "deployment", "orders/orders"),
    ]  # fmt: skip
    assert {d.field for d in repaired.changes[1].differences} >= {"tags"}
    after = project.deployment("orders", "orders")
    assert (after.id, after.tags, after.job_variables) == (
        before.id,
        before.tags,
        before.job_variables,
    )
    # That somebody paused it is no drift.
    assert [s.active for s in after.schedules] == [False]
    assert project.deploy(file).changes == ()


def test_what_the_plan_no_longer_has_is_removed(project: Project) -> None:
    limited = {"db": {"capacity": 2, "concurrency_limit": f"db-{project.settings.namespace}"}}
    file = project.plan("orders", schedule={"cron": "0 4 * * *"}, resources=limited)
    other = project.plan("others")
    project.deploy(file, other)
    limit = limited["db"]["concurrency_limit"]
    assert Remote(project.client).slots(str(limit)) == 2
    project.plan("orders")
    changed = project.deploy(file)
    assert ("remove", "concurrency limit", limit) in said(changed)
    assert Remote(project.client).slots(str(limit)) is None
    deployment = project.deployment("orders", "orders")
    assert deployment.schedules == []
    # The other plan's deployments were not asked for, and are not gone.
    assert len(project.there) == 7


def test_undeploy_removes_a_plans_own_and_with_the_last_what_is_shared(project: Project) -> None:
    one, two = project.plan("one"), project.plan("two")
    project.deploy(one, two)
    with pytest.raises(UnknownNameError, match="did you mean 'one'"):
        project.undeploy("ones")
    assert len(project.undeploy("one", dry_run=True).changes) == 2
    assert len(project.there) == 7
    assert sorted(said(project.undeploy("one"))) == [
        ("remove", "deployment", "one/one"), ("remove", "deployment", "one/one.continuation"),
    ]  # fmt: skip
    assert len(project.there) == 5
    last = project.undeploy(str(two))
    assert {kind for _, kind, _ in said(last)} == {"deployment", "automation", "block"}
    assert project.there == set()
    assert Remote(project.client).automations(project.settings.namespace) == ()
    # What was recorded stays, and so does what the user owns.
    assert (project.root / "flows" / "two.py").exists()


def test_the_automation_starts_the_replanning_flow_that_is_there(project: Project) -> None:
    file = project.plan("orders")
    project.deploy(file)
    for text in ("flows/replan.py", "tasks/replanning.py"):
        assert (project.root / text).exists()
    project.client.delete_deployment(project.deployment("replan", "replan").id)
    changed = said(project.deploy(file))
    assert ("create", "deployment", "replan/replan") in changed
    assert ("update", "automation", "athena: replan what deviates") in changed
    name = f"athena: replan what deviates@{project.settings.namespace}"
    (automation,) = project.client.read_automations_by_name(name)
    (action,) = automation.actions
    assert action.model_dump()["deployment_id"] == project.deployment("replan", "replan").id
    assert project.deploy(file).changes == ()


def test_a_project_whose_tasks_are_a_file_is_deployed_without_replanning(project: Project) -> None:
    (project.root / "tasks.py").write_text("def work():\n    return 1\n")
    found = project.deploy(project.plan("orders"))
    assert "tasks.py leaves no room" in found.notes[0]
    assert not any(d.startswith(("replan", "learn")) for d in project.there)
    assert not (project.root / "flows" / "replan.py").exists()


def test_namespaces_do_not_touch_each_other(project: Project, tmp_path: Path) -> None:
    file = project.plan("orders")
    project.deploy(file)
    other = AthenaSettings(home=tmp_path / "home", namespace=f"u{uuid4().hex[:8]}")
    deploy([file], DeployOptions(pool=POOL), settings=other)
    assert project.deploy(file).changes == ()
    undeploy([], settings=other, everything=True)
    assert len(project.there) == 5


def test_a_flow_file_of_the_users_stays_and_is_used(project: Project) -> None:
    file = project.plan("orders")
    own = project.root / "flows" / "orders.py"
    own.parent.mkdir()
    text = (
        "from athena_prefect.runtime.compiler import compile_plan\n"
        'nightly = compile_plan("deployments/orders/plan.json")\n'
    )
    own.write_text(text)
    project.deploy(file)
    assert own.read_text() == text
    assert project.deployment("orders", "orders").entrypoint == "flows/orders.py:nightly"
    own.write_text("x = 1\n")
    with pytest.raises(InputError, match="has no flow of plan 'orders'"):
        project.deploy(file)


def test_the_written_flow_file_has_the_flow(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deploy(project.plan("big-orders"))
    monkeypatch.chdir(project.root)
    flow: Any = load_flow_from_entrypoint(
        "flows/big_orders.py:big_orders", use_placeholder_flow=False
    )
    assert flow.name == "big-orders"
    deployment = project.deployment("big-orders", "big-orders")
    assert deployment.version == flow.version
    assert len((project.root / "flows/big_orders.py").read_text().strip().splitlines()) == 5


def test_a_limit_that_somebody_else_made_is_left_alone(project: Project) -> None:
    name = f"theirs-{project.settings.namespace}"
    project.client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=7))
    resources = {"db": {"capacity": 2, "concurrency_limit": name}}
    file = project.plan("orders", resources=resources)
    found = project.deploy(file)
    assert "made by somebody else and has 7 slots" in found.notes[0]
    project.undeploy("orders")
    assert Remote(project.client).slots(name) == 7


def test_a_limit_of_ours_is_repaired_and_shared(project: Project) -> None:
    name = f"ours-{project.settings.namespace}"
    resources = {"db": {"capacity": 2, "concurrency_limit": name}}
    one, two = project.plan("one", resources=resources), project.plan("two", resources=resources)
    project.deploy(one)
    project.deploy(two)
    project.client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=9))
    (change,) = project.deploy(one).changes
    assert [(d.field, d.is_now, d.should_be) for d in change.differences] == [("slots", 9, 2)]
    project.plan("one", resources={"db": {"capacity": 3, "concurrency_limit": name}})
    with pytest.raises(InputError, match="one limit has one capacity"):
        project.deploy(one)
    project.plan("one", resources=resources)
    project.undeploy("one")
    assert Remote(project.client).slots(name) == 2
    project.undeploy("two")
    assert Remote(project.client).slots(name) is None
    with pytest.raises(ObjectNotFound):
        project.client.read_global_concurrency_limit_by_name(name)


def test_the_block_is_kept_current_and_never_shown(project: Project) -> None:
    file = project.plan("orders")
    project.deploy(file)
    url = project.settings.database_url
    (block,) = Remote(project.client).blocks(f"athena-{project.settings.namespace}")
    assert block.url.url == url
    assert url not in json.dumps(project.deployment("orders", "orders").job_variables)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pool": "nowhere"}, "there is no work pool 'nowhere'; make one with"),
        ({"job_variables": {"comand": "x"}}, "did you mean 'command'"),
    ],
)
def test_what_cannot_be_deployed_is_refused_before_anything_is_written(
    project: Project, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        project.deploy(project.plan("orders"), **more)
    assert project.there == set()
    assert not (project.root / "flows").exists()


def test_the_servers_refusal_is_told(project: Project) -> None:
    file = project.plan("orders")
    with pytest.raises(ServerError, match="refuses to create deployment"):
        project.deploy(file, job_variables={"working_dir": 7})


def test_late_starts_are_those_of_the_namespace(project: Project) -> None:
    project.deploy(project.plan("orders", schedule={"interval": "10m"}))
    later = datetime.now(UTC) + timedelta(hours=3)
    api = Api(project.client)
    assert list(api.late_starts(["orders"], later, project.settings.namespace))
    for other in ("default", "elsewhere"):
        assert not list(api.late_starts(["orders"], later, other))


def test_several_projects_at_once_are_refused(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "other", project.settings, project.client)
    with pytest.raises(InputError, match="of several projects"):
        project.deploy(project.plan("one"), other.plan("two"))


def test_a_namespace_is_of_one_project(project: Project, tmp_path: Path) -> None:
    """Its flows that watch, replan and learn run in one project's folder."""
    one, two = project.plan("one"), project.plan("two")
    project.deploy(one)
    project.deploy(two)  # another plan of the same project
    other = Project(tmp_path / "other", project.settings, project.client)
    before = Remote(project.client).deployments(project.settings.namespace)
    with pytest.raises(InputError, match=r"one, two in .*ATHENA_NAMESPACE=NAME") as raised:
        other.deploy(other.plan("three"))
    assert str(project.root) in str(raised.value) and str(other.root) in str(raised.value)
    assert Remote(project.client).deployments(project.settings.namespace) == before
    assert not (other.root / "flows").exists()
    apart = project.settings.model_copy(update={"namespace": f"{project.settings.namespace}-b"})
    other.settings = apart
    other.deploy(other.plan("three"))
    other.undeploy("three")
    # A project that has moved is deployed as a whole.
    other.settings = project.settings
    other.deploy(other.plan("one"), other.plan("two"))
    directory = {d.directory for d in Remote(project.client).deployments(apart.namespace[:-2])}
    assert directory == {str(other.root)}


def test_serving_leaves_the_watcher_of_other_plans_in_their_pool(project: Project) -> None:
    """The process that serves ends; the runs of the others are still looked at."""
    pooled, served = project.plan("pooled"), project.plan("served")
    project.deploy(pooled)
    project.deploy(served, pool=None)
    assert project.deployment("watch-plan", "watch-plan").work_pool_name == POOL
    assert project.deployment("replan", "replan").work_pool_name == POOL
    assert project.deployment("served", "served").work_pool_name is None
    assert not project.deploy(served, pool=None).changes
    # Alone, it brings them along.
    project.undeploy("pooled")
    project.deploy(served, pool=None)
    assert project.deployment("watch-plan", "watch-plan").work_pool_name is None


def test_a_server_that_does_not_answer_is_said() -> None:
    with (
        pytest.raises(ServerError, match=r"no Prefect server answers at .*: Connection refused"),
        _server(),
    ):
        raise httpx.ConnectError("Connection refused")
