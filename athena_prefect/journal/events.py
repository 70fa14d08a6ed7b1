"""Facts about a plan run: frozen, each with the key under which it is written once.

`key` says *which* fact it is; `content` what it says. Two writes with the same
key and the same content are one fact; with other content they are in conflict
(see `athena_prefect.journal.state` for who wins).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

from athena_prefect.errors import NaiveDatetimeError

NOTHING: Mapping[str, Any] = MappingProxyType({})


class TaskOutcome(StrEnum):
    """How an attempt ended. Completed with only the relaxed criteria met is partial."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"
    BLOCKED = "blocked"

    @property
    def good(self) -> bool:
        """Whether the task's result can be used."""
        return self in (TaskOutcome.SUCCESS, TaskOutcome.PARTIAL)


class TaskEventKind(StrEnum):
    """What happened to a task."""

    READY = "ready"
    """Everything it waits for is there; it waits for a slot or a resource from here on."""
    STARTED = "started"
    ENDED = "ended"
    OVERDUE = "overdue"
    """Past its time-out; the body may still run."""
    ABANDONED = "abandoned"
    """The attempt no longer counts, whatever it reports later."""
    INVALIDATED = "invalidated"
    """The success in force no longer is; the task may start again. `data.reason` says why."""
    SKIPPED = "skipped"
    """By `when`, by hand or dropped: no outcome, not counted."""
    EXPANDED = "expanded"
    """A mapped task's items are known: `data.items`."""


class RunEventKind(StrEnum):
    """What happened to the plan run."""

    STARTED = "started"
    """`data`: revision, flow_run_id, parameters (never secrets), host; `attached`: true where a
    hand-written flow is only monitored, with `names`, its explicit mapping of names to tasks;
    `outside`: true where no flow runs it, and callers record what happens."""
    RESUMED = "resumed"
    """A new dispatcher goes on where the journal ends."""
    BASELINED = "baselined"
    """The baseline was made: `data` is what `schedule.Baseline` says of itself."""
    FORECAST = "forecast"
    """A forecast, kept to be judged when the run is over; `source`: the checkpoint in percent.
    `data` is what `monitor.recorded.PastForecast` says of itself, and `basis`, in words."""
    REVISED = "revised"
    """A revision is in force: `data.revision`, and what was promised with it: `p50` and
    `accepted` finish in seconds from the start of the run, `p_deadline`; `modes`, the modes of
    tasks that are not in their default one; `strategy`, `author`, `reason`, `changes` in words;
    `by_hand`: true where a person changed the run and nothing was replanned; `continuation`:
    true where another flow run is to go on by it, with `again`, the failed tasks to do anew."""
    PROPOSED = "proposed"
    """Another plan for the rest is called for: `data`: strategy, decide, reason, options,
    recommended; `handed_over`: true where the replanning flow is to see to it. `source` says
    for which state of the run."""
    SHOWN = "shown"
    """Somebody looked at the options: `data`: by, strategy, revision, recommended, options. A
    number that is chosen afterwards means an option of this list."""
    ASKED = "asked"
    """People are asked by a form: `data`: strategy, reason, options, recommended, revision;
    `flow_run`, which carries the form; `until`, when the time to answer is up; `again`: true
    where it is asked a second time. `source` is the question's key."""
    ANSWERED = "answered"
    """The question `data.question` has its answer, the first that was given: `wish`, the option,
    or null to carry on; `author`; `unanswered`: true where nobody gave one."""
    CHOSEN = "chosen"
    """An option was chosen, by whom: `data`: option, author, strategy."""
    NOT_REPLANNED = "not_replanned"
    """A replan that was called for did not come about: `data.reason`."""
    PAUSED = "paused"
    CONTINUED = "continued"
    GAP = "gap"
    """Something could be neither stored nor rebuilt: `data.what`."""
    UNPLANNED = "unplanned"
    """An attached flow ran a task that its plan does not have; `source`: the task's name."""
    BREACHED = "breached"
    """Something is late or about to be; `source` claims it: its name, which time it is, and from
    the second level on the level. `data`: name, episode, level, event, reason, figures, task_id."""
    EASED = "eased"
    """A breach is over: `data.name`, `data.episode`. It may be raised anew, as another episode."""
    RESCHEDULED = "rescheduled"
    """A watcher had the run whose process vanished started again; `source` counts."""
    TOLD = "told"
    """Prefect's events were told of everything up to `data.position`."""
    SUPERSEDED = "superseded"
    """A flow run has stopped for a revision that another goes on by: `data`: revision,
    flow_run_id. The plan run itself is not over."""
    ENDED = "ended"
    """`data`: status (completed, failed, cancelled, aborted), reason."""


class CommandKind(StrEnum):
    """What somebody asks of the dispatcher of a plan run, in whatever process it lives."""

    PAUSE = "pause"
    CONTINUE = "continue"
    CANCEL = "cancel"
    SKIP = "skip"
    DONE = "done"
    RERUN = "rerun"
    ADOPT = "adopt"


class Reporter(StrEnum):
    """Who reported a fact. On a conflict the API's word wins."""

    HOOK = "hook"
    API = "api"
    DISPATCHER = "dispatcher"
    CALLER = "caller"


def utc(moment: datetime, name: str) -> datetime:
    """`moment` in UTC. Raises NaiveDatetimeError where it has no time zone."""
    if moment.tzinfo is None:
        raise NaiveDatetimeError(name)
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """Something happened to one attempt of a task (or of one item of a mapped task).

    `source` is the Prefect task-run id, or the caller's own key; `run_count`
    counts Prefect's attempts within it from 1. `data` may carry: `allocated` and
    `used` (resource → amount), `item_seconds`, `reason`, `error`, `mode`,
    `cached`, `share` (of a Partial), `checksum`, `input_revision`, `definition`,
    `flow_run_id`, `revision`, `items`, `limits` (lease ids).
    """

    plan_run: UUID
    task_id: str
    kind: TaskEventKind
    at: datetime
    source: str
    run_count: int = 1
    map_index: int | None = None
    state_type: str | None = None
    state_name: str | None = None
    outcome: TaskOutcome | None = None
    result_key: str | None = None
    reported_by: Reporter = Reporter.CALLER
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def key(self) -> str:
        """What makes this fact one fact within its plan run."""
        item = "" if self.map_index is None else str(self.map_index)
        return f"task|{self.task_id}|{item}|{self.source}|{self.run_count}|{self.kind}"

    @property
    def content(self) -> tuple[Any, ...]:
        """What the fact says; who reported it is no part of it."""
        return (
            self.state_type,
            self.state_name,
            int(self.at.timestamp() * 1000),
            self.outcome,
            self.result_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something happened to the plan run as a whole; `source` makes it unique."""

    plan_run: UUID
    kind: RunEventKind
    at: datetime
    source: str = ""
    reported_by: Reporter = Reporter.DISPATCHER
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def key(self) -> str:
        """What makes this fact one fact within its plan run."""
        return f"run|{self.source}|{self.kind}"

    @property
    def content(self) -> tuple[Any, ...]:
        """A run event is its key: the first writer is right."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckEvent:
    """An assumption was checked. `verdict` is holds, violated or unknown."""

    plan_run: UUID
    assumption_id: str
    check_id: str
    at: datetime
    verdict: str
    reported_by: Reporter = Reporter.CALLER
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def key(self) -> str:
        """What makes this fact one fact within its plan run."""
        return f"check|{self.assumption_id}|{self.check_id}"

    @property
    def content(self) -> tuple[Any, ...]:
        """What the check found."""
        return (self.verdict, int(self.at.timestamp() * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Somebody asks something of the dispatcher; `data` may carry task_id, reason, result_key."""

    plan_run: UUID
    command_id: str
    kind: CommandKind
    at: datetime
    author: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def key(self) -> str:
        """What makes this fact one fact within its plan run."""
        return f"command|{self.command_id}"

    @property
    def content(self) -> tuple[Any, ...]:
        """A command is its id."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """The dispatcher's answer to a command."""

    plan_run: UUID
    command_id: str
    at: datetime
    accepted: bool
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def key(self) -> str:
        """What makes this fact one fact within its plan run."""
        return f"answer|{self.command_id}"

    @property
    def content(self) -> tuple[Any, ...]:
        """An answer is given once."""
        return ()


Event = TaskEvent | RunEvent | CheckEvent | Command | CommandAnswer
