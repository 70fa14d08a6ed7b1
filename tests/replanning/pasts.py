"""Histories of a plan whose runs, and whose tasks, are slow by chance."""

from __future__ import annotations

import numpy as np

from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.plan.model import Plan


def one_after_another(plan: Plan, *, slow: float = 0.0, runs: float, tasks: float) -> History:
    """Eight runs of a chain of tasks that were planned to take 100 s each.

    `slow`: mean log of how slow a run is; `runs`, `tasks`: spreads of it between runs and,
    within a run, between tasks.
    """
    rng, found = np.random.default_rng(3), []
    for number in range(8):
        whole, at, done = float(np.exp(rng.normal(slow, runs))), 0.0, list[PastTask]()
        for task in plan.tasks:
            lasts = 100 * whole * float(np.exp(rng.normal(0, tasks)))
            done.append(
                PastTask(id=task.id, category=task.group, planned=100, actual=lasts, started=at,
                         after=tuple(d.task for d in task.upstream))
            )  # fmt: skip
            at += lasts
        found.append(PastRun(key=str(number), plan=plan.name, tasks=done))
    return History.of(found)
