"""What was seen once: in a plan's one run nothing can be tested, so nothing is called sure."""

from __future__ import annotations

import numpy as np

from athena_prefect.learning.frame import History
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import ExecutionPattern, PatternKind, SubjectKind
from athena_prefect.learning.wording import percent

ROUNDING = 1e-9
"""Shares that are nearer than this are equal: they come from divisions."""


def observations(history: History, policy: LearningPolicy) -> list[ExecutionPattern]:
    """Of each plan with one run: durations, uses and assumptions that were off in it."""
    found: list[ExecutionPattern] = []
    count = np.bincount(history.run_plan, minlength=len(history.plans))
    for plan in np.flatnonzero(count == 1).tolist():
        run = int(np.flatnonzero(history.run_plan == plan)[0])
        rows = np.flatnonzero((history.run == run) & history.succeeded)
        found += _durations(history, rows, policy)
        found += _uses(history, rows, policy)
        found += _assumptions(history.runs[run])
    return found


def _durations(
    history: History, rows: np.ndarray, policy: LearningPolicy
) -> list[ExecutionPattern]:
    error = history.duration[rows] / history.planned[rows] - 1
    return [
        _observation(
            PatternKind.DURATION,
            history,
            int(row),
            off,
            f"took {percent(off)} {'longer' if off > 0 else 'less time'} than planned",
        )
        for row, off in zip(rows.tolist(), error.tolist(), strict=True)
        if np.isfinite(off) and abs(off) >= policy.least_bias - ROUNDING
    ]


def _uses(history: History, rows: np.ndarray, policy: LearningPolicy) -> list[ExecutionPattern]:
    found = []
    for name, planned in history.resources_planned.items():
        used = history.resources_used.get(name)
        if used is None:
            continue
        error = used[rows] / planned[rows] - 1
        for row, off in zip(rows.tolist(), error.tolist(), strict=True):
            if np.isfinite(off) and abs(off) >= policy.least_bias - ROUNDING:
                said = f"used {percent(off)} {'more' if off > 0 else 'less'} {name} than planned"
                found.append(
                    _observation(PatternKind.RESOURCE, history, int(row), off, said, beside=name)
                )
    return found


def _observation(
    kind: PatternKind, history: History, row: int, off: float, said: str, *, beside: str = ""
) -> ExecutionPattern:
    task = history.tasks[history.task[row]]
    item = int(history.item[row])
    who = task if item < 0 else f"{task}[{item}]"
    impact = -off / (1 + off) if kind is PatternKind.DURATION else float(np.clip(-off, -1, 1))
    return ExecutionPattern(
        pattern_id=":".join(p for p in (kind, SubjectKind.TASK, who, beside) if p),
        description=f"{who} {said} (seen once)",
        confidence=None,
        frequency=1,
        affected_tasks=(task,),
        impact=impact,
        actionable=True,
        kind=kind,
        plan=history.plans[history.task_plan[history.task[row]]],
        subject=who,
        beside=beside,
        size=off,
        unit="share",
        samples=1,
        runs=1,
    )


def _assumptions(run: RunRecord) -> list[ExecutionPattern]:
    """Assumptions that did not hold, and the estimates of resources that they show wrong."""
    broken = {c.assumption_id: c for c in run.checks if c.holds is False}
    found = []
    for name, check in broken.items():
        assumption = None
        if run.plan is not None:
            assumption = next((a for a in run.plan.assumptions if a.id == name), None)
        affected = tuple(assumption.affects) if assumption is not None else ()
        spoken = name.replace("_", " ")
        found.append(
            ExecutionPattern(
                pattern_id=f"assumption:assumption:{name}",
                description=f'the assumption "{spoken}" was invalid (seen once)',
                confidence=None,
                frequency=1,
                affected_tasks=affected,
                impact=None,
                actionable=True,
                kind=PatternKind.ASSUMPTION,
                plan=run.plan_name,
                subject=name,
                subject_kind=SubjectKind.ASSUMPTION,
                samples=1,
                runs=1,
                data={"observed": check.observed},
            )
        )
        effect = getattr(assumption, "effect", None)
        for resource, left in (getattr(effect, "capacity", None) or {}).items():
            if left != "observed":
                continue
            found.append(_capacity(run, resource, check.observed, affected))
    return found


def _capacity(
    run: RunRecord, resource: str, observed: object, affected: tuple[str, ...]
) -> ExecutionPattern:
    planned = None
    if run.plan is not None and resource in run.plan.resources:
        planned = run.plan.resources[resource].capacity
    off = None
    seen = ""
    if planned and isinstance(observed, int | float) and not isinstance(observed, bool):
        off = observed / planned - 1
        seen = f": {planned:g} were planned with, {observed:g} were there"
    return ExecutionPattern(
        pattern_id=f"resource:resource:{resource}",
        description=f"the estimate of the resource {resource} needs improvement{seen} (seen once)",
        confidence=None,
        frequency=1,
        affected_tasks=affected,
        impact=None if off is None else float(np.clip(off, -1, 1)),
        actionable=True,
        kind=PatternKind.RESOURCE,
        plan=run.plan_name,
        subject=resource,
        subject_kind=SubjectKind.RESOURCE,
        size=off,
        unit="share",
        samples=1,
        runs=1,
        data={"planned": planned, "observed": observed},
    )
