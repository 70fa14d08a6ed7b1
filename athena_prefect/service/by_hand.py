"""What people change in a run: leave a task out, call it done, have it run again.

Each is a command in the run's journal. The dispatcher that runs it obeys within a
second and answers; where none runs it, the next one obeys before it does anything
else. Either way the change is a revision of the run, with its author and reason.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from athena_prefect.errors import InputError, RunError
from athena_prefect.journal.events import Command, CommandAnswer, CommandKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.service.following import Clock, utc_now

if TYPE_CHECKING:
    from athena_prefect.replanning.wishes import Wish
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow

ANSWER_SECONDS = 15.0
"""How long an answer is waited for: a dispatcher looks every half second, and may be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedByHand:
    """A change that was asked for, and what became of it."""

    plan_run: UUID
    plan: str
    kind: CommandKind
    task_id: str
    """The task, or the option that is to be adopted."""
    command_id: str
    answered: bool
    """Whether a dispatcher has obeyed already."""
    live: bool
    """Whether some process runs it now."""
    revision: int | None
    """The run's revision that it made; None before a dispatcher has obeyed."""
    source: Path | None
    """The plan's file."""
    deployed: bool = False
    """Whether a worker was asked to go on with it."""
    told: bool | None = None
    """Of the answer to a question: whether the flow that asks knows it already; else the watching
    flow tells it. None of everything else."""

    @property
    def go_on(self) -> str | None:
        """The command that goes on with the run; None where that is not needed."""
        if self.live or self.deployed:
            return None
        return f"athena run {self.source or 'PLAN'} --resume {self.plan_run}"

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "plan_run": str(self.plan_run),
            "plan": self.plan,
            "command": str(self.kind),
            "task": self.task_id,
            "command_id": self.command_id,
            "answered": self.answered,
            "revision": self.revision,
            "live": self.live,
            "deployed": self.deployed,
            "go_on": self.go_on,
        }


def skip(run: str, task: str, *, reason: str = "", settings: AthenaSettings) -> ChangedByHand:
    """Leave `task` out of what is left of a run; what takes its result is left out too.

    Raises UnknownRunError, UnknownNameError, InputError where it cannot be left out
    any more, RunError where the dispatcher refuses.
    """
    return _Asked(run, task, settings).ask(CommandKind.SKIP, {"reason": reason})


def done(
    run: str, task: str, *, result: str | None = None, reason: str = "", settings: AthenaSettings
) -> ChangedByHand:
    """Call `task` done, with `result` (JSON) as what it returned. Raises as `skip` does."""
    value = None
    if result is not None:
        try:
            value = json.loads(result)
        except ValueError as error:
            raise InputError(
                f"--result is not JSON ({error}); write e.g. --result '{{\"rows\": 10}}', "
                "or a word in double quotes within single ones"
            ) from None
    return _Asked(run, task, settings).ask(CommandKind.DONE, {"reason": reason, "result": value})


def rerun(run: str, task: str, *, reason: str = "", settings: AthenaSettings) -> ChangedByHand:
    """Have `task` and all that follows from it run again, on what is upstream of it.

    A run that is over is gone on with: by a worker where it was deployed, else by
    the command in `go_on`. Raises as `skip` does.
    """
    return _Asked(run, task, settings).ask(CommandKind.RERUN, {"reason": reason})


def adopt(
    run: str,
    wish: Wish,
    *,
    settings: AthenaSettings,
    revision: int | None = None,
    key: str | None = None,
    by: str | None = None,
) -> ChangedByHand:
    """Have a run that goes on adopt an option that was shown for it.

    Its dispatcher finds it again by what it changes, for the run has moved on, and refuses
    where that cannot be done any more, or where `revision`, for which it was chosen,
    is no longer in force. Where people are asked by a form just now, this is their answer, and
    the flow that asks carries it out. The same `key` is the same wish. Raises InputError,
    RunError.
    """
    data = wish.as_data()
    if revision is not None:
        data["revision"] = revision
    asked = _Asked(run, None, settings)
    answered = asked.answer_question(wish, by or author(), settings.namespace)
    if answered is not None:
        return answered
    return asked.ask(
        CommandKind.ADOPT,
        data,
        subject=wish.title,
        command_id=None if key is None else _wish(key),
        by=by,
    )


def adopted_before(entries: Sequence[Entry], key: str) -> Command | None:
    """The wish of that key, where it was made before. Raises RunError where it was refused."""
    command_id = _wish(key)
    answers = [e.event for e in entries if isinstance(e.event, CommandAnswer)]
    for answer in answers:
        if answer.command_id == command_id and not answer.accepted:
            raise RunError(f"refused: {answer.message}", run=str(answer.plan_run))
    commands = [e.event for e in entries if isinstance(e.event, Command)]
    return next((c for c in commands if c.command_id == command_id), None)


def _wish(key: str) -> str:
    return f"adopt|{key}"


class _Asked:
    """A run about which something is asked."""

    def __init__(
        self,
        run: str,
        task: str | None,
        settings: AthenaSettings,
        *,
        clock: Clock = utc_now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        from athena_prefect.storage.db import database_for
        from athena_prefect.storage.lease import Leases
        from athena_prefect.storage.plans import PlanStore
        from athena_prefect.storage.sql_journal import SqlJournal

        database = database_for(settings.database_url, durable=settings.durable)
        database.check_schema()
        store = PlanStore(database)
        self.row: RunRow = store.run(run)
        self.plan: Plan = store.revision(self.row.plan_run)
        self.task = "" if task is None else self.plan.get_task(task).id
        self.journal = SqlJournal(database)
        self.leases = Leases(database)
        self.clock, self.pause = clock, pause

    def ask(
        self,
        kind: CommandKind,
        data: dict[str, Any],
        subject: str = "",
        command_id: str | None = None,
        by: str | None = None,
    ) -> ChangedByHand:
        plan_run = self.row.plan_run
        before = self._state()
        elsewhere = before.attached or before.run_data.get("outside") is True
        if elsewhere or not self.leases.ever_held(plan_run):
            raise InputError(
                f"run {plan_run} is only monitored: its tasks are started elsewhere, "
                "so nothing here can leave them out or repeat them"
            )
        live = self.leases.current(plan_run) is not None
        self._refuse_early(kind, before, live)
        command = Command(
            plan_run=plan_run,
            command_id=command_id or str(uuid4()),
            kind=kind,
            at=self.clock(),
            author=by or author(),
            data={"task_id": self.task, **data},
        )
        self.journal.append(command)
        state = self._answered(command) if live else None
        deployed = not live and kind is CommandKind.RERUN and self._go_on_deployed()
        return ChangedByHand(
            plan_run=plan_run,
            plan=self.plan.name,
            kind=kind,
            task_id=subject or self.task,
            command_id=command.command_id,
            answered=state is not None,
            live=live,
            revision=None if state is None else state.revision,
            source=self.row.source,
            deployed=deployed,
        )

    def answer_question(self, wish: Wish, by: str, namespace: str) -> ChangedByHand | None:
        """Have this be the answer to what people are asked now; None where they are not."""
        from athena_prefect.replanning.asked import Answered, open_question
        from athena_prefect.service.asking import give_answer

        plan_run = self.row.plan_run
        question = open_question(self.journal.read(plan_run))
        if question is None:
            return None
        told = give_answer(
            self.journal, plan_run, question, Answered(wish=wish, author=by),
            namespace=namespace, at=self.clock(),
        )  # fmt: skip
        return ChangedByHand(
            plan_run=plan_run, plan=self.plan.name, kind=CommandKind.ADOPT, task_id=wish.title,
            command_id=question.key, answered=False,
            live=self.leases.current(plan_run) is not None, revision=None,
            source=self.row.source, deployed=True, told=told,
        )  # fmt: skip

    def _state(self) -> ExecutionState:
        return fold_entries(self.journal.read(self.row.plan_run))

    def _refuse_early(self, kind: CommandKind, state: ExecutionState, live: bool) -> None:
        """Refuse what no dispatcher will ever accept, so that nothing is left lying about."""
        status = state.status(self.task)
        again = f"athena rerun {str(self.row.plan_run)[:8]} --from {self.task}"
        if kind is CommandKind.ADOPT:
            if state.end_status == "completed":
                raise InputError(f"run {self.row.plan_run} is completed: nothing of it is left")
            if not live:
                raise InputError(
                    f"no process runs {self.row.plan_run} now, so nothing can adopt an option; go "
                    f"on with it: athena run {self.row.source or 'PLAN'} --resume "
                    f"{self.row.plan_run}"
                )
            return
        if kind is CommandKind.RERUN:
            if not live and not status.final:
                raise InputError(
                    f"{self.task} has not run yet in run {self.row.plan_run}; go on with it: "
                    f"athena run {self.row.source or 'PLAN'} --resume {self.row.plan_run}"
                )
            return
        if status.good:
            raise InputError(f"{self.task} has already succeeded; have it run again with `{again}`")
        if state.end_status == "completed":
            raise InputError(f"run {self.row.plan_run} is completed; `{again}` opens it again")

    def _answered(self, command: Command) -> ExecutionState | None:
        """The state after the dispatcher's answer; None where none came. Raises RunError."""
        end = self.clock().timestamp() + ANSWER_SECONDS
        while self.clock().timestamp() < end:
            state = self._state()
            answer = state.answers.get(command.command_id)
            if answer is not None:
                if not answer.accepted:
                    raise RunError(f"refused: {answer.message}", run=str(command.plan_run))
                return state
            self.pause(0.2)
        return None

    def _go_on_deployed(self) -> bool:
        """Ask a worker to go on with a run of a deployment; whether it was one."""
        if self.row.flow_run_id is None or not os.environ.get("PREFECT_API_URL"):
            return False
        from athena_prefect.runtime.watching import connected

        with connected() as api:
            if api is None:
                return False
            flow_run = api.flow_run(self.row.flow_run_id)
            if flow_run is None or not flow_run.deployed:
                return False
            api.start_again(flow_run.flow_run_id, f"rerun from {self.task}, by {author()}")
            return True


def author() -> str:
    """Who asks: the name that this process's user goes by."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no user database, as in some containers
        return "unknown"
