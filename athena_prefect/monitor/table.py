"""The tasks of a run as rows, for whatever shows them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.journal.state import Status
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.progress import Progress
from athena_prefect.monitor.records import plain
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.baseline import Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task as a display needs it; a mapped task is one row. Unknown times are None."""

    task_id: str
    status: Status
    planned_start: datetime | None = None
    planned_finish: datetime | None = None
    actual_start: datetime | None = None
    actual_finish: datetime | None = None
    """Of a task that is over."""
    forecast_start: datetime | None = None
    forecast_finish: datetime | None = None
    """Of a task that waits or runs: earliest times with P50 durations."""
    total_float: timedelta | None = None
    """How much later it may end without moving the end of the run."""
    critical: bool = False
    at_risk: bool = False
    attempts: int = 0
    items: int | None = None
    """Items of a mapped task, once known."""
    items_done: int = 0
    reason: str = ""
    """Why it was skipped or cannot start."""

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON-able data: times in ISO 8601, durations in seconds."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


def task_rows(
    plan: Plan,
    progress: Progress,
    baseline: Baseline,
    *,
    forecast: bool,
    at_risk: Collection[str],
    critical: Collection[str],
) -> tuple[TaskRow, ...]:
    """The rows of a run; without a `forecast` their forecast times are None."""
    floats = progress.course.floats()
    return tuple(
        _row(
            task.id,
            progress,
            baseline,
            floats if forecast else None,
            at_risk=task.id in at_risk,
            critical=task.id in critical,
        )
        for task in plan.tasks
    )


def _row(
    task_id: str,
    progress: Progress,
    baseline: Baseline,
    floats: Floats | None,
    *,
    at_risk: bool,
    critical: bool,
) -> TaskRow:
    course, state = progress.course, progress.state
    open_ = [n for n in progress.chain.nodes_of.get(task_id, ()) if course.stage[n] < Stage.DONE]
    times = [(float(course.start[n]), float(course.finish[n])) for n in open_]
    ahead = bool(times) and floats is not None
    own = state.task(task_id)
    parts = [own, *state.items(task_id).values()]
    begun = [a.started for p in parts for a in p.attempts if a.started]
    ended = [a.ended for p in parts for a in p.attempts if a.ended]
    status = progress.tally.status(task_id)
    planned = baseline.tasks.get(task_id)
    return TaskRow(
        task_id=task_id,
        status=status,
        planned_start=None if planned is None else progress.moment(planned.start),
        planned_finish=None if planned is None else progress.moment(planned.finish),
        actual_start=min(begun, default=None),
        actual_finish=max(ended, default=None) if status.final else None,
        forecast_start=progress.moment(min(s for s, _ in times)) if ahead else None,
        forecast_finish=progress.moment(max(f for _, f in times)) if ahead else None,
        total_float=(
            timedelta(seconds=max(min(float(floats[n]) for n in open_), 0.0))
            if floats is not None and open_
            else None
        ),
        critical=critical,
        at_risk=at_risk,
        attempts=sum(len(p.attempts) for p in parts),
        items=own.items,
        items_done=sum(p.status.good for p in parts[1:]),
        reason=own.skip_reason or progress.tally.why_stopped(task_id),
    )
