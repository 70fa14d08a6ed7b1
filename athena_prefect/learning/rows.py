"""Columns as runs with their attempts, which replays need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.learning.frame import OUTCOMES, Floats, History
from athena_prefect.learning.records import RunRecord, TaskRecord
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.baseline import feasible_schedule
from athena_prefect.schedule.problem import Problem

_SECOND = timedelta(seconds=1)


RECENT = 20
"""Newest runs of each plan that are replayed: what was longer ago says less of how it runs now."""


def with_tasks(history: History, *, newest: int = RECENT) -> tuple[RunRecord, ...]:
    """The newest runs of each plan with their attempts, which are rows there, the oldest first.

    Columns do not have the planned starts; where a plan's durations are known, they
    are those of its baseline.
    """
    planned: dict[str, Mapping[str, float]] = {}
    there = np.zeros(len(history.runs), dtype=np.bool_)
    there[history.run] = True
    for plan in range(len(history.plans)):
        own = np.flatnonzero(there & (history.run_plan == plan))
        there[own[: max(len(own) - newest, 0)]] = False
    rows: dict[int, list[int]] = defaultdict(list)
    chosen = np.flatnonzero(there[history.run])
    for row, run in zip(chosen.tolist(), history.run[chosen].tolist(), strict=True):
        rows[run].append(row)
    result = []
    for number in np.flatnonzero(there).tolist():
        run = history.runs[number]
        if run.tasks:
            result.append(run)
            continue
        if run.plan_name not in planned:
            planned[run.plan_name] = _baseline_starts(run.plan)
        starts = planned[run.plan_name]
        records = [_record(history, row, run, starts) for row in rows[number]]
        result.append(replace(run, tasks=tuple(records)))
    return tuple(result)


def _baseline_starts(plan: Plan | None) -> Mapping[str, float]:
    """Seconds from a run's start at which the baseline has each task start; empty if unknown."""
    if plan is None:
        return {}
    problem = Problem.of(plan)
    if problem.unknown:
        return {}
    try:
        return {t: s.start for t, s in feasible_schedule(problem).tasks.items()}
    except InfeasibleError:
        return {}


def _record(history: History, row: int, run: RunRecord, starts: Mapping[str, float]) -> TaskRecord:
    def span(value: float) -> timedelta | None:
        return None if np.isnan(value) else timedelta(seconds=float(value))

    task, item = history.tasks[history.task[row]], int(history.item[row])
    began, outcome = float(history.started[row]), int(history.outcome[row])
    start = starts.get(task)
    return TaskRecord(
        task_id=task,
        run=run.run,
        plan=run.plan_name,
        category=history.categories[history.task_category[history.task[row]]],
        map_index=None if item < 0 else item,
        attempt=int(history.attempt[row]),
        outcome=None if outcome < 0 else OUTCOMES[outcome],
        planned_start=(
            None if start is None or run.started is None else run.started + start * _SECOND
        ),
        actual_start=None if np.isnan(began) else datetime.fromtimestamp(began, UTC),
        planned_duration=span(history.planned[row]),
        actual_duration=span(history.duration[row]),
        queue_time=span(history.queued[row]),
        abandoned=not history.kept[row],
        resources_planned=_of_row(history.resources_planned, row),
        resources_used=_of_row(history.resources_used, row),
    )


def _of_row(columns: Mapping[str, Floats], row: int) -> dict[str, float]:
    return {k: float(v[row]) for k, v in columns.items() if not np.isnan(v[row])}
