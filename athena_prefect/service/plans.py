"""What is done with a plan before it runs: check, show, store."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from athena_prefect.plan.graph import Floats, Network
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.report.view import Span
from athena_prefect.schedule.critical_path import CriticalPath, critical_path
from athena_prefect.service.results import Registered, ShownPlan, TaskTimes, ValidPlan

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

# A plan that is only shown starts at no time; its own is as good as any.
_SOME_START = datetime(2000, 1, 3, tzinfo=UTC)
_NO_RUN = UUID(int=0)


def validate(file: Path) -> ValidPlan:
    """The plan of `file`, whose callables were imported to see that they are there.

    Raises PlanDocumentError with every defect of the document.
    """
    from athena_prefect.assumptions.rules import check_findings
    from athena_prefect.plan.document import load

    plan = load(file, resolve=True, rules=(check_findings,))
    return ValidPlan(
        name=plan.name,
        file=file,
        tasks=len(plan.tasks),
        resources=len(plan.resources),
        assumptions=len(plan.assumptions),
        runnable=not without_call(plan),
        unknown_durations=tuple(t.id for t in plan.tasks if t.planned_duration is None),
    )


def without_call(plan: Plan) -> tuple[str, ...]:
    """The tasks that have nothing to run: such a plan is only monitored."""
    return tuple(t.id for t in plan.tasks if t.call is None and t.deployment is None)


def show(file: Path | Plan, *, now: datetime | None = None) -> ShownPlan:
    """A plan's network, floats, critical path and baseline; nothing is run or imported.

    A deadline that is a time of the clock is shown for a run that starts at `now`.
    Raises PlanDocumentError.
    """
    from athena_prefect.journal.journal import MemoryJournal
    from athena_prefect.monitor.context import ExecutionContext
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.service.following import view_of

    plan = file if isinstance(file, Plan) else Plan.load(file)
    start = now or _SOME_START
    context = ExecutionContext(
        plan_run=_NO_RUN, clock=lambda: start, started_at=start, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context)
    deviation = monitor.get_plan_deviation()
    table = monitor.task_table()
    view = view_of(plan, monitor.state, start, deviation, table, planned_only=True)
    network, durations = _network(plan)
    path = critical_path(network, np.nan_to_num(durations)) if len(network) else None
    known = path is not None and not np.isnan(durations).any()
    critical = path.path() if path is not None and known else ()
    marked = frozenset(critical)
    rows = tuple(replace(row, critical=row.task_id in marked) for row in view.rows)
    planned = {row.task_id: row.planned for row in rows}
    return ShownPlan(
        plan=plan,
        view=replace(view, rows=rows),
        tasks=tuple(
            _times(task, i, durations, path if known else None, planned[task.id], marked)
            for i, task in enumerate(plan.tasks)
        ),
        critical_path=critical,
        baseline_critical_path=deviation.critical_path,
        makespan=path.makespan if path is not None and known else None,
        baseline={
            name: (moment - start).total_seconds() for name, moment in deviation.quantiles.items()
        },
        reason=deviation.reason,
    )


def _network(plan: Plan) -> tuple[Network, Floats]:
    """The plan's network and its planned durations in seconds; NaN where one is not known.

    A mapped task takes as many rounds as its items need on `max_workers` workers.
    """
    seconds = [
        float("nan") if t.planned_duration is None else t.planned_duration.total_seconds()
        for t in plan.tasks
    ]
    rounds = [
        math.ceil(t.expected_items / plan.runner.max_workers) if t.map_over else 1
        for t in plan.tasks
    ]
    return Network.of(plan), np.array(seconds) * np.array(rounds)


def _times(
    task: PlanTask,
    i: int,
    durations: Floats,
    path: CriticalPath | None,
    planned: Span | None,
    critical: frozenset[str],
) -> TaskTimes:
    duration = float(durations[i])
    return TaskTimes(
        task_id=task.id,
        duration=None if math.isnan(duration) else duration,
        earliest_start=None if path is None else float(path.earliest_start[i]),
        earliest_finish=None if path is None else float(path.earliest_finish[i]),
        latest_start=None if path is None else float(path.latest_start[i]),
        total_float=None if path is None else float(path.total_float[i]),
        free_float=None if path is None else float(path.free_float[i]),
        critical=task.id in critical,
        planned_start=None if planned is None else planned[0],
        planned_finish=None if planned is None else planned[1],
        resources=dict(task.resources),
        after=tuple(d.task for d in task.upstream),
    )


def register(file: Path, *, settings: AthenaSettings) -> Registered:
    """Store the plan of `file` as a revision of the plan of its name; the newest if it is new.

    Raises PlanDocumentError, StorageError.
    """
    from athena_prefect.assumptions.rules import check_findings
    from athena_prefect.plan.document import load
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    plan = load(file, resolve=True, rules=(check_findings,))
    store = PlanStore(Database.open(settings))
    known = {d.id for d in store.decisions(plan.name, namespace=settings.namespace, limit=1)}
    stored = store.register(plan, namespace=settings.namespace, reason="athena register")
    return Registered(
        plan_id=stored.id, name=plan.name, revision=stored.revision, new=stored.id not in known
    )
