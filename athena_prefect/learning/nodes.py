"""The nodes of a run: each task or item in the attempt that counts, and joins of no work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.learning.records import RunRecord, TaskRecord
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.problem import RUNNER

_SECOND = timedelta(seconds=1)
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes as columns: ten thousand small objects would keep the garbage collector busy."""

    plan: Plan | None
    tasks: list[str]
    indices: list[int | None]
    records: list[TaskRecord | None]
    """The attempt in force; None of a join, and of a task that did not run."""
    firsts: list[datetime | None]
    """Start of the first attempt."""
    queues: list[float]
    """Queue time of the first attempt, in seconds; NaN where nothing said it."""

    def __len__(self) -> int:
        return len(self.tasks)

    @classmethod
    def of(cls, run: RunRecord) -> Nodes:
        """The nodes of what started in a run, with a join for each mapped task, and one for each
        task of the plan that has no record. Empty where nothing started.
        """
        found = cls(run.plan, [], [], [], [], [])
        place: dict[str | tuple[str, int], int] = {}
        for record in run.tasks:
            begun = record.actual_start
            if begun is None or record.actual_duration is None:
                continue
            if record.cached or record.abandoned:
                continue
            index = record.map_index
            key = record.task_id if index is None else (record.task_id, index)
            node = place.setdefault(key, len(found))
            if node == len(found):
                found._add(record.task_id, index, record, begun, _queue(record))
                continue
            known, first = found.records[node], found.firsts[node]
            assert known is not None and first is not None
            # What counts is the attempt in force: the last one, or the last good one.
            if record.attempt > known.attempt and (_good(record) or not _good(known)):
                found.records[node] = record
            if begun < first:
                found.firsts[node], found.queues[node] = begun, _queue(record)
        if found.tasks:
            found._with_joins()
        return found

    def _add(
        self,
        task: str,
        index: int | None = None,
        record: TaskRecord | None = None,
        first: datetime | None = None,
        queue: float = NAN,
    ) -> None:
        self.tasks.append(task)
        self.indices.append(index)
        self.records.append(record)
        self.firsts.append(first)
        self.queues.append(queue)

    def _with_joins(self) -> None:
        both = list(zip(self.tasks, self.indices, strict=True))
        whole = {task for task, index in both if index is None}
        mapped = dict.fromkeys(task for task, index in both if index is not None)
        missing = [t for t in mapped if t not in whole]
        if self.plan is not None:
            missing += [t for t in self.plan.task_ids if t not in whole and t not in mapped]
        for task in missing:
            self._add(task)

    def times(self, origin: datetime) -> tuple[Floats, ...]:
        """Planned duration and start, start, duration, retries and queue time, in seconds."""
        mapped = {t for t, i in zip(self.tasks, self.indices, strict=True) if i is not None}
        planned: list[float] = []
        due: list[float] = []
        start: list[float] = []
        actual: list[float] = []
        retries: list[float] = []
        for task, record, first in zip(self.tasks, self.records, self.firsts, strict=True):
            if record is None:
                planned.append(self._left_out(task, mapped))
                due.append(NAN)
                start.append(NAN)
                actual.append(0.0)
                retries.append(0.0)
                continue
            begun, took = record.actual_start, record.actual_duration
            assert begun is not None and took is not None and first is not None
            length, on = record.planned_duration, record.planned_start
            planned.append(NAN if length is None else length.total_seconds())
            due.append(NAN if on is None else (on - origin).total_seconds())
            start.append((begun - origin).total_seconds())
            actual.append(took.total_seconds())
            retries.append(0.0 if first is begun else max((begun - first).total_seconds(), 0.0))
        return tuple(np.array(c) for c in (planned, due, start, actual, retries, self.queues))

    def _left_out(self, task: str, mapped: Collection[str]) -> float:
        """Planned seconds of a task that did not run; of a mapped one's join none."""
        if self.plan is None or task in mapped:
            return 0.0
        usual = self.plan.get_task(task).planned_duration
        return 0.0 if usual is None else usual.total_seconds()

    def resources(self) -> tuple[tuple[str, ...], Floats, Floats]:
        """Names and capacities of the resources, and what each node takes: (n, resources)."""
        if self.plan is None:
            return (), np.zeros(0), np.zeros((len(self), 0))
        names = (*self.plan.resources, RUNNER)
        column = {name: i for i, name in enumerate(names)}
        capacities = np.array(
            [*(r.capacity for r in self.plan.resources.values()), self.plan.runner.max_workers],
            dtype=np.float64,
        )
        demands = np.zeros((len(self), len(names)))
        places: list[int] = []
        amounts: list[float] = []
        for i, record in enumerate(self.records):
            if record is None:
                continue
            demands[i, -1] = 1.0
            taken = record.resources_allocated or record.resources_planned
            for name, amount in taken.items():
                if name in column:
                    places.append(i * len(names) + column[name])
                    amounts.append(amount)
        demands.flat[places] = amounts
        return names, capacities, demands


def _queue(record: TaskRecord) -> float:
    return NAN if record.queue_time is None else record.queue_time / _SECOND


def _good(record: TaskRecord) -> bool:
    return record.outcome is not None and record.outcome.good
