"""People are asked by the run's own process, answer in one way or another, or do not."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from athena_prefect.journal.events import CommandKind, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import Status
from athena_prefect.plan.document import dump
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.runtime import replan_asking
from athena_prefect.runtime.asking import ask
from athena_prefect.runtime.replan_asking import AskingHere
from athena_prefect.runtime.replan_holding import Held
from athena_prefect.runtime.replan_log import ReplanLog
from athena_prefect.runtime.replanner import Replanner
from tests.chaos.support import start
from tests.runtime.support import run, state_of
from tests.runtime.test_control import beside, command, until
from tests.runtime.test_replanner import decided, of_kind, with_a_way_on, with_two_that_fail


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
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


def forms_of(plan_run: UUID) -> list[Any]:
    """The flow runs that carry, or carried, the run's forms."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["athena.replan.answer"]))
        )
    return [r for r in found if f"plan-run:{plan_run}" in r.tags]


def form_of(plan_run: UUID) -> Any:
    """The flow run that carries the run's newest form, once it is open."""
    end = time.monotonic() + 240  # more than a loaded machine needs
    while time.monotonic() < end:
        found = [r for r in forms_of(plan_run) if r.state and r.state.is_paused()]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no form was opened")


def choose_first(form: Any) -> None:
    """Answer it as Ada does: with the first choice, which is the recommended one."""
    with get_client(sync_client=True) as client:
        keys = form.state.state_details.run_input_keyset
        schema = json.loads(client.read_flow_run_input(form.id, keys["schema"]))
        first = schema["properties"]["choice"]["enum"][0]
        client.resume_flow_run(form.id, run_input={"choice": first, "name": "Ada"})


def state_of_form(form: Any) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(form.id).state


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
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


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
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
            choose_first(form)

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert [state_of_form(f).name for f in forms] == ["Refused", "Answered"]
    first, again = of_kind(plan, done.plan_run, RunEventKind.PROPOSED)
    assert first.data["decide"] == "ask"
    assert again.data["reason"] == "asked again: the run has moved on"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_carrying_on_is_an_answer_and_a_later_failure_does_not_wait_for_another(
    tmp_path: Path,
) -> None:
    """`bad` and `late` fail, the second while the first's proposal waits for its answer."""
    plan = with_two_that_fail("two-questions", tmp_path)
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


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_nobody_answers_and_the_run_goes_on_as_it_is() -> None:
    plan = with_a_way_on("unanswered", decide="ask", answer_within="1s")
    done = run(plan)
    assert done.final.is_failed()
    assert done.state.revision == 1
    assert of_kind(plan, done.plan_run, RunEventKind.PROPOSED)
    (failed,) = of_kind(plan, done.plan_run, RunEventKind.NOT_REPLANNED)
    assert failed.data["reason"] == "nobody answered in time"
    assert decided(done.plan_run)[:2] == [("proposed", "full", False), ("declined", "full", False)]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_nobody_answers_and_the_recommended_option_is_taken() -> None:
    plan = with_a_way_on("silence", decide="ask", answer_within="1s", unanswered="recommended")
    done = run(plan)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2


@pytest.mark.prefect
@pytest.mark.parametrize("away", [True, False], ids=["while nobody runs it", "when it goes on"])
def test_a_run_that_is_killed_while_it_asks_takes_its_question_up(
    prefect_api: str, tmp_path: Path, away: bool
) -> None:
    """It is asked once, whenever somebody answers."""
    plan = with_a_way_on(f"killed-{away}".lower(), decide="ask")
    path, plan_run = tmp_path / "plan.yaml", uuid4()
    dump(plan, path)
    process = start(path, plan_run, PREFECT_API_URL=prefect_api)
    form = form_of(plan_run)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    if away:
        choose_first(form)
    process = start(path, plan_run, PREFECT_API_URL=prefect_api)
    if not away:
        # It has failed once more, and so calls for what is asked already.
        until(plan, plan_run, lambda s: len(s.task("bad").attempts) == 2)
        until(plan, plan_run, lambda s: s.status("bad") is Status.FAILURE)
        choose_first(form)
    output, errors = process.communicate(timeout=300)
    assert output.startswith("COMPLETED"), output + errors
    (only,) = forms_of(plan_run)
    assert (only.id, only.state.name) == (form.id, "Answered")
    assert len(of_kind(plan, plan_run, RunEventKind.PROPOSED)) == 1
    (chosen,) = of_kind(plan, plan_run, RunEventKind.CHOSEN)
    assert chosen.data["author"] == "Ada (claimed)"
    assert state_of(plan, plan_run).revision == 2


# -- without a server ---------------------------------------------------------------------------


def test_a_form_that_the_server_does_not_take_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the run waited for an answer that nobody was asked for."""
    now = datetime(2026, 1, 5, 8, tzinfo=UTC)
    tries: list[timedelta] = []

    def opens(_: object, *, within: timedelta, **more: Any) -> Any:
        tries.append(within)
        if len(tries) < 3:
            raise httpx.ConnectError("the server is away")
        return SimpleNamespace(answer=lambda: None, close=lambda *_: None)

    monkeypatch.setattr(replan_asking, "ask", opens)
    monkeypatch.setattr(replan_asking, "question_markdown", lambda *_, **__: "the options")
    plan = with_a_way_on("busy", decide="ask", answer_within="1h")
    facts = SimpleNamespace(
        plan=plan, plan_run=uuid4(), revision=1, client=None, keep_decision=None,
        recorder=SimpleNamespace(record=lambda _: None),
    )  # fmt: skip
    dispatcher: Any = SimpleNamespace(facts=facts, held={"bad"})
    finder: Any = SimpleNamespace(facts=facts)
    log, held = ReplanLog(dispatcher, lambda: now), Held(dispatcher)
    asking = AskingHere(finder, held, log, lambda: now, lambda *_: None)
    evaluation = SimpleNamespace(strategy=AdaptiveReplanning.FULL, rationale="bad failed")
    found: Any = SimpleNamespace(
        evaluation=evaluation, key="1:full:failed", about=("1: failed",), position=3, at=now,
        recommended=None, best=None, account={"options": []},
    )  # fmt: skip
    asking.propose(found)
    asking.wait(found)
    assert len(tries) == 1 and asking.pending == found, "not at every look"
    for _ in range(3):
        now += replan_asking.FORM_AGAIN
        asking.wait(found)
    whole = timedelta(hours=1)
    assert tries == [whole, whole - replan_asking.FORM_AGAIN, whole - 2 * replan_asking.FORM_AGAIN]


NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Taken:
    """A process that takes up a run whose earlier process had asked, `since` that time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, since: timedelta, *open_: bool) -> None:
        self.closed: list[str] = []
        self.opened: list[Any] = []
        self.written: list[Any] = []
        forms: list[Any] = [
            (SimpleNamespace(close=lambda n, _: self.closed.append(n), answer=lambda: None), fits)
            for fits in open_
        ]
        monkeypatch.setattr(replan_asking, "left_open", lambda *_: forms)
        monkeypatch.setattr(replan_asking, "ask", lambda *_, **m: self.opened.append(m))
        monkeypatch.setattr(replan_asking, "question_markdown", lambda *_, **__: "the options")
        facts = SimpleNamespace(
            plan=with_a_way_on("taken", decide="ask", answer_within="1h"), plan_run=uuid4(),
            revision=1, client=None, keep_decision=None,
            recorder=SimpleNamespace(record=self.written.append),
        )  # fmt: skip
        statuses = {"bad": Status.FAILURE}
        self.statuses = statuses
        state = SimpleNamespace(status=lambda t: statuses.get(t, Status.WAITING))
        dispatcher: Any = SimpleNamespace(facts=facts, held=set(), state=state)
        finder: Any = SimpleNamespace(facts=facts)
        self.held = Held(dispatcher)
        self.log = ReplanLog(dispatcher, lambda: NOW)
        self.asking = AskingHere(finder, self.held, self.log, lambda: NOW, lambda *_: None)
        data = {
            "decide": "ask", "key": "1:full:abc", "strategy": "full", "reason": "bad failed",
            "recommended": 0,
            "options": [{"option_id": 0, "title": "Do bad again"}],
            "about": ["1: failed_required: bad"],
        }  # fmt: skip
        asked = RunEvent(
            plan_run=facts.plan_run, kind=RunEventKind.PROPOSED, at=NOW - since,
            source="1:full:abc:7", data=data,
        )  # fmt: skip
        self.asking.take_up([Entry(position=7, event=asked)])

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(str(e.kind), e.data["outcome"]) for e in self.written]


def test_what_an_earlier_process_asked_waits_in_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Taken(monkeypatch, timedelta(minutes=10), False, True, True)
    pending = taken.asking.pending
    assert pending is not None and pending.key == "1:full:abc" and pending.best is None
    taken.asking.look_for_forms()
    taken.asking.wait(pending)
    assert taken.closed == ["Superseded", "Superseded"] and not taken.opened
    taken.log.dispatcher.held.add("bad")
    assert not taken.held.new, "it waits for the answer to what is asked already"


def test_a_form_that_is_gone_is_opened_for_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = Taken(monkeypatch, timedelta(minutes=10))
    pending = taken.asking.pending
    assert pending is not None
    taken.asking.wait(pending)
    assert not taken.opened, "before it is known that none is open"
    taken.asking.look_for_forms()
    taken.asking.wait(pending)
    (opened,) = taken.opened
    assert opened["within"] == timedelta(minutes=50) and opened["recommended"] == 0


def test_who_goes_on_after_the_time_is_over_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Taken(monkeypatch, timedelta(hours=2), True)
    assert taken.asking.pending is None and not taken.log.declined
    assert taken.told == [("not_replanned", "expired")]
    taken.asking.look_for_forms()
    assert taken.closed == ["Superseded"]


def test_nothing_is_asked_any_more_about_what_has_succeeded_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = Taken(monkeypatch, timedelta(minutes=10), True)
    pending = taken.asking.pending
    assert pending is not None
    taken.asking.look_for_forms()
    taken.statuses["bad"] = Status.SUCCESS
    taken.asking.wait(pending)
    assert taken.asking.pending is None and taken.closed == ["Settled"]
    assert taken.told == [("not_replanned", "settled")]


def test_half_a_form_is_not_left_behind() -> None:
    ended: list[tuple[Any, str]] = []

    def unable(*_: Any) -> None:
        raise httpx.ReadTimeout("too busy")

    client: Any = SimpleNamespace(
        create_flow_run=lambda *_, **__: SimpleNamespace(id=UUID(int=7)),
        create_flow_run_input=unable,
        set_flow_run_state=lambda run, state, force: ended.append((run, state.name)),
    )
    with pytest.raises(httpx.ReadTimeout):
        ask(client, plan="busy", plan_run=uuid4(), text="", options=[], recommended=None,
            within=timedelta(hours=1))  # fmt: skip
    assert ended == [(UUID(int=7), "Withdrawn")]
