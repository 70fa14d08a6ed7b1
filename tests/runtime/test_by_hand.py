"""What people change in a run: while it runs, and when it is over; each a revision."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from athena_prefect.cli.app import run_command
from athena_prefect.errors import InputError, RunError, UnknownNameError, UnknownRunError
from athena_prefect.journal.state import Status
from athena_prefect.plan.model import Plan
from athena_prefect.service import done, rerun, skip
from athena_prefect.service.by_hand import author
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from tests.runtime.support import plan_of, run, state_of
from tests.runtime.test_control import beside, running, until

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def settings() -> AthenaSettings:
    return AthenaSettings()


def ran(folder: Path) -> list[str]:
    """The tasks whose bodies began, in their order, as they wrote it down themselves."""
    lines = (folder / "log").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith("start")]


def noting(folder: Path, *tasks: dict[str, Any], name: str) -> Plan:
    def task(said: dict[str, Any]) -> dict[str, Any]:
        notes = {"call": "note", "with": {"folder": str(folder), "name": said["id"]}}
        return {**notes, **said}

    return plan_of(*(task(t) for t in tasks), name=name)


def revisions(plan_run: UUID) -> list[tuple[int, str, str]]:
    store = PlanStore(database_for(settings().database_url))
    return sorted((d.revision, d.author, d.reason) for d in store.decisions(plan_run=plan_run))


def test_a_run_that_is_over_runs_again_from_a_task_on(tmp_path: Path) -> None:
    plan = noting(
        tmp_path,
        {"id": "a"},
        {"id": "b", "depends_on": ["a"]},
        {"id": "c", "depends_on": ["b"]},
        {"id": "beside", "depends_on": ["a"]},
        name="again",
    )
    first = run(plan)
    assert first.final.is_completed()
    asked = rerun(str(first.plan_run), "b", reason="new data", settings=settings())
    assert (asked.live, asked.answered, asked.deployed) == (False, False, False)
    assert asked.go_on == f"athena run PLAN --resume {first.plan_run}"
    second = run(plan, first.plan_run)
    assert second.final.is_completed()
    assert sorted(ran(tmp_path)) == ["a", "b", "b", "beside", "c", "c"]
    state = second.state
    assert [len(state.task(t).attempts) for t in ("a", "b", "c", "beside")] == [1, 2, 2, 1]
    assert all(state.status(t.id) is Status.SUCCESS for t in plan.tasks)
    assert state.task("b").in_force is state.task("b").attempts[1]
    assert state.revision == 2
    assert state.answers[asked.command_id].accepted
    assert revisions(first.plan_run)[1:] == [(2, author(), "rerun from b: new data")]
    tokens = [x.split()[2] for x in (tmp_path / "log").read_text().splitlines() if "start b " in x]
    assert len(set(tokens)) == 2  # what runs again runs on other inputs


def test_while_it_runs_only_what_is_over_runs_again(tmp_path: Path) -> None:
    go = tmp_path / "go"
    plan = noting(
        tmp_path,
        {"id": "a"},
        {"id": "first", "call": "wait_for_file", "with": {"path": str(go)}, "depends_on": ["a"]},
        {"id": "other"},
        {"id": "after", "depends_on": ["other"]},
        {"id": "late", "depends_on": ["first"]},
        {"id": "later", "depends_on": ["late"]},
        name="live",
    )
    told: dict[str, Any] = {}

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: running(s) and s.status("after").good)
        name = str(plan_run)
        with pytest.raises(RunError, match="first is running"):
            rerun(name, "a", settings=settings())
        with pytest.raises(RunError, match="late has not run yet"):
            rerun(name, "late", settings=settings())
        with pytest.raises(InputError, match="other has already succeeded"):
            skip(name, "other", settings=settings())
        told["again"] = rerun(name, "other", settings=settings())
        told["done"] = done(name, "later", result='{"rows": 3}', settings=settings())
        told["skip"] = skip(name, "late", reason="not today", settings=settings())
        go.touch()

    finished = beside(plan, act)
    assert finished.final.is_completed()
    assert [c.answered for c in told.values()] == [True, True, True]
    assert [c.revision for c in told.values()] == [2, 3, 4]
    assert sorted(ran(tmp_path)) == ["a", "after", "after", "other", "other"]
    assert finished.state.status("late") is Status.SKIPPED
    assert finished.value("later") == {"rows": 3}
    assert [r for _, _, r in revisions(finished.plan_run)[1:]] == [
        "rerun from other", "done later", "skip late: not today",
    ]  # fmt: skip


def test_a_failed_run_goes_on_without_the_task_that_failed(tmp_path: Path) -> None:
    plan = noting(
        tmp_path,
        {"id": "bad", "call": "leak", "with": {"password": "x"}},
        {"id": "next", "depends_on": ["bad"]},
        name="failed",
    )
    first = run(plan)
    assert first.final.is_failed()
    asked = skip(str(first.plan_run)[:8], "bad", settings=settings())
    assert not asked.answered
    second = run(plan, first.plan_run)
    assert second.final.is_completed()
    assert second.state.status("bad") is Status.SKIPPED
    assert ran(tmp_path) == ["next"]
    with pytest.raises(InputError, match="is completed; `athena rerun"):
        skip(str(first.plan_run), "bad", settings=settings())


def test_what_cannot_be_changed_is_refused_and_leaves_no_command(tmp_path: Path) -> None:
    plan = noting(tmp_path, {"id": "a"}, {"id": "b", "depends_on": ["a"]}, name="refused")
    finished = run(plan)
    name = str(finished.plan_run)
    with pytest.raises(UnknownNameError, match="no task 'c'"):
        rerun(name, "c", settings=settings())
    with pytest.raises(InputError, match="--result is not JSON"):
        done(name, "b", result="{rows", settings=settings())
    with pytest.raises(InputError, match="b has already succeeded"):
        done(name, "b", settings=settings())
    with pytest.raises(UnknownRunError):
        skip("00000000", "a", settings=settings())
    assert not state_of(plan, finished.plan_run).commands
    monitored = uuid4()
    PlanStore(database_for(settings().database_url)).open_run(
        monitored, plan, started=datetime.now(UTC)
    )
    with pytest.raises(InputError, match="only monitored"):
        skip(str(monitored), "a", settings=settings())


def test_the_command_line_asks_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = noting(tmp_path, {"id": "a"}, name="by-hand-cli")
    name = str(run(plan).plan_run)
    capsys.readouterr()
    assert run_command(["rerun", name, "--from", "a", "--no-start", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["command"], said["task"], said["answered"]) == ("rerun", "a", False)
    assert run_command(["rerun", name, "--from", "a", "--no-start"]) == 0
    assert f"--resume {name}" in capsys.readouterr().out
    assert run_command(["skip", name, "a"]) == 2
    assert "already succeeded" in capsys.readouterr().err
