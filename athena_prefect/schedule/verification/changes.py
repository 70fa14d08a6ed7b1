"""A revision changes of the plan what a revision of a run may, and nothing else.

It may leave out optional tasks, cut soft dependencies, give other time-outs and capacities,
and make relaxed criteria the criteria. All else is as the plan says.
"""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.plan.model import PlanTask
from athena_prefect.schedule.verification.findings import Flaw, Objection, against
from athena_prefect.schedule.verification.reading import Reading

MAY_DIFFER = frozenset({"depends_on", "timeout", "success_criteria"})
"""Fields of a task that are looked at by themselves."""


def changed(reading: Reading) -> Iterator[Objection]:
    """What a revision changes that it may not; work that has begun is looked at elsewhere."""
    then = {t.id: t for t in reading.claim.original.tasks}
    for name, task in then.items():
        now = reading.tasks.get(name)
        if name in reading.began or now is task:
            continue
        if now is not None:
            yield from _edited(reading, task, now)
        elif not task.optional:
            yield against(Flaw.EDITED, f"{name} is left out, but is not optional", name)
    for name in reading.tasks.keys() - then.keys():
        yield against(Flaw.EDITED, f"{name} is a task that the plan does not have", name)
    for name in reading.claim.original.resources.keys() - reading.plan.resources.keys():
        yield against(Flaw.EDITED, f"the plan has {name}, and the revision does not")


def _edited(reading: Reading, then: PlanTask, now: PlanTask) -> Iterator[Objection]:
    own = [f for f in type(then).model_fields if f not in MAY_DIFFER]
    other = [f.rstrip("_") for f in own if getattr(then, f) != getattr(now, f)]
    if other:
        words = ", ".join(other)
        yield against(Flaw.EDITED, f"{then.id} has another {words} than in the plan", then.id)
    lags = dict(reading.waits(now))
    hard = {*then.inputs.values(), *([then.when.task] if then.when else [])}
    for arc in then.depends_on:
        kept = lags.get(arc.task)
        if kept is None and arc.task in reading.tasks and (arc.hard or arc.task in hard):
            yield against(
                Flaw.EDITED,
                f"{then.id} no longer waits for {arc.task}, which is a hard dependency",
                then.id,
                arc.task,
            )
        elif kept is not None and kept != arc.lag.total_seconds():
            yield against(
                Flaw.EDITED,
                f"{then.id} waits for {arc.task} with another lag than in the plan",
                then.id,
                arc.task,
            )
    criteria = now.success_criteria
    if criteria != then.success_criteria and not _relaxed(then, now):
        yield against(Flaw.EDITED, f"{then.id} has success criteria of its own making", then.id)


def _relaxed(then: PlanTask, now: PlanTask) -> bool:
    """Whether the relaxed criteria are the criteria now, beside those they say nothing of."""
    before, after = then.success_criteria, now.success_criteria
    if before is None or after is None or before.relaxed is None or after.relaxed is not None:
        return False
    return dict(after.fields) == {**before.fields, **before.relaxed}


def pinned(reading: Reading) -> Iterator[Objection]:
    """What somebody wants left as it is stays so: mode, dependencies, time-out, criteria."""
    for name, mode in reading.claim.pinned.items():
        if name in reading.began:
            continue
        then, now = reading.claim.original.get_task(name), reading.tasks.get(name)
        different = []
        if now is None:
            different.append("is left out")
        else:
            if name not in reading.claim.again and reading.mode(name) != mode:
                different.append(f"is in mode {reading.mode(name)} instead of {mode}")
            waits = dict(reading.waits(now))
            cut = [
                d.task for d in then.depends_on if d.task in reading.tasks and d.task not in waits
            ]
            different += [f"no longer waits for {other}" for other in cut]
            if now.timeout != then.timeout:
                different.append("has another time-out")
            if now.success_criteria != then.success_criteria:
                different.append("has other success criteria")
        for words in different:
            yield against(Flaw.EDITED, f"{name} is to stay as it is, but {words}", name)
