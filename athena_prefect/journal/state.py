"""What the events of a plan run add up to.

`evolve` takes one event; `fold` takes many. Folding an event twice changes
nothing, and the order that counts is the journal's.

Laws that later code rests on:

- an attempt ends once: its first `ended` counts, unless the API says otherwise;
- `abandoned` outranks any end of that attempt that comes after it;
- a success in force stays until an `invalidated` event ends it, or the API takes
  it back; an attempt that was invalidated never comes into force again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from immutables import Map

from athena_prefect.journal.events import (
    CheckEvent,
    Command,
    CommandAnswer,
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.journal import Entry

RETRYING = frozenset({"AwaitingRetry", "Retrying"})
"""Prefect's names for a failed attempt after which it will try again by itself."""

Item = tuple[str, int | None]
"""A task, or one item of a mapped task: (task id, map index or None)."""


class Status(StrEnum):
    """Where a task (or item) stands."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    BLOCKED = "blocked"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (Status.WAITING, Status.READY, Status.RUNNING)

    @property
    def good(self) -> bool:
        """Whether a success is in force."""
        return self in (Status.SUCCESS, Status.PARTIAL)


OVERRAN = "ran past its time-out"
"""What the reason of an attempt says that was ended, or given up, for its time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a task: a Prefect task run's `run_count`-th, or the caller's own."""

    source: str
    run_count: int
    started: datetime | None = None
    ended: datetime | None = None
    outcome: TaskOutcome | None = None
    state_name: str | None = None
    result_key: str | None = None
    reported_by: Reporter | None = None
    abandoned: bool = False
    overdue: bool = False
    invalidated: bool = False
    """It was in force once, and will not be again."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The union of what its events carried."""

    @property
    def timed_out(self) -> bool:
        """Whether it came to its end by its time-out."""
        said = str(self.data.get("reason", ""))
        return self.overdue or self.state_name == "TimedOut" or OVERRAN in said

    @property
    def running(self) -> bool:
        """Whether its body counts as running."""
        return self.started is not None and self.ended is None and not self.abandoned

    @property
    def duration(self) -> timedelta | None:
        """End − start; None while it runs or where a time is not known."""
        if self.started is None or self.ended is None:
            return None
        return self.ended - self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """A task (or item): its attempts in the order in which they began, and what they add up to."""

    attempts: tuple[Attempt, ...] = ()
    ready: datetime | None = None
    skipped: bool = False
    skip_reason: str = ""
    items: int | None = None
    """Of a mapped task: how many items, once known."""
    in_force: Attempt | None = None
    """The attempt whose success counts."""
    invalidated: tuple[str, ...] = ()
    """Sources of the events that ended a success in force."""
    marks: tuple[str, ...] = ()
    """Keys of the `ready` and `skipped` events folded in: told again after an
    `invalidated`, they must not come back."""

    @property
    def latest(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def status(self) -> Status:
        """Where it stands."""
        if self.in_force is not None:
            partial = self.in_force.outcome is TaskOutcome.PARTIAL
            return Status.PARTIAL if partial else Status.SUCCESS
        if self.skipped:
            return Status.SKIPPED
        last = self.latest
        if last is None or (last.outcome is not None and last.outcome.good):
            # A good end that is no longer in force was invalidated: it waits again.
            return Status.READY if self.ready else Status.WAITING
        if last.running:
            return Status.RUNNING
        if last.outcome is TaskOutcome.BLOCKED:
            return Status.BLOCKED
        if last.outcome is TaskOutcome.FAILURE and last.state_name not in RETRYING:
            return Status.FAILURE
        return Status.WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """Something late or about to be: raised once an episode, and again where it worsens."""

    name: str
    """`deviation`, `deadline`, `start-late|TASK`, …: what is wrong, not when."""
    episode: int
    """Counts from 1."""
    level: str
    """The worst severity that it had in this episode."""
    since: datetime
    open: bool = True
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionState:
    """The state of one plan run: a fold of its events, never changed in place."""

    plan_run: UUID | None = None
    started: datetime | None = None
    ended: datetime | None = None
    end_status: str | None = None
    end_reason: str = ""
    paused: bool = False
    revision: int = 1
    acceptance: Mapping[str, Any] = field(default_factory=dict)
    """What was promised when a later revision than the first was adopted."""
    replans: int = 0
    """Revisions that replanning made; those by hand are not counted."""
    decisions: tuple[RunEvent, ...] = ()
    """What was proposed, chosen, adopted and given up about the rest, in order."""
    resumed: tuple[str, ...] = ()
    """Sources of the events with which a later dispatcher took over."""
    run_keys: frozenset[str] = frozenset()
    """Keys of the run events folded in: a second telling of one changes nothing."""
    run_data: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None
    tasks: Map[Item, TaskState] = field(default_factory=Map)
    checks: Map[str, tuple[CheckEvent, ...]] = field(default_factory=Map)
    commands: Map[str, Command] = field(default_factory=Map)
    """Commands without an answer."""
    answers: Map[str, CommandAnswer] = field(default_factory=Map)
    breaches: Map[str, Breach] = field(default_factory=Map)
    """The latest episode of each breach, by name."""
    told: int = 0
    """Position up to which Prefect's events were told of."""
    gaps: tuple[str, ...] = ()
    unplanned: tuple[str, ...] = ()
    """Names of tasks that an attached flow ran and its plan does not have."""
    conflicts: int = 0
    position: int = 0
    """Of the newest entry folded in."""
    now: datetime | None = None
    """Time of the newest event."""

    @property
    def attached(self) -> bool:
        """Whether a hand-written flow is monitored: nothing of it may be started or changed."""
        return self.run_data.get("attached") is True

    @property
    def scheduled(self) -> datetime | None:
        """When the run should have started; None where nothing says so."""
        told = self.run_data.get("scheduled_for")
        return None if told is None else datetime.fromisoformat(str(told))

    def task(self, task_id: str, map_index: int | None = None) -> TaskState:
        """The state of a task or item; an empty one where nothing is known yet."""
        return self.tasks.get((task_id, map_index), _EMPTY)

    def items(self, task_id: str) -> dict[int, TaskState]:
        """The items of a mapped task that something is known of."""
        count = self.task(task_id).items
        indices: Iterable[int] = (
            range(count)
            if count is not None
            else sorted(i for t, i in self.tasks if t == task_id and i is not None)
        )
        return {i: self.tasks[task_id, i] for i in indices if (task_id, i) in self.tasks}

    def status(self, task_id: str) -> Status:
        """Where a task stands as a whole; a mapped one by its items."""
        own = self.task(task_id)
        if own.items is None or own.status.final:
            return own.status
        states = [self.task(task_id, i).status for i in range(own.items)]
        if all(s.good for s in states):
            return Status.PARTIAL if Status.PARTIAL in states else Status.SUCCESS
        if Status.RUNNING in states:
            return Status.RUNNING
        if all(s.final for s in states):
            return Status.FAILURE if Status.FAILURE in states else Status.BLOCKED
        return Status.RUNNING if any(s.final for s in states) else Status.READY


_EMPTY = TaskState()


def fold(events: Iterable[Event], state: ExecutionState | None = None) -> ExecutionState:
    """`state` after `events`, in their order."""
    folding = _Folding(state or ExecutionState())
    for event in events:
        folding.take(event)
    return folding.state()


def fold_entries(entries: Iterable[Entry], state: ExecutionState | None = None) -> ExecutionState:
    """`state` after the entries of a journal that it has not seen yet.

    Entries up to `state.position` are passed over, so that reading a piece of
    the journal twice changes nothing; conflicts are counted.
    """
    folding = _Folding(state or ExecutionState())
    for entry in entries:
        if entry.position <= folding.position:
            continue
        folding.take(entry.event)
        folding.position = entry.position
        folding.conflicts += entry.conflict
    return folding.state()


class _Folding:
    """`evolve` over many events, with one copy of the state for a row of task events.

    Nearly all events are of tasks: each needs its own task's state copied, not that of
    the whole run.
    """

    __slots__ = ("_now", "_state", "_tasks", "conflicts", "position")

    def __init__(self, state: ExecutionState) -> None:
        self._state = state
        self._tasks: Any = None
        self._now = state.now
        self.position = state.position
        self.conflicts = state.conflicts

    def take(self, event: Event) -> None:
        """Fold one event in."""
        if not isinstance(event, TaskEvent) or self._state.plan_run is None:
            self._state = evolve(self._settle(), event)
            self._now = self._state.now
            return
        item = (event.task_id, event.map_index)
        known = self._state.tasks if self._tasks is None else self._tasks
        before = known.get(item, _EMPTY)
        after = _evolve_task(before, event)
        if after is not before:
            if self._tasks is None:
                self._tasks = self._state.tasks.mutate()
            self._tasks[item] = after
        if self._now is None or event.at > self._now:
            self._now = event.at

    def _settle(self) -> ExecutionState:
        if self._tasks is not None or self._now != self._state.now:
            tasks = self._state.tasks if self._tasks is None else self._tasks.finish()
            self._state = replace(self._state, tasks=tasks, now=self._now)
            self._tasks = None
        return self._state

    def state(self) -> ExecutionState:
        """What it all adds up to."""
        state = self._state
        read = (self.position, self.conflicts)
        if read == (state.position, state.conflicts):
            return self._settle()
        tasks = state.tasks if self._tasks is None else self._tasks.finish()
        self._tasks = None
        self._state = replace(
            state, tasks=tasks, now=self._now, position=self.position, conflicts=self.conflicts
        )
        return self._state


_SESSION = ("scheduled_checks",)
"""What a resumed run says of itself anew; the rest of its start's data stays."""


def _of_the_session(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in _SESSION if key in data}


def evolve(state: ExecutionState, event: Event) -> ExecutionState:
    """`state` after one event; the same event again changes nothing."""
    now = event.at if state.now is None else max(state.now, event.at)
    match event:
        case TaskEvent():
            item = (event.task_id, event.map_index)
            before = state.tasks.get(item, _EMPTY)
            after = _evolve_task(before, event)
            if after is before and now == state.now and state.plan_run is not None:
                return state
            tasks = state.tasks if after is before else state.tasks.set(item, after)
            return replace(state, plan_run=state.plan_run or event.plan_run, tasks=tasks, now=now)
        case RunEvent():
            if event.key in state.run_keys:
                return state
            keys = state.run_keys | {event.key}
            seen = replace(state, plan_run=event.plan_run, run_keys=keys, now=now)
            return _evolve_run(seen, event)
        case CheckEvent():
            known = state.checks.get(event.assumption_id, ())
            checks = _with_check(known, event)
            if checks is known:
                return state
            return replace(state, checks=state.checks.set(event.assumption_id, checks), now=now)
        case Command():
            if event.command_id in state.answers:
                return state
            return replace(state, commands=state.commands.set(event.command_id, event), now=now)
        case CommandAnswer():
            if event.command_id in state.answers:
                return state
            open_ = state.commands
            if event.command_id in open_:
                open_ = open_.delete(event.command_id)
            answers = state.answers.set(event.command_id, event)
            return replace(state, commands=open_, answers=answers, now=now)
        case _:
            assert_never(event)


def _with_check(known: tuple[CheckEvent, ...], event: CheckEvent) -> tuple[CheckEvent, ...]:
    for i, check in enumerate(known):
        if check.check_id == event.check_id:
            if event.reported_by is not Reporter.API or event == check:
                return known
            return (*known[:i], event, *known[i + 1 :])
    return (*known, event)


def _evolve_run(state: ExecutionState, event: RunEvent) -> ExecutionState:
    match event.kind:
        case RunEventKind.STARTED:
            if state.started is not None:
                return state
            revision = int(event.data.get("revision", 1))
            return replace(state, started=event.at, revision=revision, run_data=dict(event.data))
        case RunEventKind.RESUMED:
            # A resumed run lives again; its end, if it had one, is history.
            return replace(
                state,
                ended=None,
                end_status=None,
                end_reason="",
                paused=False,
                resumed=(*state.resumed, event.source),
                run_data={**state.run_data, **_of_the_session(event.data)},
            )
        case RunEventKind.BASELINED:
            return state if state.baseline else replace(state, baseline=dict(event.data))
        case RunEventKind.REVISED:
            number = int(event.data["revision"])
            if number < state.revision:
                return state
            by_hand = bool(event.data.get("by_hand"))
            # What a person changes by hand promises nothing: what was promised stays.
            promised = state.acceptance if by_hand else {}
            return replace(
                state,
                revision=number,
                acceptance={**promised, **event.data},
                decisions=(*state.decisions, event),
                replans=state.replans + (not by_hand),
            )
        case RunEventKind.PROPOSED | RunEventKind.CHOSEN | RunEventKind.NOT_REPLANNED:
            return replace(state, decisions=(*state.decisions, event))
        case RunEventKind.ASKED | RunEventKind.ANSWERED:
            return replace(state, decisions=(*state.decisions, event))
        case RunEventKind.SHOWN:
            return state  # looked at, and nothing more
        case RunEventKind.PAUSED:
            return replace(state, paused=True)
        case RunEventKind.CONTINUED:
            return replace(state, paused=False)
        case RunEventKind.GAP:
            what = str(event.data.get("what", event.source))
            return state if what in state.gaps else replace(state, gaps=(*state.gaps, what))
        case RunEventKind.UNPLANNED:
            return replace(state, unplanned=(*state.unplanned, event.source))
        case RunEventKind.BREACHED:
            return _breached(state, event)
        case RunEventKind.EASED:
            breach = state.breaches.get(str(event.data["name"]))
            if breach is None or breach.episode != event.data["episode"]:
                return state
            over = replace(breach, open=False)
            return replace(state, breaches=state.breaches.set(breach.name, over))
        case RunEventKind.RESCHEDULED | RunEventKind.FORECAST:
            return state
        case RunEventKind.TOLD:
            return replace(state, told=max(state.told, int(event.data["position"])))
        case RunEventKind.SUPERSEDED:
            return state  # a flow run has ended; the plan run goes on in its continuation
        case RunEventKind.ENDED:
            return replace(
                state,
                ended=event.at,
                end_status=str(event.data.get("status", "completed")),
                end_reason=str(event.data.get("reason", "")),
            )
        case _:
            assert_never(event.kind)


def _breached(state: ExecutionState, event: RunEvent) -> ExecutionState:
    data = event.data
    name, episode, level = str(data["name"]), int(data["episode"]), str(data["level"])
    before = state.breaches.get(name)
    if before is not None and before.episode > episode:
        return state
    same = before is not None and before.episode == episode
    breach = Breach(
        name=name,
        episode=episode,
        level=level,
        since=before.since if before is not None and same else event.at,
        open=before.open if before is not None and same else True,
        reason=str(data.get("reason", "")),
        data=dict(data),
    )
    return replace(state, breaches=state.breaches.set(name, breach))


def _evolve_task(task: TaskState, event: TaskEvent) -> TaskState:
    match event.kind:
        case TaskEventKind.READY:
            if task.ready or event.key in task.marks:
                return task
            return replace(task, ready=event.at, marks=(*task.marks, event.key))
        case TaskEventKind.SKIPPED:
            if task.in_force or task.skipped or event.key in task.marks:
                return task
            return replace(
                task,
                skipped=True,
                skip_reason=str(event.data.get("reason", "")),
                marks=(*task.marks, event.key),
            )
        case TaskEventKind.EXPANDED:
            return replace(task, items=int(event.data["items"]))
        case TaskEventKind.INVALIDATED:
            if event.source in task.invalidated:
                return task
            return replace(
                task,
                attempts=tuple(
                    replace(a, invalidated=True) if a.outcome is not None and a.outcome.good else a
                    for a in task.attempts
                ),
                in_force=None,
                skipped=False,
                ready=None,
                invalidated=(*task.invalidated, event.source),
            )
        case (
            TaskEventKind.STARTED
            | TaskEventKind.ENDED
            | TaskEventKind.OVERDUE
            | TaskEventKind.ABANDONED
        ):
            after = _evolve_attempt(task, event)
            ready = event.data.get("ready")
            if after is task or after.ready is not None or ready is None:
                return after
            # A start carries since when it could have been, to save an event of its own.
            return replace(after, ready=datetime.fromisoformat(ready))
        case _:
            assert_never(event.kind)


def _evolve_attempt(task: TaskState, event: TaskEvent) -> TaskState:
    index = next(
        (
            i
            for i, a in enumerate(task.attempts)
            if a.source == event.source and a.run_count == event.run_count
        ),
        None,
    )
    old = (
        Attempt(source=event.source, run_count=event.run_count)
        if index is None
        else task.attempts[index]
    )
    new = _apply(old, event)
    if new is old and index is not None:
        return task
    attempts = (
        (*task.attempts, new)
        if index is None
        else (*task.attempts[:index], new, *task.attempts[index + 1 :])
    )
    in_force = _in_force(attempts, task.in_force)
    skipped = task.skipped and in_force is None
    return replace(task, attempts=attempts, in_force=in_force, skipped=skipped)


def _in_force(attempts: tuple[Attempt, ...], before: Attempt | None) -> Attempt | None:
    """The attempt in force before, if it still is good, else the first that is."""
    good = [
        a
        for a in attempts
        if a.outcome is not None and a.outcome.good and not a.abandoned and not a.invalidated
    ]
    if before is not None:
        for a in good:
            if a.source == before.source and a.run_count == before.run_count:
                return a
    return good[0] if good else None


def _apply(attempt: Attempt, event: TaskEvent) -> Attempt:
    data = {**attempt.data, **event.data}
    match event.kind:
        case TaskEventKind.STARTED:
            if attempt.started is not None and event.reported_by is not Reporter.API:
                return attempt
            if attempt.started == event.at:
                return attempt
            return replace(attempt, started=event.at, data=data)
        case TaskEventKind.OVERDUE:
            return attempt if attempt.overdue else replace(attempt, overdue=True, data=data)
        case TaskEventKind.ABANDONED:
            if attempt.abandoned or attempt.ended is not None:
                return attempt
            return replace(
                attempt,
                abandoned=True,
                ended=event.at,
                outcome=event.outcome,
                state_name=event.state_name or "Abandoned",
                reported_by=event.reported_by,
                data=data,
            )
        case TaskEventKind.ENDED:
            if attempt.abandoned:
                return attempt
            if attempt.ended is not None and event.reported_by is not Reporter.API:
                return attempt
            return replace(
                attempt,
                ended=event.at,
                outcome=event.outcome,
                state_name=event.state_name,
                result_key=event.result_key or attempt.result_key,
                reported_by=event.reported_by,
                data=data,
            )
        case _:
            return attempt
