"""Better schedules from many priorities: forward-backward improvement, many times over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.generation import Frame, Mirror, parallel, serial
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.rest import Choice

Clock = Callable[[], float]
"""Seconds, from any origin, that never run backwards."""
Value = tuple[float, float]
"""What is minimised, the first first; the second breaks ties."""

SPREAD = 0.25
"""Noise of a restart's priorities, as a share of the span of the best starts: a quarter moves
activities past their neighbours, but seldom past everything."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A feasible schedule and what it is worth."""

    starts: Floats
    choice: Choice
    value: Value
    source: str
    """What found it."""


class Budget:
    """How much time is left, and whether another step of known length fits into it."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.began = clock()
        self.seconds = seconds
        self._longest = 0.0

    @property
    def spent(self) -> float:
        """Seconds since the budget was opened."""
        return self.clock() - self.began

    @property
    def left(self) -> float:
        """Seconds that are left; negative where it is overdrawn."""
        return self.seconds - self.spent

    def fits(self, seconds: float) -> bool:
        """Whether a step of so many seconds ends within the budget."""
        return seconds <= self.left


def right_shifted(frame: Frame, previous: Floats) -> Floats:
    """The order so far, each activity as early as what has happened allows.

    Activities that had no start are placed last, by latest finish.
    """
    behind = np.where(np.isnan(previous), np.nanmax(previous, initial=0.0) + 1.0, previous)
    order = np.lexsort((frame.network.rank, frame.latest_finish(), behind))
    return np.array(serial(frame, order.tolist()))


class Improver:
    """Forward-backward improvement (Li, Willis 1992) of schedules of one frame."""

    def __init__(self, frame: Frame, value: Callable[[Floats], Value]) -> None:
        self.frame = frame
        self.value = value
        self._mirror: Mirror | None = None

    def first(self, *, also_serial: bool) -> Iterator[Floats]:
        """Schedules by latest finish: of parallel generation where it is possible, and serial."""
        sequence = self.frame.ranked(self.frame.latest_finish())
        if self.frame.rising:
            yield np.array(parallel(self.frame, sequence))
        if also_serial:
            yield np.array(serial(self.frame, sequence))

    def improved(
        self, starts: Floats, *, rounds: int = 100, go_on: Callable[[], bool] = lambda: True
    ) -> Floats:
        """Moved to the right from the end, then to the left again, until nothing is gained."""
        frame = self.frame
        if self._mirror is None:
            self._mirror = Mirror(frame)
        mirror = self._mirror
        best, worth = starts, self.value(starts)
        lengths = np.array(mirror.durations)
        for _ in range(rounds):
            if not go_on():
                break
            order = np.lexsort((-frame.network.rank, -frame.finishes(best)))
            right = np.array(serial(mirror, order.tolist())) + lengths
            order = np.lexsort((frame.network.rank, -right))
            left = np.array(serial(frame, order.tolist()))
            new = self.value(left)
            if new[0] >= worth[0] - TOLERANCE:
                break
            best, worth = left, new
        return best

    def restarted(self, best: Floats, rng: np.random.Generator) -> Floats:
        """Another schedule near the best one or near the latest finish times."""
        frame = self.frame
        if rng.random() < 0.5:
            base, width = best, SPREAD * rng.random()
        else:
            base, width = frame.latest_finish(), SPREAD
        span = float(np.ptp(base)) or 1.0
        noisy = base + rng.normal(0.0, width * span, len(base))
        sequence = frame.ranked(noisy)
        if frame.rising and rng.random() < 0.5:
            return np.array(parallel(frame, sequence))
        return np.array(serial(frame, sequence))
