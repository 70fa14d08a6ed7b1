"""What the tasks of a run add up to, kept up to date one event at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.state import Attempt, ExecutionState, Item, Status, TaskState
from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask

ABANDONED = "Abandoned"
"""State name of an attempt that was given up; the task may have another one."""


class Tally:
    """Statuses of tasks, counts, what is used, and what can no longer be done.

    `state.status` asks every item of a mapped task; here each event costs the same
    whatever the number of items.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tasks = {t.id: t for t in plan.tasks}
        self._hard: dict[str, list[str]] = defaultdict(list)
        for task in plan.tasks:
            for arc in task.upstream:
                if arc.hard:
                    self._hard[arc.task].append(task.id)
        self._item_status: dict[Item, Status] = {}
        self._items: dict[str, Counter[Status]] = defaultdict(Counter)
        self._status: dict[str, Status] = {}
        self._by_status: dict[Status, set[str]] = {s: set() for s in Status}
        self._usage: dict[Item, tuple[Mapping[str, float], Mapping[str, float]]] = {}
        self._totals: dict[str, list[float]] = {}
        self.running: set[Item] = set()
        self.stopped: dict[str, str] = {}
        """Tasks that will not be done as the plan stands, and why, their cones included."""
        self._dead_ends: dict[str, str] = {}
        self._held: Mapping[str, str] = {}
        self._reopened: dict[str, dict[int | None, int]] = {}
        """Tasks that a revision does again, or that were blocked behind one: of the task as a
        whole and of its items that are still to begin anew, the attempts by then."""
        self._causes: dict[str, str] = {}

    def update(self, state: ExecutionState, item: Item) -> bool:
        """Take in what became of `item`; whether that changed what can still be done."""
        task_id, index = item
        task = self._tasks.get(task_id)
        if task is None:
            return False
        own = state.task(*item)
        self._measure(task, item, own)
        now = own.status
        self._note_begun(item, len(own.attempts))
        if index is not None:
            before = self._item_status.get(item)
            if before is not None:
                self._items[task_id][before] -= 1
            self._items[task_id][now] += 1
            self._item_status[item] = now
        (self.running.add if now is Status.RUNNING else self.running.discard)(item)
        return self._set_status(task, state)

    def _set_status(self, task: PlanTask, state: ExecutionState) -> bool:
        status = self._whole(task.id, state)
        before = self.status(task.id)
        if before is not status:
            self._by_status[before].discard(task.id)
            self._by_status[status].add(task.id)
            self._status[task.id] = status
        reason = self._dead_end(task, state, status)
        quiet = before is status or not (self.stopped or self._held)
        if self._dead_ends.get(task.id, "") == reason and quiet:
            return False
        self._dead_ends.pop(task.id, None)
        if reason:
            self._dead_ends[task.id] = reason
        return self._find_stopped()

    def _whole(self, task_id: str, state: ExecutionState) -> Status:
        own = state.task(task_id)
        count = own.items
        if count is None:
            items = self._items.get(task_id)
            running = items is not None and items[Status.RUNNING] > 0
            return Status.RUNNING if running and not own.status.final else own.status
        if own.status.final:
            return own.status
        items = self._items[task_id]
        good = items[Status.SUCCESS] + items[Status.PARTIAL]
        final = good + items[Status.FAILURE] + items[Status.BLOCKED] + items[Status.SKIPPED]
        if good == count:
            return Status.PARTIAL if items[Status.PARTIAL] else Status.SUCCESS
        if items[Status.RUNNING]:
            return Status.RUNNING
        if final >= count:
            return Status.FAILURE if items[Status.FAILURE] else Status.BLOCKED
        return Status.RUNNING if final else Status.READY

    def reopen(self, again: Iterable[str], state: ExecutionState) -> None:
        """What a revision does again, with what was blocked behind it, is no dead end any more.

        It is once more when another attempt has failed. What an earlier revision does again
        and has not begun since stays so.
        """
        todo = [t for t in again if t in self._tasks]
        found = dict.fromkeys(todo)
        while todo:
            for after in self._hard[todo.pop()]:
                if after not in found and self.status(after) is Status.BLOCKED:
                    found[after] = None
                    todo.append(after)
        self._reopened |= {t: _attempts(t, state) for t in found}
        for task_id in found:
            self._set_status(self._tasks[task_id], state)

    def reopen_like(self, other: Tally) -> None:
        """What is still to begin anew there is so here."""
        self._reopened = {t: dict(waits) for t, waits in other._reopened.items()}

    def is_reopened(self, task_id: str, index: int | None = None) -> bool:
        """Whether a revision does it again, and it has not begun since.

        A mapped task as a whole: whether that is so of any of its items.
        """
        waits = self._reopened.get(task_id, {})
        return bool(waits) if index is None else index in waits

    def _note_begun(self, item: Item, attempts: int) -> None:
        """What is done again and has another attempt waits for it no more."""
        task_id, index = item
        waits = self._reopened.get(task_id)
        if not waits or waits.get(index) == attempts:
            return
        waits.pop(index, None)
        if index is None or waits.keys() <= {None}:
            waits.clear()

    def _dead_end(self, task: PlanTask, state: ExecutionState, status: Status) -> str:
        if self.is_reopened(task.id):
            return ""
        if status is Status.BLOCKED:
            return f"{task.id} is blocked"
        if status is not Status.FAILURE:
            return ""
        own = state.task(task.id)
        if own.latest is None or tries_left(task, own) == 0:
            return f"{task.id} failed"
        return ""

    def _find_stopped(self) -> bool:
        """The dead ends, what is held back, and everything unfinished that needs them."""
        held = {t: why for t, why in self._held.items() if self._may_start(t)}
        self._causes = {**held, **self._dead_ends}
        stopped: dict[str, str] = dict(self._causes)
        todo = list(stopped)
        while todo:
            for after in self._hard[todo.pop()]:
                if after not in stopped and self._may_start(after):
                    stopped[after] = ""
                    todo.append(after)
        changed = stopped.keys() != self.stopped.keys()
        self.stopped = stopped
        return changed

    def _may_start(self, task_id: str) -> bool:
        """Whether a task is to start, for the first time or once more."""
        status = self.status(task_id)
        if status in (Status.FAILURE, Status.BLOCKED):
            # It has tries left, or a revision does it again.
            return task_id not in self._dead_ends
        return not status.final and status is not Status.RUNNING

    def hold(self, held: Mapping[str, str]) -> bool:
        """Hold these tasks back, and no others; whether that changed what can be done.

        What runs goes on.
        """
        self._held = {t: f"{t} is held back: {why}" for t, why in held.items()}
        return self._find_stopped()

    def _measure(self, task: PlanTask, item: Item, own: TaskState) -> None:
        attempt = own.in_force or own.latest
        used = attempt.data.get("used") if attempt is not None and attempt.ended else None
        if item in self._usage:
            self._add(*self._usage.pop(item), sign=-1)
        if attempt is None or not used:
            return
        planned = planned_resources(task, attempt)
        measured = {name: amount for name, amount in used.items() if name in planned}
        if measured:
            self._usage[item] = (measured, planned)
            self._add(measured, planned, sign=1)

    def _add(self, used: Mapping[str, float], planned: Mapping[str, float], sign: int) -> None:
        for name, amount in used.items():
            total = self._totals.setdefault(name, [0.0, 0.0, 0.0])
            total[0] += sign * amount
            total[1] += sign * planned[name]
            total[2] += sign

    def status(self, task_id: str) -> Status:
        """Where a task stands as a whole."""
        return self._status.get(task_id, Status.WAITING)

    def with_status(self, *statuses: Status) -> Iterable[str]:
        """The tasks that stand so, but for the tasks of which nothing is known yet."""
        for status in statuses:
            yield from self._by_status[status]

    @property
    def completed(self) -> int:
        """Tasks with a success or partial success in force."""
        return len(self._by_status[Status.SUCCESS]) + len(self._by_status[Status.PARTIAL])

    @property
    def total(self) -> int:
        """Tasks of the plan that are not skipped."""
        return len(self._tasks) - len(self._by_status[Status.SKIPPED])

    @property
    def blocked(self) -> str:
        """Why the plan cannot reach its goals as it stands; empty where it can."""
        required = self._plan.required
        if required.isdisjoint(self.stopped):
            return ""
        causes = sorted({reason for reason in self._causes.values()})
        waiting = sorted(t for t in self.stopped if t not in self._causes and t in required)
        behind = f"; {_listed(waiting)} cannot start" if waiting else ""
        return f"{', '.join(causes)}{behind}"

    def why_stopped(self, task_id: str) -> str:
        """Why a task will not be done as the plan stands; empty where it may be."""
        if task_id not in self.stopped:
            return ""
        return self.stopped[task_id] or "a task that it needs failed or is blocked"

    def resource_deviation(self) -> dict[str, float | None]:
        """Of each resource (used − planned) / planned, summed over where it was measured."""
        result: dict[str, float | None] = dict.fromkeys(self._plan.resources)
        for name, (used, planned, count) in self._totals.items():
            # Subtracting what was added leaves dust, so "nothing" is told by the count.
            result[name] = (used - planned) / planned if count and planned else None
        return result


def _attempts(task_id: str, state: ExecutionState) -> dict[int | None, int]:
    """Of a task and of its items that did not end well, the attempts so far."""
    items = state.items(task_id).items()
    found: dict[int | None, int] = {k: len(s.attempts) for k, s in items if not s.status.good}
    return {None: len(state.task(task_id).attempts), **found}


def tries_left(task: PlanTask, own: TaskState) -> int:
    """Attempts that a failed task still has. Prefect, asked for retries, has made them all:
    the end that it reports is the last.
    """
    last = own.latest
    if last is None:
        return task.retries + 1
    if last.state_name not in (None, ABANDONED):
        return 0
    failed = sum(a.outcome is TaskOutcome.FAILURE for a in own.attempts)
    return max(task.retries + 1 - failed, 0)


def mode_of(task: PlanTask, attempt: Attempt | None) -> str:
    """The mode that an attempt ran in; the default where it says none, or one that is gone."""
    name = (attempt.data.get("mode") if attempt is not None else None) or DEFAULT_MODE
    return name if name in task.mode_names else DEFAULT_MODE


def planned_resources(task: PlanTask, attempt: Attempt | None) -> Mapping[str, float]:
    """What was planned for an attempt, in the mode that it ran in."""
    return task.mode(mode_of(task, attempt)).resources


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
