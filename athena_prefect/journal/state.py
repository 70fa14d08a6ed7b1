"""What the events of a plan run add up to.

`evolve` takes one event; `fold` takes many. Folding an event twice changes
nothing, and the order that counts is the journal's. What a task's own events add
up to, and the laws of that, stand in `task_state`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
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
)
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.task_state import (
    NOTHING_YET,
    OVERRAN,
    RETRYING,
    Attempt,
    Item,
    Status,
    TaskState,
    evolve_task,
)

__all__ = [
    "OVERRAN",
    "RETRYING",
    "Attempt",
    "Breach",
    "ExecutionState",
    "Item",
    "Status",
    "TaskState",
    "evolve",
    "fold",
    "fold_entries",
]


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
        return self.tasks.get((task_id, map_index), NOTHING_YET)

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
        before = known.get(item, NOTHING_YET)
        after = evolve_task(before, event)
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
            before = state.tasks.get(item, NOTHING_YET)
            after = evolve_task(before, event)
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
