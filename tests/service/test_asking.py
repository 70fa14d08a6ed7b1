"""People are asked about a deployed run; their answer, or that there was none, is done once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.states import Crashed, Paused

from athena_prefect import orchestrator
from athena_prefect.errors import RunError
from athena_prefect.journal.events import (
    CommandAnswer,
    RunEvent,
    RunEventKind,
)
from athena_prefect.journal.state import fold_entries
from athena_prefect.replanning.asked import (
    Answered,
    asked_by_its_process,
    declined,
    newest_question,
    open_question,
)
from athena_prefect.replanning.wishes import wish_from
from athena_prefect.runtime.seams import VARIABLE
from athena_prefect.service.asking import Form, carry_on_with, form_of, give_answer, write_answer
from athena_prefect.service.changing_over import Rest
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.replans import replanning_events
from tests.service import seams
from tests.service.test_changing_over import LATER, Scene

ASK = {"decide": "ask", "answer_within": "30m"}


class Suspended(BaseException):
    """The flow run's process ends, and its body begins anew when it is resumed."""


class Asked(Scene):
    """A late run about which people are asked, in flow runs that are suspended and resumed."""

    def __init__(self, settings: AthenaSettings, *, ways: bool = True, **replanning: Any) -> None:
        super().__init__(settings, ways=ways, replanning=ASK | replanning)
        self.forms: list[Form] = []
        self.patch: Any = None

    def in_flow_run(self, flow_run: UUID) -> Any:
        """The replanning flow's body in a flow run, from its top."""
        body = self.flow(flow_run)

        def wait_for_answer(form: Form) -> Answered:
            self.forms.append(form)
            if flow_run in self.server.inputs:  # of a form; the next one has none yet
                return form.answer(**self.server.inputs.pop(flow_run))
            self.server.states[flow_run] = Paused()
            raise Suspended

        body.__globals__["wait_for_answer"] = wait_for_answer
        return body(str(self.run), "a test")

    def asks(self, flow_run: UUID | None = None) -> UUID:
        """A flow run that asks and is suspended."""
        asking = flow_run or uuid4()
        with pytest.raises(Suspended):
            self.in_flow_run(asking)
        return asking

    def says(self, flow_run: UUID, choice: int, name: str = "Ada") -> None:
        """Somebody resumes it in Prefect's UI."""
        client: Any = self.server
        given = {"choice": list(self.forms[-1].choices)[choice], "name": name}
        assert client.resume_flow_run(flow_run, given).status.value == "ACCEPT"

    def of(self, kind: RunEventKind) -> list[RunEvent]:
        events = [e.event for e in self.journal.read(self.run)]
        return [e for e in events if isinstance(e, RunEvent) and e.kind is kind]

    def outcomes(self) -> list[str]:
        ids = [d.id for d in self.store.decisions(plan_run=self.run)]
        return sorted(e.outcome for e in replanning_events(self.database, ids))

    def watch(self) -> None:
        """What the watching flow does about an open question."""
        question = open_question(self.journal.read(self.run))
        assert question is not None
        if question.answer is None and self.now >= question.until:
            default = question.default(self.plan.replanning.unanswered)
            write_answer(self.journal, self.run, question, default, at=self.now)
            question = open_question(self.journal.read(self.run))
            assert question is not None
        client: Any = self.server
        carry_on_with(client, self.run, question, namespace="default", now=self.now)


@pytest.fixture
def scene(settings: AthenaSettings, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setenv(VARIABLE, "tests.service.seams:reached")
    seams.at.clear()
    return Asked(settings)


def test_people_choose_and_the_run_changes_over(scene: Asked) -> None:
    flow_run = scene.asks()
    assert scene.state.revision == 1 and not scene.server.runs
    (asked,) = scene.of(RunEventKind.ASKED)
    assert asked.data["flow_run"] == str(flow_run) and asked.data["options"]
    form = scene.forms[-1]
    for said in ("░", "Abort and escalate", asked.data["reason"]):
        assert said in form.text
    offered = list(form.choices)
    assert "(recommended)" in offered[0]
    assert offered[-1] == "Carry on as planned"
    scene.says(flow_run, 0)
    assert scene.in_flow_run(flow_run).name == "Replanned"
    scene.holds()
    (revised,) = scene.of(RunEventKind.REVISED)
    assert revised.data["author"] == "Ada (claimed)"
    assert revised.data["option"] == asked.data["option"]
    question = newest_question(scene.journal.read(scene.run))
    assert question is not None and question.settled


def test_what_was_found_in_a_hurry_can_be_chosen_all_the_same(
    scene: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine finds another set of options in its second than one that has time."""
    plainly, haste = orchestrator.engine_of, 1000.0
    hurries: list[Any] = []

    def hurried(monitor: Any, **more: Any) -> Any:
        hurries.append(monitor)
        return plainly(monitor, **more | {"clock": lambda: haste * time.perf_counter()})

    with monkeypatch.context() as busy:
        busy.setattr(orchestrator, "engine_of", hurried)
        flow_run = scene.asks()
    assert hurries
    (asked,) = scene.of(RunEventKind.ASKED)
    best = asked.data["options"][asked.data["recommended"]]
    scene.says(flow_run, 0)
    assert scene.in_flow_run(flow_run).name == "Replanned"
    (revised,) = scene.of(RunEventKind.REVISED)
    assert revised.data["changes"] == best["changes"]


def test_who_comes_second_does_not_ask_again(scene: Asked) -> None:
    scene.asks()
    second = scene.in_flow_run(uuid4())
    assert second.name == "AlreadyReplanned" and "people are asked already" in second.message
    assert len(scene.of(RunEventKind.ASKED)) == 1


def test_where_the_runs_own_process_asks_no_second_form_is_opened(scene: Asked) -> None:
    """This flow came when that had waited long enough; it is a process that is there."""
    shown: dict[str, Any] = {"decide": "ask", "options": [{"option_id": 0}]}
    scene.write(RunEventKind.PROPOSED, handed_over=True, **shown)
    assert not asked_by_its_process(scene.journal.read(scene.run))
    scene.write(RunEventKind.PROPOSED, **shown)
    with scene.dispatched():
        late = scene.in_flow_run(uuid4())
    assert late.name == "AlreadyReplanned" and "by the run's own process" in late.message
    assert not scene.of(RunEventKind.ASKED)
    scene.write(RunEventKind.NOT_REPLANNED, outcome="declined", reason="a test")
    assert not asked_by_its_process(scene.journal.read(scene.run))
    scene.asks()


def test_where_the_process_that_asked_is_gone_the_flow_asks(scene: Asked) -> None:
    scene.write(RunEventKind.PROPOSED, decide="ask")  # of an escalation
    assert not asked_by_its_process(scene.journal.read(scene.run))
    first = scene.asks()
    (asked,) = scene.of(RunEventKind.ASKED)
    options = {"decide": "ask", "options": asked.data["options"]}
    scene.write(RunEventKind.NOT_REPLANNED, outcome="declined", reason="a test")
    scene.write(RunEventKind.PROPOSED, handed_over=True, **options)
    scene.write(RunEventKind.PROPOSED, **options)
    assert asked_by_its_process(scene.journal.read(scene.run))
    assert scene.asks() != first


def test_of_two_answers_the_first_counts(scene: Asked) -> None:
    flow_run = scene.asks()
    question = open_question(scene.journal.read(scene.run))
    assert question is not None
    client: Any = scene.server
    options = question.data["options"]
    best = next(o for o in options if o["option_id"] == question.data["recommended"])
    wish = wish_from({**best, "strategy": question.strategy})
    mine = Answered(wish=wish, author="kim")
    for _ in range(2):  # the same once more is the same
        give_answer(scene.journal, scene.run, question, mine, namespace="default", at=scene.now)
    late = Answered(wish=None, author="lee")
    with pytest.raises(RunError, match="has its answer already, by kim: "):
        give_answer(scene.journal, scene.run, question, late, namespace="default", at=scene.now)
    # And in the form somebody says something else.
    scene.says(flow_run, -1)
    assert scene.in_flow_run(flow_run).name == "Replanned"
    scene.holds()
    (revised,) = scene.of(RunEventKind.REVISED)
    assert revised.data["author"] == "kim"
    assert client.resume_flow_run(flow_run).status.value == "REJECT"


def test_to_carry_on_is_an_answer_and_nobody_is_asked_twice(scene: Asked) -> None:
    flow_run = scene.asks()
    scene.says(flow_run, -1, name="")
    done = scene.in_flow_run(flow_run)
    assert (done.name, done.message) == ("Declined", "somebody, in Prefect's UI: carry on")
    assert scene.state.revision == 1 and scene.outcomes() == ["declined"]
    again = scene.in_flow_run(uuid4())
    assert again.name == "NothingToDo" and "it was asked before" in again.message
    # But where the run itself has something new to propose.
    asked = scene.of(RunEventKind.ASKED)[-1].data
    new: dict[str, Any] = {"about": [*asked["about"], "1: failed, with a way on: two"]}
    scene.write(RunEventKind.PROPOSED, handed_over=True, decide="ask", options=asked["options"],
                recommended=0, strategy="full", reason="two failed", **new)  # fmt: skip
    scene.asks()


def test_what_was_declined_in_the_runs_own_process_no_flow_asks_again(scene: Asked) -> None:
    """The flow came after that process had asked, and its form was answered."""
    with scene.dispatched():
        scene.asks()
    asked = scene.of(RunEventKind.ASKED)[-1].data
    other = Asked(scene.settings)
    kept = {"about": asked["about"]}
    shown = {"decide": "ask", "options": asked["options"], **kept}
    other.write(RunEventKind.PROPOSED, handed_over=True, **shown)
    other.write(RunEventKind.PROPOSED, **shown)
    other.write(RunEventKind.NOT_REPLANNED, outcome="declined", reason="Ada: carry on", **kept)
    late = other.in_flow_run(uuid4())
    assert late.name == "NothingToDo" and "it was asked before" in late.message
    assert not other.forms


@pytest.mark.parametrize("unanswered", [False, True])
def test_what_was_declined_is_known_to_whoever_takes_the_run_up(
    scene: Asked, unanswered: bool
) -> None:
    flow_run = scene.asks()
    assert not declined(scene.journal.read(scene.run)), "nobody has said anything yet"
    if unanswered:
        scene.now += timedelta(minutes=31)
        scene.watch()
    else:
        scene.says(flow_run, -1)
    assert scene.in_flow_run(flow_run).name == "Declined"
    (asked,) = scene.of(RunEventKind.ASKED)
    assert asked.data["about"]
    assert declined(scene.journal.read(scene.run)) == set(asked.data["about"])
    # A person who goes on with the run when it is over wants to know again.
    scene.write(RunEventKind.ENDED, status="failed")
    assert not declined(scene.journal.read(scene.run))


@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_nobody_answers_and_what_the_plan_says_is_done(
    settings: AthenaSettings, unanswered: str
) -> None:
    """Also where nobody runs the plan any more: neither flow nor dispatcher waits in a process."""
    scene = Asked(settings, unanswered=unanswered)
    flow_run = scene.asks()
    scene.watch()
    assert scene.server.states[flow_run].is_paused(), "there is time left"
    scene.now += timedelta(minutes=31)
    scene.watch()
    scene.watch()
    assert scene.server.states[flow_run].is_scheduled()
    done = scene.in_flow_run(flow_run)
    (answered,) = scene.of(RunEventKind.ANSWERED)
    assert answered.data["unanswered"] is True
    if unanswered == "recommended":
        assert done.name == "Replanned"
        scene.holds()
    else:
        assert (done.name, done.message) == ("Declined", "nobody answered in time: carry on")
        assert scene.state.revision == 1 and scene.outcomes() == ["declined"]


PLACES = ("evaluated", "asked", "answered", "options", "chosen", "verified", "stored", "in force",
          "redeployed")  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_any_place_of_a_flow_that_asks(scene: Asked, place: str) -> None:
    early = place in ("evaluated", "asked")
    flow_run = uuid4()
    if early:
        seams.at.append(place)
        with pytest.raises(seams.Killed):
            scene.in_flow_run(flow_run)
        scene.server.states[flow_run] = Crashed()
        flow_run = uuid4()  # another trigger, or the watching flow
    scene.asks(flow_run)
    scene.says(flow_run, 0)
    if not early:
        seams.at.append(place)
        with pytest.raises(seams.Killed):
            scene.in_flow_run(flow_run)
        scene.server.states[flow_run] = Crashed()
        if place == "answered":
            scene.watch()
            assert len(scene.server.runs) == 1, "somebody is to carry it out"
            scene.server.runs.clear()
        flow_run = uuid4()
    scene.now += LATER
    done = scene.in_flow_run(flow_run)
    stored = place in ("stored", "in force", "redeployed")
    assert done.name == ("AlreadyReplanned" if stored else "Replanned"), done.message
    assert scene.in_flow_run(uuid4()).name == "AlreadyReplanned"
    scene.holds()
    (revised,) = scene.of(RunEventKind.REVISED)
    assert revised.data["author"] == "Ada (claimed)"


def test_a_question_whose_flow_died_is_asked_by_another_until_the_same_time(scene: Asked) -> None:
    seams.at.append("asked")
    first, second = uuid4(), uuid4()
    with pytest.raises(seams.Killed):
        scene.in_flow_run(first)
    scene.server.states[first] = Crashed()
    scene.now += timedelta(minutes=10)
    scene.watch()
    assert len(scene.server.runs) == 1
    scene.asks(second)
    one, other = scene.of(RunEventKind.ASKED)
    assert one.data["until"] == other.data["until"] and other.data["flow_run"] == str(second)


def test_what_the_run_has_gone_past_is_asked_once_more_and_then_not(scene: Asked) -> None:
    flow_run = scene.asks()
    chosen = scene.of(RunEventKind.ASKED)[0].data
    best = next(o for o in chosen["options"] if o["option_id"] == chosen["recommended"])
    scene.begin(next(iter(best["levers"]["modes"])))
    scene.says(flow_run, 0)
    with pytest.raises(Suspended):
        scene.in_flow_run(flow_run)
    first, again = scene.of(RunEventKind.ASKED)
    assert again.data["again"] is True and "has gone past it" in again.data["why"]
    assert "What was chosen before cannot be done any more" in scene.forms[-1].text
    question = open_question(scene.journal.read(scene.run))
    assert question is not None and question.answer is None and first.source != question.key
    # It is answered with what cannot be done, either: that is the end of it.
    late = Answered(wish=wish_from({**best, "strategy": question.strategy}), author="Ada")
    write_answer(scene.journal, scene.run, question, late, at=scene.now)
    assert scene.in_flow_run(flow_run).name == "Declined"
    assert scene.state.revision == 1 and scene.outcomes() == ["declined"]


def test_an_answer_about_one_task_is_the_runs_own_process_to_carry_out(
    settings: AthenaSettings,
) -> None:
    scene = Asked(settings, policy={"segment_slip": 9})
    flow_run = scene.asks()
    (asked,) = scene.of(RunEventKind.ASKED)
    assert asked.data["strategy"] == "local"
    scene.says(flow_run, 0)
    for _ in range(2):
        assert scene.in_flow_run(flow_run).name == "PassedOn"
    (command,) = fold_entries(scene.journal.read(scene.run)).commands.values()
    assert command.author == "Ada (claimed)"
    assert command.data["title"] == asked.data["option"] and command.data["levers"]
    assert scene.state.revision == 1 and not scene.server.runs
    # It refuses: asked once more.
    scene.journal.append(
        CommandAnswer(plan_run=scene.run, command_id=command.command_id, at=scene.now,
                      accepted=False, message="it has begun")
    )  # fmt: skip
    scene.asks()
    assert scene.of(RunEventKind.ASKED)[-1].data["why"] == "it has begun"


def test_an_answer_that_only_promises_is_the_runs_own_process_to_carry_out(
    settings: AthenaSettings,
) -> None:
    """People are asked all the same; no continuation is begun for it."""
    scene = Asked(settings, ways=False)
    flow_run = scene.asks()
    (asked,) = scene.of(RunEventKind.ASKED)
    assert asked.data["strategy"] in ("segment", "full")
    assert asked.data["option"] == "Extend the timeline"
    scene.says(flow_run, 0)
    for _ in range(2):
        assert scene.in_flow_run(flow_run).name == "PassedOn"
    (command,) = fold_entries(scene.journal.read(scene.run)).commands.values()
    assert (command.data["title"], command.data["changes"]) == ("Extend the timeline", [])
    assert scene.state.revision == 1 and not scene.server.runs


def test_a_newer_proposal_of_the_run_takes_the_place_of_a_question(scene: Asked) -> None:
    first = scene.asks()
    scene.write(RunEventKind.PROPOSED, handed_over=True)
    second = scene.asks()
    assert scene.server.states[first].name == "Superseded"
    assert scene.server.states[second].is_paused()
    question = open_question(scene.journal.read(scene.run))
    assert question is not None and question.flow_run == second
    assert form_of(question).choices


def test_what_the_run_has_proposed_is_asked_with_its_numbers(scene: Asked) -> None:
    rest: Any = scene.rest()
    assert isinstance(rest, Rest)
    options = [
        {"option_id": 0, "title": "the run's own", "changes": [], "timeline_impact": None,
         "samples": 1, "success_probability": 1.0, "cost_impact": 0.0}
    ]  # fmt: skip
    scene.write(RunEventKind.PROPOSED, handed_over=True, options=options, recommended=0,
                strategy="segment", reason="as the run found")  # fmt: skip
    scene.asks()
    assert next(iter(scene.forms[-1].choices)) == "0: the run's own (recommended)"
