"""What the run is for is still reached: goals, inputs, nothing that cannot run."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.findings import Flaw, Objection, against
from athena_prefect.schedule.verification.reading import Reading


def goals(reading: Reading) -> Iterator[Objection]:
    """Everything that a goal needs is done."""
    out = set(reading.claim.left_out)
    for name in sorted(reading.claim.original.required):
        if name not in reading.over and (name not in reading.tasks or name in out):
            yield against(Flaw.GOAL, f"{name}, which a goal needs, is not done", name)


def inputs(reading: Reading) -> Iterator[Objection]:
    """Every result that is taken will be there."""
    out = set(reading.claim.left_out)
    lost = out - reading.over
    for task in reading.tasks.values():
        if task.id in out or task.id in reading.began:
            continue
        if task.when is not None and task.when.task in lost:
            yield against(
                Flaw.INPUT,
                f"{task.id} runs only where {task.when.task} says so, which will not run",
                task.id,
                task.when.task,
            )
        for argument, source in task.inputs.items():
            if source in lost:
                yield against(
                    Flaw.INPUT,
                    f"{task.id} takes {argument} from {source}, which will not run",
                    task.id,
                    source,
                )


def blocked(reading: Reading) -> Iterator[Objection]:
    """Nothing is planned that an assumption keeps from running."""
    stuck = set(reading.claim.blocked) - reading.began
    for name in sorted(stuck):
        if name in reading.items_of:
            yield against(Flaw.BLOCKED, f"{name} cannot run: its assumption fails", name)
    for task in reading.tasks.values():
        if task.id not in reading.items_of or task.id in reading.began:
            continue
        for name in stuck.intersection(d.task for d in task.depends_on if d.hard):
            yield against(
                Flaw.BLOCKED,
                f"{task.id} cannot run: it waits for {name}, whose assumption fails",
                task.id,
                name,
            )
