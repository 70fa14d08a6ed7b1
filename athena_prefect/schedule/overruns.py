"""How likely tasks are to run past their time-outs, by what is known of their durations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import DEFAULT_MODE, Isolation, Plan, PlanTask
from athena_prefect.schedule.beta_pert import PROBABILITIES, quantile_rows
from athena_prefect.schedule.standing import Standing

MARGIN = 1e-6
"""Seconds by which a duration may touch its limit."""


def overruns_of(
    standing: Standing,
    plan: Plan,
    modes: Mapping[str, str],
    extended: Mapping[str, float],
) -> dict[str, float]:
    """Task of `plan` of which nothing has begun → P(it runs past its time-out), if above 0.

    Of a task that ran past the time-out which it still has, the share of its attempts that
    did; the time-outs that are `extended` are other ones. Further attempts count where
    the task is tried again after a time-out.
    """
    found = {}
    for task in plan.tasks:
        if task.timeout is None or standing.begun(task.id) or task.id in standing.left_out:
            continue
        mode = modes.get(task.id, DEFAULT_MODE)
        estimate = standing.estimate_of(standing.plan.get_task(task.id), mode)
        once = 0.0 if estimate is None else beyond(estimate, task.timeout.total_seconds())
        if task.id not in extended:
            once = max(once, standing.overran.get((task.id, mode), 0.0))
        if once > 0.0:
            found[task.id] = _any_item(task, standing, once ** tries(task))
    return found


def tries(task: PlanTask) -> int:
    """Attempts that a task has at its time-out: on a thread a late body keeps its slot."""
    again = task.rerunnable or task.isolation is Isolation.PROCESS
    return 1 + task.retries if again else 1


def _any_item(task: PlanTask, standing: Standing, one: float) -> float:
    count = 1 if task.map_over is None else standing.items.get(task.id, task.expected_items)
    if task.id in standing.again:  # what has ended well of it stays
        count -= sum(name == task.id for name, _ in standing.spans)
    return 1.0 - (1.0 - one) ** count


def beyond(estimate: Estimate, limit: float) -> float:
    """P(duration > limit seconds)."""
    three = np.array(
        [[d.total_seconds() for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)]]
    )
    if three[0, 2] <= limit + MARGIN:
        return 0.0
    if three[0, 0] > limit + MARGIN:
        return 1.0
    row = quantile_rows(three)[0]
    return float(1.0 - np.interp(limit, row, PROBABILITIES, left=0.0, right=1.0))
