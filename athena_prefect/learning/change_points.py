"""Since when a series of durations is longer: change-points with a bound on false alarms.

A series is cut where its two parts differ most in rank (the largest standardised
Mann-Whitney statistic over all cuts; Pettitt 1979), and only where so large a
difference is rare among permutations of the series: the share of stable series in
which anything is found is at most `alpha`, whatever the durations' distribution.
The parts are cut again (binary segmentation), so that what became slow and was
mended is told from what is slow now.

Of runs of several kinds, such as on two machines, ranks are compared and permuted
within each kind only (van Elteren 1960): that the kinds differ is then no change,
and that one follows the other neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from athena_prefect.plan.graph import Floats, Ints

ALPHA = 0.001
"""Share of stable series in which a change may be found: of 20 series, one alarm in fifty looks."""
LEAST = 3
"""Runs on each side of a cut: fewer could be two unlucky ones."""
WORTH = 1.1
"""Times as long from which a task counts as slower: what replanning tolerates as slip (0.10)."""
CHUNK = 1_000_000
"""Numbers permuted at once: some 8 MB."""
MOST = 200_000
"""Permutations that are made at most, about a second of 200 runs; where more were needed, as
for many tasks, the bound that needs none decides. It is some ten times above."""
STEEPNESS = (0.5, 0.8, 1.0, 1.25, 1.6, 2.5, 5.0, 15.0)
"""Of the bound, in units of the best one of a normal sum; the larger ones for short series."""
FIRST_LOOK = 199
"""Permutations after which a series that is clearly stable is let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A series that has been slower since its run `index`; durations in seconds."""

    index: int
    """The first run of the slower part, the likeliest one."""
    before: float
    """Median duration of the part before."""
    after: float
    """Median duration since."""
    p_value: float
    """Share of permutations of the series that differ as much somewhere."""
    places: tuple[float, ...]
    """P(the slower part begins with run i), for each run of the series."""

    @property
    def ratio(self) -> float:
        """How many times as long it takes."""
        return self.after / self.before


def slower_since(
    seconds: Sequence[float],
    *,
    rng: np.random.Generator,
    alpha: float = ALPHA,
    worth: float = WORTH,
    alike: Ints | None = None,
) -> Change | None:
    """The change since which a series is slower, oldest run first; None where there is none.

    `alike`: a number for each run; only runs of the same one are compared.

    None also where it became faster again, and where there are too few runs to tell.
    """
    given = np.asarray(seconds, dtype=np.float64)
    if not (given > 0).all():
        # A duration of 0 has no ratio to anything; such a task is not slow.
        return None
    logs = np.log(given)
    kinds = np.zeros(len(logs), dtype=np.int64) if alike is None else np.asarray(alike)
    cuts = _cuts(logs, kinds, 0, rng, alpha)
    if not cuts:
        return None
    bounds = [0, *(cut for cut, _ in cuts), len(logs)]
    low, cut, high = bounds[-3:]
    after = float(np.median(given[cut:high]))
    step, level = _levels(logs[low:high], kinds[low:high], cut - low)
    # Of one kind of runs the step is between the medians that a reader would take.
    before = float(np.median(given[low:cut])) if level is None else after / float(np.exp(step))
    if after < worth * before:
        return None
    places = np.zeros(len(logs))
    places[low:high] = _places(logs[low:high] - (0.0 if level is None else level))
    return Change(
        index=low + int(places[low:high].argmax()),
        before=before,
        after=after,
        p_value=cuts[-1][1],
        places=tuple(places.tolist()),
    )


def _levels(logs: Floats, kinds: Ints, cut: int) -> tuple[float, Floats | None]:
    """The step at a cut, and what each run has for being of its kind; None where all are of one.

    The step is the mean over the kinds that were on both sides, by how much they tell.
    """
    names = np.unique(kinds)
    if len(names) == 1:
        return 0.0, None
    later = np.arange(len(logs)) >= cut
    steps, weights = [], []
    for name in names:
        one, other = logs[(kinds == name) & ~later], logs[(kinds == name) & later]
        if len(one) and len(other):
            steps.append(float(np.median(other) - np.median(one)))
            weights.append(len(one) * len(other) / (len(one) + len(other)))
    step = float(np.average(steps, weights=weights)) if steps else 0.0
    level = np.zeros(len(logs))
    for name in names:
        rows = kinds == name
        level[rows] = np.median(logs[rows] - step * later[rows])
    return step, level


def _cuts(
    logs: Floats, kinds: Ints, offset: int, rng: np.random.Generator, alpha: float
) -> list[tuple[int, float]]:
    """Every cut (first index of the later part, p value) of a series, in order."""
    if len(logs) < 2 * LEAST:
        return []
    scores = _scores(logs, kinds)
    spread = _variance(scores, kinds)
    statistic = _statistic(scores[None, :], spread)[0]
    if not statistic.max() > 0:
        return []
    p = _p_value(scores, kinds, spread, float(statistic.max()), rng, alpha)
    if p > alpha:
        return []
    cut = LEAST + int(np.argmax(statistic))
    # Within a part the level `alpha` is shared, so that all of it stays below `alpha`.
    left = _cuts(logs[:cut], kinds[:cut], offset, rng, alpha / 2)
    right = _cuts(logs[cut:], kinds[cut:], offset + cut, rng, alpha / 2)
    return [*left, (offset + cut, p), *right]


def _scores(values: Floats, kinds: Ints) -> Floats:
    """Ranks among those of a kind, less their mean, over one more than there are (van Elteren).

    Equal values share the mean of their ranks.
    """
    result = np.zeros(len(values))
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        _, inverse, counts = np.unique(values[rows], return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranks = (last - (counts - 1) / 2.0)[inverse]
        result[rows] = (ranks - ranks.mean()) / (len(rows) + 1)
    return result


def _variance(scores: Floats, kinds: Ints) -> Floats:
    """Variance of the sum of the scores before each cut, over permutations within kinds."""
    count = len(scores)
    result = np.zeros(count - 2 * LEAST + 1)
    for kind in np.unique(kinds):
        rows = kinds == kind
        n = int(rows.sum())
        if n < 2:
            continue
        before = np.cumsum(rows)[LEAST - 1 : count - LEAST]
        result += scores[rows].var() * before * (n - before) / (n - 1)
    return result


def _statistic(scores: Floats, variance: Floats) -> Floats:
    """Standardised rank-sum differences of shape (series, cuts) for rows of scores."""
    count = scores.shape[1]
    sums = np.cumsum(scores, axis=1)[:, LEAST - 1 : count - LEAST]
    told = variance > 1e-12
    result = np.zeros_like(sums)
    result[:, told] = np.abs(sums[:, told]) / np.sqrt(variance[told])
    return result


def _bound(kinds: Ints, variance: Floats, found: float) -> float:
    """A p value that is no less than that of the permutations, without any (Chernoff 1952).

    Of each cut the least over some t of E exp(t · sum) / exp(t · what was found); the
    generating function of rank sums is known (Mann, Whitney 1947), and ties, which share
    the mean of their ranks, only lower it (Jensen). Both sides of all cuts add up.
    """
    count, spread = len(kinds), np.sqrt(np.maximum(variance, 1e-12))
    steepness = np.array(STEEPNESS)[:, None] * found / spread
    logs = -steepness * found * spread
    for kind in np.unique(kinds):
        rows = kinds == kind
        before = np.cumsum(rows)[LEAST - 1 : count - LEAST]
        logs += _log_moments(before, int(rows.sum()), steepness / (rows.sum() + 1))
    told = variance > 1e-12
    return min(1.0, 2.0 * float(np.exp(np.minimum(logs.min(axis=0), 0.0))[told].sum()))


def _log_moments(first: Ints, count: int, t: Floats) -> Floats:
    """Log E exp(t · (sum of `first` of the ranks 1 … count, less its mean)), by column of t."""
    i = np.arange(1, count + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(i))])
    rest = count - first

    def grown(x: Floats) -> Floats:
        return x + np.log(-np.expm1(-x))  # log(exp(x) − 1)

    inside = i[:, None] <= first
    shifted = np.where(inside, rest + i[:, None], 1)
    terms = grown(t[:, None, :] * shifted) - grown(t[:, None, :] * i[:, None])
    choices = factorials[count] - factorials[first] - factorials[rest]
    total: Floats = np.where(inside, terms, 0.0).sum(axis=1) - choices - t * first * rest / 2.0
    return total


def _p_value(
    scores: Floats,
    kinds: Ints,
    variance: Floats,
    found: float,
    rng: np.random.Generator,
    alpha: float,
) -> float:
    """Share of permutations with a statistic as large, the series itself counted among them."""
    bound = _bound(kinds, variance, found)
    wanted = max(FIRST_LOOK, int(np.ceil(10 / alpha)))
    if bound <= alpha or wanted > MOST:
        return bound
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    as_large, looked = 0, 0
    while looked < wanted:
        rows = FIRST_LOOK if not looked else min(wanted - looked, max(1, CHUNK // len(scores)))
        permuted = np.empty((rows, len(scores)))
        for group in groups:
            shape = (rows, len(group))
            permuted[:, group] = rng.permuted(np.broadcast_to(scores[group], shape), axis=1)
        as_large += int((_statistic(permuted, variance).max(axis=1) >= found - 1e-9).sum())
        looked += rows
        # So many already that no further permutation brings the share down to alpha.
        if as_large + 1 > alpha * (wanted + 1):
            break
    return (as_large + 1) / (looked + 1)


def _places(logs: Floats) -> Floats:
    """P(the later part begins at i): two levels, equal spread, no place likelier beforehand.

    The spread is integrated out (Jeffreys' prior), which leaves the sum of squares
    to the power of −(n − 2) / 2. What is far out is drawn in first, so that one
    odd run does not move a change.
    """
    values = _drawn_in(logs)
    count = len(values)
    sizes = np.arange(1, count, dtype=np.float64)
    first = np.cumsum(values)[:-1]
    squares = float((values**2).sum())
    rest = squares - first**2 / sizes - (values.sum() - first) ** 2 / (count - sizes)
    # Sums of squares below rounding are none: the durations then have no spread at all.
    rest = np.maximum(rest, 1e-9 * max(squares, 1e-9))
    weight = -0.5 * (count - 2) * np.log(rest) - 0.5 * np.log(sizes * (count - sizes))
    usable = (sizes >= LEAST) & (count - sizes >= LEAST)
    weight = np.where(usable, weight, -np.inf)
    likely = np.exp(weight - weight.max())
    result = np.zeros(count)
    result[1:] = likely / likely.sum()
    return result


def _drawn_in(values: Floats) -> Floats:
    """Values no further from the running median of five than three typical distances."""
    padded = np.pad(values, 2, mode="edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    distance = np.abs(values - local)
    typical = 1.4826 * float(np.median(distance))  # of a normal spread: its standard deviation
    if typical == 0:
        return values
    return np.clip(values, local - 3 * typical, local + 3 * typical)
