"""Runs of random plans that have something of everything a document may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from athena_prefect.errors import PlanDocumentError, RecordingError
from athena_prefect.journal.events import CheckEvent, TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan, PlanTask

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
RUN = UUID(int=1)


def rich_plan(rng: Random) -> Plan:
    """Mapped and conditional tasks, inputs, soft dependencies with lags, optional tasks, modes,
    time-outs, deadlines, estimates of every kind, amounts that are not whole, every effect.
    """
    while True:
        try:
            return Plan.model_validate(_document(rng))
        except PlanDocumentError:
            continue  # a required task takes an optional one's result, and the like


def _document(rng: Random) -> dict[str, Any]:
    resources: dict[str, dict[str, float]] = {}
    for k in range(rng.choice([0, 1, 2, 3])):
        most = rng.choice([1, 2, 4, 0.5, 2.5, 3.3, 1e6])
        resources[f"r{k}"] = {"capacity": most, "cost_per_hour": rng.choice([0, 1.5, 100])}
        if rng.random() < 0.4:
            resources[f"r{k}"]["max_capacity"] = most * rng.choice([1, 2])
    tasks: list[dict[str, Any]] = []
    for k in range(rng.choice([1, 2, 3, 5, 8, 12])):
        tasks.append(_task(rng, k, tasks, resources))
    document: dict[str, Any] = {
        "name": "rich",
        "resources": resources,
        "runner": {"max_workers": rng.choice([1, 2, 4])},
        "tasks": tasks,
        "replanning": {"cooldown": 0},
        "assumptions": [_assumption(rng, k, tasks, resources) for k in range(rng.randint(0, 4))],
    }
    if rng.random() < 0.7:
        document["deadline"] = rng.choice([1, 20, 60, 10**7])
    needed = [t["id"] for t in tasks if not t.get("optional")]
    if needed and rng.random() < 0.3:
        document["goals"] = [rng.choice(needed)]
    return document


def _duration(rng: Random) -> Any:
    low = rng.randint(0, 6)
    likely = low + rng.randint(0, 5)
    three = {"optimistic": low, "likely": likely, "pessimistic": likely + rng.randint(0, 9)}
    learned = {"learned": True, "fallback": rng.randint(1, 9)}
    return rng.choice([0, 0.001, 2.37, rng.randint(1, 10), three, three, learned, 86400 * 30])


def _used(rng: Random, resources: dict[str, dict[str, float]]) -> dict[str, float]:
    share = [0.0, 1.0, 1 / 3, 0.1]
    return {
        n: r["capacity"] * rng.choice(share) for n, r in resources.items() if rng.random() < 0.6
    }


def _task(
    rng: Random, k: int, before: list[dict[str, Any]], resources: dict[str, dict[str, float]]
) -> dict[str, Any]:
    task: dict[str, Any] = {
        "id": f"t{k}", "duration": _duration(rng), "resources": _used(rng, resources),
        "depends_on": [], "inputs": {}, "retries": rng.choice([0, 0, 1]),
        "rerunnable": rng.random() < 0.3,
    }  # fmt: skip
    for other in rng.sample(before, min(k, rng.choice([0, 1, 1, 2, 3]))):
        lag, soft = rng.choice([0, 0, 1.5, 4]), rng.random() < 0.4
        if rng.random() < 0.3 and not other.get("optional"):
            task["inputs"][f"x_{other['id']}"] = other["id"]
        else:
            kind = "soft" if soft else "hard"
            task["depends_on"].append({"task": other["id"], "kind": kind, "lag": lag})
    if task["inputs"] and rng.random() < 0.6:
        task |= {"map_over": next(iter(task["inputs"])), "expected_items": rng.choice([1, 2, 5])}
    elif before and rng.random() < 0.2 and not before[-1].get("optional"):
        task["when"] = {"task": before[-1]["id"], "is": True}
    if rng.random() < 0.5:
        task["modes"] = [
            {"name": "other", "duration": _duration(rng), "resources": _used(rng, resources),
             "quality": rng.choice([1, 0.9, 0.5])}
        ]  # fmt: skip
        if rng.random() < 0.3:
            task["modes"].append({"name": "third", "resources": _used(rng, resources)})
    for name, values in (("timeout", [1, 5, 20]), ("deadline", [1, 10, 40])):
        if rng.random() < 0.3:
            task[name] = rng.choice(values)
    if rng.random() < 0.25:
        task |= {"optional": True, "value": rng.choice([0, 0.3])}
    return task


def _assumption(
    rng: Random, k: int, tasks: list[dict[str, Any]], resources: dict[str, dict[str, float]]
) -> dict[str, Any]:
    some = rng.sample(tasks, min(len(tasks), rng.randint(1, 3)))
    effects: list[dict[str, Any]] = [{"duration_factor": f} for f in (0.5, 3)] + [{"block": True}]
    if all(t.get("modes") for t in some):
        effects.append({"mode": "other"})
    for name, resource in resources.items():
        if all(name in t["resources"] for t in some):
            amounts = ["observed", 0, resource["capacity"] / 2]
            effects += [{"capacity": {name: amount}} for amount in amounts]
    return {
        "id": f"a{k}", "affects": [t["id"] for t in some], "milestones": [{"at": "start"}],
        "criticality": rng.choice(["low", "high", "critical"]), "effect": rng.choice(effects),
    }  # fmt: skip


def rich_run(rng: Random) -> ExecutionMonitor:
    """A run of such a plan, part of which is over, runs, failed or was skipped; violations."""
    plan, clock = rich_plan(rng), VirtualClock(T0)
    context = ExecutionContext(plan_run=RUN, clock=clock, started_at=T0, journal=MemoryJournal())
    monitor, done = ExecutionMonitor(plan, context, samples=60), set[str]()
    for task in plan.tasks[: rng.randint(0, len(plan.tasks))]:
        ready = all(d.task in done for d in task.upstream)
        if rng.random() < 0.15 or (not ready and rng.random() < 0.7):
            continue
        clock.advance(timedelta(seconds=rng.choice([0, 0, 1, 3])))
        try:
            if _happen(rng, monitor, clock, task):
                done.add(task.id)
        except RecordingError:
            continue  # there is no room for it
    for assumption in plan.assumptions:
        if rng.random() < 0.5:
            value = {"value": rng.choice([0, 0.3, 1, 2])}
            monitor.record_check(
                CheckEvent(
                    plan_run=RUN, assumption_id=assumption.id, check_id="1", at=clock.now(),
                    verdict="violated", data=value,
                )
            )  # fmt: skip
    return monitor


def _happen(rng: Random, monitor: ExecutionMonitor, clock: VirtualClock, task: PlanTask) -> bool:
    """What becomes of a task; whether it ended well."""
    journal, kind = monitor.context.journal, rng.random()
    if task.map_over is not None and kind < 0.8:
        count = rng.choice([0, 1, task.expected_items, task.expected_items + 2])
        journal.append(
            TaskEvent(
                plan_run=RUN, task_id=task.id, kind=TaskEventKind.EXPANDED, at=clock.now(),
                source=f"{task.id} items", data={"items": count},
            )
        )  # fmt: skip
        monitor.refresh()
        for index in range(rng.randint(0, count)):
            monitor.record_task_start(task.id, clock.now(), {}, map_index=index)
            clock.advance(timedelta(seconds=rng.choice([0, 1, 7.5])))
            if rng.random() < 0.15:
                break  # it runs
            outcome = TaskOutcome.FAILURE if rng.random() < 0.15 else TaskOutcome.SUCCESS
            monitor.record_task_completion(task.id, clock.now(), None, {}, outcome, map_index=index)
        return False
    if kind > 0.9:
        journal.append(
            TaskEvent(
                plan_run=RUN, task_id=task.id, kind=TaskEventKind.SKIPPED, at=clock.now(),
                source=f"{task.id} skipped",
            )
        )  # fmt: skip
        monitor.refresh()
        return True
    mode = rng.choice(task.mode_names) if rng.random() < 0.2 else None
    monitor.record_task_start(task.id, clock.now(), {}, mode=mode)
    clock.advance(timedelta(seconds=rng.choice([0, 1, 5, 12.25, 100])))
    if rng.random() < 0.2:
        return False  # it runs
    bad = (TaskOutcome.FAILURE, TaskOutcome.BLOCKED)
    outcome = rng.choice(bad) if rng.random() < 0.15 else TaskOutcome.SUCCESS
    monitor.record_task_completion(task.id, clock.now(), None, {}, outcome)
    return outcome is TaskOutcome.SUCCESS
