"""A second reckoning of whether a revision can be carried out, written for tests alone.

Moment by moment and item by item, without a thought for time: what it says is what the
checker has to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import isfinite
from typing import TypeVar

from athena_prefect.plan.model import DEFAULT_MODE, PlanTask
from athena_prefect.schedule.verification import Claim, Item

T = TypeVar("T", str, Item)

SECOND = timedelta(seconds=1)
SLACK = 3e-6
"""Seconds by which it lets times be off."""
ROUNDING = 1e-8
"""Share of a capacity by which it lets sums be off."""


def can_be_carried_out(claim: Claim) -> bool:
    """Whether it can, late or not: reckoned moment by moment."""
    tasks = {t.id: t for t in claim.plan.tasks}
    if any(d.task not in tasks for t in tasks.values() for d in t.upstream):
        return False
    free = [i for i in claim.spans if i not in claim.begun and (i[0], None) not in claim.begun]
    return (
        all(isfinite(a) and isfinite(b) for a, b in claim.spans.values())
        and all(_as_the_plan_says(claim, t.id) for t in claim.original.tasks)
        and {t.id for t in claim.original.tasks} >= tasks.keys()
        and _all_resources_there(claim, tasks)
        and not any(i[0] in claim.left_out for i in free)
        and all(_handed_on(claim, a, b) for a, b in claim.arcs if b in free)
        and _in_some_order(tasks, claim)
        and all(i[0] in tasks for i in claim.spans)
        and all(claim.modes.get(t, DEFAULT_MODE) in tasks[t].mode_names for t in tasks)
        and all(
            claim.spans.get(i) == s
            for i, s in claim.begun.items()
            if i[0] in tasks or i[0] not in claim.again
        )
        and all(_placed(claim, task) for task in tasks.values())
        and all(_goal_met(claim, tasks, name) for name in claim.original.required)
        and all(_right(claim, tasks, item) for item in free)
        and all(
            _enough(claim, tasks, claim.spans[i][0])
            for i in free
            if claim.spans[i][1] > claim.spans[i][0]
        )
    )


def _in_some_order(tasks: dict[str, PlanTask], claim: Claim) -> bool:
    """Whether all can be put in a row: by the plan, and by who hands on units to whom."""
    items: dict[str, list[Item]] = {t: [] for t in tasks}
    for item in claim.spans:
        items.setdefault(item[0], []).append(item)
    before: dict[Item, set[Item]] = {i: set() for i in claim.spans}
    for item in before:
        if item not in claim.begun and item[0] in tasks:
            for arc in tasks[item[0]].upstream:
                before[item] |= set(items[arc.task])
    for one, other in claim.arcs:
        if other not in claim.begun and other in before and one in before:
            before[other].add(one)
    by_plan = {t: {d.task for d in task.upstream} for t, task in tasks.items()}
    return _sortable(before) and _sortable(by_plan)


def _sortable(before: Mapping[T, set[T]]) -> bool:
    left = dict(before)
    while left:
        ready = [k for k, v in left.items() if not v & left.keys()]
        if not ready:
            return False
        for k in ready:
            del left[k]
    return True


def _placed(claim: Claim, task: PlanTask) -> bool:
    """Whether each item of a task that is to run is there, and no other."""
    own = {i for i in claim.spans if i[0] == task.id}
    if task.id in claim.left_out:
        return True
    if task.map_over is None or (task.id, None) in claim.begun:
        return (task.id, None) in own and own - {(task.id, None)} <= claim.begun.keys()
    wanted = {(task.id, k) for k in range(claim.items.get(task.id, task.expected_items))}
    return wanted <= own and own - wanted <= claim.begun.keys()


def _goal_met(claim: Claim, tasks: dict[str, PlanTask], name: str) -> bool:
    own = [i for i in claim.spans if i[0] == name]
    done = (name, None) in claim.over or (bool(own) and all(i in claim.over for i in own))
    return done or (name in tasks and name not in claim.left_out)


def _right(claim: Claim, tasks: dict[str, PlanTask], item: Item) -> bool:
    """Whether something that is still to begin begins and ends as it can."""
    task, (start, end) = tasks[item[0]], claim.spans[item]
    mode = claim.modes.get(task.id, DEFAULT_MODE)
    bound = {i[0] for i in claim.begun} - set(claim.again)
    begun = task.id in bound
    known = claim.estimates.get(task.id) if mode == DEFAULT_MODE else None
    estimate = known or task.mode(mode).estimate
    if estimate is None or start < claim.now - SLACK or task.id in set(claim.blocked) - bound:
        return False
    three = (estimate.optimistic, 4 * estimate.likely, estimate.pessimistic)
    mean = sum((d.total_seconds() for d in three), 0.0) / 6 * claim.factors.get(task.id, 1.0)
    if abs(end - start - mean) > SLACK:
        return False
    if not begun and claim.only_mode.get(task.id, mode) != mode:
        return False
    if not begun and mode in claim.barred.get(task.id, ()):
        return False
    given = claim.original.get_task(task.id).timeout
    if not begun and task.timeout not in (None, given) and end - start > task.timeout / SECOND:
        return False
    for arc in task.upstream:
        lag = arc.lag / SECOND
        ends = [s[1] for i, s in claim.spans.items() if i[0] == arc.task]
        if any(start < e + lag - SLACK for e in ends):
            return False
    takes = {*task.inputs.values(), *([task.when.task] if task.when else [])}
    stuck = set(claim.blocked) - bound
    if not begun and any(d.task in stuck for d in task.depends_on if d.hard):
        return False
    if task.id not in claim.only_mode and mode not in claim.again.get(task.id, (mode,)):
        return False
    gone = set(claim.left_out) - _all_over(claim)
    return task.id in claim.left_out or begun or not takes & gone


def _all_over(claim: Claim) -> set[str]:
    """Tasks all of which is over."""
    names = {i[0] for i in claim.over}
    return {
        n
        for n in names
        if (n, None) in claim.over or all(i in claim.over for i in claim.spans if i[0] == n)
    }


def _enough(claim: Claim, tasks: dict[str, PlanTask], start: float) -> bool:
    """Whether just after `start` no more is in use than there is."""
    at = start + SLACK / 2
    runs = [
        i for i, (s, e) in claim.spans.items() if s <= at and e > at + SLACK / 2 and i[0] in tasks
    ]
    have = {n: r.capacity for n, r in claim.plan.resources.items()} | dict(claim.capacities)
    if len(runs) > min(claim.plan.runner.max_workers, claim.original.runner.max_workers):
        return False
    for name, capacity in have.items():
        used = 0.0
        for item in runs:
            task = tasks[item[0]]
            mode = claim.modes.get(task.id, DEFAULT_MODE)
            used += task.mode(mode).resources.get(name, 0.0)
        if used > capacity + ROUNDING * max(1.0, capacity):
            return False
    return True


def _all_resources_there(claim: Claim, tasks: dict[str, PlanTask]) -> bool:
    taken = {
        name
        for task in tasks.values()
        if claim.modes.get(task.id, DEFAULT_MODE) in task.mode_names
        for name in task.mode(claim.modes.get(task.id, DEFAULT_MODE)).resources
    }
    return taken <= set(claim.plan.resources) and set(claim.original.resources) <= set(
        claim.plan.resources
    )


def _handed_on(claim: Claim, earlier: Item, later: Item) -> bool:
    """Whether what gets units from other work starts when that is over."""
    there = claim.spans.get(earlier)
    return there is None or claim.spans[later][0] >= there[1] - SLACK


def _as_the_plan_says(claim: Claim, name: str) -> bool:
    """Whether nothing of a task is changed but what may be."""
    then = claim.original.get_task(name)
    now = next((t for t in claim.plan.tasks if t.id == name), None)
    if name in {i[0] for i in claim.begun} - set(claim.again):
        mode = claim.begun_in.get(name, DEFAULT_MODE)
        fields = ("call", "deployment", "with_", "inputs", "map_over", "resources")
        return (
            now is not None
            and all(getattr(now, f) == getattr(then, f) for f in fields)
            and claim.modes.get(name, DEFAULT_MODE) == mode
        )
    if now is None:
        return then.optional and name not in claim.pinned
    open_ = {"depends_on", "timeout", "success_criteria"}
    if any(getattr(now, f) != getattr(then, f) for f in PlanTask.model_fields if f not in open_):
        return False
    there = {t.id for t in claim.plan.tasks}
    waits = {d.task: d.lag for d in now.upstream}
    before = {d.task: d for d in then.upstream}
    for other, arc in before.items():
        cut = other not in waits and other in there
        if cut and (arc.hard or name in claim.pinned):
            return False
        if other in waits and waits[other] != arc.lag:
            return False
    if now.success_criteria != then.success_criteria:
        was, is_ = then.success_criteria, now.success_criteria
        if was is None or is_ is None or was.relaxed is None or is_.relaxed is not None:
            return False
        if dict(is_.fields) != {**was.fields, **was.relaxed}:
            return False
    if name not in claim.pinned:
        return True
    return (
        now.timeout == then.timeout
        and now.success_criteria == then.success_criteria
        and (name in claim.again or claim.modes.get(name, DEFAULT_MODE) == claim.pinned[name])
    )
