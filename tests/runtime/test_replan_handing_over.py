"""A deployed run leaves what it found to the replanning flow, and sees to it where none comes."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client

from athena_prefect.journal.events import Command, CommandAnswer, Event, RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import Status, fold_entries
from athena_prefect.replanning.asked import (
    Answered,
    answered_event,
    asked_by_its_process,
    newest_question,
)
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind
from athena_prefect.replanning.wishes import wish_from
from athena_prefect.runtime import replan_asking, replan_handing_over
from athena_prefect.runtime.continuing import unanswered as unanswered_proposal
from athena_prefect.runtime.handing_over import HandingOver
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.replan_finding import Finder
from athena_prefect.runtime.replan_handing_over import HANDED_OVER_SECONDS
from athena_prefect.runtime.replanner import Replanner
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import plan_of
from tests.runtime.test_control import beside, until
from tests.runtime.test_replan_asking import choose_first, form_of, state_of_form
from tests.runtime.test_replanner import of_kind, with_a_way_on, with_two_that_fail


def left_to_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the run were deployed, and no worker took the replanning flow up within a second."""
    monkeypatch.setattr(HandingOver, "possible", lambda _: True)
    monkeypatch.setattr(replan_handing_over, "HANDED_OVER_SECONDS", 1.0)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_where_no_flow_asks_in_time_the_run_asks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    left_to_a_flow(monkeypatch)
    plan = with_a_way_on("asks-itself", decide="ask")

    def act(plan_run: UUID) -> None:
        form = form_of(plan_run)
        (handed, asked) = of_kind(plan, plan_run, RunEventKind.PROPOSED)
        assert handed.data["handed_over"] is True and "handed_over" not in asked.data
        choose_first(form)

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2 and done.state.acceptance["author"] == "Ada (claimed)"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_where_no_flow_takes_the_default_the_run_does(
    monkeypatch: pytest.MonkeyPatch, unanswered: str
) -> None:
    left_to_a_flow(monkeypatch)
    # The flow is there until it has asked; then it is waited for no longer.
    monkeypatch.setattr(replan_handing_over, "HANDED_OVER_SECONDS", 240.0)
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
        monkeypatch.setattr(replan_handing_over, "HANDED_OVER_SECONDS", 1.0)

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


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_a_flow_that_comes_too_late_asks_instead_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its question was not written yet when the run's own process began to ask: one form stays."""
    left_to_a_flow(monkeypatch)
    plan = with_a_way_on("late-flow", decide="ask")
    forms: list[Any] = []

    def act(plan_run: UUID) -> None:
        forms.append(form_of(plan_run))
        journal = recording_of(AthenaSettings(), plan).open_journal()
        said = of_kind(plan, plan_run, RunEventKind.PROPOSED)[-1].data
        asked = {
            **{k: said[k] for k in ("options", "recommended", "strategy", "reason")},
            "revision": 1, "flow_run": str(uuid4()),
            "until": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }  # fmt: skip
        journal.append(
            RunEvent(plan_run=plan_run, kind=RunEventKind.ASKED, at=datetime.now(UTC),
                     source="question-1-1", data=asked)
        )  # fmt: skip
        until(plan, plan_run, lambda _: state_of_form(forms[0]).name == "Superseded")
        question = newest_question(journal.read(plan_run))
        assert question is not None
        best = said["options"][said["recommended"]]
        wish = wish_from({**best, "strategy": question.strategy})
        answer = Answered(wish=wish, author="Ada")
        journal.append(answered_event(plan_run, question, answer, at=datetime.now(UTC)))

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2 and done.state.acceptance["author"] == "Ada"


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_what_fails_while_people_are_asked_here_is_asked_about_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No flow comes for either failure: the second does not wait for the first one's answer."""
    left_to_a_flow(monkeypatch)
    plan = with_two_that_fail("two-without-a-flow", tmp_path)
    forms: list[Any] = []

    def act(plan_run: UUID) -> None:
        forms.append(form_of(plan_run))
        (tmp_path / "go").touch()
        until(plan, plan_run, lambda s: s.status("late") is Status.FAILURE)
        until(plan, plan_run, lambda _: state_of_form(forms[0]).name == "Superseded")
        forms.append(form_of(plan_run))
        with get_client(sync_client=True) as client:
            client.resume_flow_run(forms[1].id, run_input={"choice": "Carry on as planned"})

    done = beside(plan, act)
    assert done.final.is_failed() and done.state.revision == 1
    assert [state_of_form(f).name for f in forms] == ["Superseded", "Answered"]


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_a_late_run_for_which_nothing_can_be_changed_promises_anew_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In place, though it is deployed and a flow could be asked."""
    left_to_a_flow(monkeypatch)
    waits = {"path": str(tmp_path / "go")}
    plan = plan_of(
        {"id": "first", "call": "wait_for_file", "with": waits, "duration": "500ms"},
        {"id": "last", "call": "one", "duration": "500ms", "depends_on": ["first"]},
        name="promises-anew", replanning={"max_replans": 1},
    )  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: s.revision == 2)
        (tmp_path / "go").touch()

    done = beside(plan, act)
    assert done.final.is_completed() and done.final.name == "Completed", done.final
    (revised,) = of_kind(plan, done.plan_run, RunEventKind.REVISED)
    assert revised.data["strategy"] in ("segment", "full"), "greater than one task's change"
    assert revised.data["changes"] == [] and "continuation" not in revised.data
    assert done.state.acceptance["p50"] > 1.0, "the later finish is promised"
    asked = of_kind(plan, done.plan_run, RunEventKind.PROPOSED)
    assert not [p for p in asked if p.data.get("handed_over")]
    assert not of_kind(plan, done.plan_run, RunEventKind.SUPERSEDED)


# -- without a server ---------------------------------------------------------------------------

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
BEST = {"option_id": 0, "title": "repair", "changes": ["bad is done again"], "kind": "substitute"}


class Waiting:
    """A run with a failed task that waits, by a clock that moves when it is told to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, decide: str = "ask", unanswered: str = "carry_on"
    ) -> None:
        self.seconds = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.seconds)
        monkeypatch.setattr(replan_handing_over, "time", clock)
        monkeypatch.setattr(replan_asking, "ask", self._open)
        monkeypatch.setattr(replan_asking, "left_open", lambda *_: [(f, True) for f in self.forms])
        monkeypatch.setattr(replan_asking, "question_markdown", lambda *_, **__: "the options")
        monkeypatch.setattr(Finder, "propose", lambda *_: self.finds)
        self.forms: list[Any] = []
        self.finds: Any = None
        self.deployed = True
        self.plan_run, self.journal = uuid4(), MemoryJournal()
        self.terms = {"decide": decide, "answer_within": "8h", "unanswered": unanswered}
        self.begin()

    def begin(self) -> None:
        """A process takes the run up; another one, the second time: all it knows is the journal."""
        self.let_go = False
        known = fold_entries(self.journal.read(self.plan_run))
        self.answers: dict[str, CommandAnswer] = {}
        facts = SimpleNamespace(
            plan=with_a_way_on("left", **self.terms), plan_run=self.plan_run, revision=1,
            keep_decision=None, hands_over=lambda: self.deployed, client=None,
            recorder=SimpleNamespace(journal=self.journal, record=self.journal.append),
        )  # fmt: skip
        dispatcher: Any = SimpleNamespace(
            facts=facts, held={"bad"}, news=queue.SimpleQueue(), let_go=self._let_go,
            state=SimpleNamespace(
                answers=self.answers, replans=0, decisions=known.decisions,
                status=lambda t: Status.FAILURE if t == "bad" else Status.WAITING,
            ),
            superseded=False, gate=None,
        )  # fmt: skip
        monitor = SimpleNamespace(refresh=lambda: None, state=known)
        facts.shared = SimpleNamespace(
            using=lambda: nullcontext(monitor), tried=SimpleNamespace(wait=lambda _: True)
        )
        self.dispatcher = dispatcher
        self.replanner = Replanner(dispatcher, lambda: self.now)
        self.replanner._remember()
        self.flow, self.log = self.replanner.flow, self.replanner.log

    def has_let_go(self) -> bool:
        """Whether the failed task waits for nothing any more."""
        return self.let_go

    def waits_for_an_answer(self) -> bool:
        """Whether people, or a flow, are asked."""
        return self.flow.handed is not None or self.replanner.asking.pending is not None

    def _open(self, *_: object, **__: object) -> Any:
        form = SimpleNamespace(answer=lambda: None, close=lambda *_: None)
        self.forms.append(form)
        return form

    def looks(self, found: Any) -> None:
        """One look of the replanner, which finds this."""
        self.finds = found
        self.replanner.look()
        self.happens()

    @property
    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    def _let_go(self) -> None:
        self.let_go = True

    def happens(self) -> None:
        """The dispatcher does what it was given to do."""
        while not self.dispatcher.news.empty():
            self.dispatcher.news.get()()

    def found(self, *about: str, only_promises: bool = False) -> Any:
        """What calls for another plan, on these grounds."""
        evaluation = SimpleNamespace(
            strategy=AdaptiveReplanning.FULL, rationale="bad failed", escalate=False
        )
        grounds = about or ("1: failed: bad",)
        return SimpleNamespace(
            evaluation=evaluation, key=f"1:full:{grounds}", about=grounds, at=self.now,
            position=len(self.events), recommended=0, account={"options": [BEST]},
            best=SimpleNamespace(only_promises=only_promises, kind=Kind.SUBSTITUTE, title="repair"),
        )  # fmt: skip

    @property
    def events(self) -> list[Event]:
        return [e.event for e in self.journal.read(self.plan_run)]

    def writes(self, kind: RunEventKind, source: str, data: Mapping[str, Any]) -> None:
        self.journal.append(
            RunEvent(plan_run=self.plan_run, kind=kind, at=self.now, source=source, data=data)
        )

    def asks(self, within: timedelta, **more: Any) -> None:
        """A replanning flow asks people."""
        data = {"flow_run": str(uuid4()), "until": (self.now + within).isoformat(),
                "strategy": "full", "revision": 1, "options": [BEST], "recommended": 0,
                **more}  # fmt: skip
        self.writes(RunEventKind.ASKED, "question-1-1", data)

    def answered(self, answer: Answered) -> None:
        question = newest_question(self.journal.read(self.plan_run))
        assert question is not None
        self.journal.append(answered_event(self.plan_run, question, answer, at=self.now))

    def commands(self) -> list[Command]:
        return [e for e in self.events if isinstance(e, Command)]

    def told(self, *, accepted: bool) -> None:
        """The dispatcher answers the command."""
        (command,) = self.commands()
        self.answers[command.command_id] = CommandAnswer(
            plan_run=self.plan_run, command_id=command.command_id, at=self.now, accepted=accepted
        )


WISH = wish_from({**BEST, "strategy": "full"})


def test_people_who_decline_late_are_not_asked_a_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Waiting(monkeypatch)
    found = run.found()
    assert run.flow.takes(found) and run.flow.waits()
    run.asks(timedelta(hours=8))
    run.seconds = 3600.0
    assert run.flow.waits()
    run.answered(Answered(wish=None, author="Ada"))
    declined = {"reason": "Ada: carry on", "outcome": "declined", "position": len(run.events)}
    run.writes(RunEventKind.NOT_REPLANNED, "answer to question-1-1", declined)
    assert run.flow.waits(), "nothing is evaluated anew by this look"
    assert run.flow.handed is None and run.log.is_declined(found)
    run.happens()
    assert run.let_go


@pytest.mark.parametrize("by", ["a flow", "nobody in time", "no worker", "its own process"])
def test_a_process_that_takes_the_run_up_does_not_ask_what_was_declined(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """It was killed, and what it knew is gone: what people have said is in the journal."""
    run = Waiting(monkeypatch)
    run.deployed = by != "its own process"
    run.looks(run.found())
    if by == "its own process":
        assert len(run.forms) == 1
        run.seconds = 9 * 3600.0
        run.looks(run.found())
    else:
        run.asks(timedelta(hours=8), about=["1: slip"])
        run.seconds = 60.0
        unanswered = by == "nobody in time"
        run.answered(Answered(wish=None, author="Ada", unanswered=unanswered))
        if by == "no worker":
            run.seconds += HANDED_OVER_SECONDS
        else:
            declined = {"reason": "carry on", "outcome": "declined", "position": len(run.events)}
            run.writes(RunEventKind.NOT_REPLANNED, "answer to question-1-1", declined)
        run.looks(run.found())
    last = run.events[-1]
    assert run.let_go
    assert isinstance(last, RunEvent) and last.kind is RunEventKind.NOT_REPLANNED
    assert unanswered_proposal(run.journal.read(run.plan_run)) is None, "no watcher has it asked"
    said, forms = len(run.events), len(run.forms)

    run.begin()
    for _ in range(3):  # more than three minutes, in which nobody answers
        run.looks(run.found())
        run.seconds += HANDED_OVER_SECONDS
    assert run.has_let_go(), "what has failed does not wait"
    assert not run.waits_for_an_answer()
    assert (len(run.events), len(run.forms)) == (said, forms), "nobody is asked again"
    fewer = run.found("1: slip") if run.deployed else run.found()
    run.looks(fewer)
    assert len(run.events) == said, "nor as it was asked, or on some of the grounds"

    run.looks(run.found("1: failed: bad", "1: failed: late"))
    assert run.waits_for_an_answer()
    proposed = run.events[-1]
    assert isinstance(proposed, RunEvent) and proposed.kind is RunEventKind.PROPOSED
    assert proposed.data["about"] == ["1: failed: bad", "1: failed: late"], "that is new"


def test_a_process_that_takes_the_run_up_waits_for_what_nobody_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Waiting(monkeypatch)
    run.deployed = False
    run.looks(run.found())
    run.begin()
    run.looks(run.found())
    assert len(run.forms) == 1 and run.replanner.asking.pending is not None
    proposed = [e for e in run.events if isinstance(e, RunEvent)]
    assert [e.kind for e in proposed] == [RunEventKind.PROPOSED]


def test_a_run_that_asks_itself_is_not_left_to_a_flow_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a watcher began another replanning flow every minute, and one of them asked, too."""
    run = Waiting(monkeypatch)
    run.looks(run.found())
    assert unanswered_proposal(run.journal.read(run.plan_run)) is not None
    run.seconds = HANDED_OVER_SECONDS + 1
    run.looks(run.found())
    assert len(run.forms) == 1
    entries = run.journal.read(run.plan_run)
    assert unanswered_proposal(entries) is None and asked_by_its_process(entries)


def test_where_no_flow_came_the_run_asks_about_what_it_finds_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Waiting(monkeypatch)
    first, other, third = (run.found(*names) for names in (("a",), ("a", "b"), ("c",)))
    assert run.flow.takes(first)
    run.seconds = HANDED_OVER_SECONDS + 1
    assert not run.flow.waits()
    assert not run.flow.takes(other), "it would wait three minutes for each new reason"
    assert not run.flow.waits(), "the next look"
    assert not run.flow.takes(other)
    assert run.flow.takes(third), "something else is for the flow again"


@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_that_no_worker_carries_out_is_carried_out_here(
    monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    """Three minutes after it was given, though there were hours to answer."""
    run = Waiting(monkeypatch)
    found = run.found()
    assert run.flow.takes(found)
    run.asks(timedelta(hours=8))
    run.seconds = 60.0
    run.answered(Answered(wish=WISH, author="Ada"))
    run.seconds = 60.0 + HANDED_OVER_SECONDS - 1
    assert run.flow.waits() and not run.commands()
    run.seconds += 1
    assert run.flow.waits() and run.flow.waits(), "until the dispatcher has done it"
    run.happens()
    assert not run.let_go, "the failed task waits for what was chosen"
    (command,) = run.commands()
    assert (command.author, command.data["title"]) == ("Ada", "repair")
    run.told(accepted=accepted)
    assert run.flow.waits() and run.flow.handed is None
    run.happens()
    assert run.let_go is not accepted
    assert run.log.is_declined(found), "nobody is asked again for these reasons"


def test_who_answers_at_the_last_moment_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last look at the journal and the default somebody has answered."""
    run = Waiting(monkeypatch)
    assert run.flow.takes(run.found())
    run.asks(timedelta(seconds=1))
    run.seconds = 1 + HANDED_OVER_SECONDS
    record = run.dispatcher.facts.recorder.record

    def late(event: Event) -> None:
        if isinstance(event, RunEvent) and event.kind is RunEventKind.ANSWERED:
            run.answered(Answered(wish=WISH, author="Ada"))
        record(event)

    run.dispatcher.facts.recorder.record = late
    assert run.flow.waits()
    (command,) = run.commands()
    assert command.author == "Ada"


def test_what_only_promises_is_left_to_a_flow_where_people_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_itself = Waiting(monkeypatch, decide="auto")
    assert not by_itself.flow.takes(by_itself.found(only_promises=True))
    assert by_itself.flow.takes(by_itself.found()), "what changes something is for a continuation"
    asks = Waiting(monkeypatch)
    assert asks.flow.takes(asks.found(only_promises=True))


def test_what_the_flow_leaves_to_the_run_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it was handed over something could be changed, and when the flow came nothing."""
    run = Waiting(monkeypatch, decide="auto")
    assert run.flow.takes(run.found())
    left = {"reason": "late; its own process sees to it", "position": len(run.events)}
    run.writes(RunEventKind.NOT_REPLANNED, "answer to 1", left)
    assert run.flow.waits() and not run.flow.waits()
    assert run.flow.has_answered(run.found()), "it is not asked again at once"
    promise = run.found(only_promises=True)
    assert not run.flow.has_answered(promise) and not run.flow.takes(promise)
