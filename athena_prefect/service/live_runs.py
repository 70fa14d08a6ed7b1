"""One look at a live run: whether its process is there, and what follows where it is not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind, TaskEvent
from athena_prefect.journal.journal import Entry, Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.replanning.asked import newest_question
from athena_prefect.service.attached_runs import look_at_attached
from athena_prefect.service.due_replans import close_answered, see_to_answer, see_to_replanning
from athena_prefect.service.watched import Watch, WatchedRun, by_hand, in_the_ui, newest_flow_run_of

if TYPE_CHECKING:
    from athena_prefect.runtime.watching import FlowRunState
    from athena_prefect.storage.decisions import RunRow

logger = logging.getLogger(__name__)

MOST_RESUMES = 3
"""How often a run is started again without a task having succeeded since: a run that kills its
process each time does not go on for ever, one that gets further each time does."""


class LiveRuns:
    """The live runs, one after the other."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def look(self, row: RunRow) -> WatchedRun:
        """See how a run stands, and do what it needs."""
        from athena_prefect.runtime.telling import Telling

        plan = self.watch.store.revision(row.plan_run)
        entries = self.watch.journal.read(row.plan_run)
        state = fold_entries(entries)
        if state.end_status is not None:
            # It ended, and the list of runs was not told.
            self.watch.store.set_run_status(
                row.plan_run, state.end_status, reason=state.end_reason, ended=state.ended
            )
            self.watch.tell(Telling, row, plan)
            return WatchedRun(plan_run=row.plan_run, plan=row.plan, status="ended")
        from athena_prefect.runtime.continuing import roll_forward

        if roll_forward(
            self.watch.store,
            self.watch.journal,
            row.plan_run,
            state.revision,
            now=self.watch.clock(),
        ):
            entries = self.watch.journal.read(row.plan_run)
            state, plan = fold_entries(entries), self.watch.store.revision(row.plan_run)
        found = WatchedRun(plan_run=row.plan_run, plan=row.plan, status="running")
        if state.paused:
            found = replace(found, status="paused")
        if state.attached:
            found = look_at_attached(self.watch, row, plan, entries, state, found)
        elif state.run_data.get("flow_run_id") and self.watch.leases.ever_held(row.plan_run):
            found = self._process(row, plan, entries, state, found)
            question = newest_question(entries)
            if question is not None and not question.settled:
                found = see_to_answer(self.watch, row, plan, question, found)
            else:
                close_answered(self.watch, question)
                found = see_to_replanning(self.watch, row, entries, state, found)
        self.watch.tell(Telling, row, plan, assess=found.status != "ended")
        after = fold_entries(self.watch.journal.read(row.plan_run))
        raised = tuple(
            b.reason for b in after.breaches.values() if b.open and state.breaches.get(b.name) != b
        )
        breaches = tuple(b.reason for b in after.breaches.values() if b.open)
        return replace(found, breaches=breaches, raised=raised)

    def _process(
        self,
        row: RunRow,
        plan: Any,
        entries: Sequence[Entry],
        state: ExecutionState,
        found: WatchedRun,
    ) -> WatchedRun:
        """See whether the run's process is there, and have it started again where it is not."""
        if self.watch.leases.current(row.plan_run) is not None:
            return found
        if self.watch.api is None:
            return replace(found, status="interrupted", remedy=by_hand(row))
        flow_run = self.watch.api.flow_run(newest_flow_run_of(entries))
        if flow_run is None:
            return replace(found, status="interrupted", remedy=by_hand(row))
        if flow_run.type == "CANCELLED" and not flow_run.refused:
            self.watch.ended(row, "cancelled", "cancelled in Prefect")
            return replace(found, status="ended")
        from athena_prefect.runtime.continuing import waiting_revision

        waiting = waiting_revision(entries)
        if waiting is not None and not state.paused and flow_run.deployed:
            return self._continue(row, entries, state, waiting, found)
        if flow_run.type in ("SCHEDULED", "PENDING"):
            return replace(found, status="starting")
        if flow_run.type in ("PAUSED", "CANCELLING") or state.paused:
            return replace(found, status="paused" if state.paused else flow_run.type.lower())
        if flow_run.type == "COMPLETED":
            return replace(found, status="interrupted", remedy=by_hand(row))
        if flow_run.type == "RUNNING" and self.watch.clock() - flow_run.since < self.watch.grace:
            return replace(found, status="starting")
        self._reconcile(row, plan, entries, state)
        vanished = flow_run.type in ("RUNNING", "CRASHED") or flow_run.refused
        if not flow_run.deployed or not vanished:
            remedy = in_the_ui(flow_run) if flow_run.deployed else by_hand(row)
            self.watch.raise_at_risk(
                row.plan_run, state, f"its process is gone; go on with `{remedy}`"
            )
            return replace(found, status="interrupted", remedy=remedy)
        return self._resume(row, entries, state, flow_run, found)

    def _continue(
        self,
        row: RunRow,
        entries: Sequence[Entry],
        state: ExecutionState,
        revision: int,
        found: WatchedRun,
    ) -> WatchedRun:
        """Nobody runs the plan, and a revision waits: have its continuation started."""
        from prefect.exceptions import ObjectNotFound

        from athena_prefect.runtime.continuing import continuation_of, redeploy, start, supersede

        assert self.watch.api is not None
        wanted = continuation_of(
            self.watch.store, row.plan_run, revision, namespace=self.watch.settings.namespace
        )
        try:
            redeploy(self.watch.api.client, wanted)
            started = self.watch.api.flow_run(start(self.watch.api.client, wanted).id)
        except ObjectNotFound:
            why = f"revision {revision} has no deployment {wanted.deployment} to go on in"
            self.watch.raise_at_risk(row.plan_run, state, f"{why}; go on with `{by_hand(row)}`")
            return replace(found, status="interrupted", remedy=by_hand(row))
        assert started is not None
        supersede(self.watch.api.client, newest_flow_run_of(entries), wanted, started.flow_run_id)
        if started.type == "CRASHED":
            return self._resume(row, entries, state, started, found)
        if started.type in ("FAILED", "CANCELLED"):
            # It never got as far as the journal: its own word is the last one.
            remedy = in_the_ui(started)
            why = f"the continuation {started.name.lower()}: {started.message}; {remedy}"
            self.watch.raise_at_risk(row.plan_run, state, why)
            return replace(found, status="interrupted", remedy=remedy)
        return replace(found, status="continued")

    def _resume(
        self,
        row: RunRow,
        entries: Sequence[Entry],
        state: ExecutionState,
        flow_run: FlowRunState,
        found: WatchedRun,
    ) -> WatchedRun:
        asked = _resumes(entries)
        in_vain = _resumes(entries, since_success=True)
        if asked and self.watch.clock() - asked[-1].at < self.watch.grace:
            return replace(found, status="starting")
        if len(in_vain) >= MOST_RESUMES:
            remedy = in_the_ui(flow_run)
            why = (
                f"its process vanished again, after {len(in_vain)} starts without a task done; "
                f"look at its logs, then {remedy}"
            )
            self.watch.raise_at_risk(row.plan_run, state, why)
            return replace(found, status="interrupted", remedy=remedy)
        why = "its process is gone; the plan run goes on where its journal ends"
        claim = RunEvent(
            plan_run=row.plan_run,
            kind=RunEventKind.RESCHEDULED,
            at=self.watch.clock(),
            source=str(len(asked) + 1),
            reported_by=Reporter.CALLER,
            data={"flow_run_id": str(flow_run.flow_run_id), "state": flow_run.name},
        )
        (recorded,) = self.watch.journal.append(claim)
        if recorded is not Recorded.STORED:
            return replace(found, status="starting")  # another watcher was faster
        assert self.watch.api is not None
        self.watch.api.start_again(flow_run.flow_run_id, why)
        logger.warning("plan run %s is started again: %s", row.plan_run, why)
        return replace(found, status="resumed")

    def _reconcile(
        self, row: RunRow, plan: Any, entries: Sequence[Entry], state: ExecutionState
    ) -> None:
        """Write what the API knows of task runs and the journal does not, but for successes.

        A success counts with its result only, which the run itself looks for when it goes on.
        """
        from athena_prefect.runtime.reconcile import (
            CARRIED,
            item_of,
            missing_events,
            task_runs_of,
        )

        assert self.watch.api is not None
        client = self.watch.api.client
        for task_run in task_runs_of(client, [newest_flow_run_of(entries)]):
            item = item_of(task_run.name, plan)
            final = task_run.state is not None and task_run.state.is_final()
            if item is None or not final or (task_run.state and task_run.state.name == CARRIED):
                continue
            known = [
                a for a in state.task(*item).attempts if a.source == str(task_run.id) and a.ended
            ]
            if len(known) >= max(task_run.run_count, 1):
                continue
            states = client.read_task_run_states(task_run.id)
            missing = missing_events(row.plan_run, item, task_run, states, state)
            events = [e for e in missing if e.outcome is None or not e.outcome.good]
            self.watch.journal.append(*events)


def _resumes(entries: Sequence[Entry], *, since_success: bool = False) -> list[RunEvent]:
    """The times that the run was started again, since a task last succeeded where so asked."""
    found: list[RunEvent] = []
    for entry in entries:
        event = entry.event
        if isinstance(event, RunEvent) and event.kind is RunEventKind.RESCHEDULED:
            found.append(event)
        elif (
            since_success
            and isinstance(event, TaskEvent)
            and event.outcome is not None
            and event.outcome.good
        ):
            found.clear()
    return found
