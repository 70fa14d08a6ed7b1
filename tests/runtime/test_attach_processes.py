"""Attached flows in processes of their own: pools, a kill, and who writes the end then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelling, Crashed

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, Status, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.attached import end
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.service import open_run
from athena_prefect.service.watched import WatchedRun
from athena_prefect.service.watching import watch_live
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import state_of

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

PLAN = Plan.model_validate(
    {"name": "attached-elsewhere", "tasks": [{"id": "one"}, {"id": "two"}, {"id": "three"}]}
)
FLOW = """
import sys, time
from pathlib import Path
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from athena_prefect import attach

@task(cache_policy=NO_CACHE)
def one():
    return 1

@task(cache_policy=NO_CACHE)
def two(seconds):
    time.sleep(seconds)
    return 2

@task(cache_policy=NO_CACHE)
def three():
    return 3

pool = ProcessPoolTaskRunner(max_workers=1) if "pool" in sys.argv else ThreadPoolTaskRunner()

@attach("plan.json")
@flow(name="elsewhere", task_runner=pool)
def elsewhere(seconds: float):
    from prefect.runtime import flow_run
    Path("flow_run").write_text(flow_run.id)
    one.submit().result()
    two.submit(seconds).result()
    three.submit().result()

if __name__ == "__main__":
    elsewhere(float(sys.argv[1]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a flow and its plan."""
    from athena_prefect.plan.document import dump

    (tmp_path / "prefect.yaml").write_text("name: elsewhere\n")
    (tmp_path / "elsewhere.py").write_text(FLOW)
    dump(PLAN, tmp_path / "plan.json")
    return tmp_path


def started(project: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that runs the flow."""
    return subprocess.Popen([sys.executable, "elsewhere.py", *arguments], cwd=project)


def flow_run_of(project: Path) -> UUID:
    """The flow run that the process has begun."""
    return UUID((project / "flow_run").read_text())


def test_tasks_of_a_process_pool_are_seen(project: Path) -> None:
    assert started(project, "0", "pool").wait(300) == 0
    state = state_of(PLAN, flow_run_of(project))
    assert [str(state.status(t)) for t in PLAN.task_ids] == ["success"] * 3
    assert (state.end_status, state.end_reason) == ("completed", "")


@pytest.fixture
def killed(project: Path) -> UUID:
    """A flow run whose process was killed while its second task ran."""
    process = started(project, "600")
    try:
        for _ in range(2400):
            if (project / "flow_run").exists() and _runs(flow_run_of(project), "two"):
                break
            assert process.poll() is None, "the flow ended by itself"
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return flow_run_of(project)


def _runs(plan_run: UUID, task_id: str) -> bool:
    return state_of(PLAN, plan_run).status(task_id) is Status.RUNNING


def watched(plan_run: UUID) -> WatchedRun:
    """What a pass of a watcher says of the run."""
    found = watch_live(settings=AthenaSettings(), grace=timedelta(0))
    (one,) = [r for r in found.runs if r.plan_run == plan_run]
    return one


def test_a_killed_flow_is_told_of_and_never_started_again(killed: UUID) -> None:
    found = watched(killed)
    assert found.status == "interrupted"
    assert "its process is gone, or cut off" in found.raised[0]
    assert str(killed) in found.remedy
    assert watched(killed).raised == ()
    journal = recording_of(AthenaSettings(), PLAN).open_journal()
    kinds = [e.event.kind for e in journal.read(killed) if isinstance(e.event, RunEvent)]
    assert RunEventKind.RESCHEDULED not in kinds
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(killed).state
        assert state is not None
        assert state.is_running(), "somebody else's flow run was touched"
        # As Prefect's worker does, which sees its process gone.
        client.set_flow_run_state(killed, Crashed(message="process gone"), force=True)
    assert watched(killed).status == "ended"
    after = ended(killed)
    assert (after.end_status, after.status("one")) == ("failed", Status.SUCCESS)
    assert after.status("two") is Status.FAILURE
    assert after.end_reason == "crashed: process gone; never ran: three"
    assert open_run(str(killed), settings=AthenaSettings()).status().word == "failed"


def ended(plan_run: UUID) -> ExecutionState:
    """The state of the run from the database alone."""
    return fold_entries(recording_of(AthenaSettings(), PLAN).open_journal().read(plan_run))


def test_the_worker_s_hook_writes_the_end_of_a_flow_that_was_cancelled(killed: UUID) -> None:
    # A worker that has ended the flow's process calls the flow's hooks in its own.
    state: Any = Cancelling()
    end(killed, state)
    after = ended(killed)
    assert (after.end_status, after.end_reason) == (
        "cancelled",
        "cancelled in Prefect; never ran: three",
    )
    assert after.status("two") is Status.BLOCKED
    events = len(recording_of(AthenaSettings(), PLAN).open_journal().read(killed))
    end(killed, state)
    assert len(recording_of(AthenaSettings(), PLAN).open_journal().read(killed)) == events


def test_a_second_process_of_the_same_flow_run_doubles_nothing(killed: UUID, project: Path) -> None:
    """The flow run is started again, as a retry from Prefect's UI does: one plan run, resumed."""
    code = (
        "import sys; sys.argv = ['elsewhere.py', '0'];"
        "from uuid import UUID; from prefect.client.orchestration import get_client;"
        "from prefect.flow_engine import run_flow; from elsewhere import elsewhere;"
        "from prefect.states import Pending;"
        f"run = UUID('{killed}');"
        "client = get_client(sync_client=True).__enter__();"
        "client.set_flow_run_state(run, Pending(), force=True);"
        "run_flow(elsewhere, flow_run=client.read_flow_run(run), parameters={'seconds': 0},"
        " return_type='state')"
    )
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment, check=False)
    assert done.returncode == 0
    after = ended(killed)
    assert (after.end_status, len(after.resumed)) == ("completed", 1)
    assert [str(after.status(t)) for t in PLAN.task_ids] == ["success"] * 3
    assert len(after.task("three").attempts) == 1
    # What was running when the process died ended with it.
    assert [a.abandoned for a in after.task("two").attempts] == [True, False]
