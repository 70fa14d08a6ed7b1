"""Whether a proposal that nobody adopted would have been right, once its run is over.

The durations that the run's tasks really had are replayed through the proposal's
partial order: its dependencies, and the order in which it hands on resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.journal.state import Attempt, ExecutionState
from athena_prefect.plan.model import DEFAULT_MODE, Plan
from athena_prefect.plan.units import format_duration

DUST = 0.5e-3
"""Seconds: what is kept of a proposal is rounded to milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """What would have become of a run under a proposal; seconds from the start of the run."""

    finish: float | None
    """Of the run; None where it did not reach its goals."""
    would_be: float
    """Finish under the proposal, with the durations that tasks really had."""
    accepted: float | None
    """What the proposal would have promised."""
    assumed: tuple[str, ...]
    """Tasks that never ran, or not in that way: they are taken to last as was planned."""

    @property
    def right(self) -> bool:
        """Whether the run would have ended earlier, or would have ended well at all."""
        return self.finish is None or self.would_be < self.finish - DUST

    @property
    def gain(self) -> timedelta | None:
        """How much earlier; None where the run did not reach its goals."""
        return None if self.finish is None else timedelta(seconds=self.finish - self.would_be)

    @property
    def kept(self) -> bool | None:
        """Whether its promise would have been kept; None where it promised nothing."""
        return None if self.accepted is None else self.would_be <= self.accepted + DUST

    def __str__(self) -> str:
        end = f"would have ended after {_span(self.would_be)}"
        if self.finish is None:
            words = f"right: the run did not reach its goals, and {end}"
        elif self.right:
            words = f"right: it {end}, {_span(self.finish - self.would_be)} earlier"
        else:
            later = self.would_be - self.finish
            much = f"{_span(later)} later" if later > DUST else "no earlier"
            words = f"wrong: it {end}, {much}"
        if self.kept is not None and not self.kept:
            words += "; its promise would have been broken"
        if self.assumed:
            words += f"; {', '.join(self.assumed)} as planned, since not run that way"
        return words


def hindsight(course: Mapping[str, Any], plan: Plan, state: ExecutionState) -> Hindsight | None:
    """What would have become of the run under the proposal whose partial order is `course`.

    None while the run is not over, and where nothing of it was recorded.
    """
    started = state.started
    if started is None or state.ended is None:
        return None
    now = float(course["now"])
    ends: dict[int, float] = {}
    assumed: dict[str, None] = {}
    for row in course["rows"]:
        ready = max(
            (ends[before] + lag for before, lag in row["after"] if before in ends), default=0.0
        )
        if row["join"]:
            ends[row["row"]] = ready
            continue
        known = _fixed(state, row, started, now)
        if known is not None:
            ends[row["row"]] = known
            continue
        took = _took(state, row)
        if took is None:
            assumed[row["task"]] = None
            took = float(row["takes"])
        ends[row["row"]] = max(ready, now) + took
    if not ends:
        return None
    reached = all(_done(state, t) for t in plan.required)
    finish = _last_end(state, started) if reached else None
    accepted = course.get("accepted")
    return Hindsight(
        finish=finish,
        would_be=max(ends.values()),
        accepted=None if accepted is None else float(accepted),
        assumed=tuple(assumed),
    )


def _done(state: ExecutionState, task_id: str) -> bool:
    return state.status(task_id).good or state.task(task_id).skipped


def _good(state: ExecutionState, row: Mapping[str, Any]) -> Attempt | None:
    own = state.task(row["task"], row["item"]).in_force
    return own if own is not None and own.ended is not None else None


def _fixed(
    state: ExecutionState, row: Mapping[str, Any], started: datetime, now: float
) -> float | None:
    """End of what had begun when the proposal was made: that is as it was."""
    attempt = _good(state, row)
    if attempt is None or attempt.started is None or attempt.ended is None:
        return None
    if (attempt.started - started).total_seconds() > now:
        return None
    return (attempt.ended - started).total_seconds()


def _took(state: ExecutionState, row: Mapping[str, Any]) -> float | None:
    """The duration that it really had in the mode of the proposal."""
    attempt = _good(state, row)
    if attempt is None or attempt.started is None or attempt.ended is None:
        return None
    if (attempt.data.get("mode") or DEFAULT_MODE) != row["mode"]:
        return None
    return (attempt.ended - attempt.started).total_seconds()


def _last_end(state: ExecutionState, started: datetime) -> float:
    ends = [
        t.in_force.ended
        for t in state.tasks.values()
        if t.in_force is not None and t.in_force.ended is not None
    ]
    return max(((e - started).total_seconds() for e in ends), default=0.0)


def _span(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds, 2 if seconds < 10 else 0)))
