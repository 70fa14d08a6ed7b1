"""What one revision of a plan changed from another: as data and in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import Any

from athena_prefect.plan.model import DEFAULT_MODE, Assumption, Plan, PlanTask, SuccessCriteria
from athena_prefect.plan.terms import Resource
from athena_prefect.plan.units import format_duration


class ChangeKind(StrEnum):
    """What was changed."""

    MODE = "mode"
    DEPENDENCY = "dependency"
    """A soft dependency was cut; `before` names the task that was waited for."""
    DROPPED = "dropped"
    CRITERIA = "criteria"
    """Other success criteria; `after` is ``relaxed`` where the relaxed ones became the criteria."""
    TIMEOUT = "timeout"
    """Another time-out; seconds."""
    CAPACITY = "capacity"
    """`subject` is the resource."""
    AGAIN = "again"
    """A failed task is done again; `after` is the mode."""
    ADDED = "added"
    EDITED = "edited"
    """Fields of a task differ; `after` names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a revision does differently."""

    kind: ChangeKind
    subject: str
    """The task, or the resource."""
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        match self.kind:
            case ChangeKind.MODE:
                return f"{self.subject} in mode {self.after} instead of {self.before}"
            case ChangeKind.DEPENDENCY:
                return f"{self.subject} no longer waits for {self.before}"
            case ChangeKind.DROPPED:
                return f"{self.subject} is left out"
            case ChangeKind.CRITERIA:
                return f"{self.subject}: {self.after or 'other'} success criteria"
            case ChangeKind.TIMEOUT:
                before, after = (_span(s) for s in (self.before, self.after))
                return f"{self.subject} may take {after} instead of {before}"
            case ChangeKind.CAPACITY:
                return f"{self.subject}: {self.after:g} instead of {self.before:g}"
            case ChangeKind.AGAIN:
                return f"{self.subject} is done again in mode {self.after}"
            case ChangeKind.ADDED:
                return f"{self.subject} is new"
            case ChangeKind.EDITED:
                return f"{self.subject}: other {', '.join(self.after)}"

    def as_dict(self) -> dict[str, Any]:
        """The change as JSON-able data."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"words": str(self)}


def _span(seconds: float | None) -> str:
    return "any time" if seconds is None else format_duration(timedelta(seconds=seconds))


def revised(
    plan: Plan,
    *,
    dropped: Collection[str] = (),
    cut: Collection[tuple[str, str]] = (),
    capacities: Mapping[str, float] | None = None,
    timeouts: Mapping[str, float] | None = None,
    relaxed: Collection[str] = (),
) -> Plan:
    """`plan` without the dropped tasks and the cut dependencies (before, after).

    With the capacities and, in seconds, the time-outs given; the `relaxed` tasks have their
    relaxed criteria for criteria. Not validated as documents are, which takes as long as
    solving: a revision is verified with its schedule.
    """
    gone, cuts = frozenset(dropped), frozenset(cut)
    touched = {after for _, after in cuts}
    tasks = tuple(
        _without(task, gone, cuts)
        if task.id in touched or (gone and any(d.task in gone for d in task.depends_on))
        else task
        for task in plan.tasks
        if task.id not in gone
    )
    if timeouts or relaxed:
        tasks = tuple(_loosened(t, (timeouts or {}).get(t.id), t.id in relaxed) for t in tasks)
    resources = {
        name: _with_capacity(resource, amount)
        for name, resource in plan.resources.items()
        if (amount := (capacities or {}).get(name)) is not None
    }
    return _copied(
        plan,
        tasks=tasks,
        goals=tuple(g for g in plan.goals if g not in gone),
        resources={**plan.resources, **resources},
        assumptions=tuple(_reaching(a, gone, tasks) for a in plan.assumptions),
    )


def _copied(plan: Plan, **changes: Any) -> Plan:
    result = plan.model_copy(update=changes)
    # The copy's caches must not answer with the old plan's tasks.
    for name in ("_tasks_by_id", "required"):
        result.__dict__.pop(name, None)
    result._source = plan.source
    return result


def _with_capacity(resource: Resource, amount: float) -> Resource:
    most = resource.max_capacity
    most = None if most is None else max(most, amount)
    return resource.model_copy(update={"capacity": amount, "max_capacity": most})


def _without(task: PlanTask, gone: frozenset[str], cuts: frozenset[tuple[str, str]]) -> PlanTask:
    kept = tuple(d for d in task.depends_on if d.task not in gone and (d.task, task.id) not in cuts)
    return task.model_copy(update={"depends_on": kept})


def _loosened(task: PlanTask, timeout: float | None, relax: bool) -> PlanTask:
    """The task with another time-out, and its relaxed criteria for its criteria."""
    changes: dict[str, Any] = {}
    if timeout is not None and task.timeout is not None:
        changes["timeout"] = timedelta(seconds=timeout)
    if relax and task.success_criteria is not None:
        changes["success_criteria"] = relaxed_criteria(task.success_criteria)
    return task.model_copy(update=changes) if changes else task


def relaxed_criteria(criteria: SuccessCriteria) -> SuccessCriteria:
    """Criteria that are met by what met only the relaxed ones."""
    if criteria.relaxed is None:
        return criteria
    return SuccessCriteria(fields={**criteria.fields, **criteria.relaxed})


def _reaching(
    assumption: Assumption, gone: frozenset[str], left: tuple[PlanTask, ...]
) -> Assumption:
    """The assumption without what it says of tasks that are gone.

    An effect needs tasks that it is on: that on a capacity then stands with those
    that take the resource, any other has nothing left to be on.
    """
    if gone.isdisjoint(assumption.affects) and not any(
        {m.before, m.after} & gone for m in assumption.milestones
    ):
        return assumption
    affects = tuple(t for t in assumption.affects if t not in gone)
    effect = assumption.effect
    if not affects and effect is not None:
        scarce = set(effect.capacity or ())
        affects = tuple(t.id for t in left if scarce & t.resources.keys())
        effect = effect if affects else None
    milestones = tuple(m for m in assumption.milestones if not {m.before, m.after} & gone)
    return assumption.model_copy(
        update={"affects": affects, "effect": effect, "milestones": milestones}
    )


def in_modes(plan: Plan, modes: Mapping[str, str]) -> Plan:
    """`plan` with each task in its mode: what the mode says is what the task itself says.

    The mode stays declared, since an assumption's effect may name it.
    """
    tasks = []
    for task in plan.tasks:
        name = modes.get(task.id, DEFAULT_MODE)
        if name == DEFAULT_MODE:
            tasks.append(task)
            continue
        chosen = task.mode(name)
        own = ("call", "deployment", "with_", "duration", "resources")
        tasks.append(task.model_copy(update={field: getattr(chosen, field) for field in own}))
    return _copied(plan, tasks=tuple(tasks))


def changes_between(
    old: Plan,
    new: Plan,
    *,
    old_modes: Mapping[str, str] | None = None,
    new_modes: Mapping[str, str] | None = None,
) -> tuple[Change, ...]:
    """What `new` does differently from `old`, in the order of the old plan's tasks."""
    return tuple(_changes(old, new, old_modes or {}, new_modes or {}))


def _changes(
    old: Plan, new: Plan, old_modes: Mapping[str, str], new_modes: Mapping[str, str]
) -> Iterator[Change]:
    there = set(new.task_ids)
    for task in old.tasks:
        if task.id not in there:
            yield Change(kind=ChangeKind.DROPPED, subject=task.id)
            continue
        other = new.get_task(task.id)
        before, after = (m.get(task.id, DEFAULT_MODE) for m in (old_modes, new_modes))
        if before != after:
            yield Change(kind=ChangeKind.MODE, subject=task.id, before=before, after=after)
        # A task that a revision does not touch is the same object.
        if other is not task:
            yield from _task_changes(task, other, there)
    known = set(old.task_ids)
    for name in new.task_ids:
        if name not in known:
            yield Change(kind=ChangeKind.ADDED, subject=name)
    for name, resource in old.resources.items():
        other_resource = new.resources.get(name)
        if other_resource is not None and other_resource.capacity != resource.capacity:
            yield Change(
                kind=ChangeKind.CAPACITY,
                subject=name,
                before=resource.capacity,
                after=other_resource.capacity,
            )


def _task_changes(task: PlanTask, other: PlanTask, there: set[str]) -> Iterator[Change]:
    waits = {d.task for d in other.upstream}
    for arc in task.upstream:
        if arc.task not in waits and arc.task in there:
            yield Change(kind=ChangeKind.DEPENDENCY, subject=task.id, before=arc.task)
    criteria = task.success_criteria
    if other.success_criteria != criteria:
        eased = criteria is not None and other.success_criteria == relaxed_criteria(criteria)
        after = "relaxed" if eased else None
        yield Change(kind=ChangeKind.CRITERIA, subject=task.id, after=after)
    if other.timeout != task.timeout:
        before, limit = (t and t.total_seconds() for t in (task.timeout, other.timeout))
        yield Change(kind=ChangeKind.TIMEOUT, subject=task.id, before=before, after=limit)
    own = {"depends_on", "success_criteria", "timeout"}
    edited = [
        name
        for name in type(task).model_fields
        if name not in own and getattr(task, name) != getattr(other, name)
    ]
    if edited:
        yield Change(kind=ChangeKind.EDITED, subject=task.id, after=tuple(edited))
