"""The loop that runs a revision of a plan: one dispatcher a plan run.

It starts what is ready, most critical first, within capacity; it settles what
has ended; and it ends when nothing is left that could still happen. What it
knows is folded from the journal, so a dispatcher that takes over knows the same.
"""

from __future__ import annotations

import logging
import queue
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect.futures import PrefectFuture

from athena_prefect.errors import (
    ResultUnreadableError,
    RunError,
    StorageUnavailableError,
)
from athena_prefect.journal.events import (
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, Item, Status, evolve, fold, fold_entries
from athena_prefect.plan.expectation import field_of
from athena_prefect.plan.model import PlanTask, RunnerKind
from athena_prefect.runtime.attempt import abandon
from athena_prefect.runtime.child import kill_children
from athena_prefect.runtime.ending import RunEnd, aborted, how_it_ended, settled
from athena_prefect.runtime.executor import Executor
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.frontier import Frontier, Verdict, input_revisions
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.limits import Capacity, GlobalLimits
from athena_prefect.runtime.orders import Orders
from athena_prefect.runtime.seams import reached
from athena_prefect.runtime.submission import withdrawn
from athena_prefect.runtime.time_outs import watch

if TYPE_CHECKING:
    from athena_prefect.runtime.gate import Gate
    from athena_prefect.runtime.replanner import Replanner

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How long the loop waits for news at most; time-outs and lags are seen that late."""
AHEAD_LONGEST = timedelta(seconds=1)
"""A task planned to take less may be given to the thread pool before a thread is free, which
spares it the 10 ms from one task's end to the next one's start. A longer one would gain
nothing that counts, and could stand before a more critical one that becomes ready meanwhile."""


@dataclass(slots=True)
class Running:
    """A submitted task (or item) whose body may run."""

    item: Item
    task: PlanTask
    future: PrefectFuture[Any]
    source: str
    demand: Mapping[str, float]
    since: datetime
    """Since when it could have started."""
    leases: tuple[Any, ...] = ()
    overdue: bool = False


@dataclass(slots=True)
class Dispatcher:
    """Runs what is left of a plan run."""

    facts: RunFacts
    state: ExecutionState
    frontier: Frontier
    capacity: Capacity
    limits: GlobalLimits | None
    submitter: Executor
    handles: Handles
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    news: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    running: dict[str, Running] = field(default_factory=dict)
    """By task-run id: a body past its time-out may run beside its successor."""
    ready: dict[Item, datetime] = field(default_factory=dict)
    """What could start but for capacity, and since when."""
    noted: set[Item] = field(default_factory=set)
    """What the journal knows to be waiting for capacity."""
    timers: dict[str, datetime] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    tries: dict[Item, int] = field(default_factory=dict)
    stop_reason: str = ""
    abort_reason: str = ""
    paused: bool = False
    paused_by: str = ""
    under_way: Counter[str] = field(default_factory=Counter)
    """How many items of each task are ready or running, those past their time-out apart."""
    line: list[tuple[float, int, int, Item]] = field(default_factory=list)
    """What is ready, in the order in which it is to start."""
    revisions: dict[str, int] = field(default_factory=dict)
    last_read: float = 0.0
    open: set[str] = field(default_factory=set)
    """Tasks that have not come to an end."""
    held: set[str] = field(default_factory=set)
    """Failed tasks of which it is being found out whether another plan helps."""
    replanner: Replanner | None = None
    orders: Orders = field(default_factory=Orders)
    gate: Gate | None = None
    """What holds tasks back for the sake of assumptions; None in a plan without any."""
    given_up: frozenset[str] = frozenset()
    """Failed tasks that the revision does not do again; a resume would."""
    draining: bool = False

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> RunEnd:
        """Run until nothing is left. Raises LeaseLostError where another has taken over."""
        self.open = {t.id for t in self.facts.plan.tasks if not settled(self.state, t.id)}
        self.open -= self.given_up
        self._look_at(set(self.open))
        self.orders.obey(self)  # what was asked while nobody ran it; it may open what was done
        while self.open:
            self.take_in()
            if self.superseded and not self.paused:
                return self._drained()  # paused, it would go on in another flow run
            self.orders.obey(self)
            if self.stop_reason:
                return self.stopped()
            watch(self)
            if self.gate is not None:
                self.gate.look(self)
            if not (self.paused or self.superseded):  # a command may have ended the pause
                self._start_what_fits()
            if not self.open or self._nothing_can_happen():
                break
            self._wait()
        return self._end()

    def _wait(self) -> None:
        now = self.clock()
        due = [t for t in self.timers.values() if t > now]
        pause = min([LOOK_SECONDS, *((t - now).total_seconds() for t in due)])
        try:
            news = [self.news.get(timeout=max(pause, 0.001))]
        except queue.Empty:
            news = []
        while not self.news.empty():
            news.append(self.news.get())
        for told in news:
            if callable(told):
                told()
        ended = [n for n in news if isinstance(n, str)]
        if ended:
            self.take_in()
            for source in ended:
                over = self.running.pop(source, None)
                if over is not None:  # None: it was taken back
                    self._ended(over)
        passed = {t for t, at in self.timers.items() if at <= self.clock()}
        if passed:
            self._look_at(passed)

    def _nothing_can_happen(self) -> bool:
        # Paused, or waiting for a slot of another flow, is not the end.
        return not (self.running or self.ready or self.timers or self.paused or self.held)

    # -- what is known ----------------------------------------------------------------------

    def record(self, *events: Event) -> None:
        """Write events and know them at once. Raises LeaseLostError."""
        self.facts.recorder.record(*events, token=self.facts.token)
        for event in events:
            self.state = evolve(self.state, event)

    def take_in(self, *, fresh: bool = False) -> None:
        """Fold what others — hooks, other processes — have written since the last time.

        The journal is read at most every `LOOK_SECONDS` where this process hears
        of every event itself, unless its order is what counts (`fresh`).
        """
        # What this process has written is known also while the database is away; folding
        # it again when it is read changes nothing.
        heard = self.facts.heard_since()
        if fresh or self._may_have_news():
            self.last_read = monotonic()
            self._read()
        self.state = fold(heard, self.state)

    def _may_have_news(self) -> bool:
        # Threads of this process are heard; of others the journal has to tell.
        heard_all = self.facts.plan.runner.kind is RunnerKind.THREADS
        return not heard_all or monotonic() - self.last_read >= LOOK_SECONDS

    def _read(self) -> None:
        with suppress(StorageUnavailableError):
            entries = self.facts.recorder.journal.read(self.facts.plan_run, self.state.position)
            self.state = fold_entries(entries, self.state)

    # -- from waiting to ready --------------------------------------------------------------

    def _look_at(self, tasks: set[str]) -> None:
        """See of each task whether it can start, and of what follows from those that cannot."""
        todo = sorted(tasks & self.open, key=self.frontier.rank)
        while todo:
            task_id = todo.pop(0)
            if task_id not in self.open or self._under_way(task_id) or task_id in self.held:
                continue
            self.timers.pop(task_id, None)
            task = self.facts.plan.get_task(task_id)
            answer = self.frontier.readiness(task, self.state, self.open, self.clock())
            if answer.verdict is Verdict.WAIT:
                if answer.not_before is not None:
                    self.timers[task_id] = answer.not_before
            elif answer.verdict is Verdict.SKIP:
                todo += self._skip(task_id, answer.reason)
            elif answer.verdict is Verdict.BLOCK:
                todo += self._block(task_id, answer.reason)
            else:
                todo += self._make_ready(task)

    def _under_way(self, task_id: str) -> bool:
        """Whether the task, or an item of it, is ready or running."""
        return self.under_way[task_id] > 0

    def _make_ready(self, task: PlanTask) -> list[str]:
        try:
            reason = self._unwanted(task)
            items = self._items(task) if reason is None else ()
        except ResultUnreadableError as error:
            return self._lost_result(task, error)
        except RunError as error:  # what it maps over is no list: done by hand, without a result
            return self._block(task.id, str(error))
        if reason is not None:
            return self._skip(task.id, reason)
        now = self.clock()
        for item in items:
            if not self.state.task(*item).status.good:
                self.line_up(item, now)
        if not self._under_way(task.id):
            return self._close(task.id)
        return []

    def _unwanted(self, task: PlanTask) -> str | None:
        """Why `when` leaves the task out; None where it does not."""
        if task.when is None:
            return None
        value = self.handles.value(task.when.task)
        if task.when.field is not None:
            value = field_of(value, task.when.field)
        unmet = task.when.unmet(value)
        name = f"{task.when.task}.{task.when.field}" if task.when.field else task.when.task
        return None if unmet is None else f"when: {name} {unmet}"

    def _items(self, task: PlanTask) -> tuple[Item, ...]:
        if task.map_over is None:
            return ((task.id, None),)
        count = self.handles.expand(task)
        if self.state.task(task.id).items != count:
            self.record(self._marker(task.id, TaskEventKind.EXPANDED, data={"items": count}))
        return tuple((task.id, i) for i in range(count))

    def input_revision(self, task_id: str) -> int:
        """1 + how often the task or an ancestor was invalidated."""
        if not self.revisions:
            self.revisions = input_revisions(self.facts.plan, self.state)
        return self.revisions[task_id]

    def _lost_result(self, task: PlanTask, error: ResultUnreadableError) -> list[str]:
        """A stored result that a task needs cannot be read: make it again, or say why not."""
        lost = str(error.__dict__["task_id"])
        if not self.facts.plan.get_task(lost).rerunnable:
            return self._block(task.id, f"{error}; {lost} is not rerunnable")
        self.handles.forget(lost)
        self.invalidate(lost, str(error))
        return [lost]

    def invalidate(self, task_id: str, reason: str) -> None:
        """End the success in force of a task (and its items), so that it may run again."""
        indices = [None, *self.state.items(task_id)]
        events = [
            self.facts.event(
                TaskEventKind.INVALIDATED,
                self.clock(),
                (task_id, index),
                str(uuid4()),
                reason=reason,
            )
            for index in indices
            if index is None or self.state.task(task_id, index).in_force
        ]
        self.record(*events)
        self.revisions = {}
        self.open.add(task_id)

    def _skip(self, task_id: str, reason: str) -> list[str]:
        self.record(self._marker(task_id, TaskEventKind.SKIPPED, reason=reason))
        logger.info("task %s is skipped: %s", task_id, reason)
        return self._close(task_id)

    def _block(self, task_id: str, reason: str) -> list[str]:
        self.blocked[task_id] = reason
        future = self.submitter.show_blocked(self.facts.plan.get_task(task_id), self.handles)
        if future is not None:
            self.handles.put((task_id, None), future)
        source = str(future.task_run_id) if future is not None else f"{task_id}:blocked"
        self.record(
            self.facts.event(
                TaskEventKind.ENDED,
                self.clock(),
                (task_id, None),
                source,
                state_type="PENDING",
                state_name="NotReady",
                outcome=TaskOutcome.BLOCKED,
                reason=reason,
            )
        )
        logger.warning("task %s is blocked: %s", task_id, reason)
        return self._close(task_id)

    def _marker(self, task_id: str, kind: TaskEventKind, **more: Any) -> TaskEvent:
        """An event that a task has at most once on the same inputs."""
        source = f"{task_id}:{self.input_revision(task_id)}"
        return self.facts.event(kind, self.clock(), (task_id, None), source, **more)

    def _close(self, task_id: str) -> list[str]:
        """A task has come to an end: what waited for it is to be looked at."""
        self.open.discard(task_id)
        self.timers.pop(task_id, None)
        return self.frontier.downstream(task_id)

    # -- from ready to running --------------------------------------------------------------

    def _start_what_fits(self) -> None:
        for *_, item in tuple(self.line) if self._room(None) else ():
            if not self._room(item):
                break
            if item in self.ready:
                self._try_to_start(item)
        self._say_what_waits()

    def _room(self, item: Item | None) -> bool:
        """Whether a worker is free for it, or it is short enough to wait in the pool's queue."""
        if not self.capacity.full:
            return True
        pooled = self.facts.plan.runner.kind is RunnerKind.THREADS and self.limits is None
        if not pooled or self.capacity.busy >= 2 * self.capacity.workers:
            return False
        if item is None:
            return True
        planned = self.facts.plan.get_task(item[0]).planned_duration
        return planned is not None and planned < AHEAD_LONGEST

    def take_back(self) -> None:
        """Put what the thread pool has not begun back into the line."""
        for source, running in tuple(self.running.items()):
            if not withdrawn(running.future):
                continue
            del self.running[source]
            self.capacity.give_back(running.demand)
            self.under_way[running.item[0]] -= 1
            self.handles.withdraw(running.item, running.future)
            self.line_up(running.item, running.since)

    def line_up(self, item: Item, since: datetime) -> None:
        """Put an item in the line of what could start, the most critical first."""
        self.ready[item] = since
        self.under_way[item[0]] += 1
        insort(self.line, self._place(item))

    def leave_line(self, item: Item) -> datetime:
        """Take an item out of the line; since when it stood there."""
        self.under_way[item[0]] -= 1
        self.noted.discard(item)
        del self.line[bisect_left(self.line, self._place(item))]
        return self.ready.pop(item)

    def _place(self, item: Item) -> tuple[float, int, int, Item]:
        # The index before the item: None does not compare.
        return (*self.frontier.rank(item[0]), -1 if item[1] is None else item[1], item)

    def _say_what_waits(self) -> None:
        """Tasks that only a slot or a resource holds back: their queue time begins here."""
        new = [(i, at) for i, at in self.ready.items() if i not in self.noted]
        self.noted.update(i for i, _ in new)
        self.record(
            *(self.facts.event(TaskEventKind.READY, at, i, self.facts.session) for i, at in new)
        )

    def _try_to_start(self, item: Item) -> None:
        task = self.facts.plan.get_task(item[0])
        if self.gate is not None and self.gate.holds_back(task.id, self.input_revision(task.id)):
            return
        demand = self.facts.resolved(task).resources
        if self.capacity.lacking(demand) is not None:
            return
        leases: tuple[Any, ...] = ()
        slots = self.limits.demand(demand) if self.limits is not None else {}
        if slots and self.limits is not None:
            impossible = self.limits.impossible(slots)
            if impossible is not None:
                self.leave_line(item)
                self._look_at(set(self._block(task.id, impossible)))
                return
            taken = self.limits.take(slots)
            if taken is None:
                return
            leases = taken
        since = self.leave_line(item)
        try:
            future = self.submitter.submit(
                task, item[1], self.handles, ready=since,
                input_revision=self.input_revision(task.id), leases=leases,
            )  # fmt: skip
        except ResultUnreadableError as error:
            if leases and self.limits is not None:
                self.limits.give_back(leases)
            self._look_at(set(self._lost_result(task, error)))
            return
        self.capacity.take(demand)
        self.under_way[task.id] += 1
        source = str(future.task_run_id)
        self.running[source] = Running(item, task, future, source, demand, since, leases)
        self.handles.put(item, future)
        future.add_done_callback(lambda _: self.news.put(source))

    # -- from running to ended --------------------------------------------------------------

    def _ended(self, running: Running) -> None:
        item = running.item
        self.capacity.give_back(running.demand)
        if running.leases and self.limits is not None:
            self.limits.give_back(running.leases)
        if running.overdue:
            logger.info("task %s: the body that ran past its time-out has ended", item[0])
            return
        self.under_way[item[0]] -= 1
        self._make_sure_it_is_recorded(item, running)
        self.close_if_over(item)

    def close_if_over(self, item: Item) -> None:
        """Go on from an item that has ended: its task is over where nothing is left to try."""
        if not self.state.task(*item).status.good:
            self.handles.drop_failed(item)
        if self.draining:
            return  # what follows from it is for whoever goes on
        # An item that is to be tried again still shows its last failure: it is not over.
        if self._under_way(item[0]) or not self.state.status(item[0]).final:
            return
        failed = self.state.status(item[0]) is Status.FAILURE
        if failed and self.replanner is not None and self.replanner.takes_up(item[0]):
            self.held.add(item[0])
            return
        self._look_at(set(self._close(item[0])))

    def let_go(self) -> None:
        """No other plan helps the tasks that failed: what follows from them is blocked."""
        held, self.held = self.held, set()
        self.let_go_of(held)

    def let_go_of(self, tasks: Iterable[str]) -> None:
        """These have failed for good."""
        for task_id in sorted(tasks):
            self._look_at(set(self._close(task_id)))

    def leave_out(self, task_id: str, reason: str) -> None:
        """A revision has left the task out."""
        self.held.discard(task_id)
        self.blocked.pop(task_id, None)
        self.timers.pop(task_id, None)
        self.open.discard(task_id)
        if not self.state.status(task_id).good:
            self.record(
                self.facts.event(
                    TaskEventKind.SKIPPED, self.clock(), (task_id, None), reason, reason=reason
                )
            )

    def reopen(self, again: Iterable[str], changed: Iterable[str]) -> None:
        """Try failed tasks `again`, and look anew at what was blocked behind what has changed."""
        for task_id in again:
            for item in [i for i in self.tries if i[0] == task_id]:
                del self.tries[item]
            self.handles.forget(task_id)
            self.open.add(task_id)
        for task_id in changed:
            for after in (task_id, *self._cone(task_id)):
                if self.state.status(after) is Status.BLOCKED:
                    self.blocked.pop(after, None)
                    self.open.add(after)
        self._look_at(set(self.open))

    def _make_sure_it_is_recorded(self, item: Item, running: Running) -> None:
        """The hook has written the end; where it could not, the future knows it."""
        attempt = next(
            (a for a in reversed(self.state.task(*item).attempts) if a.source == running.source),
            None,
        )
        if attempt is not None and attempt.ended is not None:
            return
        self.record(*self.submitter.end_of(item, running.future, attempt, self.clock()))

    # -- the end ----------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Start nothing more and end: asked for by a command or from Prefect."""
        self.stop_reason = self.stop_reason or reason
        self.take_back()

    def abort(self, reason: str, *, cancel: bool) -> None:
        """Start nothing more and end as aborted: at once, or when what runs has ended."""
        self.abort_reason = reason
        if cancel:
            self.stop(reason)
            return
        self.take_back()
        self.let_go()
        for item in tuple(self.ready):
            self.leave_line(item)
        self.timers.clear()
        self.open &= {r.task.id for r in self.running.values()}

    def pause(self, why: str) -> None:
        """Start nothing more until told to go on; what runs goes on."""
        if not self.paused:
            self.paused, self.paused_by = True, why
            self.take_back()
            self.record(self._run_event(RunEventKind.PAUSED, reason=why))
            logger.info("paused %s: nothing more starts until it is resumed", why)

    def resume(self) -> None:
        """Go on after a pause."""
        if self.paused:
            self.paused = False
            self.record(self._run_event(RunEventKind.CONTINUED))
            logger.info("resumed")

    def resume_from(self, why: str) -> Callable[[], None]:
        """Go on, if it was `why` that paused: a pause by command is not Prefect's to end."""
        return lambda: self.resume() if self.paused_by == why else None

    def revise(self, author: str, reason: str) -> None:
        """Make the next revision of the run: by hand, with the same document.

        Raises StorageError, with nothing changed.
        """
        number = self.state.revision + 1
        if self.facts.keep_revision is not None:
            self.facts.keep_revision(number, author, reason, None)
        self.facts.revision = number
        self.record(
            self._run_event(
                RunEventKind.REVISED, revision=number, author=author, reason=reason, by_hand=True
            )
        )

    def cannot_run_again(self, task_id: str) -> str | None:
        """Why a task and what follows from it cannot run again now; None where they can."""
        if self.state.status(task_id) in (Status.WAITING, Status.READY):
            return f"{task_id} has not run yet"
        cone = {task_id, *self._cone(task_id)}
        busy = sorted({r.task.id for r in self.running.values()} & cone)
        if busy:
            return f"{', '.join(busy)} is running; wait for it, or cancel the run first"
        return None

    def run_again(self, task_id: str, reason: str) -> None:
        """Have a task and all that follows from it run again."""
        self.again(sorted({task_id, *self._cone(task_id)}, key=self.frontier.rank), reason)

    def again(self, tasks: Iterable[str], reason: str) -> None:
        """End what is known of `tasks` and start from there."""
        for task_id in tasks:
            for item in [i for i in self.ready if i[0] == task_id]:
                self.leave_line(item)
            for item in [i for i in self.tries if i[0] == task_id]:
                del self.tries[item]
            self.blocked.pop(task_id, None)
            self.held.discard(task_id)
            self.handles.forget(task_id)
            self.invalidate(task_id, reason)
        self._look_at(set(self.open))

    def _run_event(self, kind: RunEventKind, **data: Any) -> RunEvent:
        return RunEvent(
            plan_run=self.facts.plan_run, kind=kind, at=self.clock(), source=str(uuid4()), data=data
        )

    def settled_by_hand(self, task_id: str) -> None:
        """A command has ended a task that had not started: go on from there."""
        self.handles.forget(task_id)
        for item in [i for i in self.ready if i[0] == task_id]:
            self.leave_line(item)
        self.blocked.pop(task_id, None)
        self.held.discard(task_id)
        after = self._close(task_id)
        # What it had blocked may start now.
        self.open |= {t for t in self._cone(task_id) if self.state.status(t) is Status.BLOCKED}
        self._look_at(set(after) | self.open)

    def _cone(self, task_id: str) -> set[str]:
        seen: set[str] = set()
        todo = [task_id]
        while todo:
            for after in self.frontier.downstream(todo.pop()):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return seen

    def stopped(self) -> RunEnd:
        """Cancelled: end what can be ended, take back the rest."""
        now = self.clock()
        for running in self.running.values():
            item = running.item
            attempt = self.state.task(*item).latest
            count = attempt.run_count if attempt and attempt.source == running.source else 1
            abandon(running.future.task_run_id)
            self.record(
                self.facts.event(
                    TaskEventKind.ABANDONED,
                    now,
                    item,
                    running.source,
                    run_count=count,
                    state_type="CANCELLED",
                    state_name="Cancelled",
                    outcome=TaskOutcome.BLOCKED,
                    reason=self.stop_reason,
                )
            )
        # Only now, so that what the killed bodies report comes after and is ignored.
        killed = kill_children(self.facts.plan_run)
        if killed:
            logger.info("%d child processes ended", killed)
        self.orders.close(self)
        if self.abort_reason:
            return aborted(self.facts.plan, self.state, self.abort_reason)
        return RunEnd(status="cancelled", reason=self.stop_reason)

    @property
    def superseded(self) -> bool:
        """Whether another process has made a revision that another flow run goes on by."""
        return self.state.revision > self.facts.revision

    def _drained(self) -> RunEnd:
        """Start nothing more, and see what runs to its end: another goes on from there.

        A body past its time-out no longer counts, so it is not waited for; commands are
        left for whoever goes on. Where all is done by then, nobody needs to.
        """
        self.draining = True
        reached("draining")
        self.take_back()
        self.timers.clear()
        while any(not r.overdue for r in self.running.values()):
            watch(self)
            self._wait()
            self.take_in()
            if self.stop_reason:
                return self.stopped()
        self.take_in(fresh=True)
        if all(settled(self.state, t) for t in self.facts.plan.task_ids):
            self.orders.close(self)
            return how_it_ended(self.facts.plan, self.state, self.blocked)
        return RunEnd(status="superseded", reason=f"by revision {self.state.revision}")

    def _end(self) -> RunEnd:
        self.take_in(fresh=True)
        if self.superseded:
            return self._drained()
        self.orders.close(self)
        if self.abort_reason:
            return aborted(self.facts.plan, self.state, self.abort_reason)
        return how_it_ended(self.facts.plan, self.state, self.blocked)
