"""The open work of a run as arrays, and when it is over in many scenarios."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from athena_prefect.monitor.capacity import finishes_of, first_come
from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.knowledge import Knowledge, Tasks
from athena_prefect.monitor.posterior import Posterior
from athena_prefect.monitor.residuals import REACH, WIDE, draw
from athena_prefect.plan.graph import Bools, Floats, Ints, Network

DRAWS = 1024
"""Quantiles of a residual that are drawn from: off by half a thousandth at most."""
OVERTIME = 0.25
"""What a task that outran all that is expected takes longer still: as a mean of the log factor
where durations are drawn, as a share of its elapsed time for velocity."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """Where a run stands: its activities and how many of them may run at once; seconds.

    What has been left out is no activity of it any more.
    """

    plan: str
    network: Network
    categories: tuple[str, ...]
    category: Ints
    planned: Floats
    """As planned, shape (n,)."""
    start: Floats
    """NaN: not yet."""
    finish: Floats
    """NaN: not yet."""
    now: float
    slots: float
    instant: Bools
    """What is no work, like the end of a mapped task as a whole."""
    strays: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Ended activities with troubles of their own: they say nothing of the others."""

    @cached_property
    def done(self) -> Bools:
        """What has ended well."""
        mask: Bools = ~np.isnan(self.finish)
        return mask

    @cached_property
    def running(self) -> Bools:
        """What runs."""
        mask: Bools = ~np.isnan(self.start) & ~self.done
        return mask

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks as the posterior sees them; what is no work is none of them."""
        real = ~self.instant
        return Tasks(
            categories=self.categories,
            category=self.category[real],
            planned=self.planned[real],
            actual=np.where(self._telling, self.finish - self.start, np.nan)[real],
            elapsed=np.where(self.running, self.now - self.start, np.nan)[real],
        )

    @cached_property
    def _telling(self) -> Bools:
        """What has ended and says something of the others."""
        mask = self.done.copy()
        mask[self.strays] = False
        return mask

    @property
    def open_work(self) -> dict[str, float]:
        """Planned seconds of what is open, by category."""
        seconds = np.bincount(
            self.category,
            weights=np.where(self.done, 0.0, self.planned),
            minlength=len(self.categories),
        )
        return dict(zip(self.categories, seconds.tolist(), strict=True))

    @property
    def share_done(self) -> float:
        """Share of the tasks that have ended."""
        real = ~self.instant
        return float(self.done[real].mean()) if real.any() else 1.0

    @cached_property
    def pace(self) -> float:
        """What ended tasks took over what was planned for them; 1 where none has."""
        planned = float(self.planned[self._telling].sum())
        actual = float((self.finish - self.start)[self._telling].sum())
        return actual / planned if planned > 0 and actual > 0 else 1.0

    def list_schedule(self, durations: Floats) -> tuple[Floats, Floats]:
        """Starts and finishes where the rest takes `durations`."""
        return first_come(
            self.network,
            durations,
            self.slots,
            now=self.now,
            start=self.start,
            finish=self.finish,
            instant=self.instant,
        )

    @cached_property
    def at_pace(self) -> Floats:
        """Durations where everything open takes as much longer as what has ended did.

        What has run longer than that already takes some of its elapsed time more: where
        hundreds run at once, the pace of those that ended first says that all end now.
        """
        lengths = self.planned * self.pace
        elapsed = self.now - self.start[self.running]
        lengths[self.running] = np.maximum(lengths[self.running], elapsed * (1 + OVERTIME))
        return lengths


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenarios:
    """Drawn ways in which the rest of a run may go; seconds from its start."""

    ends: Floats
    """Finish of the run in each, in the order of their drawing."""
    nodes: Ints
    """The open activities, by which the rows of `finishes` and `lengths` go."""
    finishes: Floats
    lengths: Floats
    velocity: float
    """Finish by the resource-aware velocity, in the order in which the scenarios go."""


def scenarios(
    knowledge: Knowledge, work: Work, samples: int, rng: np.random.Generator
) -> Scenarios:
    """`samples` ways in which the rest of the run may go, durations from the posterior."""
    over = float(work.finish[work.done].max(initial=0.0))
    if work.done.all():
        none = np.zeros((0, samples))
        return Scenarios(
            ends=np.full(samples, over),
            nodes=np.zeros(0, dtype=np.int64),
            finishes=none,
            lengths=none,
            velocity=over,
        )
    lengths, middle = _lengths(knowledge, work, samples, rng)
    active = np.flatnonzero(work.running)
    ends = np.maximum(work.start[active, None] + lengths[active], work.now)
    middle[active] = np.median(ends, axis=1) - work.start[active]
    begun, _ = work.list_schedule(middle)
    waiting = np.flatnonzero(~work.done & ~work.running)
    order = waiting[np.lexsort((work.network.rank[waiting], begun[waiting]))]
    finishes = finishes_of(
        work.network,
        lengths[order],
        work.slots,
        now=work.now,
        order=order,
        running=active,
        ends=ends,
        instant=work.instant,
    )
    nodes = np.concatenate((active, order))
    finish = finishes.max(axis=0, initial=max(over, work.now))
    # The last column is no drawing, but velocity.
    return Scenarios(
        ends=finish[:-1],
        nodes=nodes,
        finishes=finishes[:, :-1],
        lengths=lengths[nodes, :-1],
        velocity=float(finish[-1]),
    )


def _lengths(
    knowledge: Knowledge, work: Work, samples: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Durations of all open activities, shape (n, samples + 1), and a middle one of each.

    The last column is what they take at the pace so far.
    """
    posterior = Posterior(knowledge, work.tasks)
    wanted = np.unique(work.category[~work.done & ~work.instant]).tolist()
    theta = posterior.slowness(samples, rng, wanted)
    lengths = np.zeros((len(work.planned), samples + 1))
    middle = np.zeros(len(work.planned))
    least = np.full(len(work.planned), np.nan)
    least[~work.instant] = posterior.least
    for c in wanted:
        mine = (work.category == c) & ~work.done & ~work.instant
        waiting, running = np.flatnonzero(mine & ~work.running), np.flatnonzero(mine & work.running)
        if not len(waiting) and not len(running):
            continue
        cumulative = posterior.residuals(c)
        shape = posterior.shape(c, theta[c], rng)
        # A table of quantiles is drawn from: looking each up would take most of the time.
        levels = (np.arange(DRAWS) + 0.5) / DRAWS
        table = np.array([WIDE[draw(row, levels)] for row in cumulative])
        luck = rng.integers(0, DRAWS, size=(len(waiting), samples), dtype=np.uint16)
        luck += (shape * DRAWS).astype(np.uint16)
        drawn = table.reshape(-1)[luck]
        drawn += theta[c]
        np.clip(drawn, -REACH, REACH, out=drawn)
        drawn += np.log(np.maximum(work.planned[waiting], SHORTEST))[:, None]
        lengths[waiting, :-1] = np.exp(drawn, out=drawn)
        middle[waiting] = np.exp(np.median(theta[c] + table[shape, DRAWS // 2]))
        if len(running):
            ratios = _beyond(least[running], theta[c], shape, cumulative, rng)
            lengths[running, :-1] = np.exp(ratios) * work.planned[running, None]
    lengths[:, -1] = work.at_pace
    return lengths, middle * work.planned


def _beyond(
    least: Floats, theta: Floats, shape: Ints, cumulative: Floats, rng: np.random.Generator
) -> Floats:
    """Log ratios of tasks that have run to `least`, given that they are not over.

    `theta`, `shape`: of each scenario; `cumulative`: of each shape, on `WIDE`.
    """
    known = np.empty((len(least), len(theta)))
    left = np.empty_like(known)
    luck = rng.random(known.shape)
    for k in np.unique(shape).tolist():
        mine, row = shape == k, cumulative[k]
        below = np.interp(least[:, None] - theta[mine], WIDE, row, left=0.0, right=1.0)
        left[:, mine] = 1.0 - below
        place = np.searchsorted(row, below + luck[:, mine] * (1.0 - below), side="right")
        known[:, mine] = theta[mine] + WIDE[np.minimum(place, len(WIDE) - 1)]
    # Where none took so long the rest is a share of what it has taken.
    longer = OVERTIME * rng.exponential(size=known.shape).clip(max=4.0)
    at = least[:, None]
    result: Floats = np.where(left < 1e-3, at + longer, np.maximum(known, at))
    return np.minimum(result, np.maximum(at, REACH) + 1.0)
