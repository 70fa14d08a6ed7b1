"""Tasks that are slower than they were: since which run, which commit, in which function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from athena_prefect.learning.code import (
    Slowdown,
    Spot,
    Timing,
    slowdown,
    sources,
    with_lines_now,
)
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root
from athena_prefect.service.source_history import NoHistoryError, SourceHistory

if TYPE_CHECKING:
    from athena_prefect.learning.frame import History
    from athena_prefect.service.learning import Told
    from athena_prefect.storage.history import StoredHistory

SEED = 0
"""Of the permutations of durations, so that the same history gives the same answer."""


def slowdowns(
    plan: Plan, history: History, kept: StoredHistory, *, told: Told = lambda _: None
) -> tuple[Slowdown, ...]:
    """The tasks of a plan that are slower than they were, and what git knows of why."""
    series = {task: s for task in plan.task_ids if (s := _timings(plan.name, task, history))}
    if not series:
        return ()
    told(f"looking for changes in the durations of {len(series)} tasks")
    rng = np.random.default_rng(SEED)
    source = None if plan.source is None else SourceHistory(project_root(plan.source))
    found = []
    for task, timings in series.items():
        one = slowdown(task, timings, rng=rng, among=len(series))
        if one is not None:
            explained = _explained(one, plan, timings, source, kept.commits(plan.name), len(series))
            spots = [Spot(**s) for s in kept.profiles(plan.name, task)]
            files = {} if source is None else source.files
            found.append(replace(explained, spots=with_lines_now(spots, files)))
    return tuple(found)


def _timings(plan: str, task: str, history: History) -> list[Timing]:
    """A task's mean successful duration run by run; of a mapped one over its items."""
    codes = [
        code
        for code, name in enumerate(history.tasks)
        if name == task and history.plans[history.task_plan[code]] == plan
    ]
    if not codes:
        return []
    rows = np.flatnonzero(history.succeeded & (history.task == codes[0]))
    runs = history.run[rows]
    count = np.bincount(runs, minlength=len(history.runs))
    total = np.bincount(runs, weights=history.duration[rows], minlength=len(history.runs))
    return [
        Timing(at=run.started, seconds=float(total[i] / count[i]), run=run.run)
        for i, run in enumerate(history.runs)
        if count[i] and run.started is not None and total[i] > 0
    ]


def _explained(
    slow: Slowdown,
    plan: Plan,
    timings: Sequence[Timing],
    source: SourceHistory | None,
    ran: Mapping[str, str],
    among: int,
) -> Slowdown:
    """A slowdown with its commits, where the project is in a git checkout."""
    call = plan.get_task(slow.task_id).call
    if not call:
        return _again(slow, timings, (), "it runs another deployment", among)
    if source is None:
        return _again(slow, timings, (), "the plan's file is not known", among, call)
    files = sources(call, source.files)
    if not files:
        return _again(slow, timings, (), f"{call} is not in the project", among, call)
    why = source.missing
    if why:
        return _again(slow, timings, (), why, among, call)
    try:
        commits = source.commits(files)
        versions = {c: source.version(c, files) for c in set(ran.values())}
        timings = [replace(t, version=versions.get(ran.get(t.run, ""))) for t in timings]
    except NoHistoryError as error:
        return _again(slow, timings, (), error.message, among, call)
    return source.with_touched(_again(slow, timings, commits, "", among, call), files)


def _again(
    slow: Slowdown,
    timings: Sequence[Timing],
    commits: Sequence[Any],
    why: str,
    among: int,
    call: str = "",
) -> Slowdown:
    found = slowdown(
        slow.task_id, timings, commits, rng=np.random.default_rng(SEED), among=among,
        unknown=why, calls=call,
    )  # fmt: skip
    return found or slow
