"""A revision of the rest is brought into force, and its continuation made ready."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import RevisionTakenError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import fold_entries
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.service.step_answers import Redeployed, Stored

if TYPE_CHECKING:
    from athena_prefect.replanning.results import ReplanResult
    from athena_prefect.runtime.continuing import Continuation
    from athena_prefect.service.rest import RestOfRun

logger = logging.getLogger(__name__)


def store_revision(
    rest: RestOfRun, option: ReplanningOption, result: ReplanResult, *, author: str = ""
) -> Stored:
    """Store the revision and bring it into force, unless the run has gone past it."""
    answer = None if rest.question is None else rest.question.answer
    author = author or ("policy" if answer is None else answer.author)
    from athena_prefect.runtime.continuing import revised_event
    from athena_prefect.runtime.seams import reached

    stale = why_stale(rest, result) or _why_idle(result)
    if stale is not None:
        return Stored(
            plan_run=rest.plan_run, revision=result.revision, stored=False, again=True,
            reason=stale,
        )  # fmt: skip
    reason = f"{result.strategy}: {rest.in_hand()[2].rationale}"
    figures = figures_of(option, result)
    try:
        rest.store.save_run_revision(
            rest.plan_run, result.revision, result.new_plan,
            author=author, reason=reason, figures=figures, strategy=str(result.strategy),
        )  # fmt: skip
    except RevisionTakenError as error:
        return Stored(
            plan_run=rest.plan_run, revision=result.revision, stored=False, reason=str(error)
        )
    reached("stored")
    now = rest.clock()
    chosen = RunEvent(
        plan_run=rest.plan_run, kind=RunEventKind.CHOSEN, at=now,
        source=f"revision {result.revision}", reported_by=Reporter.CALLER,
        data={"option": option.title, "author": author, "strategy": str(result.strategy)},
    )  # fmt: skip
    revised = revised_event(
        rest.plan_run, result.revision, figures, author=author, reason=reason, at=now
    )
    rest.journal.append(chosen, revised)
    logger.info("revision %d: %s", result.revision, "; ".join(result.changes))
    return Stored(plan_run=rest.plan_run, revision=result.revision, stored=True, reason=reason)


def why_stale(rest: RestOfRun, result: ReplanResult) -> str | None:
    """Why the run has gone past what the revision changes; None where it has not."""
    state = fold_entries(rest.journal.read(rest.plan_run))
    if state.end_status is not None:
        return f"the run is over: {state.end_status}"
    if result.revision != state.revision + 1:
        return f"revision {state.revision} is in force already"
    for change in result.details:
        if change.kind is ChangeKind.CAPACITY:
            continue
        task = state.task(change.subject)
        latest = task.latest
        if state.status(change.subject).good or (latest is not None and latest.running):
            return f"{change.subject}, which it changes, has begun meanwhile"
    return None


def have_gone_on(rest: RestOfRun, revision: int) -> Redeployed:
    """Have the continuation deployment say what goes on; start it where no process runs it."""
    from athena_prefect.runtime.continuing import (
        continuation_of,
        newest_flow_run,
        redeploy,
        start,
        supersede,
        waiting_revision,
    )
    from athena_prefect.runtime.seams import reached
    from athena_prefect.storage.lease import Leases

    wanted: Continuation = continuation_of(
        rest.store, rest.plan_run, revision, namespace=rest.settings.namespace
    )
    redeploy(rest.client, wanted)
    reached("redeployed")
    done = Redeployed(plan_run=rest.plan_run, revision=revision, deployment=wanted.deployment)
    if Leases(rest.database).current(rest.plan_run) is not None:
        return done  # its dispatcher drains, and starts it
    entries = rest.journal.read(rest.plan_run)
    if waiting_revision(entries) is None:
        return done  # taken up already, or what ran was the last of it
    gone = newest_flow_run(entries)
    started = start(rest.client, wanted)
    supersede(rest.client, gone, wanted, started.id)
    return Redeployed(
        plan_run=rest.plan_run, revision=revision, deployment=wanted.deployment,
        flow_run_id=started.id,
    )  # fmt: skip


def _why_idle(result: ReplanResult) -> str | None:
    """Why no continuation is begun for it, though it can be; None where one is."""
    return None if result.details else "nothing can be changed any more, only promised"


def figures_of(option: ReplanningOption, result: ReplanResult) -> dict[str, Any]:
    """What is kept of a revision beside its document: enough to bring it into force."""
    return {
        **result.acceptance,
        "modes": dict(result.modes),
        "strategy": str(result.strategy),
        "option": option.title,
        "changes": list(result.changes),
        "again": [c.subject for c in result.details if c.kind is ChangeKind.AGAIN],
        "continuation": True,
    }
