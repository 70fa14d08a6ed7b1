"""Commands to a dispatcher, which are rows of the journal, and its answers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, assert_never

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import (
    Command,
    CommandAnswer,
    CommandKind,
    Reporter,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.runtime.redoing import cannot_run_again, run_again, settled_by_hand
from athena_prefect.runtime.results import attempt_key, result_key
from athena_prefect.runtime.submission import definition_of

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)


class Orders:
    """Does what unanswered commands ask, and answers each once."""

    def obey(self, dispatcher: Dispatcher) -> None:
        """Look at every command without an answer."""
        for command in sorted(dispatcher.state.commands.values(), key=lambda c: c.at):
            if _too_early(dispatcher, command):
                continue
            try:
                refusal = self._do(dispatcher, command)
            except AthenaError as error:
                refusal = str(error)
            dispatcher.record(
                CommandAnswer(
                    plan_run=command.plan_run,
                    command_id=command.command_id,
                    at=dispatcher.clock(),
                    accepted=refusal is None,
                    message=refusal or "",
                )
            )
            said = "done" if refusal is None else f"refused: {refusal}"
            logger.info("command %s by %s: %s", command.kind, command.author or "somebody", said)

    def close(self, dispatcher: Dispatcher) -> None:
        """Answer what came too late."""
        for command in dispatcher.state.commands.values():
            dispatcher.record(
                CommandAnswer(
                    plan_run=command.plan_run,
                    command_id=command.command_id,
                    at=dispatcher.clock(),
                    accepted=False,
                    message="the plan run has ended",
                )
            )

    def _do(self, dispatcher: Dispatcher, command: Command) -> str | None:
        """Do one command; None, or why not."""
        match command.kind:
            case CommandKind.PAUSE:
                dispatcher.pause("by command")
            case CommandKind.CONTINUE:
                dispatcher.resume()
            case CommandKind.CANCEL:
                dispatcher.stop(str(command.data.get("reason") or "cancelled by command"))
            case CommandKind.SKIP | CommandKind.DONE:
                return self._settle(dispatcher, command)
            case CommandKind.RERUN:
                return self._rerun(dispatcher, command)
            case CommandKind.ADOPT:
                if dispatcher.replanner is None:
                    return "this run is not replanned: its plan says `replanning: {decide: off}`"
                return dispatcher.replanner.choose(command)
            case _:
                assert_never(command.kind)
        return None

    def _settle(self, dispatcher: Dispatcher, command: Command) -> str | None:
        task = dispatcher.facts.plan.get_task(str(command.data.get("task_id", "")))
        dispatcher.take_back()  # what has not begun is nobody's yet
        if any(r.task.id == task.id for r in dispatcher.running.values()):
            return f"{task.id} is running"
        if dispatcher.state.status(task.id).good:
            return f"{task.id} has already succeeded"
        skip = command.kind is CommandKind.SKIP
        event = (
            _skipped(dispatcher, command, task.id) if skip else _done(dispatcher, command, task.id)
        )
        dispatcher.revise(*_by_whom(command, f"{'skip' if skip else 'done'} {task.id}"))
        dispatcher.record(event)
        settled_by_hand(dispatcher, task.id)
        return None

    def _rerun(self, dispatcher: Dispatcher, command: Command) -> str | None:
        task = dispatcher.facts.plan.get_task(str(command.data.get("task_id", "")))
        dispatcher.take_back()
        author, reason = _by_whom(command, f"rerun from {task.id}")
        refusal = cannot_run_again(dispatcher, task.id)
        if refusal is None:
            dispatcher.revise(author, reason)
            run_again(dispatcher, task.id, reason)
        return refusal


def _too_early(dispatcher: Dispatcher, command: Command) -> bool:
    """Whether it waits for the run's monitor, which is made in its first moments.

    What was chosen while no process ran the plan would be refused else.
    """
    waits = command.kind is CommandKind.ADOPT and dispatcher.replanner is not None
    return waits and not dispatcher.facts.shared.tried.is_set()


def _by_whom(command: Command, what: str) -> tuple[str, str]:
    """Author and reason of the revision that a command makes."""
    why = str(command.data.get("reason") or "")
    return command.author, f"{what}: {why}" if why else what


def _skipped(dispatcher: Dispatcher, command: Command, task_id: str) -> TaskEvent:
    reason = str(command.data.get("reason") or "by hand")
    return TaskEvent(
        plan_run=command.plan_run,
        task_id=task_id,
        kind=TaskEventKind.SKIPPED,
        at=dispatcher.clock(),
        source=command.command_id,
        reported_by=Reporter.DISPATCHER,
        data={"reason": reason, "author": command.author},
    )


def _done(dispatcher: Dispatcher, command: Command, task_id: str) -> TaskEvent:
    facts = dispatcher.facts
    task = facts.plan.get_task(task_id)
    definition = definition_of(task, task.mode(facts.mode_of(task_id)))
    revision = dispatcher.input_revision(task_id)
    key = result_key(facts.plan_run, task_id, None, definition, revision)
    key = attempt_key(key, command.command_id)
    checksum = facts.recorder.vault.put(key, command.data.get("result"), task_id=task_id)
    return TaskEvent(
        plan_run=command.plan_run,
        task_id=task_id,
        kind=TaskEventKind.ENDED,
        at=dispatcher.clock(),
        source=command.command_id,
        state_type="COMPLETED",
        state_name="Done by hand",
        outcome=TaskOutcome.SUCCESS,
        result_key=key,
        reported_by=Reporter.DISPATCHER,
        data={"checksum": checksum, "author": command.author, "input_revision": revision},
    )
