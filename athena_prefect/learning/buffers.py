"""Buffers for tasks that take longer than planned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import ROOM, counted, percent
from athena_prefect.learning.past import Past
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import Recommendation
from athena_prefect.learning.statistics import corrected, group_sums, student_upper
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.plan.model import Plan
from athena_prefect.plan.units import format_duration
from athena_prefect.schedule.passes import forward

SURE = 0.9
"""Confidence from which a change is recommended where it can be computed."""
MOST = 10
"""Tasks that are told of at most: nobody edits a hundred estimates."""


def buffers(
    blames: Sequence[Blame], plan: Plan | None, policy: LearningPolicy
) -> Iterator[Recommendation]:
    """Buffers for tasks that take longer than planned: overrun ÷ utilisation.

    A task that used less of its resources than planned while it took longer would
    have needed that much more time of all of them.
    """
    seen = _overruns(blames)
    if not len(seen.task):
        return
    count = len(seen.names)
    samples = np.maximum(group_sums(seen.task, count), 1)
    over = group_sums(seen.task, count, seen.over) / samples
    buffer = group_sums(seen.task, count, seen.over / seen.utilisation) / samples
    p_values = _p_values(seen, over, policy)
    large = np.flatnonzero(np.minimum(buffer, over) >= policy.least_bias - ROOM).tolist()
    told = 0
    # What delayed the runs most is what a plan gains most by.
    for task in sorted(large, key=lambda t: (-seen.delayed[t], seen.names[t])):
        p, name = p_values[task], seen.names[task]
        # Of one sample only what delayed its run is worth telling: any task may be long once.
        if (np.isnan(p) and seen.delayed[task] <= SAME) or 1 - p < SURE:
            continue
        if told == MOST:
            return
        told += 1
        rows = np.flatnonzero(seen.task == task)
        # No surer than so many runs can make it (Jeffreys' prior).
        most = (len(rows) + 0.5) / (len(rows) + 1.0)
        sure = None if np.isnan(p) else min(1 - float(p), most)
        pasts = [blames[b].past for b in seen.run[rows].tolist()]
        yield _buffer(
            name, float(buffer[task]), seen.over[rows], seen.utilisation[rows], pasts, sure, plan
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overruns:
    """Each task in each run: arrays of shape (samples,)."""

    names: Sequence[str]
    delayed: Floats
    """By task the seconds by which it delayed the runs."""
    task: Ints
    run: Ints
    """Place of the run."""
    over: Floats
    """(actual − estimated) / estimated, over the items of a mapped task."""
    utilisation: Floats


def _overruns(blames: Sequence[Blame]) -> _Overruns:
    place: dict[str, int] = {}
    columns: list[tuple[Ints, Ints, Floats, Floats]] = []
    delays: list[tuple[Ints, Floats]] = []
    for number, one in enumerate(blames):
        run = one.past
        names = run.names_of_tasks
        code = np.array([place.setdefault(n, len(place)) for n in names], dtype=np.int64)
        usable = np.flatnonzero((run.estimated > 0) & (run.actual > 0))
        own = run.codes[usable]
        planned = group_sums(own, len(names), run.estimated[usable])
        actual = group_sums(own, len(names), run.actual[usable])
        told = np.flatnonzero(planned > 0)
        used = np.array([run.utilisation(names[t]) for t in told.tolist()])
        over = actual[told] / planned[told] - 1.0
        columns.append((code[told], np.full(len(told), number), over, used))
        delays.append((code, group_sums(own, len(names), one.duration[usable])))
    delayed = np.zeros(len(place))
    for code, seconds in delays:
        np.add.at(delayed, code, seconds)
    joined = [np.concatenate(c) for c in zip(*columns, strict=True)] or [np.zeros(0)] * 4
    return _Overruns(
        names=tuple(place), delayed=delayed,
        task=joined[0].astype(np.int64), run=joined[1].astype(np.int64),
        over=joined[2], utilisation=joined[3],
    )  # fmt: skip


def _p_values(seen: _Overruns, means: Floats, policy: LearningPolicy) -> Floats:
    """By task P(so much longer by chance), by Student's t, corrected for the tasks that were
    tested; NaN where there is one sample.
    """
    count = len(seen.names)
    samples = group_sums(seen.task, count)
    found = np.full(count, np.nan)
    tested = np.flatnonzero(samples > 1)
    if not len(tested):
        return found
    squares = group_sums(seen.task, count, (seen.over - means[seen.task]) ** 2)[tested]
    n = samples[tested]
    errors = np.sqrt(squares / (n - 1) / n)
    # Without any spread, as in a simulation, t has no end.
    t = np.divide(means[tested], errors, out=np.sign(means[tested]) * 1e9, where=errors > ROOM)
    found[tested] = corrected(student_upper(t, n - 1), policy.correction)
    return found


def _buffer(
    task: str,
    buffer: float,
    over: Floats,
    utilisation: Floats,
    pasts: Sequence[Past],
    confidence: float | None,
    plan: Plan | None,
) -> Recommendation:
    missed = [abs(p.makespan - p.planned_makespan) for p in pasts]
    still = [abs(p.makespan - _planned_with(p, task, buffer)) for p in pasts]
    gain = float(np.mean(missed) - np.mean(still))
    runs = counted(len(pasts))
    used = float(utilisation.mean())
    rationale = f"it took {percent(float(over.mean()))} longer than planned in {runs}"
    if used < 1.0 - ROOM:
        rationale += f" with {percent(used)} of the resources planned for it"
    planned = None if plan is None else plan.get_task(task).estimate
    patch: dict[str, Any] = {}
    if planned is not None:
        patch = {"tasks": {task: {"duration": _scaled(planned, 1.0 + buffer)}}}
    return Recommendation(
        recommendation_id=f"buffer:{task}",
        area="estimation",
        suggestion=f"{percent(buffer)} buffer for {task}",
        rationale=rationale,
        potential_benefit=(
            f"the finish is {words(float(np.mean(still)))} off its plan instead of "
            f"{words(float(np.mean(missed)))}, in {runs} replayed"
        ),
        implementation_effort="trivial",
        confidence=confidence,
        benefit=timedelta(seconds=round(gain, 6)),
        samples=len(pasts),
        affected_tasks=(task,),
        patch=patch,
        data={"buffer": buffer, "overrun": float(over.mean()), "utilisation": used},
    )


def _planned_with(run: Past, task: str, buffer: float) -> float:
    """The planned makespan with a buffer for one task.

    Where only one node of it is longer than planned, all that a longest way can gain
    leads through that node, whose tail is known; else by a pass.
    """
    nodes = np.array(run.nodes_of[task])
    known = nodes[run.estimated[nodes] > 0]
    longer = run.estimated[known] * (1.0 + buffer) - run.planned[known]
    if len(known) == 1 and longer[0] >= 0:
        through = run.planned_finishes[known[0]] + longer[0] + run.planned_tails[known[0]]
        return max(run.planned_makespan, float(through))
    lengths = run.planned.copy()
    lengths[known] += longer
    return float(forward(run.network, run.planned_wait + lengths)[1].max())


def _scaled(estimate: Estimate, factor: float) -> Any:
    """An estimate so many times as long, as a document says it; to the second from 10 s on."""

    def told(length: timedelta) -> str:
        seconds = length.total_seconds() * factor
        return format_duration(timedelta(seconds=round(seconds, 0 if seconds >= 10 else 3)))

    if estimate.certain:
        return told(estimate.likely)
    names = ("optimistic", "likely", "pessimistic")
    return {name: told(getattr(estimate, name)) for name in names}
