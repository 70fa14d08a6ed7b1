"""A proposal left to the replanning flow, which a deployed plan has: waiting, and the fallback.

Where neither that flow nor the watching one sees to it in time, this process does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import httpx

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import RunEventKind
from athena_prefect.replanning.asked import (
    Answered,
    Question,
    about,
    answered_event,
    newest_question,
    open_question,
)
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.runtime.asking import close_form
from athena_prefect.runtime.continuing import flows_answer
from athena_prefect.runtime.replan_finding import Proposed
from athena_prefect.runtime.replan_holding import Held
from athena_prefect.runtime.replan_log import ReplanLog

if TYPE_CHECKING:
    from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)

HANDED_OVER_SECONDS = 180.0
"""How long the replanning flow of a deployed plan may take. The watching flow, which starts it
where the automation did not, looks every 60 s, and a flow takes some 10 s to begin; where no worker
is free for it, this process adopts what it has found itself."""
ANSWER_HOLDS = 60.0
"""How long its answer that nothing is better holds, at least: each question starts a process."""


def _in_place(found: Proposed) -> bool:
    """Whether the run's own process adopts it: one task's change, or nothing but a promise."""
    if found.evaluation.strategy is AdaptiveReplanning.LOCAL:
        return True
    return found.best is not None and found.best.only_promises


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A proposal that the replanning flow is to see to."""

    key: str
    about: tuple[str, ...]
    """Its grounds."""
    position: int
    """Of the journal, when it was handed over: what rests on less is no answer."""
    until: float
    """By the monotonic clock: then this process adopts."""


@dataclass(slots=True)
class LeftToFlow:
    """Leaves one proposal at a time to the replanning flow, and waits for what comes of it."""

    held: Held
    log: ReplanLog
    clock: Callable[[], datetime]
    handed: Handed | None = None
    """Left to the replanning flow, which has not answered yet."""
    _not_handed: set[str] = field(default_factory=set)
    """Keys of proposals that the replanning flow has not answered in time."""
    overdue: bool = False
    """Whether no flow has come in time, by this look: what it finds is this process's to see to."""
    _sent: str | None = None
    """The command by which an answer that no flow carries out was sent to the dispatcher."""
    _answered: dict[str, float] = field(default_factory=dict)
    """Keys of proposals of which it said that nothing comes of them, until when that holds."""

    @property
    def facts(self) -> RunFacts:
        """Of the run."""
        return self.log.dispatcher.facts

    def settled(self) -> None:
        """A revision is in force: nothing is waited for any more."""
        self.handed = self._sent = None

    def has_answered(self, found: Proposed) -> bool:
        """Whether nothing comes of the proposal for now, as the flow has said.

        What the flow leaves to this process waits for nobody.
        """
        if self.log.decide == "auto" and _in_place(found):
            return False
        return time.monotonic() < self._answered.get(found.key, 0.0)

    def takes(self, found: Proposed) -> bool:
        """Whether the replanning flow is to see to it: where people are asked, or a continuation
        is to carry it out, of a deployed plan.
        """
        asks = self.log.decide == "ask"
        if not (asks or (self.log.decide == "auto" and not _in_place(found))):
            return False
        if self.overdue:  # it may have other reasons by now, and nobody has asked about those
            self._not_handed.add(found.key)
            self.log.said.discard(found.key)
        if found.key in self._not_handed or not self.facts.hands_over():
            return False
        new = self.held.new
        self.held.wait()
        self._sent = None
        question = open_question(self.log.entries()) if asks and not new else None
        if question is not None:  # asked by a flow that began by itself, or before a restart
            self._hand(found, question.position - 1)
            return True
        logger.info("%s; the replanning flow sees to it", found.evaluation.rationale)
        self._hand(found, found.position)
        self.log.once(
            RunEventKind.PROPOSED, found, decide=self.log.decide, handed_over=True,
            recommended=found.recommended, reason=found.evaluation.rationale, **found.account,
        )  # fmt: skip
        return True

    def waits(self) -> bool:
        """Whether it may still answer; a revision of its making is the dispatcher's to see."""
        self.overdue = False
        handed = self.handed
        if handed is None:
            return False
        if self._sent is not None:
            return self._is_carried_out(self._sent)
        entries = self.log.entries(handed.position)
        question = newest_question(entries)
        if question is not None and not question.settled:
            return self._people_are_asked(handed, question)
        # First, for people may have taken longer to answer than a flow may to come.
        answer = flows_answer(entries, handed.position)
        if answer is None:
            if question is not None:  # the run went another way: by hand, or another's revision
                self.handed = None
                return False
            if time.monotonic() <= handed.until:
                return True
            logger.warning("the replanning flow has not answered: this process sees to it")
            self._not_handed.add(handed.key)
            self.log.said.discard(handed.key)  # people are to be asked from here, then
            self.handed = None
            self.overdue = True
            return False
        logger.info("the replanning flow found nothing better: %s", answer)
        self.handed = None
        hold = max(self.facts.plan.replanning.cooldown.total_seconds(), ANSWER_HOLDS)
        self._answered[handed.key] = time.monotonic() + hold
        if question is not None and question.answer is not None:
            self._declined(handed, question)
        self.held.let_go()
        return True

    def has_come(self, pending: Proposed) -> bool:
        """Whether a flow asks by now, after all, what this process asks."""
        if not self.facts.hands_over():
            return False
        question = open_question(self.log.entries(pending.position))
        if question is None:
            return False
        self._hand(pending, question.position - 1)
        return True

    def _hand(self, found: Proposed, position: int) -> None:
        until = time.monotonic() + HANDED_OVER_SECONDS
        self.handed = Handed(key=found.key, about=found.about, position=position, until=until)

    def close_question(self) -> None:
        """A form that a replanning flow shows is needed no more when the run has ended."""
        facts = self.facts
        if self.log.decide != "ask" or self.log.dispatcher.superseded or not facts.hands_over():
            return
        try:
            question = newest_question(self.log.entries())
            if question is not None:
                close_form(facts.client, question.flow_run, "Settled", "the run has ended")
        except (httpx.HTTPError, AthenaError) as error:
            logger.warning("the question to people stays open: %s", error)

    def _people_are_asked(self, handed: Handed, question: Question) -> bool:
        """Whether their answer, and its flow, are still waited for."""
        if self.held.new and question.answer is None:
            self.handed = None  # what has failed since is another question
            return False
        answer = question.answer
        # A flow has as long to come for an answer as it had for the question.
        since = question.until if answer is None else answer.at or question.until
        if self.clock() < since + timedelta(seconds=HANDED_OVER_SECONDS):
            return True
        # Neither the watching flow nor a worker has seen to it: this process does.
        logger.warning("no flow carries the answer out: this process does")
        if answer is None:
            answer = self._default(question)
        self._not_handed.add(handed.key)
        self._declined(handed, question)  # where the dispatcher refuses it, it is no more than that
        if answer.wish is None:
            who = "nobody answered in time" if answer.unanswered else f"{answer.author}: carry on"
            self.handed = None
            self.log.record(
                RunEventKind.NOT_REPLANNED, f"answer to {question.key}", outcome="declined",
                reason=who, strategy=question.strategy, about=list(handed.about),
                position=question.position,
            )  # fmt: skip
            self.held.let_go()
        else:
            wish = replace(answer.wish, revision=self.facts.revision)
            key = f"answer to {question.key}"
            self._sent = self.log.command(wish.as_data(), answer.author, key)
        return True

    def _declined(self, handed: Handed, question: Question) -> None:
        """People are not asked twice on the same grounds: those handed over, and those asked."""
        self.log.declined.update(handed.about, about(question.data))

    def _default(self, question: Question) -> Answered:
        """The answer that counts: the plan's, unless somebody was faster by a moment."""
        answer = question.default(self.facts.plan.replanning.unanswered)
        event = answered_event(self.facts.plan_run, question, answer, at=self.clock())
        self.facts.recorder.record(event)
        known = newest_question(self.log.entries())
        same = known is not None and known.key == question.key
        return known.answer if known is not None and same and known.answer else answer

    def _is_carried_out(self, sent: str) -> bool:
        """Held tasks wait until the dispatcher has adopted what was answered, or refused it."""
        told = self.log.dispatcher.state.answers.get(sent)
        if told is None:
            return True
        self.settled()
        if not told.accepted:
            logger.warning("what was answered cannot be done any more: %s", told.message)
            self.held.let_go()
        return True
