"""Keeps the simulation behind a forecast as fresh as it has to be, and no fresher."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from athena_prefect.monitor.course import Course, Stage
from athena_prefect.monitor.forecast import Forecast, TaskOutlook
from athena_prefect.monitor.learned import Learned, LearnedSimulation
from athena_prefect.monitor.progress import Progress
from athena_prefect.monitor.pure import basis_of, simulated
from athena_prefect.schedule.simulation import Simulation

Floats = NDArray[np.float64]
MOVE = 0.01
"""Move of the deterministic finish, as a share of the baseline's duration, that calls for a
new simulation: a tenth of the slip that needs no response by default."""
AGE = timedelta(seconds=5)
"""Age from which a simulation is made anew: about as often as somebody looks."""
MICROSECOND = 1e-6
"""Datetimes hold no less: times in seconds that are nearer than this are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Simulated:
    """A simulation and the moment and the deterministic finish that it was made at."""

    as_of: datetime
    end: float
    course: Course
    scope: int
    simulation: Simulation | LearnedSimulation


class Forecaster:
    """Forecasts of one run: simulated where something is uncertain, exact where nothing is.

    Between two simulations the finish is shifted by what the deterministic
    finish has moved since; `as_of` says when the simulation was made.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        seed: int,
        samples: int,
        span: float,
        learned: Learned | None = None,
    ) -> None:
        """`span`: the baseline's duration in seconds, of which `MOVE` is a share.

        `learned`: what finished runs teach, where forecasts rest on them.
        """
        self._progress = progress
        self._learned = learned
        self._seed = seed
        self._samples = samples
        self._span = span
        self._last: _Simulated | None = None
        self.bound: float | None = None
        """Seconds from the start by which the run should be over: deadline, or what stands
        in for it."""
        self._latest: tuple[int, Course, Floats] | None = None
        self._chained: datetime | None = None

    def bind(self, bound: float | None) -> None:
        """Hold the run to another bound."""
        if bound != self.bound:
            self.bound, self._latest, self._last = bound, None, None

    def bring_up(self, now: datetime) -> None:
        """Bring the course up to `now`.

        What started out of the chained order has taken its place at once; the whole
        rest is chained anew as seldom as it is simulated, since that costs more.
        """
        progress = self._progress
        fresh = self._chained is not None and timedelta(0) <= now - self._chained < AGE
        if progress.out_of_order and not fresh:
            progress.rechain(now)
            self._chained = now
        progress.advance(now)

    @property
    def certain(self) -> bool:
        """Whether every open node's duration is one number: no simulation is needed then."""
        progress = self._progress
        if self._learned is not None:
            # What is planned to take no time is no work, and what is not known is uncertain.
            work = ~(progress.chain.problem.durations <= 0)
            return not (work & progress.course.open).any()
        return not (progress.chain.problem.uncertain & progress.course.open).any()

    def latest(self) -> Floats | None:
        """Latest finish of each node in seconds; None where there is no bound."""
        if self.bound is None:
            return None
        course = self._progress.course
        if self._latest is None or self._latest[:2] != (course.version, course):
            latest = course.latest(self.bound, self._progress.chain.own_deadlines)
            self._latest = (course.version, course, latest)
        return self._latest[2]

    def finishes(self, now: datetime) -> tuple[Floats, datetime]:
        """Sorted finishes of the simulated runs in seconds, and when they were simulated."""
        if self.certain:
            return np.array([self._progress.course.end_of_all]), now
        made = self._simulated(now)
        shift = self._progress.course.end_of_all - made.end
        return made.simulation.makespans + shift, made.as_of

    def risks(self, now: datetime) -> Floats:
        """P(finish > latest finish) of each node; 0 where there is no bound, or it is over."""
        latest, course = self.latest(), self._progress.course
        if latest is None:
            return np.zeros(len(course))
        if self.certain:
            late = (course.finish > latest + MICROSECOND).astype(np.float64)
        else:
            simulated = self._simulated(now).simulation.late
            assert simulated is not None, "there are limits, since there is a bound"
            late = simulated
        return np.where(course.open, late, 0.0)

    def _simulated(self, now: datetime, *, keep: bool = False) -> _Simulated:
        last = self._last
        kept = last is None or last.simulation.start_samples is not None
        short = keep and not kept and self._learned is None
        if last is None or short or self._stale(last, now):
            progress = self._progress
            self._last = last = _Simulated(
                as_of=now,
                end=progress.course.end_of_all,
                course=progress.course,
                scope=progress.course.scope,
                simulation=self._made(keep),
            )
        return last

    def _made(self, keep: bool) -> Simulation | LearnedSimulation:
        return simulated(
            self._progress,
            self._learned,
            samples=self._samples,
            rng=np.random.default_rng(self._seed),
            latest=self.latest(),
            keep=keep,
        )

    def _stale(self, last: _Simulated, now: datetime) -> bool:
        course = self._progress.course
        moved = abs(course.end_of_all - last.end) > MOVE * self._span
        other_work = last.course is not course or last.scope != course.scope
        return moved or other_work or not timedelta(0) <= now - last.as_of < AGE

    def forecast(self, now: datetime, deadline: datetime | None) -> Forecast:
        """The forecast at `now`, to which the course has been brought."""
        outlook = self._outlook(now)
        finishes, as_of = self.finishes(now)
        progress = self._progress
        return Forecast(
            as_of=as_of,
            started=progress.started,
            deadline=deadline,
            seed=self._seed,
            basis=basis_of(progress, self._learned, len(finishes)),
            finishes=finishes,
            outlook=outlook,
        )

    def _outlook(self, now: datetime) -> TaskOutlook:
        """Each open task once: a mapped one from its first item's start to its last one's end."""
        progress = self._progress
        course, risks = progress.course, self.risks(now)
        if self.certain:
            starts, finishes = course.start, course.finish
        else:
            simulation = self._simulated(now, keep=True).simulation
            starts, finishes = simulation.start_p50, simulation.finish_p50
        starts = np.where(course.stage == Stage.WAITING, starts, course.start)
        tasks: dict[str, list[float]] = {}
        for node in np.flatnonzero(course.open).tolist():
            known = tasks.setdefault(progress.chain.items[node][0], [np.inf, 0.0, 0.0])
            known[0] = min(known[0], float(starts[node]))
            known[1] = max(known[1], float(finishes[node]))
            known[2] = max(known[2], float(risks[node]))
        columns = np.array(list(tasks.values())).reshape(-1, 3)
        return TaskOutlook(
            task_ids=tuple(tasks), starts=columns[:, 0], finishes=columns[:, 1], risks=columns[:, 2]
        )
