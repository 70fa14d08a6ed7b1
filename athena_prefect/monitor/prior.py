"""How slow a run may be, before it has shown anything: a mixture over the finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.knowledge import (
    ODDITIES,
    PRIOR_RUNS,
    SHARED,
    Knowledge,
    Tasks,
    work_class,
)
from athena_prefect.plan.graph import Bools, Floats, Ints

FLOOR = 0.03
"""Least spread of a category's slowness between two runs."""
SHIFT = 0.5
"""Spread of the log factor by which a run as a whole is off all before: twice, or half, is no
surprise where a machine or the input has changed. Until several categories agree on it, such a
run is thought as likely as one more past run, halved."""
BANDWIDTHS: Floats = np.array([0.1, 0.2, 0.4, 0.7, 1.0])
"""Candidate spreads around a past run, as shares of the spread between runs."""
SIZES = (0.5, 1.5, np.inf)
"""Candidate scales of the log of the number of tasks, over which runs stay alike."""
MIXES = (0.15, 0.5, np.inf)
"""Candidate scales of the log of the categories' shares of the tasks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """A mixture over past runs: of each component its weight, centres and spreads."""

    weight: Floats
    """Shape (components,)."""
    centre: Floats
    """Of each component and category, shape (components, categories)."""
    own: Floats
    """Spread of a category around its centre and the run's factor, like `centre`."""
    common: Floats
    """Spread of the run's factor, shape (components,)."""
    runs: Floats
    """Weights of the plan's own past runs."""


def prior_of(knowledge: Knowledge, tasks: Tasks) -> Prior:
    """The prior of a run of these tasks."""
    categories, counts = tasks.categories, tasks.counts
    size = len(categories)
    wide = knowledge.between[work_class(tasks.shares)]
    common = float(knowledge.between[-1])
    codes = np.array([knowledge.code.get(name, -1) for name in categories], dtype=np.int64)
    elsewhere = np.zeros(size)
    for c, code in enumerate(codes.tolist()):
        known = knowledge.theta[:, code][np.isfinite(knowledge.theta[:, code])]
        if code >= 0 and len(known):
            # Half-way to "as planned": another plan's estimates may be better.
            elsewhere[c] = float(np.median(known)) * len(known) / (len(known) + PRIOR_RUNS)
    runs = knowledge.own
    if not len(runs):
        relative = wide / common
        return Prior(
            weight=knowledge.oddity,
            centre=np.broadcast_to(elsewhere, (len(ODDITIES), size)),
            own=np.sqrt(1 - SHARED) * ODDITIES[:, None] * relative,
            common=np.sqrt(SHARED) * ODDITIES,
            runs=np.zeros(0),
        )
    ratio = knowledge.theta[np.ix_(runs, np.maximum(codes, 0))]
    ratio = np.where(codes >= 0, ratio, np.nan)
    seen = np.isfinite(ratio)
    logs = np.log(np.maximum(tasks.planned, SHORTEST))
    level = np.bincount(tasks.category, weights=logs, minlength=size) / np.maximum(counts, 1)
    before = np.where(seen, knowledge.levels[np.ix_(runs, np.maximum(codes, 0))], 0.0)
    absolute = ratio + before - level
    # Where a plan's estimates change from run to run, what it took may say more.
    theta = min((ratio, absolute), key=lambda t: _off(t, elsewhere)[1].sum())
    off, _ = _off(theta, elsewhere)
    number = seen.sum(axis=0)
    middle = np.where(number > 0, np.nansum(theta, axis=0) / np.maximum(number, 1), elsewhere)
    spread = np.sqrt(
        (np.square(off).sum(axis=0) + PRIOR_RUNS * wide**2)
        / (np.maximum(number - 1, 0) + PRIOR_RUNS)
    )
    spread = np.where(number > 0, spread, np.maximum(wide, _unforeseen(knowledge, runs)))
    filled = np.where(seen, theta, middle)
    likeness = _Likeness(knowledge, runs, theta, filled, seen, spread)
    weights, band = likeness.weights(categories, counts)
    # Two more: one that knows no run, and one of a run that as a whole is as none before.
    number_of = len(runs)
    unlike = 1.0 / (number_of + 1)
    own = np.where(seen, band * spread, spread)
    commons = np.full(number_of + 2, band * likeness.common)
    commons[-2:] = likeness.common * 1.2, max(SHIFT, likeness.common)
    return Prior(
        weight=np.concatenate(((1 - unlike) * weights, [unlike / 2, unlike / 2])),
        centre=np.concatenate((filled, middle[None], middle[None])),
        own=np.maximum(np.concatenate((own, spread[None] * 1.2, spread[None])), FLOOR),
        common=np.maximum(commons, FLOOR),
        runs=weights,
    )


def _unforeseen(knowledge: Knowledge, runs: Ints) -> float:
    """Spread of log(actual / planned) of a category that no run of the plan had before.

    It is as far off as categories were that a single one of these runs had, as far as there
    are any, and as those of plans never seen are.
    """
    theta = knowledge.theta[runs]
    known = np.isfinite(theta)
    first = theta[known & (known.sum(axis=0) == 1)]
    of_plans = float(knowledge.oddity @ np.square(ODDITIES))
    total = float(np.square(first).sum()) + PRIOR_RUNS * of_plans
    return float(np.sqrt(total / (len(first) + PRIOR_RUNS)))


def _off(theta: Floats, elsewhere: Floats) -> tuple[Floats, Floats]:
    """Deviations of each run from the mean of its category, 0 where there is none; squares."""
    seen = np.isfinite(theta)
    number = seen.sum(axis=0)
    middle = np.where(number > 0, np.nansum(theta, axis=0) / np.maximum(number, 1), elsewhere)
    off = np.where(seen, theta - middle, 0.0)
    return off, np.square(np.clip(off, -2, 2)).sum(axis=0)


class _Likeness:
    """How alike past runs are, and how near like runs were: chosen by leaving each out in turn."""

    def __init__(
        self,
        knowledge: Knowledge,
        runs: Ints,
        theta: Floats,
        filled: Floats,
        seen: Bools,
        spread: Floats,
    ) -> None:
        self.knowledge = knowledge
        self.runs = runs
        self.theta, self.filled, self.seen, self.spread = theta, filled, seen, spread
        self.common = float(np.median(spread)) * 0.5

    def _features(self, categories: Sequence[str], counts: Floats) -> tuple[Floats, Floats]:
        """Log number of tasks and log shares of categories: the runs', then the new one's."""
        count = self.knowledge.count[self.runs]
        names = self.knowledge.names
        new = np.zeros(len(names))
        more = 0.0
        for name, number in zip(categories, counts.tolist(), strict=True):
            code = self.knowledge.code.get(name)
            if code is None:
                more += number
            else:
                new[code] = number
        table = np.concatenate((count, new[None]))
        extra = np.concatenate((np.zeros(len(count)), [more]))[:, None]
        table = np.concatenate((table[:, table.any(axis=0)], extra), axis=1)
        total = np.maximum(table.sum(axis=1), 1.0)  # a plan of which all is left out has none
        return np.log(total), np.log((table + 0.5) / total[:, None])

    def weights(self, categories: Sequence[str], counts: Floats) -> tuple[Floats, float]:
        """Weights of the past runs, and the bandwidth around them."""
        size, mix = self._features(categories, counts)
        apart = np.abs(size[:, None] - size)
        unlike = np.sqrt(np.square(mix[:, None] - mix).mean(axis=2))
        number = len(self.runs)
        logs = {
            (s, m): -0.5 * (np.square(apart / s) + np.square(unlike / m))
            for s in SIZES
            for m in MIXES
        }
        if number < 3:
            best, band = (SIZES[1], MIXES[1]), 0.7
        else:
            scored = [
                (self._left_out(log[:number, :number], b), key, b)
                for key, log in logs.items()
                for b in BANDWIDTHS.tolist()
            ]
            _, best, band = max(scored, key=lambda found: found[0])
        log = logs[best][number, :number]
        weight = np.exp(log - log.max()) + 1e-3
        return weight / weight.sum(), float(band)

    def _left_out(self, log: Floats, band: float) -> float:
        """Log likelihood of each run's slowness given the others."""
        number = len(self.runs)
        weight = np.exp(log - log.max(axis=1, keepdims=True)) * (1 - np.eye(number)) + 1e-9
        weight /= weight.sum(axis=1, keepdims=True)
        own = np.square(np.maximum(band * self.spread, FLOOR))
        common = (band * self.common) ** 2
        both = self.seen[:, None] & self.seen
        off = np.where(both, self.filled[:, None] - self.filled, 0.0)
        inverse = np.where(both, 1 / own, 0.0)
        # A run's factor common to all categories: Sherman and Morrison's formula.
        held = 1 + common * inverse.sum(axis=2)
        square = (np.square(off) * inverse).sum(axis=2)
        square -= common * np.square((off * inverse).sum(axis=2)) / held
        logs = -0.5 * (square + np.where(both, np.log(own), 0.0).sum(axis=2) + np.log(held))
        logs = np.log(weight) + logs
        np.fill_diagonal(logs, -np.inf)
        # The broad component keeps one odd run from deciding.
        broad = -0.5 * (
            np.square(self.filled - self.filled.mean(axis=0)) / np.square(1.2 * self.spread)
            + np.log(np.square(1.2 * self.spread))
        ).sum(axis=1)
        mixed = np.logaddexp(
            np.logaddexp.reduce(logs, axis=1) + np.log(number / (number + 1)),
            broad - np.log(number + 1),
        )
        return float(mixed.sum())
