"""Findings in words, as patterns."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from athena_prefect.learning.findings import Finding
from athena_prefect.learning.frame import History
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import ExecutionPattern, PatternKind, SubjectKind
from athena_prefect.plan.units import format_duration

_UNCHANGEABLE = (PatternKind.DRIFT,)
"""Kinds whose cause lies outside of any plan."""


def pattern_of(
    finding: Finding, history: History, policy: LearningPolicy, *, corrected: float
) -> ExecutionPattern:
    """The pattern of a finding that stands."""
    size, interval = finding.sized(policy)
    plans = {history.plans[p] for p in history.task_plan[finding.tasks].tolist()}
    if "plan" in finding.data:
        plans = {str(finding.data["plan"])}
    data = dict(finding.data)
    parts = [finding.kind, finding.subject_kind, finding.subject, finding.beside]
    return ExecutionPattern(
        pattern_id=":".join(str(p) for p in parts if p),
        description=_words(finding, size, interval, data),
        confidence=finding.confident(),
        frequency=finding.samples if finding.kind is PatternKind.RETRIES else finding.runs,
        affected_tasks=tuple(history.tasks[t] for t in finding.tasks.tolist()),
        impact=_impact(finding, size, data),
        actionable=finding.kind not in _UNCHANGEABLE,
        kind=finding.kind,
        plan=plans.pop() if len(plans) == 1 else "",
        subject=finding.subject,
        subject_kind=finding.subject_kind,
        beside=finding.beside,
        size=size,
        unit=finding.unit or "share",
        interval=interval,
        samples=finding.samples,
        runs=finding.runs,
        p_value=finding.p,
        p_corrected=corrected,
        data=data,
    )


def subject_words(kind: SubjectKind, name: str, resource: bool = False) -> str:
    """Of whom a sentence tells."""
    match kind:
        case SubjectKind.PLAN:
            return f"tasks of {name}" if name else "tasks"
        case SubjectKind.CATEGORY:
            return f"{name} tasks"
        case SubjectKind.RESOURCE:
            return f"tasks that use {name}"
        case _:
            return name


def percent(share: float) -> str:
    """A share as a whole number of percent, one digit more where it is small."""
    value = abs(share) * 100
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.1f} %"


def _span(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:+.0f} to {100 * high:+.0f} %"


def seconds(value: float) -> str:
    """A length of time as plan documents write it."""
    digits = 0 if abs(value) >= 10 else 3
    return format_duration(timedelta(seconds=round(value, digits)))


def _words(f: Finding, size: float, interval: tuple[float, float], data: dict[str, object]) -> str:
    who = subject_words(f.subject_kind, f.subject)
    one = f.subject_kind in (SubjectKind.TASK, SubjectKind.ASSUMPTION)
    take = "takes" if one else "take"
    longer = "longer" if size > 0 else "less time"
    basis = f"{f.runs} runs"
    match f.kind:
        case PatternKind.DURATION:
            said = (
                f"{who} {take} {percent(size)} {longer} than planned ({_span(interval)}, {basis})"
            )
        case PatternKind.HOUR | PatternKind.WEEKDAY:
            said = (
                f"{who} {take} {percent(size)} {longer} {f.beside} than at other times "
                f"({_span(interval)}, {basis})"
            )
        case PatternKind.CONTENTION:
            beside = f"{f.beside} tasks" if f.beside != "anything else" else f.beside
            run = "runs" if beside == f.beside else "run"
            said = (
                f"{who} {take} {percent(size)} {longer} while {beside} {run} beside "
                f"{'it' if one else 'them'} ({_span(interval)}, {basis})"
            )
        case PatternKind.INTERACTION:
            beside = f"{f.beside} tasks" if f.beside != "anything else" else f.beside
            fails = "fails" if one else "fail"
            said = (
                f"{who} {fails} more often while {beside} run{'s' if beside == f.beside else ''} "
                f"beside {'it' if one else 'them'}: {percent(size)} more of the runs "
                f"({_span(interval)}, {basis})"
            )
        case PatternKind.SCALING:
            base = 10 ** np.floor(np.log10(float(str(data["typical_amount"]))))
            said = (
                f"{who} {take} {seconds(size * base)} per {base:g} {f.beside} "
                f"({seconds(interval[0] * base)} to {seconds(interval[1] * base)}, "
                f"{f.samples} attempts)"
            )
        case PatternKind.DRIFT if data.get("shape") == "step":
            said = (
                f"{who} {take} {percent(size)} {longer} than before since run "
                f"{int(str(data['runs_before'])) + 1} of {f.runs} ({_span(interval)})"
            )
        case PatternKind.DRIFT:
            said = (
                f"{who} {take} {percent(size)} {longer} at the end of {basis} than at their "
                f"beginning ({_span(interval)})"
            )
        case PatternKind.RETRIES:
            said = (
                f"retries of {who} helped in {data['helped']} of {f.samples} cases; a chance "
                f"above {percent(interval[1])} is unlikely"
            )
        case PatternKind.QUEUE:
            said = (
                f"{who} {'waits' if one else 'wait'} "
                f"{seconds(float(str(data['mean_queue_seconds'])))} for a slot or a resource "
                f"before running {seconds(float(str(data['mean_run_seconds'])))}: "
                f"{percent(size)} of the run time ({_span(interval)}, {basis})"
            )
        case PatternKind.RESOURCE:
            use = "uses" if one else "use"
            said = (
                f"{who} {use} {percent(size)} {'more' if size > 0 else 'less'} {f.beside} than "
                f"planned ({_span(interval)}, {basis})"
            )
        case PatternKind.ASSUMPTION:
            said = f"the assumption {f.subject} did not hold in {data['violated']} of {basis}"
    return said


def _impact(f: Finding, size: float, data: dict[str, object]) -> float | None:
    """What the pattern takes (negative) or gives, as a share of the affected tasks' time."""
    match f.kind:
        case PatternKind.DURATION | PatternKind.DRIFT | PatternKind.QUEUE:
            return -size / (1 + size)
        case PatternKind.HOUR | PatternKind.WEEKDAY | PatternKind.CONTENTION:
            met = float(str(data["with"])) / max(f.samples, 1)
            return -met * size / (1 + met * size)
        case PatternKind.INTERACTION:
            met = float(str(data["with"])) / max(f.samples, 1)
            return max(-met * size, -1.0)
        case PatternKind.RESOURCE:
            return float(np.clip(-size, -1.0, 1.0))
        case PatternKind.ASSUMPTION:
            return -size
        case _:
            return None
