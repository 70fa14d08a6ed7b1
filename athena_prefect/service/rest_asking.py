"""People are asked about what is left of a run, and what they say is seen to."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from athena_prefect.journal.events import Command, CommandKind, Reporter, RunEvent, RunEventKind
from athena_prefect.replanning.account import account
from athena_prefect.replanning.asked import (
    Answered,
    Question,
    asked_by_its_process,
    declined,
    open_question,
    proposed,
)
from athena_prefect.replanning.evaluation import AdaptiveReplanning, grounds_of
from athena_prefect.service.step_answers import (
    ALREADY,
    ASKS,
    DECLINED,
    NOTHING_TO_DO,
    PASSED_ON,
    Called,
)

if TYPE_CHECKING:
    from athena_prefect.service.asking import Form
    from athena_prefect.service.rest import RestOfRun


def about(rest: RestOfRun, question: Question) -> Called:
    """What an open question calls for: its form, its answer carried out, or nothing now."""
    from athena_prefect.service.asking import form_waits

    strategy, answer = question.strategy, question.answer
    if answer is None:
        if question.flow_run != rest.flow_run and form_waits(rest.client, question):
            why = f"people are asked already, by flow run {question.flow_run}"
            return rest.called_for(strategy, why, state=ALREADY)
        return rest.called_for(strategy, str(question.data.get("reason")), asks=True, state=ASKS)
    who = "nobody answered in time" if answer.unanswered else answer.author
    if answer.wish is None:
        return rest.nothing(DECLINED, f"{who}: carry on", strategy)
    if rest.evaluated() is None:
        return rest.nothing(NOTHING_TO_DO, "the run has no baseline yet", strategy)
    wish = answer.wish
    if wish.abort or wish.only_promises or strategy == AdaptiveReplanning.LOCAL:
        return _passed_on(rest, question, answer, who)
    why = f"{who}: {wish.words}"
    return rest.called_for(strategy, why, replans=True, answered=True)


def _passed_on(rest: RestOfRun, question: Question, answer: Answered, who: str) -> Called:
    """One task's change, another promise and an end are for the run's own process."""
    assert answer.wish is not None
    command_id = f"answer to {question.key}"
    told = rest.state.answers.get(command_id)
    if told is not None and not told.accepted:
        if question.again:
            return rest.nothing(DECLINED, f"{who}: cannot be done: {told.message}", "")
        rest.refused = told.message
        return rest.called_for(question.strategy, told.message, asks=True)
    wish = replace(answer.wish, revision=rest.state.revision)
    rest.journal.append(
        Command(
            plan_run=rest.plan_run, command_id=command_id, kind=CommandKind.ADOPT,
            at=rest.clock(), author=answer.author, data=wish.as_data(),
        )
    )  # fmt: skip
    why = f"{who}: {wish.words}; the run's own process sees to it"
    return rest.called_for(question.strategy, why, state=PASSED_ON)


def was_declined(rest: RestOfRun) -> bool:
    """Whether people have declined on the same grounds, and the run proposes nothing newer."""
    return declined(rest.entries).issuperset(_grounds(rest))


def asks_itself(rest: RestOfRun) -> bool:
    """Whether the run's own process shows a form, for this flow came too late."""
    from athena_prefect.storage.lease import Leases

    if not asked_by_its_process(rest.entries):
        return False
    return Leases(rest.database).current(rest.plan_run) is not None


def ask(rest: RestOfRun) -> Form | None:
    """The form that this flow run is to show; None where it was shown twice already."""
    from athena_prefect.runtime.asking import close_form
    from athena_prefect.service.asking import form_of

    question, now = rest.question, rest.clock()
    assert rest.flow_run is not None, "people are asked by a flow run"
    again = question is not None and question.answer is not None
    if question is not None and again and question.again:
        return None
    same = question is not None and not again and not question.outdated
    if question is not None and same and question.flow_run == rest.flow_run:
        return form_of(question)
    if question is not None and same:
        data = {**question.data, "flow_run": str(rest.flow_run)}
    else:
        if question is not None and not again:
            close_form(rest.client, question.flow_run, "Superseded", "asked anew")
        data = _asked(rest, now, again=again)
    source = f"question-{rest.state.revision}-{rest.state.position}"
    rest.journal.append(
        RunEvent(
            plan_run=rest.plan_run, kind=RunEventKind.ASKED, at=now, source=source,
            reported_by=Reporter.CALLER, data=data,
        )
    )  # fmt: skip
    rest.read()
    rest.question = open_question(rest.entries)
    return None if rest.question is None else form_of(rest.question)


def _asked(rest: RestOfRun, now: datetime, *, again: bool) -> dict[str, Any]:
    """What is asked: the options as the run has proposed them, else solved here."""
    if rest.evaluation is None or rest.engine is None:
        rest.evaluated()
    monitor, _, found = rest.in_hand()
    kept = None if again else proposed(rest.entries, rest.state.revision)
    if kept is None:
        options = rest.options()
        best = None if rest.recommended is None else options[rest.recommended]
        kept = {
            **account(options, best, monitor.brought_up(now)[1]),
            "strategy": str(rest.strategy), "recommended": rest.recommended,
            "reason": found.rationale,
        }  # fmt: skip
    until = now + rest.plan.replanning.answer_within
    return {
        **{k: v for k, v in kept.items() if k not in ("handed_over", "course")},
        "decide": "ask",
        "revision": rest.state.revision,
        "flow_run": str(rest.flow_run),
        "until": until.isoformat(),
        "about": list(_grounds(rest)),
        "again": again,
        "why": rest.refused,
    }


def _grounds(rest: RestOfRun) -> tuple[str, ...]:
    """Says on which grounds people are asked, so that they are not asked twice."""
    return grounds_of(rest.in_hand()[2], rest.state.revision)
