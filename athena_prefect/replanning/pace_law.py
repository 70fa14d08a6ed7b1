"""What a run's ended tasks say of how long its others take, and how far they may differ.

Normal laws of log durations, conditioned in closed form for each pair of spreads that is
thought possible: of θ, and of tasks round it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import erfc, sqrt
from typing import NamedTuple

import numpy as np

from athena_prefect.monitor.chain import medians_of
from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.knowledge import ODDITIES, SCALES, SHARED
from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.schedule.beta_pert import LEVELS, PROBABILITIES, single_rows

STRAYS = 0.25
"""Share of tasks that are thought to have troubles of their own: replanning looks at runs in
which something has happened."""
STRAY = 1.0
"""Spread of log durations of those: a factor of three."""
PASSES = 3
"""Times that strays are told from the rest by what the rest says; more change nothing."""
LEAST_SPREAD = 0.02
"""Least spread of log durations that an estimate is believed: a narrower one would outweigh, by
its square, all the other tasks."""


@dataclass(frozen=True, kw_only=True)
class Paces:
    """Log ratios of tasks that have ended, and how much they spread by the estimates."""

    categories: tuple[str, ...]
    """Those of the whole plan."""
    category: Ints
    ratio: Floats
    spread: Floats


class Running(NamedTuple):
    """A task that runs and has not ended yet; seconds."""

    elapsed: float
    category: int
    middle: float
    """Median by its estimate."""
    row: Floats
    """Durations at `PROBABILITIES` by its estimate."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """What durations are drawn by, one row a scenario."""

    theta: Floats
    """θ of each category, shape (scenarios, categories)."""
    spread: Floats
    """Spread of log durations round that; 0: as the estimate of each task says."""
    stray: float
    """Probability that a task has troubles of its own, by what has ended."""

    def given(self, tasks: Sequence[Running], rng: np.random.Generator) -> Law:
        """The scenarios as often as tasks that run would not have ended in them yet."""
        weight = np.ones(len(self.spread))
        for task in tasks:
            usual, odd = self._survival(task)
            weight *= (1 - self.stray) * usual + self.stray * odd
        if weight.min() == weight.max() or weight.sum() <= 0:
            return self
        # Systematic: as often as the weight says, but for less than one (Kitagawa 1996).
        steps = (np.arange(len(weight)) + rng.random()) / len(weight)
        ends = np.cumsum(weight / weight.sum())
        chosen = rng.permutation(np.minimum(np.searchsorted(ends, steps), len(weight) - 1))
        return replace(self, theta=self.theta[chosen], spread=self.spread[chosen])

    def _survival(self, task: Running) -> tuple[Floats, Floats]:
        """P(it lasts longer than it has), in each scenario, as others do and as strays do."""
        theta = self.theta[:, task.category]
        elapsed = max(task.elapsed, SHORTEST)
        far = np.log(elapsed / max(task.middle, SHORTEST)) - theta
        said = np.interp(elapsed / np.exp(theta), task.row, PROBABILITIES, left=0.0, right=1.0)
        own = below(far / np.where(self.spread > 0, self.spread, 1.0))
        usual: Floats = 1 - np.where(self.spread > 0, own, said)
        return usual, 1 - below(far / STRAY)

    def beyond(self, task: Running, rng: np.random.Generator) -> Floats:
        """Durations of what has run so long and is not over.

        What no scenario's pace explains any more is a stray, of which that much is known. What
        has not begun is drawn without strays, so that only what the time so far tells counts.
        """
        usual, odd = self._survival(task)
        both = (1 - self.stray) * usual + self.stray * odd
        chance = np.divide(self.stray * odd, both, out=np.ones(len(both)), where=both > 0)
        strays = rng.random(len(both)) * (1 - self.stray) < chance - self.stray
        luck = rng.random(len(usual))
        factor = np.exp(self.theta[:, task.category])
        spread = np.where(strays, STRAY, self.spread)
        # The probability of longer durations, evenly.
        rest = luck * np.where(strays, odd, usual)
        said = np.interp(1 - rest, PROBABILITIES, task.row)
        free = task.middle * np.exp(spread * point(1 - rest))
        longer: Floats = factor * np.where(spread > 0, free, said)
        return np.maximum(longer, task.elapsed)

    def durations(self, estimates: Floats, category: Ints, rng: np.random.Generator) -> Floats:
        """Of tasks that have not begun, shape (tasks, scenarios)."""
        size = (len(estimates), len(self.spread))
        luck = rng.integers(0, LEVELS, size=size)
        found: Floats = np.take_along_axis(single_rows(estimates), luck, axis=1).astype(np.float64)
        other = np.flatnonzero(self.spread > 0)
        if len(other):
            off = rng.standard_normal((len(estimates), len(other))) * self.spread[other]
            found[:, other] = medians_of(estimates)[:, None] * np.exp(off)
        found *= np.exp(self.theta.T[category])
        return found


def drawn(paces: Paces, trust: float, samples: int, rng: np.random.Generator) -> Law:
    """What durations are drawn by after what has ended."""
    # Of categories of which nothing has ended strays tell nothing, and there may be thousands.
    here, place = np.unique(paces.category, return_inverse=True)
    told = replace(paces, categories=tuple(paces.categories[c] for c in here), category=place)
    sure = np.array(_sureness(_Told(told), trust))
    beliefs = beliefs_of(told, sure, trust)
    counts = rng.multinomial(samples, beliefs.probability)
    theta = np.zeros((samples, len(paces.categories)))
    first = 0
    for b in np.flatnonzero(counts).tolist():
        rows = slice(first, first + int(counts[b]))
        first = rows.stop
        some = rng.multivariate_normal(
            beliefs.centre[b], beliefs.cov[b], size=int(counts[b]), method="eigh"
        )
        own = beliefs.own[b]
        # What nothing has ended of shares with the others what all have in common.
        theta[rows] = some[:, -1:]
        if own:
            theta[rows] += own * rng.standard_normal((int(counts[b]), len(paces.categories)))
        theta[rows, here] = some[:, :-1]
    # The prior share of strays weighs as much as one task.
    stray = (STRAYS + float((1 - sure).sum())) / (1 + len(sure))
    return Law(theta=theta, spread=np.repeat(beliefs.spread, counts), stray=stray)


class Beliefs(NamedTuple):
    """What is to be thought of θ if it, and what tasks differ by, have certain spreads."""

    probability: Floats
    """That they have them."""
    centre: Floats
    """Means: θ of each category of which something has ended, and last what all have in common."""
    cov: Floats
    """Their covariances."""
    own: Floats
    """Spread of θ of any other category round what all have in common."""
    spread: Floats
    """Spread of log durations of tasks round θ; 0: as their estimates say."""


class Evidence(NamedTuple):
    """What ended tasks say under each pair of spreads, before it is worked out for any θ."""

    log: Floats
    """Logarithm of the prior probability and the likelihood of each pair."""
    cov: Floats
    """Prior covariances of θ, and of what all categories have in common."""
    seen: Floats
    """Covariances of the middles of the categories that are told of."""
    told: Ints
    middle: Floats
    solved: Floats
    """seen⁻¹ middle."""
    own: Floats
    spread: Floats

    @property
    def probability(self) -> Floats:
        """Of each pair of spreads."""
        shares = np.exp(self.log - self.log.max())
        result: Floats = shares / shares.sum()
        return result

    def of(self, category: int) -> tuple[Floats, Floats]:
        """Mean and variance of one θ."""
        cross = self.cov[:, self.told, category]
        known = np.linalg.solve(self.seen, cross[:, :, None])[:, :, 0]
        centre: Floats = (cross * self.solved).sum(axis=1)
        left: Floats = self.cov[:, category, category] - (cross * known).sum(axis=1)
        return centre, np.maximum(left, 0.0)


def evidence(paces: Paces, sure: Floats, trust: float) -> Evidence:
    """What ended tasks say, each as much as it is `sure` to be no stray."""
    size = len(paces.categories) + 1
    # Where estimates are wrong they may be off as far as those of any plan never seen before.
    off, alone = (np.concatenate(([0.0], some)) for some in (ODDITIES, SCALES))
    spreads, scales = (found.reshape(-1) for found in np.meshgrid(off, alone, indexing="ij"))
    prior = np.where(spreads > 0, (1.0 - trust) / len(ODDITIES), trust)
    prior *= np.where(scales > 0, (1.0 - trust) / len(SCALES), trust)
    log = np.log(np.maximum(prior, 1e-12))
    each = np.where(scales[:, None] > 0, scales[:, None], paces.spread)
    weight = sure / each**2
    member = (paces.category[:, None] == np.arange(size)).astype(np.float64)
    precision = weight @ member
    told = np.flatnonzero(precision[0] > 1e-9)
    precision = precision[:, told]
    middle = (weight * paces.ratio) @ member[:, told] / precision
    own, common = (1 - SHARED) * spreads**2, SHARED * spreads**2
    single = np.diag([1.0] * (size - 1) + [0.0])
    cov = common[:, None, None] + own[:, None, None] * single
    seen = cov[:, told[:, None], told] + np.eye(len(told)) / precision[:, :, None]
    solved = np.linalg.solve(seen, middle[:, :, None])[:, :, 0]
    log -= 0.5 * ((middle * solved).sum(axis=1) + np.linalg.slogdet(seen)[1])
    # How far tasks are from the middles of their categories, and what that makes of those.
    far = paces.ratio - middle @ member[:, told].T
    log -= 0.5 * (weight * far**2).sum(axis=1) + (sure * np.log(each)).sum(axis=1)
    log -= 0.5 * np.log(precision).sum(axis=1)
    return Evidence(log, cov, seen, told, middle, solved, np.sqrt(own), scales)


def beliefs_of(paces: Paces, sure: Floats, trust: float) -> Beliefs:
    """What is to be thought of θ under each pair of spreads, 0 among them."""
    found = evidence(paces, sure, trust)
    cross = found.cov[:, found.told, :]
    known = np.linalg.solve(found.seen, cross)
    return Beliefs(
        probability=found.probability,
        centre=np.einsum("bij,bi->bj", cross, found.solved),
        cov=found.cov - np.swapaxes(cross, 1, 2) @ known,
        own=found.own,
        spread=found.spread,
    )


class _Told:
    """Evidence that is equal where its figures are: the proposals of a set share it."""

    def __init__(self, paces: Paces) -> None:
        self.paces = paces
        arrays = (paces.category, paces.ratio, paces.spread)
        self._key = (len(paces.categories), *(a.tobytes() for a in arrays))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Told) and other._key == self._key


@lru_cache(maxsize=4)
def _sureness(told: _Told, trust: float) -> tuple[float, ...]:
    """Of each ended task the probability that it is no stray."""
    sure = np.full(len(told.paces.ratio), 1.0)
    for _ in range(PASSES):
        sure = np.array([_no_stray(told.paces, sure, trust, i) for i in range(len(sure))])
    return tuple(sure.tolist())


def _no_stray(paces: Paces, sure: Floats, trust: float, one: int) -> float:
    """Probability that a task took what others say, and had no trouble of its own."""
    others = sure.copy()
    others[one] = 0.0
    c = int(paces.category[one])
    found = evidence(paces, others, trust)
    centre, known = found.of(c)
    off, share = paces.ratio[one] - centre, found.probability
    spread = np.where(found.spread > 0, found.spread, paces.spread[one])
    usual = float(share @ density(off, np.sqrt(known + spread**2)))
    stray = float(share @ density(off, np.sqrt(known + STRAY**2)))
    usual, stray = (1 - STRAYS) * usual, STRAYS * stray
    return float(usual / max(usual + stray, 1e-300))


@cache
def _normal() -> tuple[Floats, Floats]:
    """Points and the standard normal distribution function there."""
    points = np.linspace(-8.0, 8.0, 3201)
    return points, np.array([0.5 * erfc(-z / sqrt(2)) for z in points.tolist()])


def below(points: Floats) -> Floats:
    """Standard normal distribution function."""
    return np.interp(points, *_normal())


def point(probabilities: Floats) -> Floats:
    """Its inverse, between -8 and 8."""
    points, values = _normal()
    return np.interp(probabilities, values, points)


def density(off: Floats | float, spread: Floats | float) -> Floats:
    """Of a normal distribution, but for a factor that all have in common."""
    return np.asarray(np.exp(-0.5 * np.square(np.divide(off, spread))) / spread)
