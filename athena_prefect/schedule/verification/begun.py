"""Work that has begun stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.plan.model import DEFAULT_MODE, PlanTask
from athena_prefect.schedule.verification.claim import MARGIN
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, name_of
from athena_prefect.schedule.verification.reading import Reading


def finished(reading: Reading) -> Iterator[Objection]:
    """Neither its times, nor what it does, nor its mode changes."""
    claim = reading.claim
    for item, span in claim.begun.items():
        if item[0] in claim.again and item[0] not in reading.tasks:
            continue  # left out, with what is done of it
        given = claim.spans.get(item)
        if given is None or any(abs(a - b) > MARGIN for a, b in zip(given, span, strict=True)):
            yield against(
                Flaw.FINISHED, f"{name_of(item)} has begun, and the revision moves it", item[0]
            )
    for name in sorted(reading.began):
        now, then = reading.tasks.get(name), claim.original.get_task(name)
        if now is None or _work_of(now) != _work_of(then):
            yield against(Flaw.FINISHED, f"{name} has begun, and the revision changes it", name)
        mode, other = claim.begun_in.get(name, DEFAULT_MODE), reading.mode(name)
        if mode != other:
            yield against(
                Flaw.FINISHED,
                f"{name} has begun in mode {mode}, and the revision has it in {other}",
                name,
            )


def _work_of(task: PlanTask) -> tuple[object, ...]:
    """What of a task stays as it is once it has begun."""
    return task.call, task.deployment, task.with_, task.inputs, task.map_over, task.resources
