"""Finished runs for tests: made by hand, or simulated with a dispatcher of a few lines."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.records import RunRecord, TaskRecord
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
H = timedelta(hours=1)
S = timedelta(seconds=1)


def plan_of(**document: Any) -> Plan:
    return Plan.model_validate({"name": "p", **document})


def record(
    task: str, planned: tuple[float, float], actual: tuple[float, float], **more: Any
) -> TaskRecord:
    """(start, duration) in hours, planned and actual."""
    return TaskRecord(
        task_id=task,
        run=more.pop("run", "r1"),
        plan="p",
        planned_start=T0 + planned[0] * H,
        planned_duration=planned[1] * H,
        actual_start=T0 + actual[0] * H,
        actual_duration=actual[1] * H,
        outcome=more.pop("outcome", TaskOutcome.SUCCESS),
        **more,
    )


def run_of(plan: Plan | None, *records: TaskRecord, **more: Any) -> RunRecord:
    return RunRecord(
        run=records[0].run, plan_name="p", started=T0, plan=plan, tasks=tuple(records), **more
    )


def simulated(
    plan: Plan,
    factors: Mapping[str, float],
    *,
    run: str = "r1",
    capacities: Mapping[str, float] | None = None,
    holds: Mapping[str, float] | None = None,
) -> RunRecord:
    """A run in which each task takes so many times as long as planned; times in seconds.

    Tasks start in document order, each as soon as it can; `holds`: seconds for which
    one is kept back. The planned starts come from the same dispatcher.
    """
    planned = {t.id: t.planned_duration / S for t in plan.tasks if t.planned_duration}
    own = {name: r.capacity for name, r in plan.resources.items()}
    begins, _ = _dispatched(plan, planned, own, {})
    actual = {t: planned[t] * factors.get(t, 1.0) for t in planned}
    starts, ready = _dispatched(plan, actual, {**own, **(capacities or {})}, holds or {})
    records = tuple(
        TaskRecord(
            task_id=t.id,
            run=run,
            plan=plan.name,
            category=t.group,
            planned_start=T0 + begins[t.id] * S,
            planned_duration=planned[t.id] * S,
            actual_start=T0 + starts[t.id] * S,
            actual_duration=actual[t.id] * S,
            outcome=TaskOutcome.SUCCESS,
            queue_time=max(starts[t.id] - ready[t.id], 0.0) * S,
            resources_planned=dict(t.resources),
        )
        for t in plan.tasks
    )
    return RunRecord(run=run, plan_name=plan.name, started=T0, plan=plan, tasks=records)


def _dispatched(
    plan: Plan,
    seconds: Mapping[str, float],
    capacities: Mapping[str, float],
    holds: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    free = dict(capacities)
    place = {t.id: i for i, t in enumerate(plan.tasks)}
    left = {t.id: len(t.upstream) for t in plan.tasks}
    behind: dict[str, list[str]] = {t.id: [] for t in plan.tasks}
    for task in plan.tasks:
        for d in task.upstream:
            behind[d.task].append(task.id)
    starts: dict[str, float] = {}
    ready: dict[str, float] = {}
    events: list[tuple[float, int, str]] = []
    for name, count in left.items():
        if not count:
            heapq.heappush(events, (holds.get(name, 0.0), 0, name))
    line: list[tuple[int, str]] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, kind, name = heapq.heappop(events)
            if kind == 0:
                ready[name] = now
                heapq.heappush(line, (place[name], name))
                continue
            for resource, amount in plan.get_task(name).resources.items():
                free[resource] += amount
            for other in behind[name]:
                left[other] -= 1
                if not left[other]:
                    heapq.heappush(events, (now + holds.get(other, 0.0), 0, other))
        waiting = []
        while line:
            rank, name = heapq.heappop(line)
            takes = plan.get_task(name).resources
            if all(free[r] >= a - 1e-9 for r, a in takes.items()):
                for resource, amount in takes.items():
                    free[resource] -= amount
                starts[name] = now
                heapq.heappush(events, (now + seconds[name], 1, name))
            else:
                waiting.append((rank, name))
        line = waiting
        heapq.heapify(line)
    return starts, ready


def random_plan(rng: np.random.Generator, count: int, *, soft: float = 0.2) -> Plan:
    """A plan of `count` tasks that share one resource."""
    tasks = []
    for i in range(count):
        before = sorted(set(rng.integers(max(0, i - 6), i, size=2).tolist())) if i > 2 else []
        tasks.append(
            {
                "id": f"t{i}",
                "duration": float(rng.integers(5, 100)),
                "resources": {"cpu": int(rng.integers(1, 4))},
                "depends_on": [
                    {"task": f"t{j}", "kind": "soft" if rng.random() < soft else "hard"}
                    for j in before
                ],
            }
        )
    return plan_of(resources={"cpu": {"capacity": 5}}, runner={"max_workers": 50}, tasks=tasks)
