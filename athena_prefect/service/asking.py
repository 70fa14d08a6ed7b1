"""Asking people about a deployed run: the question, its form in Prefect's UI, its answer.

Question and answer are rows of the journal; of several answers the first counts. The
form is the replanning flow itself, suspended: nobody's process waits for it, and a
worker takes it up again when it is resumed. Whoever answers elsewhere, and the watching flow
when the time to answer is up, writes the answer and has that flow go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from athena_prefect.errors import RunError
from athena_prefect.replanning.asked import (
    Answered,
    Question,
    answered_event,
    newest_question,
)
from athena_prefect.replanning.wishes import Shown

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.journal.journal import Journal

logger = logging.getLogger(__name__)

TURN = timedelta(seconds=60)
"""How often a flow run is made, at most, to carry out an answer whose own flow run is gone."""
WAITING = ("PAUSED",)
UNDER_WAY = ("SCHEDULED", "PENDING", "RUNNING")
"""States of a flow run that somebody will take up, or has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A question as a form: what it offers, with the text above it."""

    question: Question
    text: str
    choices: Mapping[str, str | None]
    """What the form shows → title of the option, None to carry on."""

    def answer(self, choice: str, name: str) -> Answered:
        """What a choice in the form means."""
        who = " ".join(name.split())
        author = f"{who} (claimed)" if who else "somebody, in Prefect's UI"
        if self.choices[choice] is None:
            return Answered(wish=None, author=author)
        number = int(choice.partition(":")[0])
        return Answered(wish=_shown(self.question).wish(number), author=author)

    def choice(self, answer: Answered) -> str:
        """What is chosen in the form by an answer that was given elsewhere."""
        from athena_prefect.runtime.asking import CARRY_ON

        wish = answer.wish
        same = [c for c, title in self.choices.items() if wish and title == wish.title]
        return same[0] if same else CARRY_ON


def form_of(question: Question) -> Form:
    """The form of a question, the same whoever makes it."""
    from athena_prefect.report.replanning import question_markdown
    from athena_prefect.runtime.asking import choices_of

    data = question.data
    return Form(
        question=question,
        text=question_markdown(data, why_again=str(data.get("why")) if question.again else ""),
        choices=choices_of(list(data["options"]), data.get("recommended")),
    )


def _shown(question: Question) -> Shown:
    return Shown(
        options=question.data["options"],
        strategy=question.strategy,
        revision=int(question.data["revision"]),
        position=question.position,
    )


def wait_for_answer(form: Form) -> Answered:
    """Suspend the current flow run until it is resumed with an answer, and give that.

    Suspending ends the process; the body runs again from its top when it is resumed.
    """
    from prefect.flow_runs import suspend_flow_run

    from athena_prefect.runtime.asking import form_model

    model: Any = form_model(form.choices).with_initial_data(description=form.text)
    said = suspend_flow_run(wait_for_input=model, key=form.question.key)
    return form.answer(said.choice, said.name)


# -- answering --------------------------------------------------------------------------------


def write_answer(
    journal: Journal, plan_run: UUID, question: Question, answer: Answered, *, at: datetime
) -> Answered:
    """Write an answer down; the one that counts, which may be another."""
    journal.append(answered_event(plan_run, question, answer, at=at))
    found = newest_question(journal.read(plan_run))
    assert found is not None
    return found.answer if found.key == question.key and found.answer else answer


def give_answer(
    journal: Journal, plan_run: UUID, question: Question, answer: Answered, *,
    namespace: str, at: datetime,
) -> bool:  # fmt: skip
    """Answer a question from outside its form; whether its flow was told.

    Where it was not, the watching flow sees to it. Raises RunError where somebody else has
    answered before.
    """
    from athena_prefect.runtime.watching import connected

    counts = write_answer(journal, plan_run, question, answer, at=at)
    if (counts.wish, counts.author) != (answer.wish, answer.author):
        what = "carry on" if counts.wish is None else counts.wish.words
        raise RunError(
            f"run {str(plan_run)[:8]} has its answer already, by {counts.author}: {what}",
            run=str(plan_run),
        )
    with connected() as api:
        if api is None:
            return False
        found = newest_question(journal.read(plan_run))
        if found is None:
            return False
        try:
            return carry_on_with(api.client, plan_run, found, namespace=namespace, now=at)
        except httpx.HTTPError as error:
            logger.warning("the flow that asks is not told yet (%r); the watching flow does", error)
            return False


def carry_on_with(
    client: SyncPrefectClient, plan_run: UUID, question: Question, *, namespace: str, now: datetime
) -> bool:
    """Have the flow go on that asked, or another where that is gone; whether one does.

    An unanswered question is asked again where its form is gone, but not where somebody has
    ended it by hand: then the other ways to answer are left.
    """
    from prefect.exceptions import ObjectNotFound

    from athena_prefect.runtime.continuing import start_replanning
    from athena_prefect.runtime.watching import Api

    flow_run = Api(client).flow_run(question.flow_run)
    kind = "GONE" if flow_run is None else flow_run.type
    if kind in UNDER_WAY:
        return True
    if question.answer is None and kind in (*WAITING, "CANCELLED"):
        return kind in WAITING
    if kind in WAITING and question.answer is not None:
        choice = form_of(question).choice(question.answer)
        told = client.resume_flow_run(
            question.flow_run, run_input={"choice": choice, "name": question.answer.author[:100]}
        )
        if told.status.value == "ACCEPT":
            return True
        logger.warning("the form of run %s is not resumed: %s", plan_run, told.details)
        return False  # somebody was faster, or it changes: the next look sees
    turn = int(now.timestamp() // TURN.total_seconds())
    try:
        start_replanning(
            client, plan_run, namespace, trigger="answer",
            key=f"athena:replan:{plan_run}:{question.key}:{turn}",
        )  # fmt: skip
    except ObjectNotFound:
        return False  # undeployed since: the run's own process sees to it
    return True


def form_waits(client: SyncPrefectClient, question: Question) -> bool:
    """Whether somebody can answer in its form, or it is about to be there."""
    from athena_prefect.runtime.watching import Api

    flow_run = Api(client).flow_run(question.flow_run)
    # One that was ended by hand is not opened a second time.
    kinds = (*WAITING, *UNDER_WAY, "CANCELLED")
    return flow_run is not None and flow_run.type in kinds
