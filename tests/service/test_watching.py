"""Watching against a real server: vanished runs go on once, breaches and events come once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.states import Cancelled, Crashed, Running, Scheduled

from athena_prefect.errors import UnknownNameError
from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.events import Sender
from athena_prefect.service.watched import WatchedRun
from athena_prefect.service.watching import watch_live
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Leases
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

NO_GRACE = timedelta(0)
HOLDER = """
import sys, time
from datetime import timedelta
from uuid import UUID
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Leases
Leases(Database.open(sys.argv[1])).acquire(UUID(sys.argv[2]), "a test", ttl=timedelta(hours=1))
print("held", flush=True)
time.sleep(600)
"""


WORKER = """
import sys
from uuid import UUID
from pathlib import Path
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.compiler import compile_plan
with get_client(sync_client=True) as client:
    run = client.read_flow_run(UUID(sys.argv[1]))
flow = compile_plan(Plan.load(sys.argv[2]), root=Path(sys.argv[3]))
run_flow(flow, flow_run=run, parameters={}, return_type="state")
"""
"""What a worker's process does with a flow run that it has taken."""


class Scene:
    """A plan, its deployment on the server, and live runs of it whose processes can be killed."""

    def __init__(self, settings: AthenaSettings, **more: Any) -> None:
        self.settings = settings
        self.database = Database.open(settings)
        self.store, self.journal = PlanStore(self.database), SqlJournal(self.database)
        self.plan = Plan.model_validate(
            {
                "name": f"watched-{uuid4().hex[:8]}",
                "tasks": [{"id": "a", "duration": "1h"}, {"id": "b", "duration": "1h"}],
                "deadline": "90m",
                **more,
            }
        )
        self.store.register(self.plan, namespace=settings.namespace)

    def deployment(self, *schedules: DeploymentScheduleCreate) -> UUID:
        with get_client(sync_client=True) as client:
            flow = client.create_flow_from_name(self.plan.name)
            return client.create_deployment(flow, "scheduled", schedules=list(schedules))

    def live(self, *, deployed: bool = True, ago: timedelta = timedelta(0)) -> UUID:
        """A run that has started and whose process was killed; Prefect says it is running."""
        with get_client(sync_client=True) as client:
            if deployed:
                made: Any = client.create_flow_run_from_deployment(self.deployment())
            else:
                from prefect import Flow

                flow: Any = Flow(lambda: None, name=self.plan.name)
                made = client.create_flow_run(flow)
            client.set_flow_run_state(made.id, Running(), force=True)
        run, started = made.id, datetime.now(UTC) - ago
        self.store.open_run(
            run, self.plan, started=started, flow_run_id=run, namespace=self.settings.namespace
        )
        self.journal.append(
            RunEvent(
                plan_run=run, kind=RunEventKind.STARTED, at=started,
                data={"revision": 1, "flow_run_id": str(run)},
            )
        )  # fmt: skip
        self.baseline(run, started)
        url = self.settings.database_url
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, url, str(run)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert Leases(self.database).current(run) is not None
            os.kill(process.pid, signal.SIGKILL)
        return UUID(str(run))

    def baseline(self, run: UUID, started: datetime) -> None:
        from athena_prefect.schedule.baseline import make_baseline

        data = make_baseline(self.plan, seed=0, samples=100).as_dict()
        self.journal.append(
            RunEvent(plan_run=run, kind=RunEventKind.BASELINED, at=started, data=data)
        )

    def watch(self, **more: Any) -> tuple[WatchedRun, ...]:
        found = watch_live(self.plan.name, settings=self.settings, grace=NO_GRACE, **more)
        assert not found.problems
        return found.runs

    def events(self, run: UUID, kind: RunEventKind) -> list[RunEvent]:
        entries = self.journal.read(run)
        return [e.event for e in entries if isinstance(e.event, RunEvent) and e.event.kind is kind]


@pytest.fixture
def scene(settings: AthenaSettings) -> Scene:
    return Scene(settings)


def state_of(run: UUID) -> str:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        assert state is not None
        return str(state.name)


def put(run: UUID, state: Any) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=True)


def told(plan: str, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The events about a plan that the server has, once they are as `wanted`."""
    found: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        for _ in range(2400):
            answer = client.request(
                "POST",
                "/events/filter",
                json={"filter": {"resource": {"id": [f"athena.plan.{plan}"]}}},
            )
            found = answer.json()["events"]
            if wanted(found):
                break
            time.sleep(0.1)
    return found


def test_a_run_whose_process_was_killed_is_started_again_exactly_once(scene: Scene) -> None:
    run = scene.live()
    assert [r.status for r in scene.watch()] == ["resumed"]
    assert state_of(run) == "AwaitingRetry"
    assert [r.status for r in scene.watch()] == ["starting"]
    assert len(scene.events(run, RunEventKind.RESCHEDULED)) == 1


def test_of_two_watchers_at_once_one_starts_it_again(scene: Scene) -> None:
    run = scene.live(ago=timedelta(hours=1))
    threads = [threading.Thread(target=scene.watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scene.watch()
    assert len(scene.events(run, RunEventKind.RESCHEDULED)) == 1
    raised = scene.events(run, RunEventKind.BREACHED)
    assert len({e.key for e in raised}) == len(raised) > 0


def test_a_run_that_vanishes_each_time_does_not_go_on_for_ever(scene: Scene) -> None:
    run = scene.live()
    statuses = []
    for _ in range(5):
        statuses += [r.status for r in scene.watch()]
        put(run, Crashed())
    assert statuses == ["resumed"] * 3 + ["interrupted"] * 2
    # With a task done it has got further: it may go on.
    for kind, outcome in (
        (TaskEventKind.STARTED, None),
        (TaskEventKind.ENDED, TaskOutcome.SUCCESS),
    ):
        scene.journal.append(
            TaskEvent(
                plan_run=run, task_id="a", kind=kind, at=datetime.now(UTC), source="x",
                outcome=outcome,
            )
        )  # fmt: skip
    assert [r.status for r in scene.watch()] == ["resumed"]


def test_cancelled_and_terminal_runs_are_left_alone(scene: Scene) -> None:
    run = scene.live()
    put(run, Cancelled())
    assert [r.status for r in scene.watch()] == ["ended"]
    assert state_of(run) == "Cancelled"
    assert fold_entries(scene.journal.read(run)).end_status == "cancelled"
    assert scene.watch() == ()
    assert scene.events(run, RunEventKind.RESCHEDULED) == []


def test_a_paused_run_is_left_alone(scene: Scene) -> None:
    run = scene.live()
    scene.journal.append(
        RunEvent(plan_run=run, kind=RunEventKind.PAUSED, at=datetime.now(UTC), source="p")
    )
    assert [r.status for r in scene.watch()] == ["paused"]
    assert state_of(run) == "Running"


def test_a_run_of_a_terminal_is_only_reported(scene: Scene) -> None:
    run = scene.live(deployed=False)
    for _ in range(3):
        (found,) = scene.watch()
        assert found.status == "interrupted"
        assert found.remedy == f"athena run PLAN --resume {str(run)[:8]}"
    assert state_of(run) == "Running"
    assert len(scene.events(run, RunEventKind.BREACHED)) == 1
    # Its process publishes nothing any more: the watcher shows how it stands.
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        shown = {str(a.key): str(a.data) for a in client.read_artifacts(artifact_filter=wanted)}
    assert len(shown) == 4
    assert shown[f"{scene.plan.name}-status"].startswith("## Interrupted, forecast to finish ")


def test_a_breach_is_raised_and_told_once_over_many_passes(scene: Scene) -> None:
    run = scene.live(ago=timedelta(hours=1))
    raised = [r.raised for _ in range(3) for r in scene.watch()]
    assert raised[0]
    assert raised[1:] == [(), ()]
    found = told(scene.plan.name, lambda es: any(e["event"] == "athena.plan.at-risk" for e in es))
    at_risk = [e for e in found if e["event"] == "athena.plan.at-risk"]
    assert [e["payload"]["breach"] for e in at_risk] == ["deadline"]
    payload = at_risk[0]["payload"]
    assert payload["plan_run"] == str(run)
    assert payload["p_deadline"] == 0.0
    assert at_risk[0]["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{run}"
    assert len({e["id"] for e in found}) == len(found)


def test_one_run_that_cannot_be_looked_at_stops_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = scene.live(), scene.live()
    read = SqlJournal.read

    def broken(self: SqlJournal, plan_run: UUID, after: int = 0) -> Any:
        if plan_run == bad:
            raise RuntimeError("damaged")
        return read(self, plan_run, after)

    monkeypatch.setattr(SqlJournal, "read", broken)
    found = {r.plan_run: r for r in scene.watch()}
    assert "damaged" in found[bad].problem
    assert found[good].status == "resumed"


def test_a_start_that_no_worker_takes_is_told_in_time(settings: AthenaSettings) -> None:
    scheduled = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    # At whatever time of day this runs, half a day is left.
    scene = Scene(settings, deadline={"at": f"{scheduled + timedelta(hours=12):%H:%M}"})
    deployment = scene.deployment()
    with get_client(sync_client=True) as client:
        run: Any = client.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=scheduled)
        )
    deadline = scene.plan.deadline
    assert deadline is not None
    due = deadline.resolve(scheduled)
    # Two hours of work at most, a worker for each task: it must start an hour before.
    assert scene.watch(clock=lambda: min(due - timedelta(minutes=61), scheduled + LONG)) == ()
    late = due - timedelta(minutes=59)
    for raised in (1, 0):
        (found,) = scene.watch(clock=lambda: late)
        assert (found.status, len(found.raised)) == ("not started", raised)
        assert "must start by" in found.breaches[0]
        assert found.plan_run == run.id


LONG = timedelta(hours=20)


def test_missed_schedules_are_told_once(scene: Scene) -> None:
    anchor = datetime.now(UTC) - timedelta(days=3)
    scene.deployment(
        DeploymentScheduleCreate(
            schedule=IntervalSchedule(interval=timedelta(hours=1), anchor_date=anchor)
        )
    )
    # An hour and more in which the server was down: nobody made the run that was due.
    later = datetime.now(UTC) + timedelta(days=9, hours=2, minutes=30)
    first = [r for r in scene.watch(clock=lambda: later) if r.status == "missed"]
    assert len(first) == len(first[0].raised) == 1
    assert "missed" in first[0].breaches[0]
    again = [r for r in scene.watch(clock=lambda: later) if r.status == "missed"]
    assert [r.raised for r in again] == [()]


def test_a_run_that_ended_while_the_server_was_away_is_told_later(scene: Scene) -> None:
    class Away(Sender):
        def send(self, events: Any, client: Any = None) -> bool:
            return False

    run = scene.live()
    put(run, Cancelled())
    scene.watch(sender=Away())
    row = scene.store.run(run)
    assert row.status == "cancelled"
    assert scene.events(run, RunEventKind.TOLD) == []
    scene.watch()
    assert len(scene.events(run, RunEventKind.TOLD)) == 1
    found = told(scene.plan.name, lambda es: len(es) >= 2)
    assert sorted(e["event"] for e in found) == ["athena.plan.aborted", "athena.plan.started"]
    position = scene.journal.last_position(run)
    scene.watch()
    assert scene.journal.last_position(run) == position


def test_without_an_api_runs_are_assessed_and_nothing_is_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import nullcontext

    from athena_prefect.cli.app import run_command
    from athena_prefect.runtime import watching

    run = scene.live(ago=timedelta(hours=1))
    monkeypatch.setattr(watching, "connected", lambda: nullcontext(None))
    monkeypatch.setenv("ATHENA_HOME", str(scene.settings.home))
    (found,) = scene.watch()
    assert found.status == "interrupted"
    assert found.remedy.startswith("athena run")
    assert found.raised
    assert state_of(run) == "Running"
    assert run_command(["watch"]) == 0
    assert "only assessed" in capsys.readouterr().out


def test_an_unknown_plan_is_an_error(settings: AthenaSettings) -> None:
    with pytest.raises(UnknownNameError):
        watch_live("nobody", settings=settings)


def test_the_watching_flow_and_the_command(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    from athena_prefect.cli.app import run_command

    run = scene.live()
    monkeypatch.setenv("ATHENA_HOME", str(scene.settings.home))
    file = Path(__file__).parents[2] / "flows" / "watch_plan.py"
    spec = importlib.util.spec_from_file_location("watch_plan_flow", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.watch_plan(scene.plan.name)
    assert [r["plan_run"] for r in found["runs"]] == [str(run)]
    assert run_command(["watch", scene.plan.name, "--json"]) == 0
    assert str(run) in capsys.readouterr().out
    assert run_command(["watch", scene.plan.name]) == 0
    assert str(run)[:8] in capsys.readouterr().out
    assert run_command(["watch", "--every", "soon"]) == 2


def test_a_deployed_run_that_was_killed_goes_on_where_it_was(
    settings: AthenaSettings, tmp_path: Path, prefect_api: str
) -> None:
    from prefect.flow_engine import run_flow

    from athena_prefect.plan.document import as_dict
    from athena_prefect.runtime.compiler import compile_plan
    from tests.runtime.support import PROJECT, plan_of

    gate, file = tmp_path / "gate", tmp_path / "plan.json"
    plan = plan_of(
        {"id": "token", "call": "token"},
        {"id": "gate", "call": "wait_for_file", "with": {"path": str(gate)},
         "depends_on": ["token"]},
        name=f"killed-{uuid4().hex[:8]}",
    )  # fmt: skip
    file.write_text(json.dumps(as_dict(plan)))
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(plan.name)
        deployment = client.create_deployment(flow, "here")
        run: Any = client.create_flow_run_from_deployment(deployment)
    home = AthenaSettings()
    journal = SqlJournal(Database.open(home))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(run.id), str(file), str(PROJECT)],
        env={**os.environ, "PREFECT_API_URL": prefect_api},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        for _ in range(1200):
            before = fold_entries(journal.read(run.id))
            if any(a.running for a in before.task("gate").attempts):
                break
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    assert state_of(run.id) == "Running"
    gate.touch()
    found = [watch_live(plan.name, settings=home, grace=NO_GRACE) for _ in range(2)]
    assert [[r.status for r in f.runs] for f in found] == [["resumed"], ["starting"]]
    with get_client(sync_client=True) as client:
        again = client.read_flow_run(run.id)
    assert again.state is not None
    assert again.state.name == "AwaitingRetry"
    last: Any = run_flow(
        compile_plan(plan, root=PROJECT), flow_run=again, parameters={}, return_type="state"
    )
    assert last.is_completed()
    after = fold_entries(journal.read(run.id))
    assert len(after.task("token").attempts) == 1
    assert after.end_status == "completed"
    assert watch_live(plan.name, settings=home, grace=NO_GRACE).runs == ()
