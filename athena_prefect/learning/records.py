"""What is learned from: attempts, runs, checks and forecasts, as plain values.

Read from the database (`storage.history`) or made in memory; `frame.History` holds
them as columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.journal.events import CheckEvent, TaskOutcome
from athena_prefect.monitor.records import TaskExecutionRecord, relative_deviation
from athena_prefect.plan.model import Plan, PlanTask


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord(TaskExecutionRecord):
    """One attempt at a task or item, with the run and the group that it belongs to.

    Where `actual_duration` is not given it is taken from the times; `deviation`
    likewise. An attempt without an end still ran when the history was read.
    """

    task_id: str
    run: str = ""
    """The plan run's id."""
    plan: str = ""
    """The plan's name."""
    category: str = ""
    """What learning groups by (`PlanTask.group`); the task's id where not given."""
    planned_start: datetime | None = None
    actual_start: datetime | None = None
    planned_duration: timedelta | None = None
    actual_duration: timedelta | None = None
    outcome: TaskOutcome | None = None
    resources_planned: Mapping[str, float] = field(default_factory=dict)
    resources_used: Mapping[str, float] = field(default_factory=dict)
    """What `report_usage` said: of the plan's resources, and of other quantities, such as rows."""
    deviation: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        start, end, duration = self.actual_start, self.actual_finish, self.actual_duration
        if duration is None and start is not None and end is not None:
            object.__setattr__(self, "actual_duration", end - start)
        if end is None and start is not None and duration is not None:
            object.__setattr__(self, "actual_finish", start + duration)
        if self.deviation is None:
            found = relative_deviation(self.actual_duration, self.planned_duration)
            object.__setattr__(self, "deviation", found)
        if not self.category:
            object.__setattr__(self, "category", self.task_id)

    @property
    def running(self) -> bool:
        """Whether it had not ended when the history was read: its duration is at least so long."""
        return self.outcome is None and self.actual_finish is None


_SHARED = tuple(f.name for f in fields(TaskExecutionRecord))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecord:
    """A check of an assumption; `holds` is None where it could not be made."""

    assumption_id: str
    at: datetime | None
    holds: bool | None
    observed: Any = None
    run: str = ""
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRecord:
    """A forecast of a run's finish that was written down while it ran."""

    run: str
    at: datetime
    quantiles: Mapping[float, datetime]
    """0.1 → the moment by which the run ends with probability 0.1."""
    share_done: float | None = None
    """Share of the work that was done then."""
    from_history: bool = False
    """Whether it rested on finished runs; else on the plan's estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A plan run with all that it left."""

    run: str
    plan_name: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    """None while it runs."""
    status: str = ""
    plan: Plan | None = None
    """The document of the revision in force at its end; None where it is not known."""
    tasks: tuple[TaskRecord, ...] = ()
    checks: tuple[CheckRecord, ...] = ()
    forecasts: tuple[ForecastRecord, ...] = ()


def run_record(
    plan: Plan,
    records: Iterable[TaskExecutionRecord],
    *,
    run: str = "1",
    started: datetime | None = None,
    ended: datetime | None = None,
    status: str = "",
    checks: Iterable[CheckEvent] = (),
) -> RunRecord:
    """A run out of what its monitor says of it: `monitor.records`, `monitor.state.checks`."""
    known = {t.id: t for t in plan.tasks}
    tasks = tuple(of_run(r, run=run, plan=plan.name, task=known.get(r.task_id)) for r in records)
    return RunRecord(
        run=run,
        plan_name=plan.name,
        started=started,
        ended=ended,
        status=status,
        plan=plan,
        tasks=tasks,
        checks=tuple(check_record(c, plan=plan.name, run=run) for c in checks),
    )


def of_run(
    record: TaskExecutionRecord, *, run: str, plan: str = "", task: PlanTask | None = None
) -> TaskRecord:
    """A monitor's record as one of `run`; `task` says its category."""
    if isinstance(record, TaskRecord):
        return record
    shared = {name: getattr(record, name) for name in _SHARED}
    return TaskRecord(**shared, run=run, plan=plan, category=task.group if task else "")


def check_record(event: CheckEvent, *, plan: str, run: str) -> CheckRecord:
    """A check of the journal as learning sees it."""
    return CheckRecord(
        assumption_id=event.assumption_id,
        at=event.at,
        holds={"holds": True, "violated": False}.get(event.verdict),
        observed=event.data.get("value"),
        run=run,
        plan=plan,
    )


def into_runs(
    records: Sequence[TaskExecutionRecord], *, plan: Plan | None = None
) -> tuple[RunRecord, ...]:
    """Records by their runs, in the order in which the runs come.

    A `TaskRecord` knows its run. Of plain records the k-th one of the same task
    and item is taken for one of the k-th run, where all have as many; else a run begins, in
    the order of their starts, where one comes again that is there already and was not
    another attempt at what had just failed.
    """
    name = "" if plan is None else plan.name
    known = {} if plan is None else {t.id: t for t in plan.tasks}
    found: dict[str, list[TaskRecord]] = {}
    for record in _numbered(records, name, known):
        found.setdefault(record.run, []).append(record)
    return tuple(
        RunRecord(
            run=run,
            plan_name=tasks[0].plan,
            started=min((t.actual_start for t in tasks if t.actual_start), default=None),
            ended=max((t.actual_finish for t in tasks if t.actual_finish), default=None),
            plan=plan,
            tasks=tuple(tasks),
        )
        for run, tasks in found.items()
    )


def _numbered(
    records: Iterable[TaskExecutionRecord], name: str, known: Mapping[str, PlanTask]
) -> Iterator[TaskRecord]:
    given = list(records)
    plain = [r for r in given if not (isinstance(r, TaskRecord) and r.run)]
    numbers = iter(_places(plain))
    for record in given:
        if isinstance(record, TaskRecord) and record.run:
            yield record
            continue
        number, attempt = next(numbers)
        if isinstance(record, TaskRecord):
            yield replace(record, run=str(number), attempt=attempt)
        else:
            told = of_run(record, run=str(number), plan=name, task=known.get(record.task_id))
            yield told if told.attempt == attempt else replace(told, attempt=attempt)


def _places(plain: Sequence[TaskExecutionRecord]) -> list[tuple[int, int]]:
    """By record that does not say it: its run, from 1, and its attempt in it."""
    starts = [r.actual_start for r in plain if r.actual_start is not None]
    counts = Counter((r.task_id, r.map_index) for r in plain if r.attempt == 1)
    if len(set(counts.values())) < 2 or len(starts) < len(plain):
        seen: Counter[tuple[str, int | None]] = Counter()
        found = []
        for record in plain:
            who = (record.task_id, record.map_index)
            # A later attempt is of the run of the one before it.
            seen[who] += record.attempt == 1 or not seen[who]
            found.append((seen[who], record.attempt))
        return found
    there: dict[tuple[str, int | None, int], int] = {}
    run = 1
    placed: dict[int, tuple[int, int]] = {}
    for n in sorted(range(len(plain)), key=starts.__getitem__):
        record, attempt = plain[n], plain[n].attempt
        key = (record.task_id, record.map_index, attempt)
        last = there.get(key)
        if last is not None and _again(plain[last], record):
            attempt = placed[last][1] + 1
        elif last is not None:
            run, there = run + 1, {}
        there[key] = n
        placed[n] = (run, attempt)
    return [placed[n] for n in range(len(plain))]


def _again(before: TaskExecutionRecord, after: TaskExecutionRecord) -> bool:
    """Whether a record is of another attempt in the same run: the one before failed, and it
    began no later after that one's end than that one took.
    """
    if before.outcome is not TaskOutcome.FAILURE or before.actual_duration is None:
        return False
    if before.actual_start is None or after.actual_start is None:
        return False
    return after.actual_start - before.actual_start <= 2 * before.actual_duration
