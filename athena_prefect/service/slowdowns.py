"""Where tasks' time goes, and since which run and commit they are slower than they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from athena_prefect.learning.code import Between, Slowdown, Timing, explained, slowdown
from athena_prefect.learning.sources import sources
from athena_prefect.learning.spots import Spot, with_lines_now
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root
from athena_prefect.service.source_history import SourceHistory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from athena_prefect.journal.state import ExecutionState
    from athena_prefect.learning.frame import History
    from athena_prefect.service.learning import Told
    from athena_prefect.storage.history import StoredHistory

SEED = 0
"""Of the permutations of durations, so that the same history gives the same answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Where the time of a task went in the newest run that sampled it."""

    task_id: str
    at: datetime
    spots: tuple[Spot, ...]
    """The hottest first; their lines as they are now."""

    def as_dict(self) -> dict[str, object]:
        """The profile as JSON-able data; times in seconds."""
        return {
            "task_id": self.task_id,
            "at": self.at.isoformat(),
            "spots": [s.as_dict() for s in self.spots],
        }

    def __str__(self) -> str:
        told = [f"{_percent(s.share)} in {s.function} ({s.file}:{s.line})" for s in self.spots[:3]]
        return f"{self.task_id} spends {', '.join(told)}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def sampled_in(plan: Plan, state: ExecutionState) -> tuple[Sampled, ...]:
    """Where the time of the tasks that a run sampled went in it."""
    files = {} if plan.source is None else SourceHistory(project_root(plan.source)).files
    found = []
    for task in plan.task_ids:
        attempt = state.task(task).in_force
        profile = None if attempt is None else attempt.data.get("profile")
        if attempt is not None and profile:
            spots = with_lines_now((Spot(**s) for s in profile), files)
            at = attempt.ended or attempt.started
            if at is not None:
                found.append(Sampled(task_id=task, at=at, spots=spots))
    return tuple(found)


def sampled_tasks(plan: Plan, kept: StoredHistory) -> tuple[Sampled, ...]:
    """Where the time of each task of a plan went, of those that a run has sampled lately."""
    files = {} if plan.source is None else SourceHistory(project_root(plan.source)).files
    found = kept.sampled_tasks(plan.name)
    return tuple(
        Sampled(
            task_id=task,
            at=found[task][0],
            spots=with_lines_now((Spot(**s) for s in found[task][1]), files),
        )
        for task in plan.task_ids
        if task in found
    )


def slowdowns(
    plan: Plan,
    history: History,
    kept: StoredHistory,
    sampled: tuple[Sampled, ...] = (),
    *,
    told: Told = lambda _: None,
) -> tuple[Slowdown, ...]:
    """The tasks of a plan that are slower than they were, and what git knows of why."""
    began = kept.began_with(plan.name)
    series = {task: s for task in plan.task_ids if (s := _timings(plan.name, task, history, began))}
    if not series:
        return ()
    told(f"looking for changes in the durations of {len(series)} tasks")
    rng = np.random.default_rng(SEED)
    profiles = {s.task_id: s for s in sampled}
    source = None if plan.source is None else SourceHistory(project_root(plan.source))
    found = []
    for task, timings in series.items():
        call = plan.get_task(task).call or ""
        one = slowdown(task, timings, rng=rng, among=len(series), calls=call)
        if one is None:
            continue
        profile = profiles.get(task)
        if profile is not None and profile.at >= one.since:
            # An older one is of the code before it was slow.
            one = replace(one, spots=profile.spots)
        found.append(_explained(one, timings, call, source))
    return tuple(found)


def _explained(
    slow: Slowdown, timings: list[Timing], call: str, source: SourceHistory | None
) -> Slowdown:
    """A slowdown with its commits, where the project is in a git checkout."""
    why = ""
    if not call:
        why = "it runs another deployment"
    elif source is None:
        why = "the plan's file is not known"
    elif not sources(call, source.files):
        why = f"{call} is not in the project"
    else:
        why = source.missing
    if why or source is None:
        return explained(slow, timings, lambda *_: Between(unknown=why))
    return explained(slow, timings, partial(source.between, call))


def _timings(
    plan: str, task: str, history: History, began: Mapping[str, Mapping[str, Any]]
) -> list[Timing]:
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
    sizes = {
        name: np.bincount(runs, weights=history.resources_used[name][rows], minlength=len(count))
        for name in history.quantities
    }
    return [
        _timing(
            run.started,
            float(total[i] / count[i]),
            run.run,
            {name: float(q[i] / count[i]) for name, q in sizes.items() if q[i] > 0},
            began.get(run.run, {}),
        )
        for i, run in enumerate(history.runs)
        if count[i] and run.started is not None and total[i] > 0
    ]


def _timing(
    at: datetime, seconds: float, run: str, sizes: Mapping[str, float], began: Mapping[str, Any]
) -> Timing:
    return Timing(
        at=at,
        seconds=seconds,
        run=run,
        sizes=sizes,
        version=began.get("commit"),
        host=began.get("host") or "",
        changed=frozenset(began.get("uncommitted") or ()),
    )
