"""Deployed plans: schedules start them, what is killed goes on by itself, nothing is repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
)

from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment import learning as learning_names
from athena_prefect.runtime.recorder import recording_of
from tests.chaos.deployed import POOL, Installation, wait_for
from tests.chaos.support import check_against_the_tasks_own_words, in_force, starts, thirty_tasks

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

slow = pytest.mark.skipif(
    not os.environ.get("ATHENA_SLOW_TESTS"), reason="takes minutes: set ATHENA_SLOW_TESTS=1"
)


AS_IT_IS = {"replanning": {"decide": "off"}}
"""For plans whose durations are short: on a busy machine they are late, and would be replanned."""


class Thirty:
    """A deployed plan of thirty tasks that write down what they do, and a run of it."""

    def __init__(self, installation: Installation, name: str, folder: Path) -> None:
        self.installation, self.name, self.folder = installation, name, folder
        folder.mkdir()
        document = json.loads(thirty_tasks(folder, seconds=0.4).read_text())
        self.plan = Plan.load(installation.write(name, {**document, **AS_IT_IS, "name": name}))
        assert self.plan.source is not None
        installation.deploy(self.plan.source)
        with installation.client() as client:
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            self.run = client.create_flow_run_from_deployment(deployment.id).id

    @property
    def state(self) -> ExecutionState:
        journal = recording_of(self.installation.settings, self.plan).open_journal()
        return fold_entries(journal.read(UUID(str(self.run))))

    def begun(self, bodies: int) -> None:
        """Wait until so many bodies have begun."""
        wait_for(f"{bodies} tasks of {self.name}", lambda: self._bodies() >= bodies)

    def _bodies(self) -> int:
        return sum(starts(self.folder).values())

    def kill(self) -> set[str]:
        """Kill the flow's processes; the successes in force before."""
        found = self.installation.flow_processes(str(self.run))
        assert found
        before = in_force(self.state, self.plan)
        for process in reversed(found):
            process.kill()
        return before

    def goes_on(self, before: set[str], *, resumed: bool = True) -> None:
        """It ends by itself, with every task done once; what had succeeded is not repeated.

        `resumed` is whether another process had to take it up.
        """
        counted = starts(self.folder)
        wait_for(f"the end of {self.name}", lambda: self.state.end_status, 900)
        state = self.state
        assert state.end_status == "completed", (state.end_reason, self.installation.words())
        assert bool(state.resumed) is resumed, "the kill met nobody" if resumed else "repeated"
        assert not {t for t in before if starts(self.folder)[t] != counted[t]}
        check_against_the_tasks_own_words(state, self.plan, self.folder)
        assert not state.gaps

    def final(self) -> Any:
        with self.installation.client() as client:
            return wait_for(
                "the last state",
                lambda: (r := client.read_flow_run(self.run)).state and r.state.is_final() and r,
            )


def test_an_interval_schedule_produces_runs(installation: Installation) -> None:
    task = {"id": "only", "call": "deeds:one", "duration": "1s"}
    schedule = {"interval": "15s"}
    file = installation.write("ticking", {"schedule": schedule, "tasks": [task], **AS_IT_IS})
    installation.deploy(file)
    with installation.client() as client:
        deployment = client.read_deployment_by_name("ticking/ticking")

        def completed() -> list[Any]:
            chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
            runs = client.read_flow_runs(deployment_filter=chosen, limit=200)
            return [r for r in runs if r.state and r.state.is_completed()]

        done = wait_for("two scheduled runs", lambda: len(d := completed()) >= 2 and d)
        client.pause_deployment(deployment.id)
    assert all(r.auto_scheduled for r in done)
    assert all(r.expected_start_time.second % 15 == 0 for r in done)
    assert {"athena", "namespace:default", "plan:ticking"} <= set(done[0].tags)


def test_what_a_finished_run_teaches_is_learned_by_itself(installation: Installation) -> None:
    """Nobody starts the learning flow: its automation hears that the plan has ended."""
    task = {"id": "only", "call": "deeds:one", "duration": "1s"}
    installation.deploy(installation.write("taught", {"tasks": [task], **AS_IT_IS}))
    with installation.client() as client:
        learning = client.read_deployment_by_name("learn/learn")
        deployment = client.read_deployment_by_name("taught/taught")
        begun = client.create_flow_run_from_deployment(deployment.id)
        end = wait_for(
            "the end of the run",
            lambda: (r := client.read_flow_run(begun.id)).state and r.state.is_final() and r,
        )
        assert end.state.is_completed(), (end.state.message, installation.words())

        def learned() -> list[Any]:
            own = [r for r in runs_of(client, learning) if r.parameters == {"plan": "taught"}]
            return [r for r in own if r.state and r.state.is_final()]

        found, *_ = wait_for("the end of the learning flow", learned)
        assert found.state.is_completed(), (found.state.message, installation.words())
        assert found.created_by.type == "AUTOMATION"
        assert found.created_by.display_value == learning_names.automation_name("default")
        kept = ArtifactFilter(key=ArtifactFilterKey(any_=["taught-learned"]))
        (artifact,) = client.read_artifacts(artifact_filter=kept)
    assert artifact.flow_run_id == found.id
    assert "# taught: what 1 run teaches" in str(artifact.data)


def test_a_served_plan_runs_without_a_worker(installation: Installation, tmp_path: Path) -> None:
    task = {"id": "only", "call": "deeds:one", "duration": "1s"}
    schedule = {"interval": "10s"}
    file = installation.write("served", {"schedule": schedule, "tasks": [task], **AS_IT_IS})
    installation.deploy(file)  # moves from the pool to the process that serves it
    process = installation.serve(file)
    try:
        with installation.client() as client:
            deployment = wait_for(
                "the plan without its pool",
                lambda: (
                    (d := client.read_deployment_by_name("served/served"))
                    and d.work_pool_name is None
                    and d
                ),
            )
            # A run that a worker took before the move has a queue: this is of the process.
            done = wait_for(
                "a scheduled run",
                lambda: [
                    r
                    for r in runs_of(client, deployment)
                    if r.state.name == "Completed" and r.work_queue_id is None
                ],
            )
            assert {"athena", "plan:served"} <= set(done[0].tags)
            client.pause_deployment(deployment.id)
    finally:
        installation.stop(process, signal.SIGINT)
    assert process.returncode == 0
    # Back into the pool.
    installation.deploy(file)
    with installation.client() as client:
        assert client.read_deployment_by_name("served/served").work_pool_name == POOL
        client.delete_deployment(deployment.id)


ATTACHED = """
from prefect import flow, task

from athena_prefect import attach

@task
def one() -> int:
    return 1

@task(retries=1)
def two(number: int) -> int:
    return 2 * number

@attach("plan.json")
@flow
def by_hand(number: int = 1) -> int:
    return two(one() + number)
"""


def test_an_attached_flow_under_a_worker_is_monitored(installation: Installation) -> None:
    """Deployed as its owner does, with nothing of ours but the decorator."""
    document = {
        "deadline": "10m",
        "tasks": [
            {"id": "one", "duration": "1s"},
            {"id": "two", "duration": "1s", "depends_on": ["one"]},
        ],
    }
    (installation.project / "by_hand.py").write_text(ATTACHED)
    plan_file = installation.project / "plan.json"
    plan_file.write_text(json.dumps({"name": "by-hand", **document}))
    words = (
        "from prefect import Flow\n"
        "found = Flow.from_source(source='.', entrypoint='by_hand.py:by_hand')\n"
        f"found.deploy(name='mine', work_pool_name={POOL!r}, print_next_steps=False,\n"
        f"    ignore_warnings=True, job_variables={{'env': {{'ATHENA_HOME': "
        f"{str(installation.settings.home)!r}}}}})\n"
    )
    subprocess.run(
        [sys.executable, "-c", words], cwd=installation.project, env=installation.environment,
        check=True, timeout=180,
    )  # fmt: skip
    with installation.client() as client:
        deployment = client.read_deployment_by_name("by-hand/mine")
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"number": 3}).id
        end = wait_for(
            "the end of the flow",
            lambda: (s := client.read_flow_run(run).state) and s.is_final() and s,
        )
    assert end.is_completed(), (end.message, installation.words())
    journal = recording_of(installation.settings, Plan.load(plan_file)).open_journal()
    state = wait_for(
        "the end in the journal",
        lambda: (s := fold_entries(journal.read(UUID(str(run))))).end_status and s,
    )
    assert state.attached and state.end_status == "completed"
    assert {t: str(state.status(t)) for t in ("one", "two")} == {"one": "success", "two": "success"}
    assert all(len(state.task(t).attempts) == 1 for t in ("one", "two"))


def test_a_killed_flow_goes_on_by_itself(installation: Installation, tmp_path: Path) -> None:
    thirty = Thirty(installation, "killed", tmp_path / "killed")
    thirty.begun(8)
    thirty.goes_on(thirty.kill())
    assert thirty.final().state.is_completed()


def test_a_server_that_restarts_in_the_middle_of_a_run_loses_nothing(
    installation: Installation, tmp_path: Path
) -> None:
    thirty = Thirty(installation, "restarted", tmp_path / "restarted")
    thirty.begun(6)
    installation.stop(installation.server, signal.SIGKILL)
    before = sum(starts(thirty.folder).values())
    wait_for("work without a server", lambda: sum(starts(thirty.folder).values()) >= before + 4)
    installation.start_server()
    thirty.goes_on(in_force(thirty.state, thirty.plan), resumed=False)
    assert set(starts(thirty.folder).values()) == {1}
    assert thirty.final().state.is_completed()


def runs_of(client: Any, deployment: Any) -> list[Any]:
    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return list(client.read_flow_runs(deployment_filter=chosen, limit=200))


@slow
def test_a_run_without_a_heartbeat_is_called_crashed(
    installation: Installation, tmp_path: Path
) -> None:
    """The automation alone: no worker is left that could run the watching flow."""
    thirty = Thirty(installation, "silent", tmp_path / "silent")
    thirty.begun(4)
    installation.stop(installation.worker, signal.SIGKILL)
    try:
        with installation.client() as client:

            def crashed() -> Any:
                state = client.read_flow_run(thirty.run).state
                return state if state is not None and state.is_crashed() else None

            state = wait_for("the automation", crashed)
        assert state.message == "no heartbeat for 90 s"
    finally:
        installation.start_worker()
    thirty.goes_on(in_force(thirty.state, thirty.plan))


@slow
def test_of_starts_that_were_missed_one_runs_for_the_newest(installation: Installation) -> None:
    installation.stop(installation.worker)
    task = {"id": "only", "call": "deeds:one", "duration": "1s"}
    schedule = {"interval": "10s"}
    installation.deploy(
        installation.write("late", {"schedule": schedule, "tasks": [task], **AS_IT_IS})
    )
    with installation.client() as client:
        deployment = client.read_deployment_by_name("late/late")

        def due() -> list[Any]:
            now = datetime.now(UTC)
            return [r for r in runs_of(client, deployment) if r.expected_start_time <= now]

        wait_for("four missed starts", lambda: len(due()) >= 4)
        client.pause_deployment(deployment.id)  # no more of them: what is due stays due
        missed = sorted(due(), key=lambda r: r.expected_start_time)
        installation.start_worker()
        wait_for("their end", lambda: all(r.state.is_final() for r in due()))
        ended: list[Any] = [client.read_flow_run(r.id) for r in missed]
    completed = [r for r in ended if r.state.is_completed() and r.state.name != "Skipped"]
    assert len(completed) == 1, [(r.state.name, r.state.message) for r in ended]
    assert all(r.state.is_cancelled() for r in ended if r != completed[0])
    plan = Plan.load(installation.project / "deployments/late/plan.json")
    journal = recording_of(installation.settings, plan).open_journal()
    state = fold_entries(journal.read(UUID(str(completed[0].id))))
    newest = datetime.fromtimestamp(missed[-1].expected_start_time.timestamp(), UTC)
    assert datetime.fromisoformat(state.run_data["logical_date"]) == newest


@slow
@pytest.mark.parametrize(
    ("overlap", "first", "second"),
    [
        ("skip", "Completed", "Cancelled"),
        ("queue", "Completed", "Completed"),
        ("cancel_running", "Cancelled", "Completed"),
    ],
)
def test_a_start_while_an_earlier_run_works(
    installation: Installation, tmp_path: Path, overlap: str, first: str, second: str
) -> None:
    name = f"overlap-{overlap.replace('_', '-')}"
    # Planned for longer than it takes: a late one would be replanned, and end as superseded.
    call = {"call": "deeds:note", "isolation": "process", "duration": "10m"}
    given = {"folder": str(tmp_path), "name": "only", "seconds": "{{ parameters.seconds }}"}
    document = {
        "overlap": overlap,
        "parameters": {"seconds": {"type": "number", "default": 1}},
        "tasks": [{"id": "only", "with": given, **call}],
    }
    installation.deploy(installation.write(name, document))
    # What is to be cancelled works until it is: on a busy machine the second takes long to begin.
    long = {"seconds": 300 if overlap == "cancel_running" else 40}
    with installation.client() as client:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
        runs = [client.create_flow_run_from_deployment(deployment.id, parameters=long).id]
        wait_for("the first run", lambda: starts(tmp_path)["only"] == 1)
        runs.append(client.create_flow_run_from_deployment(deployment.id).id)
        ends: list[Any] = [
            wait_for("both ends", lambda run=run: (  # type: ignore[misc]
                s := client.read_flow_run(run).state) and s.is_final() and s)
            for run in runs
        ]  # fmt: skip
    assert [s.name for s in ends] == [first, second]
    assert starts(tmp_path)["only"] == (1 if overlap == "skip" else 2)


@slow
def test_a_killed_worker_and_its_flow_go_on_with_the_next_worker(
    installation: Installation, tmp_path: Path
) -> None:
    thirty = Thirty(installation, "orphaned", tmp_path / "orphaned")
    thirty.begun(8)
    before = in_force(thirty.state, thirty.plan)
    installation.stop(installation.worker, signal.SIGKILL)
    assert not thirty.state.end_status
    # As a service manager does; nobody touches the run.
    installation.start_worker()
    thirty.goes_on(before)
    assert thirty.final().state.is_completed()
