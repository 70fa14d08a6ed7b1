"""Flows that somebody wrote by hand, monitored: they stay what they are, and a journal appears."""

from __future__ import annotations

import asyncio
import difflib
import gc
import inspect
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow, task
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.client.orchestration import get_client
from rich.console import Console

from athena_prefect import attach, service
from athena_prefect.cli.render import status_table
from athena_prefect.errors import InputError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Plan
from athena_prefect.report.dashboard import status_markdown
from athena_prefect.runtime import attached, attached_session, last_words
from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.service import open_run
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
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
    assert wait_for_afterwards(240)
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


def printed(what: Any) -> str:
    """What a terminal of ordinary width shows."""
    console = Console(width=100)
    with console.capture() as shown:
        console.print(what)
    return shown.get()


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
    assert (status.as_dict()["attached"], status.as_dict()["unplanned"]) == (True, ["audit_log"])
    assert "not in the plan, so not counted: audit_log" in status_markdown(status)
    assert "not in the plan, so not counted: audit_log" in printed(status_table(status))
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
    # Seen as it happened: Prefect's events still pass through where they are looked for.
    assert first.reported_by is Reporter.HOOK


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


@pytest.mark.prefect
# Prefect leaves a socket open behind `asyncio.run` of any flow, attached or not.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_async_flow_and_its_subflow(prefect_api: str) -> None:
    plan = plan_of(
        "one",
        {"id": "double", "inputs": {"x": "one"}, "map_over": "x"},
        "inner_flow",
        name="attached-async",
    )

    @task(cache_policy=NO_CACHE)
    async def double(x: int) -> int:
        return 2 * x

    @flow(name="inner flow")
    async def inner() -> int:
        return one()

    @attach(plan)
    @flow(name="outer")
    async def outer() -> int:
        one()
        doubled: list[Any] = [f.result() for f in double.map([1, 2, 3])]
        more: int = await inner()
        return int(sum(doubled)) + more

    async def finished() -> tuple[Any, int]:
        final: Any = await outer(return_state=True)
        return final, await final.aresult()

    final, value = asyncio.run(finished())
    gc.collect()  # what is left open is told here, not in some later test
    assert value == 13
    state = journal_of(plan, final)
    assert {t: str(state.status(t)) for t in plan.task_ids} == {
        "one": "success", "double": "success", "inner_flow": "success",
    }  # fmt: skip
    assert state.task("double").items == 3
    # What the subflow runs is the subflow's own: `one` was called once by this flow.
    assert len(state.task("one").attempts) == 1
    assert (state.end_status, state.unplanned) == ("completed", ())


@pytest.mark.prefect
def test_an_answer_from_a_cache_is_a_success_of_its_own(prefect_api: str, tmp_path: Path) -> None:
    plan = plan_of("kept", name="attached-cached")

    @task(persist_result=True, cache_policy=INPUTS)
    def kept(x: str) -> str:
        return x

    @flow(name="cached")
    def cached() -> None:
        kept(str(tmp_path))
        kept(str(tmp_path))

    state = journal_of(plan, attach(cached, plan)(return_state=True))
    first, second = state.task("kept").attempts
    assert (first.state_name, second.state_name) == ("Completed", "Cached")
    assert second.data["cached"] is True
    assert first.invalidated is False


# -- a monitor that fails -------------------------------------------------------------------------


def trivial(plan: Any, **more: Any) -> Any:
    @flow(name="trivial")
    def body() -> int:
        return one()

    return attach(body, plan, **more)(return_state=True)


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("plan", "names", "said"),
    [
        ("no-such-plan.yaml", None, "no such file"),
        (plan_of("one"), {"one": "ohne"}, "did you mean 'one'"),
    ],
)
def test_a_plan_that_cannot_be_used_is_said_once_and_fails_nothing(
    prefect_api: str, caplog: pytest.LogCaptureFixture, plan: Any, names: Any, said: str
) -> None:
    with caplog.at_level(logging.ERROR):
        final = trivial(plan, names=names)
        assert wait_for_afterwards(240)
    assert final.result() == 1
    (record,) = caplog.records
    assert record.message.startswith("athena: this run is not monitored")
    assert said in record.message


@pytest.mark.prefect
def test_a_database_that_is_away_fails_nothing_and_the_run_is_in_it_when_it_is_back(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(last_words, "LAST_WAIT_SECONDS", 0.1)
    monkeypatch.setenv("ATHENA_HOME", str(tmp_path))
    away = tmp_path / "athena.db"
    away.mkdir()  # a folder is no database
    monkeypatch.setenv("ATHENA_DATABASE_URL", f"sqlite:///{away}")
    plan = plan_of("one", name="attached-away")
    final = trivial(plan)
    assert final.result() == 1
    assert wait_for_afterwards(240)
    away.rmdir()
    Database.open(AthenaSettings())
    state = state_of(plan, flow_run_of(final))
    assert state.end_status == "completed"
    assert str(state.status("one")) == "success"


@pytest.mark.prefect
def test_without_a_way_to_listen_the_api_tells_it_all(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached, "listen", lambda *_: False)
    monkeypatch.setattr(attached, "_elsewhere", lambda _: True)
    plan = plan_of("one", "fails", name="attached-api")

    @flow(name="unheard")
    def unheard() -> int:
        fails(return_state=True)
        return one()

    final = attach(unheard, plan)(return_state=True)
    assert final.result() == 1
    state = journal_of(plan, final)
    assert [str(state.status(t)) for t in plan.task_ids] == ["success", "failure"]
    attempt = state.task("one").in_force
    assert attempt is not None
    assert attempt.reported_by is Reporter.API


# -- beside the run -------------------------------------------------------------------------------


@pytest.mark.prefect
def test_a_late_flow_raises_its_breach_and_tells_prefect(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attached_session, "ASSESS_SECONDS", 0.1)
    name = f"attached-late-{uuid4().hex[:8]}"
    plan = plan_of({"id": "slow", "duration": "100ms"}, name=name, deadline="200ms")
    breached = threading.Event()

    @task(cache_policy=NO_CACHE)
    def slow() -> None:
        breached.wait(300)  # until the monitor has seen that it is late

    @flow(name=name)
    def late() -> None:
        from prefect.runtime import flow_run

        own = UUID(str(flow_run.id))
        looking = threading.Thread(target=until, args=(lambda: state_of(plan, own).breaches,))
        looking.start()
        slow()
        looking.join()

    def until(wanted: Any) -> None:
        for _ in range(2400):  # more than a loaded machine needs
            if wanted():
                break
            time.sleep(0.1)
        breached.set()

    final = attach(late, plan)(return_state=True)
    state = journal_of(plan, final)
    assert "deadline" in state.breaches
    told: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        for _ in range(2400):
            wanted = {"related": {"id": [f"prefect.flow-run.{flow_run_of(final)}"]}}
            wanted["event"] = {"prefix": ["athena."]}
            answer = client.request("POST", "/events/filter", json={"filter": wanted})
            told = answer.json()["events"]
            if any(e["event"] == "athena.plan.completed" for e in told):
                break
            time.sleep(0.1)
        run = client.read_flow_run(flow_run_of(final))
    assert {"athena.plan.started", "athena.plan.at-risk", "athena.plan.completed"} <= {
        e["event"] for e in told
    }
    end = next(e for e in told if e["event"] == "athena.plan.completed")
    assert end["payload"]["late"] is True
    assert re.fullmatch(rf"{name} \d{{4}}-\d\d-\d\d #1", run.name)
    assert f"plan:{name}" in run.tags


@pytest.mark.prefect
def test_nothing_of_it_is_changed_by_hand(prefect_api: str) -> None:
    plan = plan_of("one", name="attached-by-hand")
    final = trivial(plan)
    journal_of(plan, final)
    for change in (service.skip, service.done, service.rerun):
        with pytest.raises(InputError, match="only monitored"):
            change(str(flow_run_of(final)), "one", settings=AthenaSettings())


@pytest.mark.prefect
def test_it_is_found_where_deployments_look_for_it(prefect_api: str) -> None:
    found = Flow.from_source(source=str(NIGHTLY), entrypoint="attached.py:nightly")
    assert isinstance(found, Flow)
    assert [h.__name__ for h in found.on_completion_hooks] == ["on_end", "athena_attached"]
    deployment = found.to_deployment(name="by-hand", cron="0 4 * * *")
    assert not inspect.isawaitable(deployment)
    assert deployment.entrypoint == "attached.py:nightly"
    assert deployment.flow_name == "nightly"
