"""What the use cases answer: frozen values, each with `as_dict` for `--json` and for tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import Event
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.plan.model import Plan
from athena_prefect.report.view import RunView


def plain(value: Any) -> Any:
    """`value` as JSON-able data: times in ISO 8601, spans in seconds, paths and ids as text."""
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON-able data, its fields as they are named."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidPlan(_Answer):
    """A plan document without a defect."""

    name: str
    file: Path
    tasks: int
    resources: int
    assumptions: int
    runnable: bool
    """Whether every task has something to call."""
    unknown_durations: tuple[str, ...] = ()
    """Tasks without an estimate: figures that need them are null until they are learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTimes(_Answer):
    """A task in the network and in the baseline; seconds from the start of a run."""

    task_id: str
    duration: float | None
    """Planned duration of the whole task, items included; None where nothing is known."""
    earliest_start: float | None
    earliest_finish: float | None
    latest_start: float | None
    total_float: float | None
    free_float: float | None
    critical: bool
    planned_start: float | None
    """In the baseline, which keeps every resource within its capacity."""
    planned_finish: float | None
    resources: Mapping[str, float] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPlan:
    """A plan's network, floats, critical path and baseline."""

    plan: Plan
    view: RunView
    tasks: tuple[TaskTimes, ...]
    critical_path: tuple[str, ...]
    """A longest chain of the network, resources left aside."""
    baseline_critical_path: tuple[str, ...]
    """Tasks without float in the baseline, where tasks also wait for resources."""
    makespan: float | None
    """Length of the critical path in seconds, resources left aside."""
    baseline: Mapping[str, float]
    """Quantiles of the baseline's finish in seconds: p10, p50, p90; empty where unknown."""
    reason: str = ""
    """Why a figure is None."""

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-able data; times in seconds from the start of a run."""
        deadline = self.plan.deadline
        return {
            "name": self.plan.name,
            "critical_path": list(self.critical_path),
            "baseline_critical_path": list(self.baseline_critical_path),
            "makespan": self.makespan,
            "baseline": dict(self.baseline),
            "deadline": deadline.model_dump(mode="json", exclude_none=True) if deadline else None,
            "reason": self.reason,
            "tasks": [t.as_dict() for t in self.tasks],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Where a plan run stands, from its journal alone."""

    plan: Plan
    plan_run: UUID
    state: ExecutionState
    view: RunView
    deviation: PlanDeviation | None
    as_of: datetime
    interrupted: bool = False
    """Under way, but the process that ran it is gone."""
    nothing_left: bool = False
    """Whether all that could be done is done, though the run's end may not be written yet."""

    @property
    def gone(self) -> str:
        """What is to be known and done where its process is gone; empty where it is not."""
        if not self.interrupted:
            return ""
        if self.state.attached:
            flow_run = self.state.run_data.get("flow_run_id")
            return (
                "its process is gone, or cut off from the database; "
                f"look at flow run {flow_run} in Prefect's UI"
            )
        resume = f"athena run … --resume {str(self.plan_run)[:8]}"
        if self.nothing_left:
            return (
                "nothing of it is left to be done, but the process that ran it was gone before "
                f"it wrote the end; that does {resume}"
            )
        return f"the process that ran it is gone; go on with {resume}"

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state.end_status is not None

    @property
    def word(self) -> str:
        """Not started, running, paused, interrupted, or how it ended."""
        if self.state.end_status is not None:
            return self.state.end_status
        if self.state.started is None:
            return "not started"
        if self.interrupted:
            return "interrupted"
        return "paused" if self.state.paused else "running"

    def count(self, *statuses: Status) -> int:
        """How many tasks stand so."""
        return sum(row.status in statuses for row in self.view.rows)

    @property
    def exit_code(self) -> int:
        """0 done or under way, 1 failed or interrupted, 3 ended late, cancelled or aborted."""
        if self.interrupted:
            return 1
        if not self.over or self.state.end_status == "superseded":
            return 0
        if self.state.end_status in ("cancelled", "aborted"):
            return 3
        if self.state.end_status != "completed":
            return 1
        late = self.view.deadline is not None and (self.view.ended or 0.0) > self.view.deadline
        return 3 if late else 0

    def as_dict(self) -> dict[str, Any]:
        """The status as JSON-able data."""
        return {
            "plan_run": str(self.plan_run),
            "plan": self.plan.name,
            "status": self.word,
            "reason": self.state.end_reason,
            "started": plain(self.state.started),
            "ended": plain(self.state.ended),
            "as_of": self.as_of.isoformat(),
            "revision": self.state.revision,
            "tasks": {row.task_id: row.status.value for row in self.view.rows},
            "attached": self.state.attached,
            "unplanned": list(self.state.unplanned),
            "deviation": plain(self.deviation),
            "breaches": [
                {"name": b.name, "level": b.level, "since": plain(b.since), "reason": b.reason}
                for b in self.state.breaches.values()
                if b.open
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun(_Answer):
    """One line of the list of runs."""

    plan_run: UUID
    plan: str
    status: str
    started: datetime
    ended: datetime | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(_Answer):
    """A plan revision in the database."""

    plan_id: int
    """Row id of the planning decision."""
    name: str
    revision: int
    new: bool
    """False where this very document was the newest revision already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport(_Answer):
    """A report in a file."""

    plan_run: UUID
    file: Path
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaVersion(_Answer):
    """Which schema a database has, and which this version needs."""

    database: str
    found: str | None
    needed: str

    @property
    def current(self) -> bool:
        """Whether it has the one that is needed."""
        return self.found == self.needed

    def as_dict(self) -> dict[str, Any]:
        """The versions as JSON-able data."""
        return {
            "database": self.database,
            "found": self.found,
            "needed": self.needed,
            "current": self.current,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome(_Answer):
    """How `athena run` ended. `exit_code`: 0 done, 1 failed, 3 late, cancelled or aborted."""

    plan_run: UUID
    plan: str
    status: str
    reason: str
    exit_code: int
    flow_run_id: str | None
    report: Path | None
    database: str
    log: Path
    recorded: bool = True
    """Whether Prefect's API showed the last states before its server was stopped."""
    error: AthenaError | None = None
    final: RunStatus | None = None


class Observer(Protocol):
    """Who watches a run: the terminal, a pipe, nobody."""

    def planned(self, shown: ShownPlan) -> None:
        """The plan, before anything has started."""
        ...

    def waiting(self, what: str) -> None:
        """What is being waited for."""
        ...

    def happened(self, events: tuple[Event, ...]) -> None:
        """New entries of the journal, in order."""
        ...

    def stands(self, status: RunStatus) -> None:
        """Where the run stands; told at most every half second."""
        ...

    def cancelling(self) -> None:
        """Ctrl-C was pressed once: nothing new starts."""
        ...


class Unwatched:
    """An observer that looks away."""

    def planned(self, shown: ShownPlan) -> None:
        """The plan, before anything has started."""

    def waiting(self, what: str) -> None:
        """What is being waited for."""

    def happened(self, events: tuple[Event, ...]) -> None:
        """New entries of the journal, in order."""

    def stands(self, status: RunStatus) -> None:
        """Where the run stands."""

    def cancelling(self) -> None:
        """Ctrl-C was pressed once."""
