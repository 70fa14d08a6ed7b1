"""What tasks wait for, or fail beside, without the plan saying so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import Budget, gains_of
from athena_prefect.learning.past import Past
from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.model import Plan


def hidden(blames: Sequence[Blame], plan: Plan, budget: Budget) -> Iterator[Recommendation]:
    """Tasks that each time waited until another ended that they do not depend on.

    The benefit is that of replays with the dependency: mostly none, since they waited
    anyway; what it gains is a plan that says so.
    """
    met: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[str, int] = defaultdict(int)
    for one in blames:
        run = one.past
        ends = run.finishes
        waits = np.flatnonzero(run.hold > SAME)
        order = np.argsort(ends, kind="stable") if len(waits) else waits
        sorted_ends = ends[order]
        for i in waits.tolist():
            began = float(ends[i] - run.actual[i] - run.retries[i] - run.queue[i])
            held[run.tasks[i]] += 1
            low, high = np.searchsorted(sorted_ends, [began - SAME, began + EXACT_END])
            others = {run.tasks[j] for j in order[low:high].tolist() if run.actual[j] > 0}
            for other in others - {run.tasks[i]}:
                met[other, run.tasks[i]].append(float(run.hold[i]))
    known = set(plan.task_ids)
    for (before, after), waits_ in met.items():
        if len(waits_) < 2 or len(waits_) < held[after]:
            continue
        if before not in known or after not in known or _waits_already(plan, before, after):
            continue
        task = plan.get_task(after)
        kept = [d.model_dump(mode="json", exclude_defaults=True) for d in task.depends_on]
        mean = float(np.mean(waits_))
        gains = None
        if budget.allows("hidden", blames):
            gains = gains_of(blames, budget, change=lambda run, b=before, a=after: _with(run, b, a))  # type: ignore[misc]
        yield Recommendation(
            recommendation_id=f"depend:{before}->{after}",
            area="dependencies",
            suggestion=f"Let {after} depend on {before}",
            rationale=(
                f"{after} began when {before} ended, {words(mean)} after all that it depends "
                f"on, each of the {len(waits_)} times that it was held back"
            ),
            potential_benefit=f"{words(mean)} of waiting is planned instead of a surprise",
            implementation_effort="moderate",
            confidence=(len(waits_) + 0.5) / (len(waits_) + 1.0),
            benefit=None if gains is None else timedelta(seconds=round(gains.mean, 6)),
            samples=len(waits_),
            affected_tasks=(before, after),
            patch={"tasks": {after: {"depends_on": [*kept, {"task": before}]}}},
            data={"waited": mean},
        )


def _with(run: Past, before: str, after: str) -> Mapping[str, Any]:
    there = before in run.nodes_of and after in run.nodes_of
    return {"further": ((before, after),) if there else ()}


EXACT_END = 0.1
"""Seconds by which a task may be told to have started before the other's end was written down."""


def _waits_already(plan: Plan, before: str, after: str) -> bool:
    """Whether there is a way between the two tasks, in either direction."""
    for start, goal in ((before, after), (after, before)):
        seen, todo = {goal}, [goal]
        while todo:
            for d in plan.get_task(todo.pop()).upstream:
                if d.task == start:
                    return True
                if d.task not in seen:
                    seen.add(d.task)
                    todo.append(d.task)
    return False
