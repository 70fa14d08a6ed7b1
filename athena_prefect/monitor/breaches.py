"""What is late or about to be: found at an assessment, raised once, over when it is over.

Findings are compared with the breaches that the journal knows, and what is new
becomes events of the journal. The key of such an event is its claim: of any
number of watchers that find the same, one writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.deadlines import StartOutlook, TaskLimit
from athena_prefect.monitor.deviation import (
    PlanDeviation,
    probability_severity,
    slip_severity,
)
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.records import plain
from athena_prefect.plan.model import Criticality, Plan
from athena_prefect.plan.policy import ReplanningPolicy

_SCALE = tuple(Criticality)
DEVIATED, AT_RISK = "athena.plan.deviated", "athena.plan.at-risk"
START_LATE, FINISH_LATE = "athena.task.start-late", "athena.task.finish-late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `level` None: it is over; `keep`: neither bad nor over."""

    name: str
    event: str
    level: Criticality | None
    keep: bool = False
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    task_id: str | None = None


def assess(monitor: ExecutionMonitor, now: datetime) -> tuple[Finding, ...]:
    """What is late or about to be in a run that is under way at `now`."""
    deviation = monitor.get_plan_deviation(now=now)
    figures = figures_of(deviation)
    found = [_deviated(deviation, monitor.policy, figures)]
    if deviation.deadline is not None:
        found.append(_at_risk(deviation, monitor.policy, figures, now))
    limits = {limit.task_id: limit for limit in monitor.limits(now=now)}
    found += [_start_late(limit, now) for limit in limits.values() if not limit.running]
    found += [
        _finish_late(limit, monitor.policy, now) for limit in limits.values() if limit.running
    ]
    # What is no longer open, or has started, is no longer late to do so.
    for name, breach in monitor.state.breaches.items():
        kind, _, task_id = name.partition("|")
        if name in ("start", "process") and breach.open:
            found.append(Finding(name=name, event=AT_RISK, level=None, keep=name == "process"))
        if not task_id or not breach.open or deviation.blocked:
            continue
        limit = limits.get(task_id)
        gone = limit is None if kind == "finish-late" else limit is None or limit.running
        if gone:
            found.append(Finding(name=name, event=str(breach.data["event"]), level=None))
    return tuple(found)


def figures_of(deviation: PlanDeviation) -> dict[str, Any]:
    """The figures of a deviation that an event tells; what is not known is None."""
    return {
        "severity": plain(deviation.deviation_severity),
        "slip": deviation.slip,
        "time_deviation_s": plain(deviation.time_deviation),
        "p_deadline": deviation.deadline_probability,
        "deadline": plain(deviation.deadline),
        "finish_p50": plain(deviation.estimated_completion),
        "finish_p90": plain(deviation.quantiles.get("p90")),
        "samples": deviation.samples,
        "completed_tasks": deviation.completed_tasks,
        "total_tasks": deviation.total_tasks,
        "tasks_at_risk": list(deviation.tasks_at_risk)[:20],
        "why_unknown": deviation.reason,
    }


def _deviated(d: PlanDeviation, policy: ReplanningPolicy, figures: Mapping[str, Any]) -> Finding:
    if d.blocked:
        return Finding(
            name="deviation", event=DEVIATED, level=Criticality.CRITICAL, figures=figures,
            reason=f"blocked: {d.reason}",
        )  # fmt: skip
    level = None if d.slip is None else slip_severity(d.slip, policy)
    bad = level is not None and level is not Criticality.LOW
    near = d.slip is None or d.slip >= policy.medium_slip * (1 - policy.hysteresis)
    return Finding(
        name="deviation",
        event=DEVIATED,
        level=level if bad else None,
        keep=not bad and near,
        reason=f"{100 * (d.slip or 0):.0f} % later than was promised" if bad else "",
        figures=figures,
    )


def _at_risk(
    d: PlanDeviation, policy: ReplanningPolicy, figures: Mapping[str, Any], now: datetime
) -> Finding:
    assert d.deadline is not None
    p = d.deadline_probability
    if d.blocked or (p is None and now > d.deadline):
        level: Criticality | None = Criticality.CRITICAL
    else:
        level = None if p is None else probability_severity(p, policy)
    bad = level is not None and level is not Criticality.LOW
    if d.deadline < now and bad:
        reason = f"the deadline, {d.deadline:%Y-%m-%d %H:%M} UTC, has passed"
    elif d.blocked:
        reason = f"blocked: {d.reason}"
    else:
        reason = f"the deadline is met with probability {p:.2f}" if bad and p is not None else ""
    over = policy.medium_probability + policy.hysteresis * (1 - policy.medium_probability)
    return Finding(
        name="deadline",
        event=AT_RISK,
        level=level if bad else None,
        keep=not bad and (p is None or p < over),
        reason=reason,
        figures=figures,
    )


def _limit_figures(limit: TaskLimit) -> dict[str, Any]:
    return {
        "task_id": limit.task_id,
        "latest_start": plain(limit.latest_start),
        "latest_finish": plain(limit.latest_finish),
        "p_late": limit.p_late,
    }


def _start_late(limit: TaskLimit, now: datetime) -> Finding:
    late = now > limit.latest_start
    return Finding(
        name=f"start-late|{limit.task_id}",
        event=START_LATE,
        level=Criticality.MEDIUM if late else None,
        reason=f"must start by {limit.latest_start:%Y-%m-%d %H:%M:%S} UTC" if late else "",
        figures=_limit_figures(limit),
        task_id=limit.task_id,
    )


def _finish_late(limit: TaskLimit, policy: ReplanningPolicy, now: datetime) -> Finding:
    past = now > limit.latest_finish
    late = past or limit.p_late > policy.risk_probability
    near = limit.p_late > policy.risk_probability * (1 - policy.hysteresis)
    level = Criticality.HIGH if past else Criticality.MEDIUM
    return Finding(
        name=f"finish-late|{limit.task_id}",
        event=FINISH_LATE,
        level=level if late else None,
        keep=not late and near,
        reason=(
            f"must end by {limit.latest_finish:%Y-%m-%d %H:%M:%S} UTC, "
            f"later with probability {limit.p_late:.2f}"
            if late
            else ""
        ),
        figures=_limit_figures(limit),
        task_id=limit.task_id,
    )


def not_started(plan: Plan, outlook: StartOutlook, now: datetime, *, what: str) -> Finding:
    """A run that should have started; `what` says what became of its start."""
    policy = plan.replanning.policy
    p = outlook.p_deadline
    level = Criticality.MEDIUM if p is None else probability_severity(p, policy)
    if level is Criticality.LOW:
        level = Criticality.MEDIUM
    must = outlook.must_start
    by = "" if must is None else f"; it must start by {must:%Y-%m-%d %H:%M:%S} UTC"
    return Finding(
        name="start",
        event=AT_RISK,
        level=level if outlook.late(now) else None,
        reason=f"{what}{by}",
        figures={
            "scheduled": plain(outlook.scheduled),
            "must_start": plain(must),
            "deadline": plain(outlook.deadline),
            "p_deadline": p,
            "samples": outlook.deviation.samples,
            "severity": str(level),
        },
    )


def changes(
    findings: Iterable[Finding], state: ExecutionState, plan_run: UUID, now: datetime
) -> Iterator[RunEvent]:
    """The journal events that the findings call for: raised, worse, over; most often none."""
    for finding in findings:
        known = state.breaches.get(finding.name)
        is_open = known is not None and known.open
        if finding.level is None:
            if known is not None and is_open and not finding.keep:
                yield _event(
                    RunEventKind.EASED, plan_run, now, f"{finding.name}:{known.episode}",
                    {"name": finding.name, "episode": known.episode},
                )  # fmt: skip
            continue
        if known is None or not is_open:
            episode = 1 if known is None else known.episode + 1
            yield _raised(finding, finding.level, plan_run, now, episode, "")
        elif _SCALE.index(finding.level) > _SCALE.index(Criticality(known.level)):
            suffix = f":{finding.level}"
            yield _raised(finding, finding.level, plan_run, now, known.episode, suffix)


def _raised(
    finding: Finding, level: Criticality, plan_run: UUID, now: datetime, episode: int, suffix: str
) -> RunEvent:
    data = {
        "name": finding.name,
        "episode": episode,
        "level": str(level),
        "event": finding.event,
        "reason": finding.reason,
        "task_id": finding.task_id,
        "figures": dict(finding.figures),
    }
    source = f"{finding.name}:{episode}{suffix}"
    return _event(RunEventKind.BREACHED, plan_run, now, source, data)


def _event(
    kind: RunEventKind, plan_run: UUID, at: datetime, source: str, data: Mapping[str, Any]
) -> RunEvent:
    return RunEvent(
        plan_run=plan_run, kind=kind, at=at, source=source, reported_by=Reporter.CALLER, data=data
    )
