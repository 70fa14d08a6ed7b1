"""Going on with a plan run whose dispatcher is gone.

What was in flight is taken back, what only Prefect's API knows is written down,
finished work is shown in the new flow run, and nothing that counts is repeated.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
from prefect.states import Completed, Crashed

from athena_prefect.journal.events import (
    Reporter,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import Attempt, Item, Status, fold_entries
from athena_prefect.monitor.accepted import still_to_redo
from athena_prefect.runtime.continuing import SUPERSEDED, superseded
from athena_prefect.runtime.facts import label
from athena_prefect.runtime.frontier import input_revisions, results_taken
from athena_prefect.runtime.handles import carried_state
from athena_prefect.runtime.readying import invalidate
from athena_prefect.runtime.reconcile import CARRIED, item_of, missing_events, task_runs_of
from athena_prefect.runtime.redoing import leave_out
from athena_prefect.runtime.results import attempt_key, result_key
from athena_prefect.runtime.submission import definition_of

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)


def restore(dispatcher: Dispatcher) -> None:
    """Bring the journal and the new flow run to where the plan run stands."""
    release_slots(dispatcher)
    try:
        reconcile(dispatcher)
        close_flow_runs(dispatcher)
    except httpx.HTTPError as error:
        logger.error("Prefect's API cannot be asked what the journal may have missed: %s", error)
    abandon_in_flight(dispatcher)
    # Read again: what an old process wrote before it was fenced off counts.
    journal = dispatcher.facts.recorder.journal
    dispatcher.state = fold_entries(journal.read(dispatcher.facts.plan_run), dispatcher.state)
    carry(dispatcher)


def take_up(dispatcher: Dispatcher, before: Plan | None) -> None:
    """Go on by a revision that another process made, the first time that it is gone on by.

    What it leaves out, of the plan `before`, is skipped; what has failed is done again
    only where it says so, or one before it that came to nothing yet: a mere resume tries
    everything again.
    """
    plan, state = dispatcher.facts.plan, dispatcher.state
    failed = {t for t in plan.task_ids if state.status(t) is Status.FAILURE}
    dispatcher.given_up = frozenset(failed - still_to_redo(state))
    for task_id in () if before is None else before.task_ids:
        if task_id not in plan.task_ids:
            leave_out(dispatcher, task_id, f"left out by revision {dispatcher.facts.revision}")


def earlier_flow_runs(dispatcher: Dispatcher) -> set[UUID]:
    """Every flow run that has worked on the plan run."""
    state = dispatcher.state
    found = {state.run_data.get("flow_run_id")}
    for task in state.tasks.values():
        found |= {a.data.get("flow_run_id") for a in task.attempts}
    return {UUID(str(f)) for f in found if f}


def release_slots(dispatcher: Dispatcher) -> None:
    """Give back the global slots that attempts in flight had taken, by their recorded leases."""
    if dispatcher.limits is None:
        return
    leases = [
        UUID(str(lease))
        for _, attempt in in_flight(dispatcher)
        for lease in attempt.data.get("limits", ())
    ]
    dispatcher.limits.give_back(tuple(leases))


def in_flight(dispatcher: Dispatcher) -> Iterator[tuple[Item, Attempt]]:
    """Attempts that began and of whose end nothing is known."""
    for item, task in dispatcher.state.tasks.items():
        for attempt in task.attempts:
            if attempt.running:
                yield item, attempt


def reconcile(dispatcher: Dispatcher) -> None:
    """Write what the API knows of earlier flow runs and the journal does not."""
    facts = dispatcher.facts
    revisions = input_revisions(facts.plan, dispatcher.state)
    for task_run in task_runs_of(facts.client, earlier_flow_runs(dispatcher)):
        item = item_of(task_run.name, facts.plan)
        if item is None or (task_run.state is not None and task_run.state.name == CARRIED):
            continue
        attempts = dispatcher.state.task(*item).attempts
        known = [a for a in attempts if a.source == str(task_run.id)]
        complete = len(known) == max(task_run.run_count, 1) and all(a.ended for a in known)
        if complete and task_run.state is not None and task_run.state.is_final():
            continue
        states = facts.client.read_task_run_states(task_run.id)
        for event in missing_events(facts.plan_run, item, task_run, states, dispatcher.state):
            written = _with_result(dispatcher, event, revisions[item[0]])
            if written is not None:
                dispatcher.record(written)


def _with_result(dispatcher: Dispatcher, event: TaskEvent, revision: int) -> TaskEvent | None:
    """A success by the API counts only with its result; without one the task runs again."""
    if event.kind is not TaskEventKind.ENDED or event.outcome is not TaskOutcome.SUCCESS:
        return event
    from dataclasses import replace

    facts = dispatcher.facts
    task = facts.plan.get_task(event.task_id)
    definition = definition_of(task, task.mode(facts.mode_of(task.id)))
    key = result_key(facts.plan_run, task.id, event.map_index, definition, revision)
    key = attempt_key(key, event.source)
    content = facts.recorder.vault.raw(key)
    if content is None:
        return None
    checksum = hashlib.sha256(content).hexdigest()
    return replace(event, result_key=key, data={**event.data, "checksum": checksum})


def abandon_in_flight(dispatcher: Dispatcher) -> None:
    """Take back every attempt whose process is gone: whatever it reports later is ignored."""
    now = dispatcher.clock()
    for (task_id, index), attempt in list(in_flight(dispatcher)):
        logger.warning("task %s was in flight when its process ended", label((task_id, index)))
        dispatcher.record(
            TaskEvent(
                plan_run=dispatcher.facts.plan_run,
                task_id=task_id,
                map_index=index,
                kind=TaskEventKind.ABANDONED,
                at=now,
                source=attempt.source,
                run_count=attempt.run_count,
                state_type="CRASHED",
                state_name="Abandoned",
                reported_by=Reporter.DISPATCHER,
                data={"reason": "in flight when its process ended"},
            )
        )


def close_flow_runs(dispatcher: Dispatcher) -> None:
    """Earlier flow runs that still read as running are shown as what they are: crashed."""
    facts = dispatcher.facts
    handed_over = superseded(facts.recorder.journal.read(facts.plan_run))
    for flow_run_id in earlier_flow_runs(dispatcher) - {facts.flow_run_id}:
        state = facts.client.read_flow_run(flow_run_id).state
        if state is None or not state.is_running():
            continue
        goes_on = f"flow run {facts.flow_run_id} goes on"
        over: State[Any] = Crashed(message=f"its process is gone; {goes_on}")
        if flow_run_id in handed_over:
            over = Completed(name=SUPERSEDED, message=goes_on)
        facts.client.set_flow_run_state(flow_run_id, over, force=True)


def carry(dispatcher: Dispatcher) -> None:
    """Show finished tasks in this flow run, so that the UI draws the edges from them."""
    for item, task in dispatcher.state.tasks.items():
        if task.in_force is not None and dispatcher.state.status(item[0]).good:
            try:
                _carry_one(dispatcher, item, task.in_force)
            except httpx.HTTPError as error:
                logger.error("finished tasks are not all shown in the new flow run: %s", error)
                return
    _check_results(dispatcher)


def _carry_one(dispatcher: Dispatcher, item: Item, attempt: Attempt) -> None:
    facts = dispatcher.facts
    if attempt.data.get("flow_run_id") == str(facts.flow_run_id):
        dispatcher.handles.carry(item, UUID(attempt.source))
        return
    from prefect import Task

    shown = Task(fn=_never, name=item[0])
    run = facts.client.create_task_run(
        task=shown,
        flow_run_id=facts.flow_run_id,
        dynamic_key=f"carried-{uuid4()}",
        name=label(item),
        state=carried_state(attempt, uuid4()),
    )
    dispatcher.handles.carry(item, run.id)


def _never() -> None:
    raise AssertionError("a carried task run only shows what was done; it never runs")


def _check_results(dispatcher: Dispatcher) -> None:
    """Read now what unfinished tasks will take: a lost result is found before it is needed."""
    from athena_prefect.errors import ResultUnreadableError

    plan = dispatcher.facts.plan
    needed = {
        source
        for task in plan.tasks
        if dispatcher.state.status(task.id) not in (Status.SUCCESS, Status.PARTIAL, Status.SKIPPED)
        for source in results_taken(task)
        if dispatcher.state.status(source).good
    }
    for source in sorted(needed):
        try:
            dispatcher.handles.value(source)
        except ResultUnreadableError as error:
            if plan.get_task(source).rerunnable:
                dispatcher.handles.forget(source)
                invalidate(dispatcher, source, str(error))
