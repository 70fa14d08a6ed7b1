"""A running plan adopts another one for its rest, and loses no work."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
)

from athena_prefect.errors import InputError, StaleOptionError
from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.service.by_hand import author
from athena_prefect.service.reading import report
from athena_prefect.service.replanning import replan
from athena_prefect.service.showing import choose, look
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.replans import replanning_events
from tests.runtime.support import plan_of, run
from tests.runtime.test_control import beside, running, until

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def events(plan: Plan, plan_run: UUID) -> list[Event]:
    journal = recording_of(AthenaSettings(), plan).open_journal()
    return [e.event for e in journal.read(plan_run)]


def of_kind(plan: Plan, plan_run: UUID, kind: RunEventKind) -> list[RunEvent]:
    return [e for e in events(plan, plan_run) if isinstance(e, RunEvent) and e.kind is kind]


def with_a_way_on(name: str, **replanning: Any) -> Plan:
    return plan_of(
        {"id": "first", "call": "one", "duration": "50ms"},
        {
            "id": "bad",
            "call": "leak",
            "with": {"password": "x"},
            "duration": "50ms",
            "depends_on": ["first"],
            "modes": [{"name": "other", "call": "deeds:log_in", "duration": "60ms"}],
        },
        {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["bad"]},
        name=name,
        replanning=replanning,
    )


def with_two_that_fail(name: str, folder: Path) -> Plan:
    """`bad` fails at once, `late` when ``go`` is there; both have another mode."""
    return plan_of(
        {"id": "bad", "call": "leak", "with": {"password": "x"}, "duration": "50ms",
         "modes": [{"name": "other", "call": "deeds:log_in", "duration": "60ms"}]},
        {"id": "late", "call": "leak_later", "with": {"path": str(folder / "go")},
         "duration": "50ms",
         "modes": [{"name": "other", "call": "deeds:wait_for_file", "duration": "60ms"}]},
        {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["bad", "late"]},
        name=name,
        replanning={"decide": "ask"},
    )  # fmt: skip


def test_a_required_task_that_failed_is_done_in_another_mode() -> None:
    plan = with_a_way_on("way-on")
    done = run(plan)
    assert done.final.is_completed(), done.final
    state = done.state
    assert [a.data["mode"] for a in state.task("bad").attempts] == ["default", "other"]
    assert [len(state.task(t).attempts) for t in ("first", "last")] == [1, 1]
    assert state.status("last") is Status.SUCCESS
    assert state.revision == 2
    assert state.replans == 1
    (revised,) = of_kind(plan, done.plan_run, RunEventKind.REVISED)
    assert revised.data["strategy"] == "full"
    assert revised.data["changes"] == ["bad is done again in mode other"]
    assert revised.data["modes"] == {"bad": "other"}
    assert revised.data["p50"] > 0
    (chosen,) = of_kind(plan, done.plan_run, RunEventKind.CHOSEN)
    assert chosen.data["author"] == "policy"
    store = PlanStore(database_for(AthenaSettings().database_url))
    newest = max(store.decisions(plan_run=done.plan_run), key=lambda d: d.revision)
    assert newest.revision == 2
    assert newest.reason.startswith("full: bad failed")
    assert decided(done.plan_run) == [("adopted", "full", True)]
    figures = store.figures(done.plan_run, 2)
    assert figures is not None
    assert {**figures, **_promised(revised), "modes": {"bad": "other"}} == figures
    assert [d["subject"] for d in figures["details"]] == ["bad"]


def decided(plan_run: UUID) -> list[tuple[str, str, bool]]:
    """Outcome, strategy, and whether a new plan came of it, the oldest first."""
    database = database_for(AthenaSettings().database_url)
    ids = [d.id for d in PlanStore(database).decisions(plan_run=plan_run)]
    rows = sorted(replanning_events(database, ids), key=lambda e: e.id)
    return [(r.outcome, r.strategy, r.new_plan_id is not None) for r in rows]


def _promised(event: RunEvent) -> dict[str, Any]:
    return {k: event.data[k] for k in ("p50", "accepted", "p_deadline")}


@pytest.mark.parametrize("decide", ["advise", "off"])
def test_who_may_not_decide_changes_nothing(decide: str, tmp_path: Path) -> None:
    plan = with_a_way_on(f"only-{decide}", decide=decide)
    done = run(plan)
    assert done.final.is_failed()
    assert done.state.revision == 1
    assert done.state.status("last") is Status.BLOCKED
    assert not of_kind(plan, done.plan_run, RunEventKind.CHOSEN)
    if decide == "off":
        assert decided(done.plan_run) == []
        return
    # What it would have done, and, now that the run is over, that it would have been right.
    outcomes = [("proposed", "full", False), ("would have helped", "full", False)]
    assert [o for o in decided(done.plan_run) if o[1] == "full"] == outcomes
    found = next(p for p in of_kind(plan, done.plan_run, RunEventKind.PROPOSED))
    assert "bad is done again in mode other" in str(found.data["options"])
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["only-advise-replanning"]))
        (shown,) = client.read_artifacts(artifact_filter=wanted)
    assert "In hindsight right: the run did not reach its goals" in str(shown.data)
    file = tmp_path / "report.html"
    report(str(done.plan_run), file, settings=AthenaSettings())
    page = file.read_text()
    assert "In hindsight right" in page and "Options that were found last" in page


def test_no_way_on_is_told_and_stops_only_where_it_may(tmp_path: Path) -> None:
    def hopeless(name: str, abort: str) -> Plan:
        return plan_of(
            {"id": "bad", "call": "leak", "with": {"password": "x"}, "duration": "50ms"},
            {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["bad"]},
            {"id": "beside", "call": "wait_for_file", "with": {"path": str(tmp_path / name)},
             "duration": "1h"},
            {"id": "after", "call": "one", "duration": "1h", "depends_on": ["beside"]},
            name=name,
            replanning={"abort": abort},
        )  # fmt: skip

    def act_of(plan: Plan) -> Any:
        def act(plan_run: UUID) -> None:
            until(plan, plan_run, lambda s: s.status("bad") is Status.FAILURE)
            until(plan, plan_run, lambda _: bool(of_kind(plan, plan_run, RunEventKind.PROPOSED)))
            (tmp_path / plan.name).touch()

        return act

    asked = hopeless("asks-first", "ask")
    done = beside(asked, act_of(asked))
    assert done.final.is_failed()
    assert done.state.status("after").good  # a monitor never stops what could go on
    stopping = hopeless("stops", "auto")
    done = beside(stopping, act_of(stopping))
    assert done.final.name == "Aborted"
    assert done.state.end_status == "aborted"
    assert decided(done.plan_run) == [("proposed", "abort", False), ("aborted", "abort", False)]
    assert done.state.status("beside").good  # what ran was let finish
    assert not done.state.task("after").attempts
    assert done.state.end_reason.endswith("done: beside; not done: bad, last, after")


def test_an_option_is_adopted_by_hand_while_the_run_goes_on(tmp_path: Path) -> None:
    go = tmp_path / "go"
    plan = plan_of(
        {"id": "first", "call": "wait_for_file", "with": {"path": str(go)}, "duration": "2s"},
        {"id": "extra", "call": "one", "duration": "1h", "depends_on": ["first"],
         "optional": True, "value": 0.1},
        {"id": "last", "call": "one", "duration": "1s", "depends_on": ["first", "extra"]},
        name="by-option",
        deadline="10s",
        goals=["last"],
        replanning={"decide": "advise"},
    )  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, running)
        until(plan, plan_run, lambda s: s.baseline is not None)
        name, settings = str(plan_run), AthenaSettings()
        with pytest.raises(StaleOptionError, match="have been looked at, so 0 is none"):
            choose(name, 0, settings=settings, strategy="segment")
        found = look(name, settings=settings, strategy="full")
        with pytest.raises(InputError, match="there is no option 77"):
            choose(name, 77, settings=settings)
        option = next(o for o in found.options if "extra is left out" in o.changes)
        asked = choose(name, option.option_id, settings=settings)
        assert (asked.answered, asked.revision) == (True, 2)
        go.touch()

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.status("extra") is Status.SKIPPED
    assert not done.state.task("extra").attempts
    assert done.state.status("last").good
    (revised,) = of_kind(plan, done.plan_run, RunEventKind.REVISED)
    assert revised.data["changes"] == ["extra is left out"]
    assert revised.data["author"] == author()
    with pytest.raises(InputError, match="is over"):
        replan(str(done.plan_run), settings=AthenaSettings())
