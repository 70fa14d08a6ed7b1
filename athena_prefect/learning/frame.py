"""A history as columns: one row an attempt, names as codes, times as seconds.

Everything that is learned is reckoned on these arrays, group by group, without a
Python object a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.records import RunRecord, TaskRecord, into_runs
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.model import Plan

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Codes = NDArray[Any]
Flags = NDArray[np.bool_]
Label = TypeVar("Label")

OUTCOMES = tuple(TaskOutcome)
"""A row's outcome is its place here; -1 where it has none."""
SUCCESS = OUTCOMES.index(TaskOutcome.SUCCESS)
FAILURE = OUTCOMES.index(TaskOutcome.FAILURE)
PARTIAL = OUTCOMES.index(TaskOutcome.PARTIAL)
BLOCKED = OUTCOMES.index(TaskOutcome.BLOCKED)


class HistorySource(Protocol):
    """Where finished runs are kept; the database's is `storage.history.StoredHistory`."""

    def history(self, plan: str | None = None, *, runs: int | None = None) -> History:
        """The newest `runs` runs of a plan, or of every plan, the oldest first."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class History:
    """Attempts of many runs, the oldest run first. Unknown numbers are NaN.

    Times are seconds since 1970 (UTC), durations seconds.
    """

    runs: tuple[RunRecord, ...]
    """Each run without its tasks, which are the rows: run, plan, times, document, checks,
    forecasts."""
    plans: tuple[str, ...]
    categories: tuple[str, ...]
    tasks: tuple[str, ...]
    """Ids; the same id in two plans is two tasks."""
    task_plan: Codes
    task_category: Codes
    run_plan: Codes
    run: Codes
    """By row, into `runs`; like the other codes of rows."""
    task: Codes
    item: Codes
    """Map index; -1: the task itself."""
    attempt: Codes
    outcome: NDArray[np.int8]
    started: Floats
    ended: Floats
    duration: Floats
    planned: Floats
    """Planned duration."""
    queued: Floats
    """Time between being ready and the start of a first attempt."""
    kept: Flags
    """Whether it counts: neither cached nor abandoned."""
    resources_planned: Mapping[str, Floats] = field(default_factory=dict)
    resources_used: Mapping[str, Floats] = field(default_factory=dict)
    """By name; reported quantities that are no resource of a plan are here too."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Plan → the time zone of its schedule; UTC where there is none."""

    def __len__(self) -> int:
        """Attempts."""
        return len(self.run)

    @property
    def category(self) -> Codes:
        """By row, into `categories`."""
        return self.task_category[self.task]

    @cached_property
    def succeeded(self) -> Flags:
        """Attempts whose durations are learned from: ended in success, not cached."""
        good: Flags = self.kept & (self.outcome == SUCCESS) & (self.duration >= 0)
        return good

    @cached_property
    def censored(self) -> Flags:
        """Attempts that still ran: their durations are at least so long as was seen."""
        return self.kept & (self.outcome < 0) & np.isnan(self.ended) & ~np.isnan(self.started)

    @cached_property
    def run_started(self) -> Floats:
        """By run: its start."""
        return np.array([_seconds(r.started) for r in self.runs], dtype=np.float64)

    @cached_property
    def quantities(self) -> tuple[str, ...]:
        """Names of what was reported and is no planned resource: rows, lines, bytes."""
        return tuple(n for n in self.resources_used if n not in self.resources_planned)

    @cached_property
    def clock(self) -> tuple[Codes, Codes]:
        """Hour (0–23) and weekday (0: Monday) of each start, in the plan's zone; -1 unknown."""
        known = ~np.isnan(self.started)
        whole = np.where(known, self.started, 0.0).astype(np.int64)
        hour = (whole // 3600 % 24).astype(np.int32)
        day = ((whole // 86400 + 3) % 7).astype(np.int32)  # 1970 began on a Thursday
        for code, plan in enumerate(self.plans):
            zone = self.zones.get(plan, "UTC")
            if zone == "UTC":
                continue
            import pandas as pd

            rows = np.flatnonzero(self.task_plan[self.task] == code)
            local = pd.to_datetime(whole[rows], unit="s", utc=True).tz_convert(zone)
            hour[rows], day[rows] = local.hour, local.day_of_week
        hour[~known], day[~known] = -1, -1
        return hour, day

    def documents(self) -> Mapping[str, Plan]:
        """Plan → its newest document, of the plans whose documents are known."""
        return {r.plan_name: r.plan for r in self.runs if r.plan is not None}

    def of_plan(self, plan: str) -> History:
        """The part about one plan; codes stay what they are."""
        if plan not in self.plans:
            return self.where(np.zeros(len(self), dtype=np.bool_))
        return self.where(self.run_plan[self.run] == self.plans.index(plan))

    def where(self, rows: NDArray[Any]) -> History:
        """Those rows, by a mask or by numbers; runs and names stay."""
        taken: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ROWS}
        for name in ("resources_planned", "resources_used"):
            taken[name] = {k: v[rows] for k, v in getattr(self, name).items()}
        return replace(self, **taken)

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame, names as categories."""
        import pandas as pd

        label = pd.Categorical.from_codes
        columns: dict[str, Any] = {
            "run": self.run,
            "plan": label(self.run_plan[self.run], pd.Index(self.plans, dtype=object)),
            "task": pd.Series(np.array(self.tasks, dtype=object)[self.task], dtype="category"),
            "category": label(self.category, pd.Index(self.categories, dtype=object)),
            **{name: getattr(self, name) for name in _ROWS if name not in ("run", "task")},
            **{f"planned.{k}": v for k, v in self.resources_planned.items()},
            **{f"used.{k}": v for k, v in self.resources_used.items()},
        }
        return pd.DataFrame(columns)

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> History:
        """The history of runs with their tasks, brought into the order of their starts."""
        ordered = sorted(runs, key=lambda r: _seconds(r.started) if r.started else float("inf"))
        rows: list[TaskRecord] = list(chain.from_iterable(r.tasks for r in ordered))
        counts = [len(r.tasks) for r in ordered]
        run = np.repeat(np.arange(len(ordered), dtype=np.int32), counts)
        run_plan, plans = encode([r.plan_name for r in ordered])
        names = [(r.plan_name, t.task_id) for r in ordered for t in r.tasks]
        task, known = encode(names)
        newest = dict(zip(task.tolist(), (t.category for t in rows), strict=True))
        task_category, categories = encode([newest[code] for code in range(len(known))])
        place = {plan: code for code, plan in enumerate(plans)}
        return cls(
            runs=tuple(replace(r, tasks=()) for r in ordered),
            plans=plans,
            categories=categories,
            tasks=tuple(t for _, t in known),
            task_plan=np.array([place[p] for p, _ in known], dtype=np.int32),
            task_category=task_category,
            run_plan=run_plan,
            run=run,
            task=task,
            item=np.array([-1 if t.map_index is None else t.map_index for t in rows], np.int32),
            attempt=np.array([t.attempt for t in rows], dtype=np.int32),
            outcome=np.array([_outcome(t.outcome) for t in rows], dtype=np.int8),
            started=_floats(_seconds(t.actual_start) for t in rows),
            ended=_floats(_seconds(t.actual_finish) for t in rows),
            duration=_floats(_span(t.actual_duration) for t in rows),
            planned=_floats(_span(t.planned_duration) for t in rows),
            queued=_floats(_span(t.queue_time) for t in rows),
            kept=np.array([not (t.cached or t.abandoned) for t in rows], dtype=np.bool_),
            resources_planned=amounts([t.resources_planned for t in rows]),
            resources_used=amounts([t.resources_used for t in rows]),
            zones=zones_of(ordered),
        )

    @classmethod
    def of_records(
        cls, records: Sequence[TaskExecutionRecord], *, plan: Plan | None = None
    ) -> History:
        """The history of records, plain or with their runs; `plan` says their categories."""
        return cls.of(into_runs(records, plan=plan))


_ROWS = (
    "run",
    "task",
    "item",
    "attempt",
    "outcome",
    "started",
    "ended",
    "duration",
    "planned",
    "queued",
    "kept",
)


def encode(labels: Sequence[Label]) -> tuple[Codes, tuple[Label, ...]]:
    """Labels as codes, in the order in which they first come, and the distinct labels."""
    place: dict[Label, int] = {}
    codes = [place.setdefault(label, len(place)) for label in labels]
    return np.array(codes, dtype=np.int32), tuple(place)


def amounts(rows: Sequence[Mapping[str, float] | None]) -> dict[str, Floats]:
    """Mappings of name to amount as columns, NaN where a row does not name it."""
    found: dict[str, Floats] = {}
    for number, row in enumerate(rows):
        for name, amount in (row or {}).items():
            if name not in found:
                found[name] = np.full(len(rows), np.nan)
            found[name][number] = amount
    return found


def zones_of(runs: Iterable[RunRecord]) -> dict[str, str]:
    """Plan → the time zone of its schedule, of the plans that have one."""
    return {
        r.plan_name: r.plan.schedule.timezone
        for r in runs
        if r.plan is not None and r.plan.schedule is not None
    }


def _outcome(outcome: TaskOutcome | None) -> int:
    return -1 if outcome is None else OUTCOMES.index(TaskOutcome(outcome))


def _floats(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def _seconds(moment: datetime | None) -> float:
    return float("nan") if moment is None else moment.timestamp()


def _span(length: Any) -> float:
    return float("nan") if length is None else length.total_seconds()
