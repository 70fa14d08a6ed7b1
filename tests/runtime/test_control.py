"""Cancel, pause and commands do what a Prefect user expects of them."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelling, Paused, Running

from athena_prefect.journal.events import Command, CommandKind
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.submission import withdrawn
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import Run, plan_of, run, state_of

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def until(plan: Plan, plan_run: UUID, holds: Callable[[ExecutionState], bool]) -> ExecutionState:
    """The first state of the run for which `holds`."""
    end = time.monotonic() + 240  # more than a loaded machine needs
    while time.monotonic() < end:
        state = state_of(plan, plan_run)
        if holds(state):
            return state
        time.sleep(0.05)
    raise AssertionError(f"it never came to that: {state_of(plan, plan_run)}")


def beside(plan: Plan, act: Callable[[UUID], None]) -> Run:
    """Run `plan`, with `act` in a thread beside it; what `act` raises is raised."""
    plan_run = uuid4()
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            act(plan_run)
        except BaseException as error:
            errors.append(error)

    # Prefect's settings are bound to the context, which a thread does not inherit.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(guarded,))
    thread.start()
    done = run(plan, plan_run)
    thread.join()
    if errors:
        raise errors[0]
    return done


def command(plan: Plan, plan_run: UUID, kind: CommandKind, **data: Any) -> str:
    """Send a command to the run's dispatcher, as another process would."""
    name = str(uuid4())
    recording_of(AthenaSettings(), plan).open_journal().append(
        Command(
            plan_run=plan_run,
            command_id=name,
            kind=kind,
            at=datetime.now(UTC),
            author="a test",
            data=data,
        )
    )
    return name


def flow_run_of(state: ExecutionState) -> UUID:
    return UUID(str(state.run_data["flow_run_id"]))


def waiting(path: Path, **more: Any) -> Plan:
    return plan_of(
        {"id": "first", "call": "wait_for_file", "with": {"path": str(path)}, **more},
        {"id": "second", "call": "one", "depends_on": ["first"]},
        {"id": "third", "call": "one", "depends_on": ["second"]},
        name="waiting",
    )


def running(state: ExecutionState) -> bool:
    return state.status("first") is Status.RUNNING


def test_cancel_in_prefect_ends_the_run_and_its_child_processes(tmp_path: Path) -> None:
    plan = waiting(tmp_path / "never", isolation="process")

    def act(plan_run: UUID) -> None:
        state = until(plan, plan_run, running)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run_of(state), Cancelling(), force=True)

    done = beside(plan, act)
    state = done.state
    assert done.final.is_cancelled()
    assert state.end_status == "cancelled"
    assert [a.state_name for a in state.task("first").attempts] == ["Cancelled"]
    assert not state.task("second").attempts


def test_pause_in_prefect_holds_new_starts_until_resumed(tmp_path: Path) -> None:
    plan = waiting(tmp_path / "go")

    def act(plan_run: UUID) -> None:
        state = until(plan, plan_run, running)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run_of(state), Paused(timeout_seconds=300), force=True)
            until(plan, plan_run, lambda s: s.paused)
            (tmp_path / "go").touch()
            until(plan, plan_run, lambda s: s.status("first").good)
            time.sleep(1.5)  # several rounds of the loop, in which nothing may start
            assert not state_of(plan, plan_run).task("second").attempts
            client.set_flow_run_state(flow_run_of(state), Running(), force=True)

    done = beside(plan, act)
    assert done.final.is_completed()
    assert done.state.status("third").good


def test_short_tasks_that_wait_for_a_thread_are_taken_back_by_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back: list[bool] = []

    def told(future: Any) -> bool:
        back.append(withdrawn(future))
        return back[-1]

    monkeypatch.setattr("athena_prefect.runtime.dispatcher.withdrawn", told)
    go = tmp_path / "go"
    short = {"call": "one", "duration": "50ms"}
    plan = plan_of(
        {"id": "first", "call": "wait_for_file", "with": {"path": str(go)}, "duration": "50ms"},
        *({"id": name, **short} for name in ("second", "third", "fourth")),
        name="queued",
        runner={"max_workers": 1},
        # It is late by all that it waits here: a revision would take back what is queued as well.
        replanning={"decide": "off"},
    )

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        command(plan, plan_run, CommandKind.PAUSE)
        until(plan, plan_run, lambda s: s.paused)
        go.touch()
        until(plan, plan_run, lambda s: s.status("first").good)
        time.sleep(1.5)  # several rounds of the loop, in which nothing may start
        state = state_of(plan, plan_run)
        assert not any(state.task(t).attempts for t in ("second", "third", "fourth"))
        command(plan, plan_run, CommandKind.CONTINUE)

    done = beside(plan, act)
    assert back == [False, True]  # what ran went on; one had been waiting for its thread
    assert done.final.is_completed()
    assert [len(done.state.task(t.id).attempts) for t in plan.tasks] == [1, 1, 1, 1]


def test_commands_pause_skip_and_go_on(tmp_path: Path) -> None:
    plan = waiting(tmp_path / "go")
    sent: dict[str, str] = {}

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        sent["pause"] = command(plan, plan_run, CommandKind.PAUSE)
        until(plan, plan_run, lambda s: s.paused)
        sent["running"] = command(plan, plan_run, CommandKind.SKIP, task_id="first")
        sent["unknown"] = command(plan, plan_run, CommandKind.SKIP, task_id="secnd")
        sent["skip"] = command(plan, plan_run, CommandKind.SKIP, task_id="second")
        sent["done"] = command(plan, plan_run, CommandKind.DONE, task_id="third", result=7)
        until(plan, plan_run, lambda s: not s.commands)
        sent["continue"] = command(plan, plan_run, CommandKind.CONTINUE)
        until(plan, plan_run, lambda s: not s.commands)
        (tmp_path / "go").touch()

    done = beside(plan, act)
    state = done.state
    answers = {name: state.answers[i] for name, i in sent.items()}
    assert {n: a.accepted for n, a in answers.items()} == {
        "pause": True,
        "running": False,
        "unknown": False,
        "skip": True,
        "done": True,
        "continue": True,
    }
    assert "did you mean 'second'" in answers["unknown"].message
    assert "running" in answers["running"].message
    assert state.status("second") is Status.SKIPPED
    assert done.value("third") == 7
    assert done.final.is_completed()


def test_a_command_cancels(tmp_path: Path) -> None:
    plan = waiting(tmp_path / "go")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        command(plan, plan_run, CommandKind.CANCEL, reason="the source is down")
        until(plan, plan_run, lambda s: s.ended is not None)
        (tmp_path / "go").touch()  # a thread cannot be ended: let its body go

    done = beside(plan, act)
    assert done.final.is_cancelled()
    assert done.state.end_reason == "the source is down"
    # Its late success changes nothing: the attempt was taken back.
    assert done.state.status("first") is Status.BLOCKED


def test_a_cancelled_run_goes_on_when_somebody_resumes_it(tmp_path: Path) -> None:
    plan = waiting(tmp_path / "go")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        command(plan, plan_run, CommandKind.CANCEL)
        until(plan, plan_run, lambda s: s.ended is not None)
        (tmp_path / "go").touch()

    cancelled = beside(plan, act)
    again = run(plan, cancelled.plan_run)
    assert again.final.is_completed()
    assert [a.outcome for a in again.state.task("first").attempts][-1] == "success"
    assert again.state.end_status == "completed"
