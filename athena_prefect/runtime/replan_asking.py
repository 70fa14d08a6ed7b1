"""People asked by the run's own process: the proposal, its form, waiting, and their answer.

So it is where no replanning flow can ask: under `athena run`, and where a deployed plan
has no worker free for that flow.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from athena_prefect.journal.events import RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.replanning.asked import own_question
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.wishes import wish_from
from athena_prefect.report.replanning import question_markdown
from athena_prefect.runtime.adopting import Revision
from athena_prefect.runtime.asking import Form, ask, choices_of, left_open
from athena_prefect.runtime.replan_finding import Finder, Proposed
from athena_prefect.runtime.replan_holding import Held
from athena_prefect.runtime.replan_log import ReplanLog

if TYPE_CHECKING:
    from athena_prefect.journal.journal import Entry

logger = logging.getLogger(__name__)

FORM_AGAIN = timedelta(seconds=10)
"""How often a form is tried that the server did not take: a restart of it takes about as long."""


@dataclass(slots=True)
class AskingHere:
    """Asks about one proposal at a time, and waits for its answer."""

    finder: Finder
    held: Held
    log: ReplanLog
    clock: Callable[[], datetime]
    adopts: Callable[[Proposed, ReplanningOption, Revision], None]
    """Has the dispatcher adopt a revision, and waits until it has."""
    pending: Proposed | None = None
    """Asked, and not answered yet."""
    _form: Form | None = None
    """The form that is open in Prefect's UI."""
    sent: str | None = None
    """The command by which its answer was sent to the dispatcher."""
    _unopened: str | None = None
    """Text of the form that is to be opened and is not, for the server was away or too busy."""
    _form_again: datetime | None = None
    """When it is tried again."""
    _asked_again: set[str] = field(default_factory=set)
    """Keys of proposals that were asked a second time."""
    _forms_left: bool = False
    """Whether an earlier process may have left forms open that were not looked for yet."""
    _tried_again: frozenset[str] = frozenset()
    """Failed tasks about which an earlier process asked, and which a resume does again."""

    def take_up(self, entries: Iterable[Entry]) -> None:
        """Wait for the answer to what an earlier process of this run has asked.

        Where the time for it has passed, that is written down, and whoever goes on with the
        run is asked anew.
        """
        if self.log.decide != "ask":
            return
        self._forms_left = True
        question = own_question(entries)
        if question is None:
            return
        found = Proposed.asked_before(question)
        if self.clock() - found.at >= self.finder.facts.plan.replanning.answer_within:
            self.log.record(
                RunEventKind.NOT_REPLANNED, f"{found.key}:{found.position}:expired",
                strategy=str(found.evaluation.strategy), outcome="expired",
                reason="nobody answered before the time was over, and no process ran the plan",
            )  # fmt: skip
            return
        self.pending = found
        self.log.said.add(found.key)
        if question.again:
            self._asked_again.add(found.key)
        state, about = self.log.dispatcher.state, found.about
        failed = {t for t in self.finder.facts.plan.task_ids if state.status(t) is Status.FAILURE}
        self._tried_again = frozenset(t for t in failed if any(g.endswith(f": {t}") for g in about))
        self.held.asked_for = set(self._tried_again)
        why_again = str(question.data.get("reason", "")) if question.again else ""
        self._unopened = question_markdown(question.data, why_again=why_again)

    def look_for_forms(self) -> None:
        """Take up the form that an earlier process has opened for what is asked; close others."""
        if not self._forms_left:
            return
        pending, facts = self.pending, self.finder.facts
        offered = {} if pending is None else _choices(pending)
        try:
            for form, fits in left_open(facts.client, facts.plan_run, offered):
                if fits and pending is not None and self._form is None:
                    self._form, self._unopened = form, None
                else:
                    form.close("Superseded", "the process that asked is gone")
        except (httpx.HTTPError, KeyError, ValueError) as error:
            logger.warning("forms of an earlier process cannot be looked for yet: %r", error)
            return
        self._forms_left = False

    def propose(self, found: Proposed) -> None:
        """Say what would be done; and with `ask`, wait for an answer."""
        first = found.key not in self.log.said
        if first:
            self.log.once(
                RunEventKind.PROPOSED,
                found,
                decide=self.log.decide,
                key=found.key,
                recommended=found.recommended,
                reason=found.evaluation.rationale,
                # Who is asked anew, for the same reasons, has a question of its own.
                once=self.log.decide != "ask",
                **found.account,
            )
            logger.warning(
                "%s: %s; %s", found.evaluation.strategy.value.upper(), found.evaluation.rationale,
                self._what_to_do(found),
            )  # fmt: skip
        if self.log.decide == "ask" and first:
            self._ask(found)
        else:
            self.nothing_new()

    def nothing_new(self) -> None:
        """What was found is known: whoever does not wait for an answer need not wait."""
        if self.pending is None:
            self.held.let_go()
        else:
            self.held.let_go_of_new()

    def wait(self, pending: Proposed) -> None:
        """Nothing more until a person has chosen, or the time for that is up."""
        if self._mended():
            self.pending = None
            self.close("Settled", "what had failed has succeeded since")
            reason = f"{', '.join(sorted(self._tried_again))} has succeeded since"
            self.log.once(RunEventKind.NOT_REPLANNED, pending, reason=reason, outcome="settled")
            return
        if self._read_form(pending):
            return
        terms = self.finder.facts.plan.replanning
        if self.clock() - pending.at < terms.answer_within:
            return self._open_form(pending)
        self.pending = None
        self.close("Unanswered", f"nobody answered; {terms.unanswered} is what the plan says")
        if terms.unanswered == "recommended" and self._take_recommended(pending):
            return
        self._decline(pending, "nobody answered in time")

    def _mended(self) -> bool:
        """Whether all that failed, and is asked about, has come right when it was done again."""
        if not self._tried_again or self.sent is not None:
            return False
        state = self.log.dispatcher.state
        return all(state.status(t).good for t in self._tried_again)

    def settled(self) -> None:
        """A revision is in force: nothing is asked any more."""
        self.pending = None

    def give_up(self, name: str, message: str) -> None:
        """What was asked takes no answer any more: somebody else asks about something newer."""
        self.pending = None
        self.close(name, message)

    def close(self, name: str, message: str) -> None:
        """Close the form, where one is open."""
        form, self._form = self._form, None
        if form is not None:
            form.close(name, message)
        self.sent = self._unopened = None

    # -- the question -----------------------------------------------------------------------

    def _ask(self, found: Proposed, why_again: str = "") -> None:
        """Wait for an answer from now on, and have a form opened for it in Prefect's UI."""
        self.close("Superseded", "there is a newer proposal")
        self.held.wait()
        self.pending, self._tried_again = found, frozenset()
        data = {
            **found.account,
            "recommended": found.recommended,
            "strategy": str(found.evaluation.strategy),
            "reason": found.evaluation.rationale,
        }
        self._unopened = question_markdown(data, why_again=why_again)
        self._open_form(found)

    def _open_form(self, found: Proposed) -> None:
        """Open the form that is still to be opened; where the server is busy, later again."""
        again = self._form_again
        if self._unopened is None or (again is not None and self.clock() < again):
            return
        if self._forms_left:
            return  # it may be open already
        facts = self.finder.facts
        try:
            self._form = ask(
                facts.client,
                plan=facts.plan.name,
                plan_run=facts.plan_run,
                text=self._unopened,
                options=list(found.account["options"]),
                recommended=found.recommended,
                within=facts.plan.replanning.answer_within - (self.clock() - found.at),
            )
            self._unopened = None
        except (httpx.HTTPError, KeyError) as error:
            self._form_again = self.clock() + FORM_AGAIN
            logger.warning("no form is open in Prefect's UI yet (%r); answer by command", error)

    def _ask_again(self, pending: Proposed, why: str) -> None:
        """The run has moved on: the same question once more, with what can be done now."""
        with self.finder.facts.shared.using() as monitor:
            if monitor is None:
                return self._decline(pending, why)
            monitor.refresh()
            found = self.finder.propose(monitor, str(pending.evaluation.strategy))
        self.log.record(
            RunEventKind.PROPOSED,
            f"{pending.key}:{found.position}:again",
            decide=self.log.decide,
            key=pending.key,
            again=True,
            strategy=str(found.evaluation.strategy),
            recommended=found.recommended,
            reason=f"asked again: {why}",
            about=list(pending.about),
            **found.account,
        )
        self._ask(replace(found, key=pending.key, about=pending.about), why)

    def _what_to_do(self, found: Proposed) -> str:
        best = found.best
        would = f"recommended: {best.title}" if best is not None else "no option is recommended"
        run = str(self.finder.facts.plan_run)[:8]
        if self.log.decide == "advise":
            return f"{would}; nothing is changed, as the plan says"
        within = self.finder.facts.plan.replanning.answer_within
        by = f"in Prefect's UI, or with `athena replan {run} --option N`"
        return f"{would}; answer within {within} {by}"

    # -- the answer -------------------------------------------------------------------------

    def _read_form(self, pending: Proposed) -> bool:
        """Whether the form, or the answer that was sent from it, settles the proposal."""
        if self.sent is not None:
            answer = self.log.dispatcher.state.answers.get(self.sent)
            if answer is None or answer.accepted:
                return True  # accepted: the dispatcher has taken it up, or is about to
            self.close("Refused", answer.message)
            if pending.key in self._asked_again:
                self._decline(pending, f"what was chosen cannot be done: {answer.message}")
                return True
            self._asked_again.add(pending.key)
            self._ask_again(pending, answer.message)
            return True
        try:
            found = None if self._form is None else self._form.answer()
        except (httpx.HTTPError, KeyError, ValueError) as error:
            logger.warning("the form in Prefect's UI cannot be read: %r", error)
            return False
        if found is None:
            return False
        if found.withdrawn:
            self._form = None  # somebody has ended its flow run: the other ways stay
            return False
        who = f"{found.name} (claimed)" if found.name else "somebody, in Prefect's UI"
        if found.title is None:
            self.close("Answered", f"carry on, by {who}")
            self._decline(pending, f"{who}: carry on")
            return True
        assert self._form is not None
        # The same answer, read again by whoever takes the run up, is the same command.
        command_id = f"answer in form {self._form.flow_run}"
        self.sent = self._send(pending, found.title, who, command_id)
        return True

    def _send(self, pending: Proposed, title: str, author: str, command_id: str) -> str:
        """Have the dispatcher verify and adopt what was chosen, as any other command."""
        told: Mapping[str, Any] = next(
            (o for o in pending.account["options"] if o["title"] == title), {}
        )
        data = {
            **told,
            "title": title,
            "strategy": str(pending.evaluation.strategy),
            "revision": self.finder.facts.revision,
        }
        return self.log.command(wish_from(data).as_data(), author, command_id)

    def _decline(self, pending: Proposed, reason: str) -> None:
        self.pending = None
        self.log.declined.update(pending.about)
        self.log.once(RunEventKind.NOT_REPLANNED, pending, reason=reason, outcome="declined")
        self.held.let_go()

    def _take_recommended(self, pending: Proposed) -> bool:
        with self.finder.facts.shared.using() as monitor:
            if monitor is None:
                return False
            monitor.refresh()
            found = self.finder.propose(monitor, str(pending.evaluation.strategy))
            option = found.best
            if option is None or option.kind is Kind.ABORT:
                return False
            revision = self.finder.revision(monitor, found, option, "unanswered")
        self.adopts(found, option, revision)
        return True


def _choices(asked: Proposed) -> dict[str, str | None]:
    return choices_of(list(asked.account["options"]), asked.recommended)
