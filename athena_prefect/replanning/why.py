"""Why a run is late: the chain that sets its finish, in shares that add up to the slip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.units import format_duration
from athena_prefect.replanning.picture import Reach, Violation, picture

DUST = 1e-3
"""Seconds below which a share is none."""


class Cause(StrEnum):
    """What a share of a slip comes from."""

    DURATION = "duration"
    """A task took, or takes, another time than planned."""
    WAIT = "wait"
    """A task began later than what it waits for allowed."""
    CHAIN = "chain"
    """Less than nothing: the chain was planned to end before the finish, its float is used up."""
    UNCERTAINTY = "uncertainty"
    """What the spread of open durations adds to, or takes from, the chain's P50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of the slip."""

    cause: Cause
    task_id: str | None
    amount: timedelta
    """Later, or, if negative, earlier."""
    words: str

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True, kw_only=True)
class Why:
    """Why the forecast finish is where it is."""

    as_of: datetime
    slip: timedelta | None
    """Forecast P50 finish − P50 at acceptance; None where there is no forecast."""
    shares: tuple[Share, ...] = ()
    """They add up to the slip, in the order of the chain."""
    chain: tuple[str, ...] = ()
    """The tasks that set the forecast finish, the first first."""
    violations: tuple[str, ...] = ()
    """Assumptions that do not hold now."""
    reason: str = ""
    """Why there is no forecast."""

    def as_dict(self) -> dict[str, object]:
        """As JSON-able data; durations in seconds."""
        return {
            "as_of": self.as_of.isoformat(),
            "slip": None if self.slip is None else self.slip.total_seconds(),
            "shares": [
                {
                    "cause": str(s.cause),
                    "task_id": s.task_id,
                    "seconds": s.amount.total_seconds(),
                    "words": s.words,
                }
                for s in self.shares
            ],
            "chain": list(self.chain),
            "violations": list(self.violations),
            "reason": self.reason,
        }


def why(
    monitor: ExecutionMonitor,
    violations: Sequence[Violation] = (),
    *,
    now: datetime | None = None,
) -> Why:
    """Why the run that `monitor` watches ends when it does, against what was accepted."""
    deviation = monitor.get_plan_deviation(now=now)
    moment, progress = monitor.brought_up(now)
    reaches = picture(monitor, violations, now=now).reaches
    told = tuple(str(v) for v in violations)
    accepted = monitor.accepted_p50
    finish = deviation.estimated_completion
    if finish is None or accepted is None:
        why_not = deviation.reason or "; ".join(monitor.baseline.reasons)
        return Why(as_of=moment, slip=None, violations=told, reason=why_not)
    p50 = (finish - monitor.started) / timedelta(seconds=1)
    nodes, shares = _walk(monitor, progress, reaches)
    known = sum(s.amount.total_seconds() for s in shares)
    planned = p50 - progress.course.end_of_all
    rest = (p50 - accepted) - known
    chain = rest - planned
    shares = [s for s in shares if abs(s.amount.total_seconds()) > DUST]
    if abs(chain) > DUST:
        words = (
            f"this chain was planned to end {_span(-chain)} before the finish"
            if chain < 0
            else f"this chain was planned to end {_span(chain)} after the accepted finish"
        )
        shares.append(_share(Cause.CHAIN, None, chain, words))
    if abs(planned) > DUST:
        side = "adds" if planned > 0 else "takes off"
        shares.append(
            _share(
                Cause.UNCERTAINTY,
                None,
                planned,
                f"the spread of what is open {side} {_span(abs(planned))}",
            )
        )
    names = [progress.chain.items[n][0] for n in nodes]
    return Why(
        as_of=moment,
        slip=timedelta(seconds=p50 - accepted),
        shares=tuple(shares),
        chain=tuple(dict.fromkeys(names)),
        violations=told,
    )


def _walk(
    monitor: ExecutionMonitor, progress: Progress, reaches: tuple[Reach, ...]
) -> tuple[list[int], list[Share]]:
    """The chain back from the last finish, and how each link differs from its plan."""
    course, chain = progress.course, progress.chain
    live = course.stage != Stage.DEAD
    if not live.any():
        return [], []
    node = int(np.argmax(np.where(live, course.finish, -np.inf)))
    nodes: list[int] = []
    shares: list[Share] = []
    while True:
        nodes.append(node)
        task_id = chain.items[node][0]
        before = course.binding(node)
        start, end = float(course.start[node]), float(course.finish[node])
        if not chain.joins[node]:
            usual = _planned(monitor, progress, node)
            shares.append(_longer(progress, reaches, task_id, node, end - start - usual))
        if before is None:
            since, after = 0.0, None
        else:
            since, after = float(course.finish[before[0]]) + before[1], before[0]
        if not chain.joins[node]:
            shares.append(_waited(monitor, reaches, task_id, start - since))
        if after is None:
            break
        node = after
    return nodes[::-1], shares[::-1]


def _planned(monitor: ExecutionMonitor, progress: Progress, node: int) -> float:
    """P50 duration of a node in the mode that the baseline planned it in."""
    task_id = progress.chain.items[node][0]
    mode = monitor.baseline.modes.get(task_id, "default")
    return progress.chain.median_in(task_id, mode)


def _longer(
    progress: Progress, reaches: tuple[Reach, ...], task_id: str, node: int, more: float
) -> Share:
    stage = progress.course.stage[node]
    verb = "took" if stage == Stage.DONE else "has run" if stage == Stage.RUNNING else "will take"
    side = "longer" if more > 0 else "less"
    words = f"{task_id} {verb} {_span(abs(more))} {side} than planned"
    causes = [
        r.id
        for r in reaches
        if task_id in r.tasks
        and r.effect is not None
        and (r.effect.duration_factor is not None or r.effect.mode is not None)
    ]
    if causes and stage == Stage.WAITING:
        words += f" ({', '.join(causes)} violated)"
    return _share(Cause.DURATION, task_id, more, words)


def _waited(
    monitor: ExecutionMonitor, reaches: tuple[Reach, ...], task_id: str, gap: float
) -> Share:
    own = monitor.state.task(task_id)
    words = f"{task_id} began {_span(abs(gap))} after it could"
    if gap < 0:
        words = f"{task_id} began {_span(-gap)} before what it waits for had ended"
    if len(own.attempts) > 1:
        words += f", after {len(own.attempts) - 1} earlier attempts"
    short = [r.id for r in reaches if r.effect is not None and r.effect.capacity]
    if short and gap > 0:
        words += f" ({', '.join(short)} violated)"
    return _share(Cause.WAIT, task_id, gap, words)


def _share(cause: Cause, task_id: str | None, seconds: float, words: str) -> Share:
    return Share(cause=cause, task_id=task_id, amount=timedelta(seconds=seconds), words=words)


def _span(seconds: float) -> str:
    return format_duration(
        timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    )
