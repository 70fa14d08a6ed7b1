"""A running plan adopts another one for its rest, and loses no work."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
)

from athena_prefect.errors import InputError, StaleOptionError
from athena_prefect.journal.events import CommandKind, Event, RunEvent, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.plan.model import Plan
from athena_prefect.runtime import replanner
from athena_prefect.runtime.handing_over import HandingOver
from athena_prefect.runtime.replanner import Replanner
from athena_prefect.runtime.session import recording_of
from athena_prefect.service.by_hand import author
from athena_prefect.service.reading import report
from athena_prefect.service.replanning import replan
from athena_prefect.service.showing import choose, look
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.replans import replanning_events
from tests.runtime.support import plan_of, run
from tests.runtime.test_control import beside, command, running, until

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
    assert store.figures(done.plan_run, 2) == {**_promised(revised), "modes": {"bad": "other"}}


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


def test_a_person_is_asked_and_chooses() -> None:
    plan = with_a_way_on("asked", decide="ask")

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: s.status("bad") is Status.FAILURE)
        found: list[RunEvent] = []

        def proposed(_: Any) -> bool:
            found[:] = of_kind(plan, plan_run, RunEventKind.PROPOSED)
            return bool(found)

        until(plan, plan_run, proposed)
        data = found[0].data
        best = data["options"][data["recommended"]]
        wrong = command(plan, plan_run, CommandKind.ADOPT, title="no such", strategy="full")
        state = until(plan, plan_run, lambda s: wrong in s.answers)
        assert not state.answers[wrong].accepted
        assert best["title"] in state.answers[wrong].message
        command(plan, plan_run, CommandKind.ADOPT, title=best["title"], strategy="full")

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2
    (chosen,) = of_kind(plan, done.plan_run, RunEventKind.CHOSEN)
    assert chosen.data["author"] == "a test"


def form_of(plan_run: UUID) -> Any:
    """The flow run that carries the run's newest form, once it is open."""
    end = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            found = [
                r
                for r in client.read_flow_runs(
                    flow_filter=FlowFilter(name=FlowFilterName(any_=["athena.replan.answer"]))
                )
                if f"plan-run:{plan_run}" in r.tags and r.state and r.state.is_paused()
            ]
            if found:
                return found[0]
            time.sleep(0.1)
    raise AssertionError("no form was opened")


def state_of_form(form: Any) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(form.id).state


def test_a_person_answers_through_the_form_in_prefects_ui() -> None:
    plan = with_a_way_on("by-form", decide="ask")
    forms: list[Any] = []

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: s.status("bad") is Status.FAILURE)
        form = form_of(plan_run)
        forms.append(form)
        with get_client(sync_client=True) as client:
            assert form.state is not None
            keys = form.state.state_details.run_input_keyset
            text = json.loads(client.read_flow_run_input(form.id, keys["description"]))
            schema = json.loads(client.read_flow_run_input(form.id, keys["schema"]))
            assert "bad failed" in text and "█" in text and "Abort and escalate" in text
            choices = schema["properties"]["choice"]["enum"]
            assert choices[-1] == "Carry on as planned" and "(recommended)" in choices[0]
            # Bounds are checked on the server: what is no choice is refused there.
            refused = client.resume_flow_run(form.id, run_input={"choice": "9: no such"})
            assert refused.status.value == "REJECT"
            taken = client.resume_flow_run(form.id, {"choice": choices[0], "name": "  Ada  L. "})
            assert taken.status.value == "ACCEPT", taken

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2
    (chosen,) = of_kind(plan, done.plan_run, RunEventKind.CHOSEN)
    assert chosen.data["author"] == "Ada L. (claimed)"
    assert state_of_form(forms[0]).name == "Answered"


def test_a_stale_answer_is_asked_about_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = ["the run has moved on"]
    real = Replanner.choose

    def first_refuses(self: Replanner, order: Any) -> str | None:
        return refusals.pop() if refusals else real(self, order)

    monkeypatch.setattr(Replanner, "choose", first_refuses)
    plan = with_a_way_on("stale", decide="ask")
    forms: list[Any] = []

    def act(plan_run: UUID) -> None:
        for _ in range(2):
            form = form_of(plan_run)
            forms.append(form)
            with get_client(sync_client=True) as client:
                keys = form.state.state_details.run_input_keyset
                schema = json.loads(client.read_flow_run_input(form.id, keys["schema"]))
                first = schema["properties"]["choice"]["enum"][0]
                client.resume_flow_run(form.id, run_input={"choice": first, "name": "Ada"})

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert [state_of_form(f).name for f in forms] == ["Refused", "Answered"]
    first, again = of_kind(plan, done.plan_run, RunEventKind.PROPOSED)
    assert first.data["decide"] == "ask"
    assert again.data["reason"] == "asked again: the run has moved on"


def test_carrying_on_is_an_answer_and_a_later_failure_does_not_wait_for_another(
    tmp_path: Path,
) -> None:
    """`bad` and `late` fail, the second while the first's proposal waits for its answer."""
    plan = plan_of(
        {"id": "bad", "call": "leak", "with": {"password": "x"}, "duration": "50ms",
         "modes": [{"name": "other", "call": "deeds:log_in", "duration": "60ms"}]},
        {"id": "late", "call": "leak_later", "with": {"path": str(tmp_path / "go")},
         "duration": "50ms",
         "modes": [{"name": "other", "call": "deeds:wait_for_file", "duration": "60ms"}]},
        {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["bad", "late"]},
        name="two-questions",
        replanning={"decide": "ask"},
    )  # fmt: skip
    forms: list[Any] = []

    def act(plan_run: UUID) -> None:
        forms.append(form_of(plan_run))
        (tmp_path / "go").touch()
        until(plan, plan_run, lambda s: s.status("late") is Status.FAILURE)
        until(plan, plan_run, lambda _: state_of_form(forms[0]).name == "Superseded")
        form = form_of(plan_run)
        forms.append(form)
        with get_client(sync_client=True) as client:
            client.resume_flow_run(form.id, run_input={"choice": "Carry on as planned"})

    done = beside(plan, act)
    assert done.final.is_failed()
    assert done.state.revision == 1 and done.state.status("last") is Status.BLOCKED
    assert [state_of_form(f).name for f in forms] == ["Superseded", "Answered"]
    (declined,) = of_kind(plan, done.plan_run, RunEventKind.NOT_REPLANNED)
    assert declined.data["reason"] == "somebody, in Prefect's UI: carry on"


def left_to_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the run were deployed, and no worker took the replanning flow up within a second."""
    monkeypatch.setattr(HandingOver, "possible", lambda _: True)
    monkeypatch.setattr(replanner, "HANDED_OVER_SECONDS", 1.0)


def test_where_no_flow_asks_in_time_the_run_asks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    left_to_a_flow(monkeypatch)
    plan = with_a_way_on("asks-itself", decide="ask")

    def act(plan_run: UUID) -> None:
        form = form_of(plan_run)
        (handed, asked) = of_kind(plan, plan_run, RunEventKind.PROPOSED)
        assert handed.data["handed_over"] is True and "handed_over" not in asked.data
        with get_client(sync_client=True) as client:
            keys = form.state.state_details.run_input_keyset
            schema = json.loads(client.read_flow_run_input(form.id, keys["schema"]))
            first = schema["properties"]["choice"]["enum"][0]
            client.resume_flow_run(form.id, run_input={"choice": first, "name": "Ada"})

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2 and done.state.acceptance["author"] == "Ada (claimed)"


@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_where_no_flow_takes_the_default_the_run_does(
    monkeypatch: pytest.MonkeyPatch, unanswered: str
) -> None:
    left_to_a_flow(monkeypatch)
    monkeypatch.setattr(replanner, "HANDED_OVER_SECONDS", 3.0)
    plan = with_a_way_on(f"deserted-{unanswered.replace('_', '-')}", decide="ask",
                         unanswered=unanswered)  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda _: bool(of_kind(plan, plan_run, RunEventKind.PROPOSED)))
        proposed = of_kind(plan, plan_run, RunEventKind.PROPOSED)[0].data
        asked = {
            **{k: proposed[k] for k in ("options", "recommended", "strategy", "reason")},
            "revision": 1, "flow_run": str(UUID(int=1)), "until": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        recording_of(AthenaSettings(), plan).open_journal().append(
            RunEvent(plan_run=plan_run, kind=RunEventKind.ASKED, at=datetime.now(UTC),
                     source="question-1-1", data=asked)
        )  # fmt: skip

    done = beside(plan, act)
    (answered,) = of_kind(plan, done.plan_run, RunEventKind.ANSWERED)
    assert answered.data["unanswered"] is True
    if unanswered == "recommended":
        assert done.final.is_completed(), done.final
        assert done.state.revision == 2 and done.state.acceptance["author"] == "unanswered"
    else:
        assert done.final.is_failed() and done.state.revision == 1
        (declined,) = of_kind(plan, done.plan_run, RunEventKind.NOT_REPLANNED)
        assert declined.data["reason"] == "nobody answered in time"


def test_nobody_answers_and_the_run_goes_on_as_it_is() -> None:
    plan = with_a_way_on("unanswered", decide="ask", answer_within="1s")
    done = run(plan)
    assert done.final.is_failed()
    assert done.state.revision == 1
    assert of_kind(plan, done.plan_run, RunEventKind.PROPOSED)
    (failed,) = of_kind(plan, done.plan_run, RunEventKind.NOT_REPLANNED)
    assert failed.data["reason"] == "nobody answered in time"
    assert decided(done.plan_run)[:2] == [("proposed", "full", False), ("declined", "full", False)]


def test_nobody_answers_and_the_recommended_option_is_taken() -> None:
    plan = with_a_way_on("silence", decide="ask", answer_within="1s", unanswered="recommended")
    done = run(plan)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2


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
