"""Other order and other resources: dependencies to drop, capacities and demands to change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME, arrivals
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import (
    ROOM,
    WORTH,
    Budget,
    Gains,
    counted,
    gains_of,
    measured,
    percent,
)
from athena_prefect.learning.past import Past
from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.problem import RUNNER

WASTE = 0.8
"""Share of what was planned of a resource below which a task's largest use calls for less."""


def parallel(blames: Sequence[Blame], plan: Plan, budget: Budget) -> Iterator[Recommendation]:
    """Soft dependencies that the runs would have been over earlier without."""
    waited, known = _waited_over(blames), set(plan.task_ids)
    for before, after in sorted(waited, key=lambda arc: (-waited[arc], arc)):
        if after not in known or not _soft(plan, before, after):
            continue
        if not budget.allows("parallelization", blames):
            break
        gains = gains_of(blames, budget, without=((before, after),))
        if gains is None or gains.share < WORTH:
            continue
        kept = [
            d.model_dump(mode="json", exclude_defaults=True)
            for d in plan.get_task(after).depends_on
            if d.task != before
        ]
        yield measured(
            f"parallelize:{before}->{after}",
            "parallelization",
            f"Run {after} without waiting for {before}",
            f"{after} depends softly on {before}, and waited for it in "
            f"{counted(len(gains.seconds))}",
            gains,
            effort="moderate",
            tasks=(before, after),
            patch={"tasks": {after: {"depends_on": kept}}},
        )


def _soft(plan: Plan, before: str, after: str) -> bool:
    """Whether the plan as it is now has that soft dependency."""
    return any(d.task == before and not d.hard for d in plan.get_task(after).upstream)


def _waited_over(blames: Sequence[Blame]) -> dict[tuple[str, str], float]:
    """Seconds that tasks waited over soft arcs after all else that they wait for had ended."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for one in blames:
        run, arcs = one.past, one.past.planned_arcs
        reached = run.finishes[arcs.tail] + arcs.lag
        # By head the last to be reached, and the one before it.
        order = np.lexsort((reached, arcs.head))
        heads, reached = arcs.head[order], reached[order]
        last = np.flatnonzero(np.diff(heads, append=-1))
        several = (last > 0) & (heads[last - 1] == heads[last])
        others = np.where(several, reached[last - 1], 0.0)
        waited = reached[last] - others
        for place in np.flatnonzero((waited > SAME) & ~arcs.hard[order[last]]).tolist():
            arc = int(order[last[place]])
            pair = run.tasks[int(arcs.tail[arc])], run.tasks[int(arcs.head[arc])]
            found[pair] += float(waited[place])
    return found


def resources(
    blames: Sequence[Blame], plan: Plan, fixed: frozenset[str], budget: Budget
) -> Iterator[Recommendation]:
    """More of a resource that tasks waited for."""
    waited: dict[str, float] = defaultdict(float)
    step: dict[str, float] = defaultdict(float)
    for one in blames:
        run = one.past
        for i, name, seconds in _resource_waits(run):
            if name in run.names and name not in fixed:
                waited[name] += seconds
                step[name] = max(step[name], float(run.demands[i, run.names.index(name)]))
    for name in sorted(waited, key=lambda n: -waited[n]):
        before = plan.runner.max_workers if name == RUNNER else plan.resources[name].capacity
        after = before + step[name]
        if not budget.allows("resources", blames):
            break
        gains = gains_of(blames, budget, capacities={name: after})
        if gains is None or gains.share < WORTH:
            continue
        price = 0.0 if name == RUNNER else plan.resources[name].cost_per_hour
        hours = float(np.mean([b.past.makespan for b in blames])) / 3600
        cost = f"; it costs {price * step[name] * hours:.2f} a run" if price else ""
        what = "the runner's slots" if name == RUNNER else name
        patch: dict[str, Any] = (
            {"runner": {"max_workers": int(after)}}
            if name == RUNNER
            else {"resources": {name: {"capacity": _plain(after)}}}
        )
        yield measured(
            f"capacity:{name}",
            "resources",
            f"{after:g} instead of {before:g} of {what}",
            f"tasks waited {words(waited[name] / len(blames))} a run for {what}{cost}",
            gains,
            effort="trivial" if name == RUNNER else "hard",
            patch=patch,
            data={"cost": price * step[name] * hours},
        )


def _resource_waits(run: Past) -> Iterator[tuple[int, str, float]]:
    """(node, resource, seconds) of all waits for resources, the planned ones among them."""
    for i in np.flatnonzero(run.queue > SAME).tolist():
        yield i, run.resource[i], float(run.queue[i])
    order = run.arcs[run.dependencies :]
    ready = arrivals(run.planned_arcs, run.finishes)
    waited = run.finishes[order.tail] - ready[order.head]
    both = run.demands[order.head] * (run.demands[order.tail] > 0)
    for k in np.flatnonzero((waited > SAME) & both.any(axis=1)).tolist():
        yield (
            int(order.head[k]), run.names[int(np.argmax(both[k] / run.capacities))],
            float(waited[k]),
        )  # fmt: skip


def demands(blames: Sequence[Blame], plan: Plan, budget: Budget) -> Iterator[Recommendation]:
    """Less of a resource for tasks that never used what was planned for them."""
    used: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in blames:
        for record in one.past.run.tasks:
            for name, amount in record.resources_used.items():
                if record.resources_planned.get(name, 0.0) > 0:
                    used[record.task_id, name].append(float(amount))
    known = set(plan.task_ids)
    largest = {
        key: max(amounts)
        for key, amounts in used.items()
        if key[1] in plan.resources and key[0] in known
    }
    by_task: dict[str, dict[str, float]] = defaultdict(dict)
    for (task, name), most in largest.items():
        planned = plan.get_task(task).resources.get(name, 0.0)
        if planned > 0 and 0 < most < WASTE * planned - ROOM:
            by_task[task][name] = _plain(_rounded_up(most))
    for task, wanted in by_task.items():
        samples = min(len(used[task, name]) for name in wanted)
        gains = (
            gains_of(blames, budget, demands={task: wanted})
            if budget.allows("demands", blames)
            else None
        )
        told = ", ".join(
            f"{amount:g} instead of {plan.get_task(task).resources[name]:g} {name}"
            for name, amount in wanted.items()
        )
        freed = max(1 - a / plan.get_task(task).resources[n] for n, a in wanted.items())
        found = measured(
            f"demand:{task}",
            "resources",
            f"Plan {task} with {told}",
            f"it never used more, in {samples} attempts",
            gains or Gains(seconds=(), lengths=()),
            effort="trivial",
            tasks=(task,),
            patch={"tasks": {task: {"resources": {**plan.get_task(task).resources, **wanted}}}},
        )
        text = f"{percent(freed)} less resources for {task}"
        if found.benefit is not None and gains is not None and gains.share >= WORTH:
            text += f", {found.potential_benefit}"
        # The largest of n uses is not passed by the next with probability n / (n + 1).
        sure = samples / (samples + 1) if samples > 1 else None
        yield replace(found, potential_benefit=text, confidence=sure, samples=samples)


def _rounded_up(amount: float) -> float:
    """To two significant digits, never below."""
    digits = 1 - int(np.floor(np.log10(amount)))
    factor = 10.0**digits
    return float(np.ceil(amount * factor - ROOM) / factor)


def _plain(amount: float) -> float | int:
    return int(amount) if float(amount).is_integer() else amount
