"""Why a run is late: the chain that sets its finish, in shares that add up to the slip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np

from athena_prefect.monitor.chain import JOIN
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.model import Effect
from athena_prefect.plan.units import format_duration
from athena_prefect.replanning.picture import Reach, Violation, picture
from athena_prefect.schedule.problem import RUNNER

DUST = 1e-3
"""Seconds below which a share is none."""


class Cause(StrEnum):
    """What a share of a slip comes from."""

    DURATION = "duration"
    """A task took, or takes, another time than planned."""
    WAIT = "wait"
    """A task began later than what it waits for allowed."""
    RESOURCE = "resource"
    """A task waits for what holds its resources, and was not planned to."""
    CHAIN = "chain"
    """Less than nothing: by itself the chain was planned to end before the finish."""
    ORDER = "order"
    """The run goes by another order than the schedule that was accepted."""
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
    plan: str = ""
    plan_run: UUID | None = None
    revision: int = 1
    """In force."""
    started: datetime | None = None
    finish: datetime | None = None
    """Forecast P50 finish; of a run that is over, its end."""
    accepted: datetime | None = None
    """P50 finish when the revision in force was accepted, which the slip is measured against."""
    promised: datetime | None = None
    """The accepted finish, at the accept quantile: what `athena revisions` says was promised."""

    def as_dict(self) -> dict[str, object]:
        """As JSON-able data; moments in ISO 8601, durations in seconds."""
        moments = {n: getattr(self, n) for n in ("started", "finish", "accepted", "promised")}
        return {
            "plan_run": None if self.plan_run is None else str(self.plan_run),
            "plan": self.plan,
            "revision": self.revision,
            **{n: None if at is None else at.isoformat() for n, at in moments.items()},
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
    known: dict[str, Any] = {
        "plan": monitor.plan.name,
        "plan_run": monitor.context.plan_run,
        "revision": monitor.state.revision,
        "started": monitor.started,
        "finish": finish,
        "accepted": None if accepted is None else monitor.started + timedelta(seconds=accepted),
        "promised": monitor.accepted_finish,
    }
    if finish is None or accepted is None:
        why_not = deviation.reason or "; ".join(monitor.baseline.reasons)
        return Why(as_of=moment, slip=None, violations=told, reason=why_not, **known)
    p50 = (finish - monitor.started) / timedelta(seconds=1)
    planned, revised = monitor.as_accepted(), monitor.state.replans > 0
    walk = _Walk(monitor, progress, planned, reaches)
    shares = walk.shares()
    before, after = planned.course.end_of_all - accepted, p50 - progress.course.end_of_all
    if revised and not planned.chain.as_promised:
        # Durations or capacities are others than the schedule was made with.
        shares += [_order(before), _spread(monitor, after)]
    else:
        # Both are spread: the P50 that was accepted is that of the same order.
        shares.append(_spread(monitor, before + after))
    return Why(
        as_of=moment,
        slip=timedelta(seconds=p50 - accepted),
        shares=tuple(s for s in shares if abs(s.amount.total_seconds()) > DUST),
        chain=tuple(dict.fromkeys(progress.chain.items[n][0] for n in walk.nodes)),
        violations=told,
        **known,
    )


class _Walk:
    """The chain back from the last finish, held link by link against what was accepted.

    Along it what is later adds up: each task's duration against its planned one; the time
    between the end of what it waited for and its start; and, where it waits for something
    that was planned to end after its own planned start, or long before it, that difference.
    """

    def __init__(
        self,
        monitor: ExecutionMonitor,
        progress: Progress,
        planned: Progress,
        reaches: tuple[Reach, ...],
    ) -> None:
        self.monitor = monitor
        self.progress = progress
        self.planned = planned
        self.reaches = reaches
        self.course, self.chain = progress.course, progress.chain
        self.nodes = self._nodes()

    def _nodes(self) -> list[int]:
        """The nodes that set the finish, the first first."""
        live = self.course.stage != Stage.DEAD
        if not live.any():
            return []
        node = int(np.argmax(np.where(live, self.course.finish, -np.inf)))
        found = [node]
        while (before := self.course.binding(node)) is not None:
            node = before[0]
            found.append(node)
        return found[::-1]

    def _accepted(self, node: int) -> tuple[float, float, bool] | None:
        """Start and end of a node as they were accepted, and whether it was over by then."""
        other, course = self.planned.chain.node_of.get(self.chain.items[node]), self.planned.course
        if other is None or course.stage[other] == Stage.DEAD:
            return None
        over = course.is_past(other)
        return float(course.start[other]), float(course.finish[other]), over

    def shares(self) -> list[Share]:
        """What of the slip each link is; they add up to what the end of all moved by."""
        found: list[Share] = []
        slack, ends = 0.0, 0.0
        """Where the link before was planned to end."""
        for node in self.nodes:
            known = self._accepted(node)
            start, finish = float(self.course.start[node]), float(self.course.finish[node])
            before = self.course.binding(node)
            after = None if before is None else before[0]
            lag = 0.0 if before is None else before[1]
            since = 0.0 if after is None else float(self.course.finish[after]) + lag
            if known is None:
                # Nobody knew of it: all that it takes is new.
                known = (ends + lag, ends + lag, False)
            first = after is None or self._over(after)
            if known[2]:
                found, slack = [], 0.0  # what was over by then is in what was accepted
            elif self._ran(node) and abs(start - known[0]) <= DUST:
                # That it had begun then, whatever before, is in what was accepted, too.
                found, slack = [self._longer(node, finish - known[1])], 0.0
            elif first:
                found.append(self._waited(node, start - known[0], planned=True))
                found.append(self._longer(node, (finish - start) - (known[1] - known[0])))
            else:
                found.append(self._waited(node, start - since))
                moved = ends + lag - known[0]
                if moved > DUST and after is not None:
                    found.append(self._scarce(node, after, moved))
                else:
                    slack += moved
                found.append(self._longer(node, (finish - start) - (known[1] - known[0])))
            ends = known[1]
        planned = self.planned.course.end_of_all
        if not self.nodes:
            gone = self.course.end_of_all - planned
            return [_share(Cause.CHAIN, None, gone, "everything was left out")]
        slack += ends - planned
        side = "before" if slack < 0 else "after"
        words = f"by itself this chain was to end {_span(abs(slack))} {side} what was accepted"
        return [*found, _share(Cause.CHAIN, None, slack, words)]

    def _over(self, node: int) -> bool:
        known = self._accepted(node)
        return known is not None and known[2]

    def _ran(self, node: int) -> bool:
        """Whether a node ran when the revision in force was accepted."""
        other = self.planned.chain.node_of.get(self.chain.items[node])
        return other is not None and bool(self.planned.course.stage[other] == Stage.RUNNING)

    def _longer(self, node: int, more: float) -> Share:
        task_id, stage = self.chain.items[node][0], self.course.stage[node]
        verb = "took" if stage == Stage.DONE else "has run" if stage == Stage.RUNNING else None
        side = "longer" if more > 0 else "less"
        words = f"{self._name(node)} {verb or 'will take'} {_span(abs(more))} {side} than planned"
        if stage == Stage.RUNNING and float(self.course.finish[node]) > self.course.now + DUST:
            words = words.replace("has run", "is taking")
        return _share(Cause.DURATION, task_id, more, words + self._blamed(task_id, _lengthens))

    def _waited(self, node: int, gap: float, *, planned: bool = False) -> Share:
        task_id = self.chain.items[node][0]
        verb = "has not begun" if self.course.stage[node] == Stage.WAITING else "began"
        than = "it was planned to" if planned else "it could"
        side = f"{_span(abs(gap))} {'after' if gap >= 0 else 'before'} {than}"
        words = f"{self._name(node)} {verb} {side}"
        if gap < 0 and not planned:
            words = f"{self._name(node)} began {_span(-gap)} before what it waits for had ended"
        earlier = len(self.monitor.state.task(*self.chain.items[node]).attempts) - 1
        if earlier > 0:
            words += f", after {earlier} earlier attempt{'s' if earlier > 1 else ''}"
        return _share(Cause.WAIT, task_id, gap, words)

    def _scarce(self, node: int, after: int, more: float) -> Share:
        """`node` waits for what `after` holds; by what was accepted it ran beside or before it."""
        problem, task_id = self.chain.problem, self.chain.items[node][0]
        both = (problem.demands[node] > 0) & (problem.demands[after] > 0)
        names = [n for n, shared in zip(problem.resources, both.tolist(), strict=True) if shared]
        short = [n for n in names if n in self.progress.effects.capacities]
        held = short or [n for n in names if n != RUNNER]
        what = " and ".join(held) if held else "a worker"
        words = (
            f"{self._name(node)} waits {_span(more)} for {what}, which {self._name(after)} holds"
        )
        blamed = self._blamed(
            None, lambda e: bool(e.capacity and set(e.capacity) & set(short)), of=short
        )
        return _share(Cause.RESOURCE, task_id, more, words + blamed)

    def _blamed(
        self,
        task_id: str | None,
        does: Callable[[Effect], bool],
        *,
        of: Sequence[str] | None = None,
    ) -> str:
        """The violated assumptions that an effect comes from, in words."""
        if of is not None and not of:
            return ""
        found = [
            r.id
            for r in self.reaches
            if r.effect is not None and does(r.effect) and (task_id is None or task_id in r.tasks)
        ]
        return f" ({', '.join(found)} violated)" if found else ""

    def _name(self, node: int) -> str:
        task_id, index = self.chain.items[node]
        return task_id if index is None or index == JOIN else f"{task_id}[{index}]"


def _lengthens(effect: Effect) -> bool:
    return effect.duration_factor is not None or effect.mode is not None


def _order(seconds: float) -> Share:
    side = "later" if seconds > 0 else "earlier"
    words = f"the order that the run goes by ends {_span(abs(seconds))} {side} than was accepted"
    return _share(Cause.ORDER, None, seconds, words)


def _spread(monitor: ExecutionMonitor, seconds: float) -> Share:
    what = "the spread of durations"
    if monitor.learned is not None:
        what = "what earlier runs took"
    side = "adds" if seconds > 0 else "takes off"
    return _share(Cause.UNCERTAINTY, None, seconds, f"{what} {side} {_span(abs(seconds))}")


def _share(cause: Cause, task_id: str | None, seconds: float, words: str) -> Share:
    return Share(cause=cause, task_id=task_id, amount=timedelta(seconds=seconds), words=words)


def _span(seconds: float) -> str:
    return format_duration(
        timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    )
