"""By when: the deadline of a run, latest starts, and runs that have not started in time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import Item
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Deadline, Plan

if TYPE_CHECKING:
    from athena_prefect.monitor.deviation import PlanDeviation

_NO_RUN = UUID(int=0)


def next_deadline(
    deadline: Deadline | None, start: datetime, *, scheduled: datetime | None = None
) -> datetime | None:
    """The moment (UTC) by which a run should be over; None where the plan has no deadline.

    A duration counts from the actual `start`. A time of the clock is the first one
    after the moment at which the run should have started: it stays where it is
    when the run starts late.
    """
    return None if deadline is None else deadline.resolve(start, scheduled)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimit:
    """By when an open task has to start and to end, for the run to be over in time."""

    task_id: str
    running: bool
    """Whether any of it has started."""
    latest_start: datetime
    """Latest finish less the P50 duration; of a mapped task that of its most urgent item."""
    latest_finish: datetime
    p_late: float
    """P(finish > latest finish)."""


def task_limits(progress: Progress, latest: Floats, risks: Floats) -> tuple[TaskLimit, ...]:
    """The limits of the open tasks, in the order of the network."""
    course, chain = progress.course, progress.chain
    found: dict[str, TaskLimit] = {}
    nodes: dict[str, list[int]] = {}
    for node in np.flatnonzero(course.open & np.isfinite(latest)).tolist():
        item: Item = chain.items[node]
        nodes.setdefault(item[0], []).append(node)
    for task_id, own in nodes.items():
        begun = any(course.stage[n] != Stage.WAITING for n in chain.nodes_of[task_id])
        work = [n for n in own if not chain.joins[n]] or own
        starts = [float(latest[n] - course.durations[n]) for n in work]
        found[task_id] = TaskLimit(
            task_id=task_id,
            running=begun,
            latest_start=progress.moment(min(starts)),
            latest_finish=progress.moment(max(float(latest[n]) for n in own)),
            p_late=max(float(risks[n]) for n in own),
        )
    return tuple(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOutlook:
    """A run that should have started and has not: what its deadline means for it now."""

    scheduled: datetime
    deviation: PlanDeviation
    """Of a run that started now."""
    deadline: datetime | None
    must_start: datetime | None
    """Deadline less the duration at the plan's accept_quantile; without a deadline the
    scheduled start and the slip that is tolerated. None where no duration is known."""

    @property
    def p_deadline(self) -> float | None:
        """P(deadline) of a run that started now; None without a deadline or a forecast."""
        return self.deviation.deadline_probability

    def late(self, now: datetime) -> bool:
        """Whether it is too late for what was promised."""
        if self.must_start is None:
            return self.deadline is not None and now > self.deadline
        return now > self.must_start


def start_outlook(plan: Plan, scheduled: datetime, now: datetime, *, seed: int = 0) -> StartOutlook:
    """What becomes of a run that was to start at `scheduled` and has not at `now`."""
    from athena_prefect.monitor.context import ExecutionContext
    from athena_prefect.monitor.monitor import ExecutionMonitor

    journal = MemoryJournal()
    journal.append(
        RunEvent(
            plan_run=_NO_RUN,
            kind=RunEventKind.STARTED,
            at=now,
            data={"revision": 1, "scheduled_for": scheduled.isoformat()},
        )
    )
    monitor = ExecutionMonitor(
        plan,
        ExecutionContext(plan_run=_NO_RUN, clock=lambda: now, started_at=now, journal=journal),
        seed=seed,
    )
    deviation = monitor.get_plan_deviation(now=now)
    deadline, accepted = monitor.deadline, monitor.accepted_finish
    must_start = None
    if accepted is not None and deadline is not None:
        must_start = deadline - (accepted - now)
    elif deviation.baseline_finish is not None and deadline is None:
        slack = plan.replanning.policy.tolerated_slip * (deviation.baseline_finish - now)
        must_start = scheduled + slack
    return StartOutlook(
        scheduled=scheduled, deviation=deviation, deadline=deadline, must_start=must_start
    )


def missed_starts(
    times: tuple[datetime, ...], started: tuple[datetime, ...]
) -> tuple[datetime, ...]:
    """Those of a schedule's `times` for which there is no run among those `started` for."""
    made = {t.replace(microsecond=0) for t in started}
    return tuple(t for t in times if t.replace(microsecond=0) not in made)
