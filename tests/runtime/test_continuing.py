"""A dispatcher whose run was given another revision elsewhere: it drains, and hands over."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from athena_prefect.journal.events import CommandKind, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.plan.model import Plan
from athena_prefect.plan.revision import revised
from athena_prefect.runtime.continuing import revised_event
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.seams import VARIABLE
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from tests.runtime import places
from tests.runtime.support import plan_of, state_of
from tests.runtime.test_control import beside, command, running, until
from tests.runtime.test_replanner import of_kind

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def waiting(name: str, path: Path) -> Plan:
    return plan_of(
        {"id": "first", "call": "wait_for_file", "with": {"path": str(path)}, "duration": "20s"},
        {"id": "bad", "call": "fail", "duration": "20s", "optional": True},
        {"id": "one", "call": "one", "depends_on": ["first"], "duration": "20s",
         "modes": [{"name": "fast", "duration": "5s"}]},
        {"id": "left", "call": "one", "depends_on": ["one"], "duration": "20s", "optional": True},
        {"id": "last", "call": "one", "depends_on": ["one"], "duration": "20s"},
        name=name,
        goals=["last"],
    )  # fmt: skip


def give_another_revision(plan: Plan, plan_run: UUID) -> None:
    """As the replanning flow does: stored, then brought into force."""
    store = PlanStore(database_for(AthenaSettings().database_url))
    figures = {"modes": {"one": "fast"}, "again": [], "strategy": "full", "continuation": True,
               "starts": {"one": 20.0, "last": 25.0}}  # fmt: skip
    store.save_run_revision(
        plan_run, 2, revised(plan, dropped=["left"]), reason="a test", figures=figures
    )
    event = revised_event(
        plan_run, 2, figures, author="a test", reason="a test", at=datetime.now(UTC)
    )
    recording_of(AthenaSettings(), plan).open_journal().append(event)


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places that dispatchers have reached."""
    monkeypatch.setenv(VARIABLE, "tests.runtime.places:reached")
    places.seen.clear()
    return places.seen


def draining() -> None:
    end = time.monotonic() + 240  # more than a loaded machine needs
    while "draining" not in places.seen:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_drains_and_where_nothing_could_go_on_it_does_so_itself(tmp_path: Path) -> None:
    plan = waiting("drained", tmp_path / "go")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: running(s) and s.status("bad") is Status.FAILURE)
        give_another_revision(plan, plan_run)
        draining()
        (tmp_path / "go").touch()

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    state = done.state
    assert (state.end_status, state.revision) == ("completed", 2)
    assert state.task("one").attempts[0].data["mode"] == "fast"
    assert [len(state.task(t).attempts) for t in ("first", "one", "last")] == [1, 1, 1]
    assert not state.task("left").attempts
    (superseded,) = of_kind(plan, done.plan_run, RunEventKind.SUPERSEDED)
    started = state.task("one").attempts[0].started
    assert started is not None and started > superseded.at, "nothing starts while it drains"


def test_where_all_is_done_when_it_has_drained_it_ends(tmp_path: Path) -> None:
    """The revision came when the last tasks had begun: nobody is started to find that out."""
    waits = {"call": "wait_for_file", "with": {"path": str(tmp_path / "go")}, "duration": "20s"}
    plan = plan_of({"id": "first", **waits}, {"id": "left", **waits, "optional": True},
                   name="drained-to-the-end", goals=["first"])  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: running(s) and s.status("left") is Status.RUNNING)
        give_another_revision(plan, plan_run)
        draining()
        (tmp_path / "go").touch()

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert (done.state.end_status, done.state.revision) == ("completed", 2)
    assert not of_kind(plan, done.plan_run, RunEventKind.SUPERSEDED)


def test_a_run_that_is_paused_stays_so_until_it_goes_on(tmp_path: Path) -> None:
    plan = waiting("paused-and-revised", tmp_path / "go")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        command(plan, plan_run, CommandKind.PAUSE)
        until(plan, plan_run, lambda s: s.paused)
        give_another_revision(plan, plan_run)
        (tmp_path / "go").touch()
        until(plan, plan_run, lambda s: s.status("first") is Status.SUCCESS and s.revision == 2)
        assert not of_kind(plan, plan_run, RunEventKind.SUPERSEDED)
        assert state_of(plan, plan_run).paused
        command(plan, plan_run, CommandKind.CONTINUE)

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert len(of_kind(plan, done.plan_run, RunEventKind.SUPERSEDED)) == 1
    assert done.state.revision == 2


def test_a_run_that_is_cancelled_while_it_drains_ends(tmp_path: Path) -> None:
    plan = waiting("cancelled-while-draining", tmp_path / "go")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        give_another_revision(plan, plan_run)
        draining()
        command(plan, plan_run, CommandKind.CANCEL)
        (tmp_path / "go").touch()

    done = beside(plan, act)
    assert done.state.end_status == "cancelled", "by whoever goes on"
    assert not done.state.task("one").attempts
