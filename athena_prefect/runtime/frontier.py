"""What can start now, and what never will: a pure view of a plan and the state of its run.

No Prefect here: the dispatcher asks, and does what the answer says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Dependency, Plan, PlanTask


class Verdict(StrEnum):
    """What is to be done with a task that has not started."""

    WAIT = "wait"
    START = "start"
    SKIP = "skip"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """A verdict, with its reason and, for a lag that still runs, when to look again."""

    verdict: Verdict
    reason: str = ""
    not_before: datetime | None = None


_WAIT = Readiness(verdict=Verdict.WAIT)
_START = Readiness(verdict=Verdict.START)


class Frontier:
    """The tasks of a revision that have not come to an end, and what each waits for."""

    def __init__(self, plan: Plan, priority: Mapping[str, float]) -> None:
        """`priority`: the latest start of each task in seconds; smaller starts first."""
        self._plan = plan
        place = {task.id: i for i, task in enumerate(plan.tasks)}
        self._rank = {t: (priority.get(t, 0.0), place[t]) for t in place}
        self._takes = {t.id: results_taken(t) for t in plan.tasks}
        self._after: dict[str, list[str]] = {t.id: [] for t in plan.tasks}
        for task in plan.tasks:
            for arc in task.upstream:
                self._after[arc.task].append(task.id)

    def rank(self, task_id: str) -> tuple[float, int]:
        """Sort key: the most critical first, then document order."""
        return self._rank[task_id]

    def downstream(self, task_id: str) -> list[str]:
        """The tasks that wait for `task_id`."""
        return self._after[task_id]

    def cone(self, task_id: str) -> set[str]:
        """All that follows from `task_id`."""
        seen: set[str] = set()
        todo = [task_id]
        while todo:
            for after in self.downstream(todo.pop()):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return seen

    def readiness(
        self, task: PlanTask, state: ExecutionState, open_tasks: Collection[str], now: datetime
    ) -> Readiness:
        """Whether `task`, which has not started, can.

        `open_tasks` have not come to their end in this dispatcher, whatever an
        earlier one has seen of them: a failed task is tried again on a resume.
        """
        waiting: Readiness | None = None
        for arc in task.upstream:
            answer = _WAIT if arc.task in open_tasks else self._arc(task, arc, state, now)
            if answer.verdict in (Verdict.BLOCK, Verdict.SKIP):
                return answer
            if answer.verdict is Verdict.WAIT and (waiting is None or answer.not_before is None):
                waiting = answer
        return waiting or _START

    def _arc(
        self, task: PlanTask, arc: Dependency, state: ExecutionState, now: datetime
    ) -> Readiness:
        status = state.status(arc.task)
        if not status.final:
            return _WAIT
        if status is Status.SKIPPED and arc.task in self._takes[task.id]:
            reason = f"takes the result of {arc.task}, which was skipped"
            return Readiness(verdict=Verdict.SKIP, reason=reason)
        if arc.hard and status in (Status.FAILURE, Status.BLOCKED):
            word = "failed" if status is Status.FAILURE else "was blocked"
            return Readiness(verdict=Verdict.BLOCK, reason=f"{arc.task} {word}")
        if arc.lag:
            ended = ended_at(state, arc.task)
            if ended is not None and ended + arc.lag > now:
                return Readiness(verdict=Verdict.WAIT, not_before=ended + arc.lag)
        return _START


def results_taken(task: PlanTask) -> frozenset[str]:
    """The tasks whose results `task` takes, as an argument or for its `when`."""
    return frozenset([*task.inputs.values(), *([task.when.task] if task.when else [])])


def ended_at(state: ExecutionState, task_id: str) -> datetime | None:
    """When a task ended as a whole: its own last end, or its last item's."""
    ends = [a.ended for a in state.task(task_id).attempts if a.ended]
    for item in state.items(task_id).values():
        ends += [a.ended for a in item.attempts if a.ended]
    return max(ends, default=None)


def input_revisions(plan: Plan, state: ExecutionState) -> dict[str, int]:
    """Of each task: 1 + how often it or an ancestor was invalidated.

    Part of a result's key and of `idempotency_token`: what ran on other inputs
    is another fact.
    """
    own = {t.id: len(state.task(t.id).invalidated) for t in plan.tasks}
    result: dict[str, int] = {}
    if not any(own.values()):
        return dict.fromkeys(own, 1)
    for task in plan.tasks:
        seen = {task.id}
        todo = [task.id]
        while todo:
            for arc in plan.get_task(todo.pop()).upstream:
                if arc.task not in seen:
                    seen.add(arc.task)
                    todo.append(arc.task)
        result[task.id] = 1 + sum(own[t] for t in seen)
    return result
