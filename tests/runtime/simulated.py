"""A dispatcher in virtual time: tasks that end when a test says so, and no Prefect server.

The dispatcher runs in a thread that stands still wherever it would wait, so that a
test acts between two of its turns, and both see the same in every run.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from athena_prefect.errors import LeaseLostError, ResultUnreadableError
from athena_prefect.journal.events import (
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import Attempt, ExecutionState, Item, Status, fold_entries
from athena_prefect.monitor.context import VirtualClock
from athena_prefect.monitor.effects import effects_in_force
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.runtime.continuing import revised_event, waiting_revision
from athena_prefect.runtime.dispatcher import Dispatcher
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.frontier import Frontier, ended_at
from athena_prefect.runtime.gate import Gate
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.limits import Capacity
from athena_prefect.runtime.recorder import Recorder
from athena_prefect.runtime.restore import abandon_in_flight, take_up

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
RUN = UUID(int=7)
ITEMS = 3
"""Of every result: as many items a task that maps over it has."""
PATIENCE = 240.0
"""Seconds of a turn, which takes milliseconds on a calm machine: one that is not back hangs."""


class Killed(BaseException):
    """The dispatcher's process is gone."""


class Turns:
    """The dispatcher's queue of news; asked for news it stands still until its next turn."""

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.killed = False
        self.parked, self.go = threading.Event(), threading.Event()
        self.dispatcher: Dispatcher | None = None

    def put(self, item: Any) -> None:
        self.items.append(item)

    def empty(self) -> bool:
        return not self.items

    def get(self, timeout: float | None = None) -> Any:
        if timeout is not None:
            self.parked.set()
            self.go.wait()
            self.go.clear()
            if self.killed:
                raise Killed
            if self.dispatcher is not None:
                self.dispatcher.last_read = -1e9  # half a second is long over
        if not self.items:
            raise queue.Empty
        return self.items.popleft()


class Waiting:
    """What a body in the pool's queue shows of itself: whether it can be taken back."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def done(self) -> bool:
        return self.body.over

    def cancel(self) -> bool:
        if self.body.begun or self.body.over:
            return False
        self.body.over = self.body.withdrawn = True
        return True


@dataclass(eq=False)
class Body:
    """A submitted task (or item), and its future."""

    source: str
    item: Item
    demand: Mapping[str, float]
    mode: str
    revision: int
    token: int
    ready: datetime
    begun: bool = False
    tries: int = 1
    """Prefect's attempts within the task run, from 1."""
    over: bool = False
    withdrawn: bool = False
    outcome: TaskOutcome | None = None
    callbacks: list[Callable[[Any], None]] = field(default_factory=list)

    @property
    def task_run_id(self) -> UUID:
        return UUID(self.source)

    @property
    def wrapped_future(self) -> Waiting:
        return Waiting(self)

    @property
    def runs(self) -> bool:
        return self.begun and not self.over

    def result(self) -> Any:
        """What it returned: of every body the same list."""
        return list(range(ITEMS))

    def add_done_callback(self, told: Callable[[Any], None]) -> None:
        self.callbacks.append(told)


class Vault:
    """Results in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def put(self, key: str, value: Any, *, task_id: str) -> str:
        self.kept[key] = value
        return "sum"

    def get(self, key: str, checksum: str | None, *, task_id: str) -> Any:
        if key not in self.kept:
            raise ResultUnreadableError(f"no result {key}", task_id=task_id, key=key)
        return self.kept[key]


class Way:
    """May a task that failed be held? What a replanner says, that a test drives."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: set[tuple[str, int]] = set()

    def takes_up(self, task_id: str) -> bool:
        task = self.world.facts.plan.get_task(task_id)
        tries = (task_id, len(self.world.dispatcher.state.task(task_id).attempts))
        if tries in self.said or not (task.rerunnable or task.modes):
            return False
        self.said.add(tries)
        return True


class World:
    """A plan run: its journal, its clock, the bodies of its tasks, its dispatcher of now."""

    def __init__(self, plan: Plan) -> None:
        self.clock = VirtualClock(T0)
        self.journal = MemoryJournal()
        self.recorder = Recorder(self.journal, Vault())  # type: ignore[arg-type]
        self.bodies: list[Body] = []
        self.lost: list[Body] = []
        """Bodies of killed dispatchers, which may still report."""
        self.revisions: dict[int, Plan] = {1: plan}
        self.modes: dict[int, dict[str, str]] = {1: {}}
        self.token = 0
        self.count = 0
        self.error: BaseException | None = None
        self.end: RunEnd | None = None
        self.starts: list[tuple[Item, str]] = []
        self.recorder.record(self._run_event(RunEventKind.STARTED, revision=1))
        self.take()

    def _run_event(self, kind: RunEventKind, **data: Any) -> RunEvent:
        self.count += 1
        return RunEvent(
            plan_run=RUN, kind=kind, at=self.clock(), source=f"w{self.count}", data=data
        )

    @property
    def truth(self) -> ExecutionState:
        """What the journal folds to, from its first entry."""
        return fold_entries(self.journal.read(RUN))

    @property
    def plan(self) -> Plan:
        """The revision in force."""
        return self.facts.plan

    # -- the dispatcher ---------------------------------------------------------------------

    def take(self) -> None:
        """A dispatcher takes the run, as a new process would: by what is stored.

        The first that goes on by a revision which another process made is its continuation.
        """
        self.token += 1
        self.journal.fence(RUN, self.token)
        waiting = waiting_revision(self.journal.read(RUN))
        if waiting is not None:
            self.recorder.record(
                self._run_event(RunEventKind.RESUMED, revision=waiting), token=self.token
            )
        state = self.truth
        self.facts = RunFacts(
            plan=self.revisions[state.revision],
            plan_run=RUN,
            revision=state.revision,
            root=Path(),
            parameters={},
            logical_date=T0,
            started_at=T0,
            flow_run_id=UUID(int=self.token),
            session=f"session {self.token}",
            token=self.token,
            recorder=self.recorder,
            recording=None,  # type: ignore[arg-type]
            client=None,  # type: ignore[arg-type]
            modes=dict(state.acceptance.get("modes") or {}),
        )
        self.facts.keep_revision = self._keep
        self.recorder.listen(RUN, self.facts.hear)
        from athena_prefect.assumptions.schedule import Milestones

        turns = Turns()
        dispatcher = self.dispatcher = Dispatcher(
            facts=self.facts,
            state=state,
            frontier=Frontier(self.plan, {}),
            capacity=Capacity(self.plan),
            limits=None,
            submitter=Pool(self),
            handles=Handles(self.facts, lambda: dispatcher.state),
            clock=self.clock,
            news=turns,  # type: ignore[arg-type]
            gate=Gate(self.facts, Milestones.of(self.plan)),
            replanner=Way(self),  # type: ignore[arg-type]
        )
        turns.dispatcher = dispatcher
        self.turns = turns
        if state.started is not None and self.token > 1:
            abandon_in_flight(dispatcher)
            dispatcher.state = fold_entries(self.journal.read(RUN), dispatcher.state)
        if waiting is not None:
            take_up(dispatcher, self.revisions[state.revision - 1])
        self.thread = threading.Thread(target=self._run, args=(dispatcher,), daemon=True)
        self.thread.start()
        self._until_it_stands()

    def _run(self, dispatcher: Dispatcher) -> None:
        try:
            self.end = dispatcher.run()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            dispatcher.news.parked.set()  # type: ignore[attr-defined]

    def _until_it_stands(self) -> None:
        assert self.turns.parked.wait(PATIENCE), "the dispatcher does not come back"
        if self.error is not None:
            raise self.error

    def _keep(
        self, number: int, author: str, reason: str, figures: Mapping[str, Any] | None
    ) -> None:
        assert number not in self.revisions, f"revision {number} is made twice"
        self.revisions[number] = self.facts.plan
        self.modes[number] = dict(self.facts.modes)

    def give(self, plan: Plan, figures: Mapping[str, Any]) -> None:
        """Another process makes the next revision, and has it gone on by elsewhere."""
        number = self.truth.revision + 1
        self.revisions[number], self.modes[number] = plan, dict(figures["modes"])
        self.journal.append(
            revised_event(RUN, number, figures, author="", reason="drawn", at=self.clock())
        )

    @property
    def handed_over(self) -> bool:
        """Whether the dispatcher has drained for a revision that another goes on by."""
        return self.end is not None and self.end.status == "superseded"

    def turn(self) -> None:
        """The dispatcher looks once at all that has happened."""
        if self.end is None:
            self.turns.parked.clear()
            self.turns.go.set()
            self._until_it_stands()

    def kill(self) -> None:
        """The dispatcher's process is gone, with all that ran in it."""
        self.turns.killed = True
        self.turns.parked.clear()
        self.turns.go.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.lost += [b for b in self.bodies if b.runs]
        self.bodies = []
        self.recorder.listen(RUN, None)

    # -- bodies -----------------------------------------------------------------------------

    def running(self) -> list[Body]:
        """The bodies that run, in the order in which they were submitted."""
        return [b for b in self.bodies if b.runs]

    def let_begin(self) -> None:
        """Free threads take bodies from the pool's queue."""
        free = self.plan.runner.max_workers - len(self.running())
        for body in [b for b in self.bodies if not b.begun and not b.over][: max(free, 0)]:
            body.begun = True
            self.starts.append((body.item, body.source))
            self.recorder.record(
                self._told(
                    body,
                    TaskEventKind.STARTED,
                    data={
                        "mode": body.mode,
                        "revision": body.revision,
                        "allocated": dict(body.demand),
                        "ready": body.ready.isoformat(),
                    },
                ),
                token=body.token,
            )

    def finish(self, body: Body, outcome: TaskOutcome | None) -> None:
        """A body ends; None: it crashes, and nobody writes that down."""
        body.over, body.outcome = True, outcome
        if outcome is not None:
            self.report(body, outcome)
        for told in body.callbacks:
            told(body)
        self.let_begin()

    def report(self, body: Body, outcome: TaskOutcome) -> None:
        """What its hook writes when it ends; a success's result is stored before."""
        key = None
        if outcome.good:
            key = f"result of {body.source}"
            self.recorder.vault.put(key, list(range(ITEMS)), task_id=body.item[0])
        self.recorder.record(
            self._told(
                body, TaskEventKind.ENDED, outcome=outcome, state_name="told", result_key=key,
                data={"checksum": "sum"},
            )
        )  # fmt: skip

    def fail_and_retry(self, body: Body) -> None:
        """An attempt fails, and Prefect has the same task run try once more, in its slot."""
        self.recorder.record(
            self._told(
                body, TaskEventKind.ENDED, outcome=TaskOutcome.FAILURE,
                state_name="AwaitingRetry",
            )
        )  # fmt: skip
        body.tries += 1
        self.recorder.record(
            self._told(
                body, TaskEventKind.STARTED,
                data={"mode": body.mode, "revision": body.revision, "allocated": {}},
            ),
            token=body.token,
        )  # fmt: skip

    def _told(self, body: Body, kind: TaskEventKind, **more: Any) -> TaskEvent:
        return TaskEvent(
            plan_run=RUN,
            task_id=body.item[0],
            map_index=body.item[1],
            kind=kind,
            at=self.clock(),
            source=body.source,
            reported_by=Reporter.HOOK,
            **{"run_count": body.tries, **more},
        )


class Pool:
    """Threads that run bodies; and an eye on every start: whether it is one that may be."""

    def __init__(self, world: World) -> None:
        self.world = world

    def submit(
        self,
        task: PlanTask,
        index: int | None,
        handles: Handles,
        *,
        ready: datetime,
        input_revision: int,
        leases: tuple[Any, ...],
    ) -> Any:
        world = self.world
        world.count += 1
        facts = world.facts
        mode = facts.mode_of(task.id)
        body = Body(
            source=str(UUID(int=1000 + world.count)),
            item=(task.id, index),
            demand=dict(facts.plan.get_task(task.id).mode(mode).resources),
            mode=mode,
            revision=facts.revision,
            token=world.token,
            ready=ready,
        )
        self._may(task, body)
        world.bodies.append(body)
        world.let_begin()
        return body

    def _may(self, task: PlanTask, body: Body) -> None:
        """The laws of every start, by the journal alone."""
        world, state = self.world, self.world.truth
        plan = world.revisions[state.revision]
        assert plan is world.facts.plan and task == plan.get_task(task.id)
        assert not state.task(*body.item).status.good, f"{body.item} has succeeded already"
        assert state.status(task.id) is not Status.SKIPPED, f"{body.item} was left out"
        again = [b for b in world.bodies if b.item == body.item and not b.over]
        assert all(self._given_up(state, b) for b in again), f"{body.item} runs already"
        for arc in task.upstream:
            status = state.status(arc.task)
            assert status.final, f"{task.id} starts before {arc.task} has ended"
            if arc.hard:
                assert status.good or status is Status.SKIPPED, f"{task.id} needs {arc.task}"
            ended = ended_at(state, arc.task)
            if arc.lag and ended is not None and status is not Status.SKIPPED:
                assert world.clock() >= ended + arc.lag, f"{task.id} starts before its lag is over"
        effects = effects_in_force(plan, state)
        assert task.id not in effects.blocked, f"{task.id} is blocked by an assumption"
        wanted = effects.modes.get(task.id) or world.modes[state.revision].get(task.id, "default")
        assert body.mode == wanted, f"{task.id} in mode {body.mode} instead of {wanted}"
        for name, amount in body.demand.items():
            there = effects.capacities.get(name, plan.resources[name].capacity)
            taken = sum(b.demand.get(name, 0.0) for b in world.bodies if not b.over)
            assert not amount or taken + amount <= there + 1e-9, f"{task.id}: too little {name}"

    @staticmethod
    def _given_up(state: ExecutionState, body: Body) -> bool:
        return any(a.source == body.source and a.abandoned for a in state.task(*body.item).attempts)

    def ends_itself(self, task: PlanTask) -> bool:
        return False

    def show_blocked(self, task: PlanTask, handles: Handles) -> None:
        return None

    def end_of(
        self, item: Item, future: Any, attempt: Attempt | None, now: datetime
    ) -> list[TaskEvent]:
        return [
            self.world.facts.event(
                TaskEventKind.ENDED,
                now,
                item,
                future.source,
                state_name="Crashed",
                outcome=TaskOutcome.FAILURE,
                reason="its process ended",
            )
        ]

    def modes_changed(self) -> None:
        pass

    def renewed(self) -> Pool:
        return Pool(self.world)


def fenced_off(world: World, body: Body, outcome: TaskOutcome) -> None:
    """A body of a dispatcher that is gone reports its end, and would begin something more."""
    world.report(body, outcome)
    try:
        world.recorder.record(
            world._told(body, TaskEventKind.STARTED, run_count=2), token=body.token
        )
    except LeaseLostError:
        return
    raise AssertionError("a body of a dead dispatcher may still begin")
