"""What a live run waits for from the replanning flow: its start, an answer, an end of the form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState
from athena_prefect.service.changing_over import claim_of
from athena_prefect.service.watched import Watch, WatchedRun

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan
    from athena_prefect.replanning.asked import Question
    from athena_prefect.storage.decisions import RunRow

MISSED = timedelta(seconds=15)
"""How long a run waits for the replanning flow before a watcher has it started: the automation
takes a second, and the flow some ten to begin on a busy machine."""
REPLAN_AGAIN = timedelta(seconds=60)
"""How often a watcher starts the replanning flow of a run at most: from flow run to revision it
took sixteen seconds on a busy machine."""


def see_to_answer(
    watch: Watch, row: RunRow, plan: Plan, question: Question, found: WatchedRun
) -> WatchedRun:
    """People are asked: see that their answer is carried out, and what the plan says where
    none has come in time; whether the process that runs the plan lives or not.
    """
    from athena_prefect.service.asking import carry_on_with, write_answer

    now = watch.clock()
    if watch.api is None or found.status == "ended":
        return found
    if question.answer is None and now >= question.until:
        default = question.default(plan.replanning.unanswered)
        counts = write_answer(watch.journal, row.plan_run, question, default, at=now)
        question = replace(question, answer=counts)
    if watch.leases.current(claim_of(row.plan_run)) is None:
        carry_on_with(
            watch.api.client, row.plan_run, question,
            namespace=watch.settings.namespace, now=now,
        )  # fmt: skip
    if found.status not in ("running", "resumed"):
        return found
    return replace(found, status="asked" if question.answer is None else "replanning")


def close_answered(watch: Watch, question: Question | None) -> None:
    """Close the form of a question that is settled."""
    from athena_prefect.runtime.asking import close_form

    if question is not None and watch.api is not None:
        why = "the run goes another way by now"
        close_form(watch.api.client, question.flow_run, "Settled", why)


def see_to_replanning(
    watch: Watch, row: RunRow, entries: Sequence[Entry], state: ExecutionState, found: WatchedRun
) -> WatchedRun:
    """Have the replanning flow started where the run waits for it and no automation did."""
    from prefect.exceptions import ObjectNotFound

    from athena_prefect.runtime.continuing import start_replanning, unanswered

    asked = unanswered(entries)
    if asked is None or watch.api is None or found.status not in ("running", "resumed"):
        return found
    now = watch.clock()
    if now - asked[1].at < MISSED or watch.leases.current(claim_of(row.plan_run)) is not None:
        return found
    turn = int(now.timestamp() // REPLAN_AGAIN.total_seconds())
    try:
        start_replanning(
            watch.api.client, row.plan_run, watch.settings.namespace,
            trigger="watch-plan", key=f"athena:replan:{row.plan_run}:{state.revision}:{turn}",
        )  # fmt: skip
    except ObjectNotFound:
        return found  # undeployed since: the run's own process adopts
    return replace(found, status="replanning")
