"""Since when a series of durations is longer: change-points with a bound on false alarms.

A series is cut where its two parts differ most in rank (the largest standardised
Mann-Whitney statistic over all cuts; Pettitt 1979), and only where so large a
difference is rare among permutations of the series: the share of stable series in
which anything is found is at most `alpha`, whatever the durations' distribution.
The parts are cut again (binary segmentation), so that what became slow and was
mended is told from what is slow now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from athena_prefect.plan.graph import Floats

ALPHA = 0.001
"""Share of stable series in which a change may be found: of 20 series, one alarm in fifty looks."""
LEAST = 3
"""Runs on each side of a cut: fewer could be two unlucky ones."""
WORTH = 1.1
"""Times as long from which a task counts as slower: what replanning tolerates as slip (0.10)."""
CHUNK = 1_000_000
"""Numbers permuted at once: some 8 MB."""
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
) -> Change | None:
    """The change since which a series is slower, oldest run first; None where there is none.

    None also where it became faster again, and where there are too few runs to tell.
    """
    given = np.asarray(seconds, dtype=np.float64)
    if not (given > 0).all():
        # A duration of 0 has no ratio to anything; such a task is not slow.
        return None
    logs = np.log(given)
    cuts = _cuts(logs, 0, rng, alpha)
    if not cuts:
        return None
    bounds = [0, *(cut for cut, _ in cuts), len(logs)]
    low, cut, high = bounds[-3:]
    before, after = np.median(given[low:cut]), np.median(given[cut:high])
    if after < worth * before:
        return None
    places = np.zeros(len(logs))
    places[low:high] = _places(logs[low:high])
    return Change(
        index=low + int(places[low:high].argmax()),
        before=float(before),
        after=float(after),
        p_value=cuts[-1][1],
        places=tuple(places.tolist()),
    )


def _cuts(
    logs: Floats, offset: int, rng: np.random.Generator, alpha: float
) -> list[tuple[int, float]]:
    """Every cut (first index of the later part, p value) of a series, in order."""
    if len(logs) < 2 * LEAST:
        return []
    ranks = _ranks(logs)
    statistic = _statistic(ranks[None, :])[0]
    if not statistic.max() > 0:
        return []
    p = _p_value(ranks, float(statistic.max()), rng, alpha)
    if p > alpha:
        return []
    cut = LEAST + int(np.argmax(statistic))
    # Within a part the level `alpha` is shared, so that all of it stays below `alpha`.
    left = _cuts(logs[:cut], offset, rng, alpha / 2)
    right = _cuts(logs[cut:], offset + cut, rng, alpha / 2)
    return [*left, (offset + cut, p), *right]


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2.0)[inverse]
    return shared


def _statistic(ranks: Floats) -> Floats:
    """Standardised rank-sum differences of shape (series, cuts) for rows of ranks."""
    count = ranks.shape[1]
    sizes = np.arange(LEAST, count - LEAST + 1, dtype=np.float64)
    sums = np.cumsum(ranks, axis=1)[:, LEAST - 1 : count - LEAST]
    spread = ranks[0].var()
    variance = spread * sizes * (count - sizes) / (count - 1)
    centre = sizes * ranks[0].mean()
    if spread == 0:
        return np.zeros_like(sums)
    result: Floats = np.abs(sums - centre) / np.sqrt(variance)
    return result


def _p_value(ranks: Floats, found: float, rng: np.random.Generator, alpha: float) -> float:
    """Share of permutations with a statistic as large, the series itself counted among them."""
    wanted = max(FIRST_LOOK, int(np.ceil(10 / alpha)))
    as_large, looked = 0, 0
    while looked < wanted:
        rows = FIRST_LOOK if not looked else min(wanted - looked, max(1, CHUNK // len(ranks)))
        permuted = rng.permuted(np.broadcast_to(ranks, (rows, len(ranks))), axis=1)
        as_large += int((_statistic(permuted).max(axis=1) >= found - 1e-12).sum())
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
