"""Checks beside a run on a real server: held tasks, modes, children that hang, what is told."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.monitor.effects import violations_in_force
from athena_prefect.report.assumptions import assumption_table, assumptions_line
from athena_prefect.runtime.checking import ENDED_FIRST, Checking
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.telling import Deriver
from athena_prefect.service.reading import open_run
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import Run, plan_of, run, state_of
from tests.runtime.test_control import beside, until

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def looks(name: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    """A check by a function of the test project."""
    return {"kind": "function", "call": f"deeds:{name}", **more, "with": dict(arguments)}


def verdicts(done: Run, name: str) -> list[str]:
    return [c.verdict for c in done.state.checks.get(name, ())]


def test_milestones_are_checked_before_what_rests_on_them(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    done = run(
        plan_of(
            {"id": "touch", "call": "touch", "with": {"path": str(flag)}},
            {"id": "after", "call": "one", "depends_on": ["touch"]},
            {"id": "last", "call": "one", "depends_on": ["after"]},
            name="with-milestones",
            assumptions=[
                {"id": "memory", "milestones": [{"at": "start"}], "affects": ["touch"],
                 "check": {"kind": "memory", "unit": "B"}, "expected_value": 1},
                {"id": "flag", "milestones": [{"after": "touch"}], "affects": ["after"],
                 "check": {"kind": "file_exists", "path": str(flag)}},
                {"id": "port", "milestones": [{"before": "last"}], "affects": ["last"],
                 "check": {"kind": "tcp", "port": 1}},
                {"id": "asked", "milestones": [{"before": "after"}], "affects": ["after"]},
            ],
        )
    )  # fmt: skip
    assert done.final.is_completed(), done.final.message
    assert verdicts(done, "memory") == ["holds"]
    assert verdicts(done, "flag") == ["holds"]
    assert verdicts(done, "port") == ["violated"], "and without an effect nothing follows"
    assert verdicts(done, "asked") == ["unknown"], "nobody has answered, and nobody is waited for"
    state = done.state
    for name, task in (("memory", "touch"), ("flag", "after"), ("port", "last")):
        started = state.task(task).attempts[0].started
        assert started is not None and state.checks[name][0].at <= started
    # Task runs of the same flow run, tagged, Completed whatever the verdict; no task of the plan.
    with get_client(sync_client=True) as client:
        filter_ = FlowRunFilter(id=FlowRunFilterId(any_=[done.final.state_details.flow_run_id]))
        end = time.monotonic() + 240  # more than a loaded machine needs
        while time.monotonic() < end:
            found = client.read_task_runs(flow_run_filter=filter_)
            checks = {r.name: r for r in found if "athena-check" in r.tags}
            if len(checks) == 3 and all(r.state and r.state.is_final() for r in checks.values()):
                break
            time.sleep(0.25)
    assert set(checks) == {"check memory", "check flag", "check port"}
    assert {r.state.type.value for r in checks.values() if r.state} == {"COMPLETED"}
    assert not any(t.startswith("check") for t, _ in state.tasks)
    with sqlite3.connect(AthenaSettings().database_url.removeprefix("sqlite:///")) as rows:
        kept = rows.execute(
            "select assumption_id, verdict, valid from assumption_validations where plan_run = ?",
            (done.plan_run.hex,),
        ).fetchall()
        if not kept:
            kept = rows.execute(
                "select assumption_id, verdict, valid from assumption_validations "
                "where plan_run = ?", (str(done.plan_run),),
            ).fetchall()  # fmt: skip
    assert sorted(kept) == [
        ("asked", "unknown", None), ("flag", "holds", 1), ("memory", "holds", 1),
        ("port", "violated", 0),
    ]  # fmt: skip
    told = _told(done)
    assert told.count("athena.assumption.violated") == 1
    assert told.count("athena.assumption.checked") == 2
    assert told.count("athena.assumption.reminder") == 1, "an answer is wanted"


def _told(done: Run) -> list[str]:
    journal = recording_of(AthenaSettings(), done.plan).open_journal()
    entries = journal.read(done.plan_run)
    return [e.event for _, e in Deriver(done.plan, done.plan_run, "default").take(entries)]


def test_block_holds_a_task_until_it_holds_again() -> None:
    plan = plan_of(
        {"id": "first", "call": "one"},
        {"id": "held", "call": "one", "depends_on": ["first"]},
        {"id": "free", "call": "one", "depends_on": ["first"]},
        name="with-a-block",
        assumptions=[
            {"id": "licence", "affects": ["held"], "effect": {"block": True},
             "expected_value": True, "milestones": [{"before": "held"}]},
        ],
    )  # fmt: skip
    plan_run = uuid4()
    journal = recording_of(AthenaSettings(), plan).open_journal()

    def answer(value: bool) -> CheckEvent:
        return CheckEvent(
            plan_run=plan_run, assumption_id="licence", check_id=str(uuid4()),
            at=datetime.now(UTC), verdict="holds" if value else "violated",
            data={"value": value, "reason": f"is {value}"},
        )  # fmt: skip

    seen: list[Status] = []

    def person() -> None:
        journal.append(answer(False))
        try:
            until(plan, plan_run, lambda s: s.status("free").good)
            time.sleep(1.5)
            seen.append(state_of(plan, plan_run).status("held"))
        finally:
            journal.append(answer(True))

    someone = Thread(target=person)
    someone.start()
    done = run(plan, plan_run)
    someone.join()
    assert done.final.is_completed(), done.final.message
    assert seen == [Status.READY]
    held = done.state.task("held").attempts
    assert len(held) == 1 and held[0].started is not None
    let_go = [c.at for c in done.state.checks["licence"] if c.verdict == "holds"]
    assert held[0].started >= let_go[0]
    assert _told(done).count("athena.assumption.recovered") == 1


def test_a_mode_is_the_only_one_while_it_is_violated() -> None:
    done = run(
        plan_of(
            {"id": "first", "call": "one"},
            {"id": "then", "call": "square", "with": {"x": 3}, "depends_on": ["first"],
             "modes": [{"name": "other", "with": {"x": 3, "plus": 5}}]},
            name="with-a-mode",
            assumptions=[
                {"id": "port", "milestones": [{"after": "first"}], "affects": ["then"],
                 "check": {"kind": "tcp", "port": 1}, "effect": {"mode": "other"}},
            ],
        )
    )  # fmt: skip
    assert done.value("then") == 14
    assert done.state.task("then").attempts[0].data["mode"] == "other"


def test_a_check_that_hangs_is_ended_and_the_run_goes_on() -> None:
    done = run(
        plan_of(
            {"id": "first", "call": "one"},
            name="with-a-hang",
            assumptions=[
                {"id": "hangs", "milestones": [{"at": "start"}], "affects": ["first"],
                 "check": looks("hang", ("seconds", 600), timeout="1s")},
                {"id": "dies", "milestones": [{"at": "start"}], "affects": ["first"],
                 "check": looks("die")},
                {"id": "raises", "milestones": [{"at": "start"}], "affects": ["first"],
                 "check": looks("fail")},
            ],
        )
    )  # fmt: skip
    assert done.final.is_completed(), done.final.message
    errors = {n: done.state.checks[n][0].data["error"] for n in ("hangs", "dies", "raises")}
    assert errors["hangs"] == "gave no answer within 1s; it was ended"
    assert errors["dies"] == "its process ended without an answer"
    assert errors["raises"].startswith("ValueError: ")


def test_timed_checks_are_made_again_and_again(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "long", "call": "wait_for_file", "with": {"path": str(tmp_path / "go")}},
        name="with-timed-checks",
        assumptions=[
            {"id": "load", "validation_frequency": "1s",
             "check": {"kind": "cpu_load"}, "expected_value": 1000},
            {"id": "person", "validation_frequency": "1s", "validation_method": "manual"},
        ],
    )  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: len(s.checks.get("load", ())) >= 3 and "person" in s.checks)
        (tmp_path / "go").touch()

    done = beside(plan, act)
    assert done.final.is_completed()
    checks = done.state.checks["load"]
    assert {c.verdict for c in checks} == {"holds"}
    assert all(a.at < b.at for a, b in pairwise(checks))
    assert verdicts(done, "person")[0] == "unknown", "a reminder: nobody has answered"


def test_no_check_that_is_due_is_lost_when_the_run_ends_first(tmp_path: Path) -> None:
    """Two hundred are due at the start of a run of one task, and one that no run can wait for."""
    many = [
        {"id": f"a{i}", "check": {"kind": "disk_free", "path": ".", "unit": "B"},
         "expected_value": 1, "milestones": [{"at": "start"}]}
        for i in range(200)
    ]  # fmt: skip
    hangs = looks("hang", ("seconds", 600), timeout="10m")
    done = run(
        plan_of(
            {"id": "first", "call": "one"},
            name="with-two-hundred",
            assumptions=[
                {"id": "milestone", "milestones": [{"at": "start"}], "check": hangs},
                {"id": "timed", "validation_frequency": "0.1s", "check": hangs},
                *many,
                {"id": "last", "milestones": [{"after": "first"}],
                 "check": {"kind": "memory", "unit": "B"}, "expected_value": 1},
            ],
        )
    )  # fmt: skip
    assert done.final.is_completed(), done.final.message
    checks = done.state.checks
    assert set(checks) == {"milestone", "timed", "last", *(f"a{i}" for i in range(200))}
    assert all(len(found) == 1 for found in checks.values())
    for name in ("milestone", "timed"):
        assert checks[name][0].verdict == "unknown"
        assert checks[name][0].data["error"] == ENDED_FIRST
    # How many of the others there was time for is the machine's; none is anything but told.
    told = {(c.verdict, c.data.get("error", "")) for i in range(200) for c in checks[f"a{i}"]}
    assert told <= {("holds", ""), ("unknown", ENDED_FIRST)}
    ended = done.state.ended
    assert ended is not None and all(c.at <= ended for found in checks.values() for c in found)
    with sqlite3.connect(AthenaSettings().database_url.removeprefix("sqlite:///")) as rows:
        (kept,) = rows.execute(
            "select count(*) from assumption_validations where replace(plan_run, '-', '') = ?",
            (done.plan_run.hex,),
        ).fetchone()
    assert kept == 203


def test_a_plan_without_assumptions_has_nothing_beside_its_run() -> None:
    seen: list[str] = []
    facts: Any = SimpleNamespace(plan=plan_of({"id": "a", "call": "one"}))
    dispatcher: Any = SimpleNamespace(gate=None)
    with Checking(facts, lambda: datetime.now(UTC)).beside(dispatcher) as checking:
        seen += [t.name for t in enumerate_threads()]
        checking.leave(dispatcher)
    assert dispatcher.gate is None
    assert "athena-checks" not in seen


def test_a_failure_that_is_coming_is_told_before_it_is_there(tmp_path: Path) -> None:
    """The disk fills up: told as predicted, on the dashboard too, while it still holds."""
    go = tmp_path / "go"
    plan = plan_of(
        {"id": "long", "call": "wait_for_file", "duration": "60s", "with": {"path": str(go)}},
        {"id": "load", "call": "one", "depends_on": ["long"], "duration": "10s"},
        name="with-a-prediction",
        assumptions=[
            {"id": "room", "validation_frequency": "0.5s", "affects": ["load"],
             "check": looks("falling", ("path", str(tmp_path / "count"))),
             "expected_value": 50, "sense": "at_least"},
        ],
    )  # fmt: skip

    def act(plan_run: UUID) -> None:
        def predicted(state: ExecutionState) -> bool:
            told = [c.data.get("predicted") or {} for c in state.checks.get("room", ())]
            return any("falling by" in p.get("reason", "") for p in told)

        state = until(plan, plan_run, predicted)
        assert "room" not in violations_in_force(plan, state)
        status = open_run(str(plan_run), settings=AthenaSettings()).status()
        assert "**room may fail**: " in assumptions_line(status)
        (row,) = assumption_table(status)
        assert row["verdict"] == "holds" and row["may fail"]
        go.touch()

    done = beside(plan, act)
    assert done.final.is_completed(), done.final.message
    told = [w for w in _told(done) if w.startswith("athena.assumption.")]
    assert "athena.assumption.predicted" in told
    with get_client(sync_client=True) as client:
        wanted = {"event": {"name": ["athena.assumption.predicted"]},
                  "resource": {"id": [f"athena.plan.{plan.name}"]}}  # fmt: skip
        end = time.monotonic() + 240  # more than a loaded machine needs
        events: list[dict[str, Any]] = []
        while not events and time.monotonic() < end:
            time.sleep(0.25)
            answer = client.request("POST", "/events/filter", json={"filter": wanted})
            events = answer.json()["events"]
    (event,) = events
    told_of = event["payload"]["predicted"]
    assert told_of["probability"] > 0.5 and "falling by" in told_of["reason"]
    assert event["payload"]["verdict"] == "holds"
