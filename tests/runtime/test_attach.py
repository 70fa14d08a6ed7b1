"""Flows that somebody wrote by hand, monitored: they stay what they are, and a journal appears."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from athena_prefect import attach
from athena_prefect.errors import InputError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.session import recording_of
from athena_prefect.service import open_run
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import state_of

NIGHTLY = Path(__file__).parent / "project" / "nightly"


def loaded(file: Path, name: str) -> Any:
    """The flow `name` of a file, loaded as a worker does."""
    from prefect.flows import load_flow_from_entrypoint

    return load_flow_from_entrypoint(f"{file}:{name}", use_placeholder_flow=False)


def plan_of(*tasks: Any, name: str = "attached-plan", **more: Any) -> Plan:
    """A plan of tasks without calls."""
    full = [{"id": t} if isinstance(t, str) else t for t in tasks]
    return Plan.model_validate({"name": name, "tasks": full, **more})


def flow_run_of(state: Any) -> UUID:
    found: UUID = state.state_details.flow_run_id
    return found


def journal_of(plan: Plan, final: Any) -> ExecutionState:
    """What the journal of a flow run's plan run says once everything is written."""
    assert wait_for_afterwards(60)
    return state_of(plan, flow_run_of(final))


# -- the flow stays what it is --------------------------------------------------------------------


def test_it_takes_at_most_three_changed_lines() -> None:
    before, after = ((NIGHTLY / f).read_text().splitlines() for f in ("flows.py", "attached.py"))
    changed = [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---") and line[1:].strip()
    ]
    assert len(changed) <= 3, changed


def test_the_flow_is_the_same_object_with_its_own_options_and_hooks_first() -> None:
    def mine(flow: Any, flow_run: Any, state: Any) -> None: ...

    own: list[Any] = [mine]

    @flow(name="mine", retries=2, on_completion=own, on_failure=own)
    def hand_written(x: int) -> str:
        return str(x)

    schema, entrypoint = hand_written.parameters, hand_written._entrypoint
    attached = attach(hand_written, plan_of("a"))
    assert attached is hand_written
    assert attached.on_completion_hooks[0] is mine
    assert own == [mine], "the user's own list was changed"
    assert (attached.name, attached.retries) == ("mine", 2)
    assert (attached.parameters, attached._entrypoint) == (schema, entrypoint)
    again = attach(attached, plan_of("a"))
    assert len(again.on_completion_hooks) == 2, "attached twice"
    assert len(again.with_options(name="other").on_running_hooks) == 1


def test_what_is_no_flow_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(InputError, match="put @attach above @flow"):
        attach(plan_of("a"))(lambda: None)  # type: ignore[type-var]
    with pytest.raises(InputError, match="no plan"):
        attach(flow(lambda: None, name="f"))  # type: ignore[call-overload]


# -- what its journal says ------------------------------------------------------------------------


@pytest.mark.prefect
def test_a_flow_of_twenty_tasks_is_monitored_and_its_own_hooks_still_fire(
    prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    nightly = loaded(NIGHTLY / "attached.py", "nightly")
    plan = Plan.load(NIGHTLY / "plan.yaml")
    assert len(plan.tasks) == 20
    with caplog.at_level(logging.WARNING):
        final = nightly(return_state=True)
    assert final.result() == "sent"
    called = nightly.fn.__globals__["called"]
    assert (called[0], called[-1]) == ("Running", "Completed")
    assert called.count("Parse File") == 3

    state = journal_of(plan, final)
    assert {t: str(state.status(t)) for t in plan.task_ids} == dict.fromkeys(
        plan.task_ids, "success"
    )
    assert set(state.items("fetch")) == set(state.items("parse-file")) == {0, 1, 2}
    assert state.end_status == "completed"
    assert state.end_reason == ""
    assert state.baseline is not None
    assert state.unplanned == ("audit_log",)
    assert [r.message for r in caplog.records if "not in plan" in r.message] == [
        "athena: not in plan nightly, so not counted: audit_log"
    ]

    status = open_run(str(flow_run_of(final)), settings=AthenaSettings()).status()
    assert status.word == "completed"
    assert status.deviation is not None
    assert status.deviation.completed_tasks == 20
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_of(final))
    assert run.end_time is not None
    assert run.start_time is not None
    assert state.started is not None
    # The times are Prefect's, not those at which somebody looked.
    assert abs((state.started - run.start_time).total_seconds()) < 0.001
    assert state.ended is not None
    assert abs((state.ended - run.end_time).total_seconds()) < 0.001
    first = state.task("list_files").in_force
    assert first is not None
    assert first.started is not None
    assert first.started >= state.started


@task(cache_policy=NO_CACHE)
def one() -> int:
    return 1


@task(cache_policy=NO_CACHE)
def fails() -> int:
    raise ValueError("no such table")


@task(cache_policy=NO_CACHE)
def after(x: Any) -> Any:
    return x


@pytest.mark.prefect
def test_a_failing_flow_ends_failed_and_says_what_never_ran(prefect_api: str) -> None:
    plan = plan_of("one", "fails", "after", "never")

    @flow(name="failing")
    def failing() -> None:
        one()
        broken = fails.submit()
        after.submit(broken).wait()
        broken.result()

    final = attach(failing, plan)(return_state=True)
    assert final.is_failed()
    state = journal_of(plan, final)
    assert state.end_status == "failed"
    assert "no such table" in state.end_reason
    assert "never ran: never" in state.end_reason
    assert {t: state.status(t) for t in plan.task_ids} == {
        "one": Status.SUCCESS,
        "fails": Status.FAILURE,
        "after": Status.BLOCKED,
        "never": Status.WAITING,
    }


@pytest.mark.prefect
def test_a_flow_run_that_prefect_retries_stays_one_plan_run(prefect_api: str) -> None:
    plan = plan_of("one", "flaky")
    tries: list[int] = []

    @task(name="flaky", retries=1, cache_policy=NO_CACHE)
    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    @flow(name="retried", retries=1)
    def retried() -> int:
        return one() + flaky()

    final = attach(retried, plan)(return_state=True)
    assert final.result() == 4
    state = journal_of(plan, final)
    assert state.end_status == "completed"
    assert state.resumed == ()
    # Two attempts of the flow: what was called again is an attempt of its own.
    assert [a.invalidated for a in state.task("one").attempts] == [True, False]
    outcomes = [str(a.outcome) for a in state.task("flaky").attempts]
    assert outcomes == ["failure", "failure", "success"]
    journal = recording_of(AthenaSettings(), plan).open_journal()
    events = [e.event for e in journal.read(flow_run_of(final))]
    kinds = [e.kind for e in events if isinstance(e, RunEvent)]
    assert kinds.count(RunEventKind.STARTED) == kinds.count(RunEventKind.ENDED) == 1
