"""Planned edges against what tasks really waited for."""

from __future__ import annotations

import numpy as np

from athena_prefect.learning.frame import Codes, Floats, History
from athena_prefect.plan.model import Plan

TOLERANCE = 1.0
"""Seconds between the end of the last upstream task and readiness that are the dispatcher's
own: it looks at least every second."""
SHARE = 0.01
"""The same for long tasks, as a share of their planned duration."""


def dependency_accuracy(history: History) -> tuple[float | None, str]:
    """Share of starts that the planned edges explain; or None and why.

    A first attempt is explained where it was ready (its start less its queue time)
    when the last of its upstream tasks had ended, with its lag. Ready later, it
    waited for something that the plan does not have; ready earlier, an edge did not
    hold it.
    """
    documents = history.documents()
    if not documents:
        return None, "the plans' documents are not known"
    explained = starts = 0
    for plan, document in documents.items():
        code = history.plans.index(plan)
        gap, planned = _gaps(history, code, document)
        allowed = np.maximum(TOLERANCE, SHARE * np.nan_to_num(planned))
        explained += int((np.abs(gap) <= allowed).sum())
        starts += len(gap)
    if not starts:
        return None, "no task with upstream tasks has started"
    return explained / starts, ""


def _gaps(history: History, plan: int, document: Plan) -> tuple[Floats, Floats]:
    """Readiness less the end of the last upstream task, and the planned duration, by start."""
    runs = np.flatnonzero(history.run_plan == plan)
    place = np.full(len(history.runs), -1, dtype=np.int32)
    place[runs] = np.arange(len(runs), dtype=np.int32)
    codes = {history.tasks[c]: c for c in np.flatnonzero(history.task_plan == plan).tolist()}
    column = np.full(len(history.tasks), -1, dtype=np.int32)
    column[list(codes.values())] = np.arange(len(codes), dtype=np.int32)
    rows = np.flatnonzero(history.task_plan[history.task] == plan)
    cell = place[history.run[rows]].astype(np.int64) * len(codes) + column[history.task[rows]]
    shape = (len(runs), len(codes))
    # Of a mapped task the last item's end counts, and the first one's readiness.
    ends = _extreme(cell, history.ended[rows], shape, last=True)
    first = rows[history.attempt[rows] == 1]
    own = place[history.run[first]].astype(np.int64) * len(codes) + column[history.task[first]]
    ready = history.started[first] - np.nan_to_num(history.queued[first])
    readiness = _extreme(own, ready, shape, last=False)
    planned = _extreme(own, history.planned[first], shape, last=True)
    gaps: list[Floats] = []
    lengths: list[Floats] = []
    for task in document.tasks:
        arcs = [a for a in task.upstream if a.task in codes]
        if task.id not in codes or not arcs:
            continue
        at = column[codes[task.id]]
        ended = np.stack(
            [ends[:, column[codes[a.task]]] + a.lag.total_seconds() for a in arcs], axis=1
        )
        gap = readiness[:, at] - ended.max(axis=1)
        known = ~np.isnan(gap)
        gaps.append(gap[known])
        lengths.append(planned[known, at])
    if not gaps:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(gaps), np.concatenate(lengths)


def _extreme(cell: Codes, values: Floats, shape: tuple[int, int], *, last: bool) -> Floats:
    found = np.full(shape[0] * shape[1], -np.inf if last else np.inf)
    known = ~np.isnan(values)
    (np.maximum if last else np.minimum).at(found, cell[known], values[known])
    found[np.isinf(found)] = np.nan
    return found.reshape(shape)
