"""Whether a schedule can be carried out, checked by code that no solver uses.

It reads the problem's arcs and demands and a vector of starts, nothing else, and
reckons by sorting moments rather than by keeping profiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule.problem import Problem

MARGIN = 1e-6
"""Seconds, and share of a capacity, by which sums may be off without being wrong."""


class ConflictKind(StrEnum):
    """What a schedule breaks."""

    PRECEDENCE = "precedence"
    CAPACITY = "capacity"
    RELEASE = "release"
    START = "start"
    """An activity has no start that is a number, zero or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One thing that a schedule breaks; `at` in seconds from the start of the run."""

    kind: ConflictKind
    activities: tuple[str, ...]
    """The activities that it is about."""
    at: float
    message: str

    def __str__(self) -> str:
        return self.message


def check(
    problem: Problem,
    starts: ArrayLike,
    *,
    release: ArrayLike | None = None,
    fixed: Bools | None = None,
) -> tuple[Conflict, ...]:
    """Everything that the schedule `starts` (seconds, shape (n,)) breaks; nothing if feasible.

    Durations are the problem's. `fixed` activities had started when the schedule
    was made: they are held to nothing, but others to them.
    """
    begin = np.asarray(starts, dtype=np.float64)
    count = len(problem.durations)
    names = problem.network.ids
    if begin.shape != (count,):
        message = f"{count} activities, but starts of shape {begin.shape}"
        return (Conflict(kind=ConflictKind.START, activities=(), at=0.0, message=message),)
    bad = np.flatnonzero(~(begin >= -MARGIN) | ~np.isfinite(begin + problem.durations))
    if bad.size:
        return tuple(
            Conflict(
                kind=ConflictKind.START,
                activities=(names[i],),
                at=0.0,
                message=f"{names[i]!r} starts at {begin[i]} and takes {problem.durations[i]} s",
            )
            for i in bad.tolist()
        )
    held = np.ones(count, dtype=np.bool_) if fixed is None else ~fixed
    found = [*_precedence(problem, begin, held), *_capacity(problem, begin, held)]
    if release is not None:
        earliest = np.broadcast_to(np.asarray(release, dtype=np.float64), (count,))
        found += _release(problem, begin, earliest, held)
    return tuple(sorted(found, key=lambda c: (c.at, c.kind, c.activities)))


def _precedence(problem: Problem, begin: Floats, held: Bools) -> Iterator[Conflict]:
    tails, heads, lags, _ = problem.network.arcs
    names = problem.network.ids
    allowed = begin[tails] + problem.durations[tails] + lags
    for k in np.flatnonzero((begin[heads] < allowed - MARGIN) & held[heads]).tolist():
        before, after = names[tails[k]], names[heads[k]]
        lag = f" and a lag of {lags[k]:g} s" if lags[k] else ""
        yield Conflict(
            kind=ConflictKind.PRECEDENCE,
            activities=(before, after),
            at=float(begin[heads[k]]),
            message=f"{after!r} starts at {begin[heads[k]]:g} s, but waits for {before!r}, "
            f"which ends at {begin[tails[k]] + problem.durations[tails[k]]:g} s{lag}",
        )


def _capacity(problem: Problem, begin: Floats, held: Bools) -> Iterator[Conflict]:
    # Use is highest just after a start: it is enough to look at all starts.
    end = begin + problem.durations
    names = problem.network.ids
    for r, (resource, capacity) in enumerate(
        zip(problem.resources, problem.capacities.tolist(), strict=True)
    ):
        users = np.flatnonzero((problem.demands[:, r] > 0) & (problem.durations > 0))
        amount = problem.demands[users, r]
        # Half-open intervals, a little shorter, so that one may start when another ends.
        margin = np.minimum(MARGIN, problem.durations[users] / 4)
        moments = np.concatenate((begin[users] + margin, end[users] - margin))
        change = np.concatenate((amount, -amount))
        order = np.argsort(moments, kind="stable")
        use = np.cumsum(change[order])
        over = use > capacity + MARGIN * max(1.0, capacity)
        for k in np.flatnonzero(over & (change[order] > 0)).tolist():
            at = float(moments[order][k])
            runs = users[(begin[users] < at) & (at < end[users])]
            if not held[runs].any():
                continue
            who = tuple(names[i] for i in runs.tolist())
            yield Conflict(
                kind=ConflictKind.CAPACITY,
                activities=who,
                at=at,
                message=f"at {at:g} s {', '.join(map(repr, who[:5]))}"
                f"{' and others' if len(who) > 5 else ''} take {use[k]:g} of {resource!r}, "
                f"of which there is {capacity:g}",
            )


def _release(problem: Problem, begin: Floats, earliest: Floats, held: Bools) -> Iterator[Conflict]:
    names = problem.network.ids
    for i in np.flatnonzero((begin < earliest - MARGIN) & held).tolist():
        yield Conflict(
            kind=ConflictKind.RELEASE,
            activities=(names[i],),
            at=float(begin[i]),
            message=f"{names[i]!r} starts at {begin[i]:g} s, not before {earliest[i]:g} s is right",
        )
