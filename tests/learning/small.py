"""Small histories with patterns planted in them: 20 to 40 runs of 3 to 8 tasks.

As somebody would write them down by hand: plain records that know no run and no plan, or
records with their run; tasks that are planned to take half an hour, and take twice that
beside another; a task that fails in six of ten runs beside another and else in one of
twenty; thirty minutes per hundred lines; one to three per cent more from run to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.records import TaskRecord
from athena_prefect.learning.results import ExecutionPattern
from athena_prefect.monitor.records import TaskExecutionRecord
from tests.learning.histories import MONDAY

KINDS = ("bias", "contention", "scaling", "interaction", "drift", "hour", "weekday", "none")
NAMES = ("extract", "clean", "unit_tests", "integration_tests", "review", "build", "qa", "deploy")
LIMIT = 0.05
"""Of an absolute size that counts as right, beside a quarter of it."""


@dataclass(frozen=True, kw_only=True)
class Small:
    """Records, and what was planted in them."""

    kind: str
    records: tuple[TaskExecutionRecord, ...]
    runs: int
    tasks: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    size: float = 0.0

    def is_it(self, p: ExecutionPattern) -> bool:
        """Whether a pattern tells of what was planted: its kind, and no other tasks."""
        kind = {"bias": "duration"}.get(self.kind, self.kind)
        told = frozenset(p.affected_tasks)
        return p.kind == kind and bool(told) and told <= self.tasks and self._beside(p)

    def _beside(self, p: ExecutionPattern) -> bool:
        # Of two tasks that slow one another down each is beside the other.
        return not self.beside or p.beside in self.beside - set(p.affected_tasks)

    def right(self, p: ExecutionPattern) -> bool:
        """Whether its size is no more than a quarter off, or no more than five points."""
        if p.size is None or not self.is_it(p):
            return False
        return abs(p.size - self.size) <= max(0.25 * abs(self.size), LIMIT)


def small(kind: str, seed: int) -> Small:
    """Records with a pattern of that kind."""
    rng = np.random.default_rng(seed)
    runs, count = int(rng.integers(20, 41)), int(rng.integers(3, 9))
    names = [NAMES[n] for n in sorted(rng.permutation(len(NAMES))[:count].tolist())]
    planned = rng.choice([10, 20, 30, 45, 60, 120], count) * 60.0
    noise = rng.uniform(0.05, 0.2)
    normal = rng.random() < 0.5
    factor = rng.normal(1, noise, (runs, count)).clip(0.3) if normal else np.exp(
        rng.normal(0, noise, (runs, count))
    )  # fmt: skip
    size = float(rng.uniform(0.3, 1.0))
    victim, other = rng.permutation(count)[:2].tolist()
    together = rng.random(runs) < rng.uniform(0.35, 0.65)
    lines = np.full(runs, np.nan)
    fails = np.full(runs, 0.05 if kind == "interaction" or rng.random() < 0.5 else 0.0)
    tasks, beside = {names[victim]}, set()
    # A daily run in the morning, one every few hours, or one at odd hours.
    rhythm = {"hour": 1, "weekday": 0}.get(kind, int(rng.integers(0, 3)))
    hours = 24.0 * np.arange(runs)
    if rhythm == 1:
        hours = 5.0 * np.arange(runs)
    if rhythm == 2:
        hours = np.cumsum(rng.integers(2, 40, runs)).astype(np.float64)
    if kind == "bias":
        size = -size / 2 if rng.random() < 0.3 else size
        factor[:, victim] *= 1 + size
    if kind == "contention":
        factor[together, victim] *= 1 + size
        beside = {names[other]}
        if rng.random() < 0.5:  # a resource that both want: each slows the other down
            factor[together, other] *= 1 + size
            tasks, beside = {names[victim], names[other]}, {names[victim], names[other]}
    if kind == "interaction":
        fails[together] = 0.6
        beside, size = {names[other]}, 0.55
    if kind == "drift":
        step = float(rng.uniform(0.01, 0.03)) * (1 if rng.random() < 0.8 else -0.5)
        grown = (1 + step) ** np.arange(runs) if rng.random() < 0.5 else 1 + step * np.arange(runs)
        factor[:, victim] *= grown
        size = float(grown[-1] - 1)
    if kind == "hour":
        factor[(hours + 4) % 24 >= 12] = _times(factor[(hours + 4) % 24 >= 12], victim, 1 + size)
    if kind == "weekday":
        factor[hours % 168 < 24] = _times(factor[hours % 168 < 24], victim, 1 + size)
    if kind == "scaling":
        lines = rng.integers(50, 501, runs).astype(np.float64)
        size = 18.0  # thirty minutes per hundred lines
        fixed = 0.0 if rng.random() < 0.5 else 600.0
        whole = size * lines + fixed
        planned[victim] = round(float(whole.mean()))
        factor[:, victim] *= whole / planned[victim]
    records: list[TaskExecutionRecord] = []
    with_runs = rng.random() < 0.5
    order = [n for n in range(count) if n != victim]
    for run in range(runs):
        at = 0.0
        starts = {}
        for n in order:
            starts[n] = at
            if n == other:
                took = planned[victim] * factor[run, victim]
                starts[victim] = at if together[run] else at + planned[n] * factor[run, n]
                at += took if together[run] else took + 0.0
            at = max(at, starts[n] + planned[n] * factor[run, n])
            if n == other:
                at = max(at, starts[victim] + planned[victim] * factor[run, victim])
        for n in sorted(starts, key=lambda n: starts[n]):
            bad = n == victim and rng.random() < fails[run]
            records.append(
                _record(
                    names[n], planned[n], planned[n] * factor[run, n], hours[run], starts[n],
                    TaskOutcome.FAILURE if bad else TaskOutcome.SUCCESS,
                    lines[run] if n == victim else np.nan, run if with_runs else None,
                )
            )  # fmt: skip
    return Small(
        kind=kind,
        records=tuple(records),
        runs=runs,
        tasks=frozenset() if kind == "none" else frozenset(tasks),
        beside=frozenset(beside),
        size=size,
    )


def _times(rows: np.ndarray, column: int, factor: float) -> np.ndarray:
    made = rows.copy()
    made[:, column] *= factor
    return made


def _record(
    task: str,
    planned: float,
    took: float,
    hours: float,
    at: float,
    outcome: TaskOutcome,
    lines: float,
    run: int | None,
) -> TaskExecutionRecord:
    start = MONDAY + timedelta(hours=hours, seconds=at)
    used = {} if np.isnan(lines) else {"lines": float(lines)}
    length, actual = timedelta(seconds=float(planned)), timedelta(seconds=round(float(took), 3))
    if run is not None:
        return TaskRecord(
            run=f"run-{run}", plan="nightly", task_id=task, actual_start=start,
            planned_duration=length, actual_duration=actual, outcome=outcome,
            resources_used=used,
        )  # fmt: skip
    return TaskExecutionRecord(
        task_id=task, planned_start=None, actual_start=start, planned_duration=length,
        actual_duration=actual, outcome=outcome, resources_planned={}, resources_used=used,
        deviation=None, confidence=None,
    )  # fmt: skip
