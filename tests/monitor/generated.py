"""Generated populations of runs with planted slowness of categories and runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np

from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, fold
from athena_prefect.monitor.capacity import first_come
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.plan.graph import Floats, Network
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
RUN = UUID(int=7)
CATEGORIES = ("read", "work", "write")
WIDTH = 12
PLANNED = {"read": 20.0, "work": 60.0, "write": 30.0}
SLOTS = 3


def layers(name: str = "made", slots: int = SLOTS) -> Plan:
    """Three layers of a dozen tasks: each is read, worked on and written."""
    tasks = [
        {
            "id": f"{category}{k}",
            "category": category,
            "duration": {
                "optimistic": 0.8 * PLANNED[category],
                "likely": PLANNED[category],
                "pessimistic": 1.4 * PLANNED[category],
            },
            "depends_on": [f"{CATEGORIES[i - 1]}{k}"] if i else [],
        }
        for i, category in enumerate(CATEGORIES)
        for k in range(WIDTH)
    ]
    return Plan.model_validate({"name": name, "runner": {"max_workers": slots}, "tasks": tasks})


class Made:
    """One run of such a plan."""

    def __init__(self, plan: Plan, durations: Floats, key: str = "run") -> None:
        self.plan, self.durations, self.key = plan, durations, key
        self.starts, self.finishes = first_come(
            Network.of(plan), durations, plan.runner.max_workers
        )

    @property
    def end(self) -> float:
        """Its makespan (s)."""
        return float(self.finishes.max())

    def past(self) -> PastRun:
        """The run as history."""
        tasks = []
        for task, actual, start in zip(self.plan.tasks, self.durations, self.starts, strict=True):
            assert task.planned_duration is not None
            tasks.append(
                PastTask(
                    id=task.id,
                    category=task.group,
                    planned=task.planned_duration.total_seconds(),
                    actual=float(actual),
                    started=float(start),
                    after=tuple(d.task for d in task.upstream),
                )
            )
        return PastRun(
            key=self.key, plan=self.plan.name, tasks=tasks, slots=self.plan.runner.max_workers
        )

    def moment_of(self, share: float) -> float:
        """When that share of the tasks had ended (s)."""
        return float(np.sort(self.finishes)[int(share * len(self.finishes)) - 1])

    def state(self, now: float) -> ExecutionState:
        """What its journal adds up to at `now`."""
        events: list[RunEvent | TaskEvent] = [
            RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=T0)
        ]
        for task, start, finish in zip(
            self.plan.task_ids, self.starts.tolist(), self.finishes.tolist(), strict=True
        ):
            if start <= now:
                events.append(event(task, TaskEventKind.STARTED, start))
            if finish <= now:
                events.append(event(task, TaskEventKind.ENDED, finish))
        return fold(events)


def event(task: str, kind: TaskEventKind, seconds: float) -> TaskEvent:
    """Something that happened to a task so many seconds after the start."""
    return TaskEvent(
        plan_run=RUN,
        task_id=task,
        source=task,
        kind=kind,
        at=T0 + timedelta(seconds=seconds),
        outcome=TaskOutcome.SUCCESS if kind is TaskEventKind.ENDED else None,
    )


def population(
    seed: int,
    runs: int,
    *,
    bias: Sequence[float] = (0.0, 0.8, -0.3),
    run_spread: float = 0.15,
    spread: float = 0.2,
    plan: Plan | None = None,
) -> list[Made]:
    """Runs whose categories are off by exp(bias), times a factor of the run and one of both."""
    rng = np.random.default_rng(seed)
    plan = plan or layers()
    found = []
    for r in range(runs):
        common = rng.normal(0, run_spread)
        off = {
            c: b + common + rng.normal(0, run_spread) for c, b in zip(CATEGORIES, bias, strict=True)
        }
        durations = np.array(
            [PLANNED[t.group] * np.exp(off[t.group] + rng.normal(0, spread)) for t in plan.tasks]
        )
        found.append(Made(plan, durations, key=f"{plan.name}-{r}"))
    return found


def history_of(runs: Sequence[Made]) -> History:
    """Their history."""
    return History.of([run.past() for run in runs])
