"""What slowed runs down: contention, dependencies, blockers, estimates, in shares that add up.

Of one run each share is its part of the delay, from `blame`; over several runs the
mean. Where something made up for part of a delay it stands there too, with less
than nothing: otherwise the shares could not add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import numpy as np

from athena_prefect.learning.blame import DUST, Blame, blame
from athena_prefect.learning.past import SAME, UNKNOWN, Past, past
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import Bottleneck
from athena_prefect.plan.units import format_duration
from athena_prefect.schedule.problem import RUNNER

LEAST_SHARE = 0.01
"""Share of all delays below which single tasks are told of together: nobody reads 10,000 lines."""


class BottleneckType(StrEnum):
    """What slows a plan down."""

    RESOURCE = "resource"
    """Tasks waited for a slot or a resource."""
    DEPENDENCY = "dependency"
    """A task waited for a late one that it could have gone without."""
    EXTERNAL = "external"
    """Something outside: failed attempts, waits that neither plan nor resources explain."""
    ESTIMATION = "estimation"
    """A task took another time than was planned for it."""


@dataclass(slots=True)
class _Part:
    """What one cause did in one run, or in several."""

    seconds: float = 0.0
    tasks: dict[str, None] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    waited: float = 0.0
    """Seconds that its tasks waited in all, whether or not that delayed the run."""


_Key = tuple[BottleneckType, str]


def bottlenecks(runs: Iterable[RunRecord]) -> tuple[Bottleneck, ...]:
    """What slowed `runs` down, the most of it first; a run of which nothing is known is left out.

    The shares are of the delays of all runs together; they are None where the runs
    were not late, which what slowed them down was made up for then.
    """
    found = [b for run in runs if (p := past(run)) is not None for b in [blame(p)]]
    return of_blames(found)


def of_blames(found: Sequence[Blame]) -> tuple[Bottleneck, ...]:
    """The bottlenecks of runs whose delays have been put down already."""
    parts: dict[_Key, _Part] = defaultdict(_Part)
    for one in found:
        _collect(one, parts)
    delay = sum(b.delay for b in found)
    if not found or not parts:
        return ()
    told = _gathered(parts, sum(abs(p.seconds) for p in parts.values()))
    inferred = any(b.past.inferred for b in found)
    ranked = sorted(told.items(), key=lambda item: (-item[1].seconds, item[0]))
    return tuple(
        _bottleneck(key, part, delay=delay, blames=found, inferred=inferred) for key, part in ranked
    )


def _collect(one: Blame, parts: dict[_Key, _Part]) -> None:
    run = one.past.run.run
    for key, task, seconds, waited in _pieces(one):
        if abs(seconds) <= DUST:
            continue
        part = parts[key]
        part.seconds += seconds
        part.waited += waited
        part.tasks.setdefault(task)
        part.runs.add(run)


def _pieces(one: Blame) -> Iterator[tuple[_Key, str, float, float]]:
    """(cause, task, seconds of the delay, seconds waited) of each node and soft arc."""
    the_past = one.past
    moved = np.flatnonzero(
        (np.abs(one.duration) > 0) | (np.abs(one.queue) > 0) | (np.abs(one.hold) > 0)
        | (np.abs(one.retries) > 0) | (np.abs(one.cut) > 0)
    )  # fmt: skip
    for i in moved.tolist():
        task = the_past.tasks[i]
        yield (BottleneckType.ESTIMATION, task), task, float(one.duration[i]), 0.0
        resource = the_past.resource[i]
        queue = float(one.queue[i])
        if resource:
            yield (BottleneckType.RESOURCE, resource), task, queue, float(the_past.queue[i])
        else:
            yield (BottleneckType.EXTERNAL, STARTING), task, queue, float(the_past.queue[i])
        hold = (
            (BottleneckType.EXTERNAL, f"hold {task}")
            if the_past.hold[i] > SAME
            else (BottleneckType.EXTERNAL, STARTING)
        )
        yield hold, task, float(one.hold[i]), float(the_past.hold[i])
        failed = (BottleneckType.EXTERNAL, f"failures {task}")
        yield failed, task, float(one.retries[i]), float(the_past.retries[i])
        yield (BottleneckType.DEPENDENCY, f"cut {task}"), task, float(one.cut[i]), 0.0
    for arc, seconds in one.soft.items():
        before, after = the_past.tasks[arc.tail], the_past.tasks[arc.head]
        yield (BottleneckType.DEPENDENCY, f"{before} -> {after}"), after, seconds, seconds


STARTING = "starting"
"""Waits shorter than a second: what starting a task takes."""
REST = "the rest"


def _gathered(parts: dict[_Key, _Part], total: float) -> dict[_Key, _Part]:
    """The parts, with small ones of a type as one."""
    told: dict[_Key, _Part] = {}
    for key, part in parts.items():
        small = abs(part.seconds) < LEAST_SHARE * total
        into = told.setdefault((key[0], REST), _Part()) if small else None
        if into is None:
            told[key] = part
            continue
        into.seconds += part.seconds
        into.waited += part.waited
        into.tasks.update(part.tasks)
        into.runs |= part.runs
    return {key: part for key, part in told.items() if abs(part.seconds) > DUST}


def _bottleneck(
    key: _Key, part: _Part, *, delay: float, blames: Sequence[Blame], inferred: bool
) -> Bottleneck:
    kind, subject = key
    mean = part.seconds / len(blames)
    share = part.seconds / delay if delay > DUST else None
    description, cause, mitigation = _words(kind, subject, part, mean, blames)
    if inferred:
        cause += "; the plan is not known, so that what waits for what was taken from its times"
    one = blames[0].past.run.run if len(blames) == 1 else ""
    return Bottleneck(
        bottleneck_id=f"{kind}:{subject}",
        type=str(kind),
        description=description,
        impact_duration=timedelta(seconds=round(mean, 6)),
        affected_tasks=tuple(part.tasks),
        root_cause=cause,
        mitigation=mitigation,
        share=share,
        run=one,
        samples=len(part.runs),
        data={
            "subject": subject,
            "runs": len(blames),
            "waited": part.waited / len(blames),
            "delay": delay / len(blames),
        },
    )


def _words(
    kind: BottleneckType, subject: str, part: _Part, mean: float, blames: Sequence[Blame]
) -> tuple[str, str, str]:
    """Description, root cause and mitigation."""
    span, side = words(abs(mean)), "delayed the finish by" if mean > 0 else "made up"
    per_run = "" if len(blames) == 1 else " a run"
    many = f"{len(part.tasks)} task{'s' if len(part.tasks) != 1 else ''}"
    if subject == REST:
        description = f"{many}, none of them much: {side} {span}{per_run} together"
        return description, f"small {kind} delays", "none: no single task is worth a change"
    match kind:
        case BottleneckType.ESTIMATION:
            planned, actual = _durations(subject, blames)
            longer = "longer" if mean > 0 else "less"
            took = f"took {words(abs(actual - planned))} {longer} than planned"
            return (
                f"{subject} {took} and {side} {span}{per_run}",
                f"its estimate is {words(planned)}, it took {words(actual)}",
                f"plan {subject} with {words(actual)}"
                if mean > 0
                else "its estimate could be less",
            )
        case BottleneckType.RESOURCE:
            what = _resource(subject)
            waited = words(part.waited / len(blames))
            return (
                f"{many if len(part.tasks) > 1 else next(iter(part.tasks))} waited for {what} "
                f"and {side} {span}{per_run}",
                (
                    f"{what} was taken: the tasks that were ready waited "
                    if subject != UNKNOWN
                    else "they were ready and did not start, though the plan's resources were "
                    "free: something else held them for "
                )
                + f"{waited}{per_run} in all",
                f"more of {what}, or tasks that take less of it"
                if subject != UNKNOWN
                else "look at what else uses the machine",
            )
        case BottleneckType.DEPENDENCY if subject.startswith("cut "):
            task = subject.removeprefix("cut ")
            return (
                f"{task} did not wait for what the plan has it wait for and {side} {span}{per_run}",
                "a soft dependency was dropped",
                f"leave the soft dependency of {task} out of the plan",
            )
        case BottleneckType.DEPENDENCY:
            before, _, after = subject.partition(" -> ")
            return (
                f"{after} waited for {before}, which was late, and {side} {span}{per_run}",
                f"{after} depends softly on {before}: the plan lets it run without",
                f"drop the soft dependency of {after} on {before}",
            )
        case BottleneckType.EXTERNAL:
            return _external(subject, part, f"{side} {span}{per_run}")


def _external(subject: str, part: _Part, effect: str) -> tuple[str, str, str]:
    if subject == STARTING:
        return (
            f"starting {len(part.tasks)} tasks {effect}",
            "each task starts a moment after it could",
            "fewer and longer tasks",
        )
    what, _, task = subject.partition(" ")
    if what == "failures":
        return (
            f"failed attempts at {task} {effect}",
            f"{task} succeeded only after an earlier attempt had failed",
            f"check what {task} needs before it starts",
        )
    return (
        f"{task} was held back and {effect}",
        f"{task} was not ready when all that it depends on had ended: an assumption, a pause, "
        "or something that the plan does not have",
        f"look at what {task} waited for, and add it to the plan",
    )


def _durations(task: str, blames: Sequence[Blame]) -> tuple[float, float]:
    """Mean planned and actual seconds of a task's longest item, over the runs."""
    planned, actual = [], []
    for one in blames:
        nodes = one.past.nodes_of.get(task)
        if nodes:
            node = max(nodes, key=lambda i: one.past.actual[i])
            planned.append(float(one.past.planned[node]))
            actual.append(float(one.past.actual[node]))
    return float(np.mean(planned)), float(np.mean(actual))


def _resource(name: str) -> str:
    if name == RUNNER:
        return "the runner's slots"
    return "a slot" if name == UNKNOWN else name


def words(seconds: float) -> str:
    """Seconds as people write them."""
    return format_duration(
        timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    )


__all__ = ["BottleneckType", "Past", "bottlenecks", "of_blames", "words"]
