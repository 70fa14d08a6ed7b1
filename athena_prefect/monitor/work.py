"""The pieces of work that earned value is reckoned from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from athena_prefect.journal.state import Attempt, ExecutionState, Status
from athena_prefect.monitor.earned_value import WorkItem
from athena_prefect.monitor.tally import Tally, planned_resources
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.schedule.baseline import Baseline

HOUR = 3600.0


def unit_of(plan: Plan) -> str:
    """What work is counted in: money where a resource has a price, else seconds of work."""
    return "cost" if _prices(plan) else "seconds"


def _prices(plan: Plan) -> dict[str, float]:
    return {n: r.cost_per_hour for n, r in plan.resources.items() if r.cost_per_hour > 0}


def work_items(
    plan: Plan, state: ExecutionState, tally: Tally, baseline: Baseline
) -> Iterator[WorkItem]:
    """Every task of the baseline that is not skipped, with its budget and what it has cost.

    A budget is Σ resources × hours × price over the planned items, or, in a plan
    without prices, their planned seconds. What a task cost comes from its
    attempts' durations and what they used, else what they were allocated.
    """
    prices = _prices(plan)
    for task in plan.tasks:
        if tally.status(task.id) is Status.SKIPPED or task.id not in baseline.tasks:
            continue
        planned = task.planned_duration
        seconds = planned.total_seconds() if planned is not None else 0.0
        rate = _rate(prices, task.mode().resources) if prices else HOUR
        yield WorkItem(
            budget=seconds * baseline.tasks[task.id].items * rate / HOUR,
            planned_finish=baseline.tasks[task.id].finish,
            done=tally.status(task.id).good,
            cost=_cost(task, state, prices),
        )


def _rate(prices: Mapping[str, float], amounts: Mapping[str, float]) -> float:
    return sum(price * amounts.get(name, 0.0) for name, price in prices.items())


def _cost(task: PlanTask, state: ExecutionState, prices: Mapping[str, float]) -> float | None:
    """Cost of all attempts that have ended; None where one was not measured."""
    total = 0.0
    for own in (state.task(task.id), *state.items(task.id).values()):
        for attempt in own.attempts:
            if attempt.ended is None:
                continue
            cost = _attempt_cost(task, attempt, prices)
            if cost is None:
                return None
            total += cost
    return total


def _attempt_cost(task: PlanTask, attempt: Attempt, prices: Mapping[str, float]) -> float | None:
    if attempt.duration is None:
        return None
    hours = attempt.duration.total_seconds() / HOUR
    if not prices:
        return hours * HOUR
    amounts = {**(attempt.data.get("allocated") or {}), **(attempt.data.get("used") or {})}
    needed = {n for n, a in planned_resources(task, attempt).items() if a and n in prices}
    return _rate(prices, amounts) * hours if needed <= amounts.keys() else None
