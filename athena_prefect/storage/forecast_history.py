"""Finished runs as the history that a forecast rests on."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import select

from athena_prefect.learning import frame
from athena_prefect.learning.records import RunRecord
from athena_prefect.monitor.history import NO_HISTORY, History, PastRun, PastTask
from athena_prefect.monitor.recorded import PastForecast
from athena_prefect.plan.graph import Ints
from athena_prefect.schedule.problem import RUNNER
from athena_prefect.storage.db import Database
from athena_prefect.storage.history import StoredHistory
from athena_prefect.storage.tables import PlanRow, PlanRunRow

OWN = 30
"""Newest runs of the plan: what was longer ago says less of how it runs now."""
OTHERS = 30
"""Newest runs of the namespace's other plans: they say how far off runs are in general."""
COMPLETED = "completed"
"""Status of the runs whose makespans are learned from: what stopped half-way has none."""


def finished_runs(database: Database, plan_run: UUID) -> History:
    """What had finished when a plan run began, of its plan and of others in its namespace.

    Raises StorageUnavailableError. Empty where the run is not known.
    """
    query = (
        select(PlanRow.name, PlanRow.namespace, PlanRunRow.started_at)
        .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
        .where(PlanRunRow.id == plan_run)
    )
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return NO_HISTORY
    return runs_before(database, row.namespace, row.name, row.started_at)


def runs_before(database: Database, namespace: str, plan: str, before: datetime) -> History:
    """The newest runs of `plan`, and of others, that were over at `before`.

    Raises StorageUnavailableError.
    """
    stored = StoredHistory(database, namespace=namespace)
    own = _past(stored.history(plan, runs=OWN), before)
    others = [] if not own else _past(stored.history(runs=OTHERS), before)
    return History.of([*(run for run in others if run.plan != plan), *own])


def _past(history: frame.History, before: datetime) -> list[PastRun]:
    """The completed runs of the columns, the oldest first."""
    found = []
    counted = history.succeeded | (history.kept & (history.outcome == _PARTIAL))
    counted = counted & (history.duration >= 0) & ~np.isnan(history.started)
    for number, run in enumerate(history.runs):
        over = run.status == COMPLETED and run.ended is not None and run.ended <= before
        if over and run.started is not None:
            rows = np.flatnonzero(counted & (history.run == number))
            found.append(_run(history, run, rows, run.started.timestamp()))
    return found


_PARTIAL = [str(outcome) for outcome in frame.OUTCOMES].index("partial")


def _run(history: frame.History, run: RunRecord, rows: Ints, start: float) -> PastRun:
    upstream = {t.id: tuple(d.task for d in t.upstream) for t in run.plan.tasks} if run.plan else {}
    # Of several good attempts at an item the last one is in force.
    last: dict[tuple[int, int], int] = {}
    for row in rows.tolist():
        last[int(history.task[row]), int(history.item[row])] = row
    capacities = _capacities(run)
    tasks = []
    for (task, _), row in last.items():
        planned = float(history.planned[row])
        tasks.append(
            PastTask(
                id=history.tasks[task],
                category=history.categories[int(history.task_category[task])],
                planned=planned if planned >= 0 else None,
                actual=float(history.duration[row]),
                started=max(float(history.started[row]) - start, 0.0),
                after=upstream.get(history.tasks[task], ()),
                resources=_taken(history, row, capacities),
            )
        )
    return PastRun(
        key=run.run,
        plan=run.plan_name,
        tasks=tasks,
        capacities=capacities,
        started_at=run.started,
        forecasts=_told(run, start),
    )


def _told(run: RunRecord, start: float) -> list[PastForecast]:
    """What was forecast while a run went; what a revision promised is no forecast of that."""
    return [
        PastForecast(
            at=f.at.timestamp() - start,
            share_done=f.share_done,
            quantiles={q: moment.timestamp() - start for q, moment in f.quantiles.items()},
            from_history=f.from_history,
        )
        for f in run.forecasts
        if f.share_done is not None
    ]


def _capacities(run: RunRecord) -> dict[str, float]:
    """What there was of each resource by the run's plan; nothing where that is not known."""
    if run.plan is None:
        return {}
    found = {name: r.capacity for name, r in run.plan.resources.items()}
    return {**found, RUNNER: float(run.plan.runner.max_workers)}


def _taken(history: frame.History, row: int, names: Collection[str]) -> dict[str, float]:
    """What an attempt was to take while it ran; the runner's slot is one of it."""
    columns = history.resources_planned
    given = {name: float(columns[name][row]) for name in names if name in columns}
    return {**{n: a for n, a in given.items() if a > 0}, RUNNER: 1.0}
