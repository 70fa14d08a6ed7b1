"""Resource-feasible schedules of a whole problem: serial generation, and its improvement."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.generation import Frame, serial
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.rest import AS_IT_STANDS, Rest
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.search import Improver
from athena_prefect.schedule.worth import Value


def serial_generation(
    problem: Problem,
    *,
    release: ArrayLike | None = None,
    fixed_starts: Floats | None = None,
    priority: Floats | None = None,
) -> Schedule:
    """The active schedule that serial generation makes (Kolisch 1996).

    Of the activities whose predecessors are placed, the one of least `priority`
    (by default the latest finish time without resources) is placed as early as
    precedence, capacities and its `release` (seconds, one or shape (n,)) allow.
    `fixed_starts`: where it is not NaN the activity stands there, whatever it
    breaks. Raises InfeasibleError where an activity takes more than there is, and
    PlanError where a duration is not known.
    """
    frame = _frame(problem, release, fixed_starts)
    if priority is None:
        priority = frame.latest_finish()
    if priority.shape != (len(problem),):
        raise PlanError(f"{len(problem)} activities, but priorities of shape {priority.shape}")
    return _schedule(frame, np.array(serial(frame, frame.ranked(priority))))


def improved(
    schedule: Schedule, *, release: ArrayLike | None = None, rounds: int = 100
) -> Schedule:
    """Forward-backward improvement until it gains nothing more (Li, Willis 1992).

    All activities that are not fixed are moved to the right from the end, then to
    the left again in the order that results. `release` as for the first
    generation. Never worse than `schedule`.
    """
    fixed_starts = np.where(schedule.fixed, schedule.starts, np.nan)
    frame = _frame(schedule.problem, release, fixed_starts)

    def makespan(starts: Floats) -> Value:
        return float(frame.finishes(starts).max(initial=0.0)), 0.0

    return _schedule(frame, Improver(frame, makespan).improved(schedule.starts, rounds=rounds))


def _frame(problem: Problem, release: ArrayLike | None, fixed_starts: Floats | None) -> Frame:
    count = len(problem)
    earliest = np.broadcast_to(np.asarray(0.0 if release is None else release, float), (count,))
    starts = np.full(count, np.nan) if fixed_starts is None else fixed_starts
    now = float(earliest[np.isnan(starts)].min(initial=np.inf))
    rest = Rest(
        problem=problem, now=now if np.isfinite(now) else 0.0, starts=starts, release=earliest
    )
    return Frame(rest, AS_IT_STANDS)


def _schedule(frame: Frame, starts: Floats) -> Schedule:
    return Schedule(
        problem=frame.problem, starts=starts, finishes=frame.finishes(starts), fixed=frame.fixed
    )
