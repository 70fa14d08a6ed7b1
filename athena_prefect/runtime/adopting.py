"""The change to another revision, in the dispatcher, between two task starts.

What has run and what runs stays as it is. The rest follows the new document: other
modes, fewer dependencies, fewer tasks, another order.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.plan.model import Plan
from athena_prefect.plan.revision import Change, ChangeKind
from athena_prefect.runtime.executor import Executor
from athena_prefect.runtime.frontier import Frontier, Verdict
from athena_prefect.runtime.limits import Capacity
from athena_prefect.runtime.redoing import leave_out, reopen

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A revision of a run that is ready to be adopted."""

    number: int
    plan: Plan
    modes: Mapping[str, str]
    """Task → mode, where it is not the default one."""
    changes: tuple[Change, ...]
    priority: Mapping[str, float]
    """Task → its start by the new schedule, in seconds from the start of the run."""
    promised: Mapping[str, Any] = field(default_factory=dict)
    """P50 and accepted finish in seconds from the start of the run, P(deadline)."""
    strategy: str
    reason: str
    author: str = ""
    option: str = ""

    @property
    def again(self) -> tuple[str, ...]:
        """Failed tasks that are to be done again."""
        return self._of(ChangeKind.AGAIN)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Tasks that are left out."""
        return self._of(ChangeKind.DROPPED)

    @property
    def touched(self) -> set[str]:
        """The tasks that it changes."""
        return {c.subject for c in self.changes if c.kind is not ChangeKind.CAPACITY}

    def _of(self, kind: ChangeKind) -> tuple[str, ...]:
        return tuple(c.subject for c in self.changes if c.kind is kind)

    @property
    def figures(self) -> dict[str, Any]:
        """What is kept of it beside its document."""
        return {**self.promised, "modes": dict(self.modes)}


def why_stale(dispatcher: Dispatcher, revision: Revision) -> str | None:
    """Why the run has gone past what the revision changes; None where it has not."""
    if revision.number != dispatcher.state.revision + 1:
        return f"revision {dispatcher.state.revision} is in force already"
    # A body past its time-out keeps its resources; as an attempt it is over.
    begun = {r.task.id for r in dispatcher.running.values() if not r.overdue}
    for task_id in sorted(revision.touched):
        known = task_id in dispatcher.facts.plan.task_ids
        over = known and dispatcher.state.status(task_id).good
        if task_id in begun or over:
            return f"{task_id}, which it changes, has begun meanwhile"
    return None


def adopt(dispatcher: Dispatcher, revision: Revision) -> str | None:
    """Go on by `revision`; None, or why that cannot be, with nothing changed."""
    dispatcher.take_back()
    stale = why_stale(dispatcher, revision)
    if stale is not None:
        return stale
    facts = dispatcher.facts
    old_plan, old_modes = facts.plan, facts.modes
    facts.plan, facts.modes = revision.plan, dict(revision.modes)
    facts.forget_resolved()
    try:
        # First what may fail: a call that cannot be imported, a number that is taken.
        submitter = dispatcher.submitter.renewed()
        if facts.keep_revision is not None:
            facts.keep_revision(revision.number, revision.author, _why(revision), revision.figures)
    except AthenaError as error:
        facts.plan, facts.modes = old_plan, old_modes
        facts.forget_resolved()
        return str(error)
    facts.revision = revision.number
    dispatcher.record(_revised(dispatcher, revision))
    if facts.keep_decision is not None:
        facts.keep_decision("adopted", revision.strategy, revision.reason, revision.number)
    _follow(dispatcher, revision, submitter)
    logger.info(
        "revision %d (%s): %s", revision.number, revision.strategy,
        "; ".join(str(c) for c in revision.changes) or "only times change",
    )  # fmt: skip
    return None


def _why(revision: Revision) -> str:
    return f"{revision.strategy}: {revision.reason}"


def _revised(dispatcher: Dispatcher, revision: Revision) -> RunEvent:
    return RunEvent(
        plan_run=dispatcher.facts.plan_run,
        kind=RunEventKind.REVISED,
        at=dispatcher.clock(),
        source=str(revision.number),
        data={
            **revision.figures,
            "revision": revision.number,
            "strategy": revision.strategy,
            "author": revision.author,
            "reason": revision.reason,
            "option": revision.option,
            "changes": [str(c) for c in revision.changes],
        },
    )


def _follow(dispatcher: Dispatcher, revision: Revision, submitter: Executor) -> None:
    """Put the dispatcher's own books in the order of the new revision."""
    waiting = dict(dispatcher.line.ready)
    for item in waiting:
        dispatcher.line.leave(item)
    dropped = set(revision.dropped)
    for task_id in sorted(dropped):
        leave_out(dispatcher, task_id, f"left out by revision {revision.number}")
    dispatcher.submitter = submitter
    dispatcher.frontier = Frontier(revision.plan, revision.priority)
    capacity = Capacity(revision.plan)
    for running in dispatcher.running.values():
        capacity.take({n: a for n, a in running.demand.items() if n in revision.plan.resources})
    dispatcher.capacity = capacity
    dispatcher.revisions = {}
    dispatcher.timers.clear()
    held, dispatcher.held = set(dispatcher.held), set()
    open_ = dispatcher.open | set(revision.again)
    for item, since in waiting.items():
        if item[0] not in dropped and _may_still_start(dispatcher, item[0], open_):
            dispatcher.line.join(item, since)
    # What failed and was waited with stays open only where it is done again.
    dispatcher.let_go_of(held - set(revision.again))
    reopen(dispatcher, revision.again, revision.touched - dropped)


def _may_still_start(dispatcher: Dispatcher, task_id: str, open_: Collection[str]) -> bool:
    """Whether a task that could start still can: what it waits for may be done again now."""
    if dispatcher.line.under_way[task_id]:
        return True  # some of its items run
    task = dispatcher.facts.plan.get_task(task_id)
    answer = dispatcher.frontier.readiness(task, dispatcher.state, open_, dispatcher.clock())
    return answer.verdict is Verdict.START


def priority_of(starts: Mapping[str, float], plan: Plan) -> dict[str, float]:
    """Starts by the new schedule; what it does not hold keeps its place behind."""
    last = max(starts.values(), default=0.0)
    return {t: starts.get(t, last) for t in plan.task_ids}
