"""Better schedules from many priorities: forward-backward improvement, many times over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule.generation import Frame, Mirror, parallel, serial
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.rest import Choice
from athena_prefect.schedule.worth import Value

Clock = Callable[[], float]
"""Seconds, from any origin, that never run backwards."""
SPREAD = 0.25
"""Most noise of a new priority, as a share of the span of latest finishes: a quarter moves
activities past their neighbours, but seldom past everything."""
SIZE = 20
"""Schedules of a population: with 10 it stood still sooner, with 40 it took longer than a
second to be better."""


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
        if self._mirror is None:
            self._mirror = Mirror(self.frame)
        return forward_backward(
            self.frame, self._mirror, starts, self.value, rounds=rounds, go_on=go_on
        )


def forward_backward(
    frame: Frame,
    mirror: Mirror,
    starts: Floats,
    value: Callable[[Floats], Value],
    *,
    rounds: int,
    go_on: Callable[[], bool],
) -> Floats:
    """`starts` moved to the right from the end, then to the left, as often as it gains."""
    best, worth = starts, value(starts)
    for _ in range(rounds):
        if not go_on():
            break
        order = np.lexsort((-frame.network.rank, -frame.finishes(best)))
        right = np.array(serial(mirror, order.tolist())) + mirror.lengths
        order = np.lexsort((frame.network.rank, -right))
        left = np.array(serial(frame, order.tolist()))
        new = value(left)
        if new[0] >= worth[0] - TOLERANCE:
            break
        best, worth = left, new
    return best


class Breed:
    """A population of schedules of one frame, of which new ones are bred (Hartmann 1998).

    A child takes a stretch of one parent's order and fits the rest in the other's
    order round it; it is generated, improved forward and backward once (Valls,
    Ballestín, Quintanilla 2008), and takes the place of the worst where it is no
    worse. Until there are `SIZE` of them, new ones come from noisy latest finishes.
    """

    def __init__(
        self, improver: Improver, known: Iterable[Floats], rng: np.random.Generator
    ) -> None:
        self.improver = improver
        self.frame = improver.frame
        self.rng = rng
        self.members: list[tuple[Value, Floats]] = [(improver.value(s), s) for s in known]

    def child(self, go_on: Callable[[], bool]) -> Floats:
        """One more schedule, already taken in where it is worth it."""
        made = self._bred() if len(self.members) >= SIZE else self._sampled()
        starts = self.improver.improved(made, rounds=1, go_on=go_on)
        self._take_in(starts)
        return starts

    def _take_in(self, starts: Floats) -> None:
        value, members = self.improver.value(starts), self.members
        if len(members) < SIZE:
            members.append((value, starts))
            return
        worst = max(range(len(members)), key=lambda k: members[k][0])
        known = any(v == value and np.array_equal(s, starts) for v, s in members)
        if value <= members[worst][0] and not known:
            members[worst] = (value, starts)

    def _sampled(self) -> Floats:
        frame, rng = self.frame, self.rng
        sequence = frame.ranked(noisy_latest_finish(frame, rng))
        if frame.rising and rng.random() < 0.5:
            return np.array(parallel(frame, sequence))
        return np.array(serial(frame, sequence))

    def _bred(self) -> Floats:
        rng = self.rng
        pair = [self.members[k] for k in rng.choice(len(self.members), 2, replace=False)]
        mother, father = sorted(pair, key=lambda member: member[0])
        priority, _ = crossed(self.frame, mother[1], father[1], rng)
        return np.array(serial(self.frame, self.frame.ranked(priority)))


def noisy_latest_finish(frame: Frame, rng: np.random.Generator) -> Floats:
    """Priorities of a schedule that is somewhere near that by latest finish."""
    base = frame.latest_finish()
    span = float(np.ptp(base)) or 1.0
    return base + rng.normal(0.0, SPREAD * rng.random() * span, len(base))


def crossed(
    frame: Frame, mother: Floats, father: Floats, rng: np.random.Generator
) -> tuple[Floats, Bools]:
    """Priorities of a child of two schedules' orders, and which activities are the mother's."""
    count = frame.count
    order_of_mother, order_of_father = (
        np.lexsort((frame.network.rank, s)) for s in (mother, father)
    )
    first = int(rng.integers(0, count))
    last = min(count, first + max(int(rng.integers(count // 4, 3 * count // 4 + 1)), 1))
    # 0: before the stretch, 1: in it, 2: behind it; outside the father's order counts.
    part = np.full(count, 2)
    part[order_of_mother[:first]], part[order_of_mother[first:last]] = 0, 1
    place = np.empty(count)
    place[order_of_father] = np.arange(count)
    own = np.empty(count)
    own[order_of_mother] = np.arange(count)
    order = np.lexsort((np.where(part == 1, own, place), part))
    priority = np.empty(count)
    priority[order] = np.arange(count)
    if rng.random() < 0.5:
        some = rng.integers(0, count, max(1, count // 20))
        priority[some] += rng.normal(0.0, 0.1 * count, len(some))
    return priority, part == 1
