"""Instances as the published ones are made, for holding out: nothing was tuned on them.

Networks, demands and capacities are drawn as Kolisch, Sprecher and Drexl (1995)
describe: an order of jobs with about `complexity` arcs each, the share of
resources that a job takes (resource factor), and capacities between what one job
needs and what the earliest schedule would need (resource strength).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if TYPE_CHECKING:
    from benchmarks.psplib import Mode

COMPLEXITY = (1.5, 1.8, 2.1)
FACTORS = (0.25, 0.5, 0.75, 1.0)
STRENGTHS = {30: (0.2, 0.5, 0.7), 60: (0.2, 0.5, 0.7), 120: (0.1, 0.2, 0.3)}
"""As those of the published sets; the strength of 1, where nothing binds, is left out."""
DEFAULT_STRENGTHS = (0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Drawn:
    """Jobs with their modes, what comes after each, and what there is."""

    successors: list[list[int]]
    modes: list[list[Mode]]
    renewable: list[int]
    consumed: list[int]


def draw(jobs: int, *, modes: int, seed: int, consumables: int = 0) -> Drawn:
    """One instance of so many jobs between a source and a sink."""
    rng = np.random.default_rng(seed)
    successors = _network(jobs, float(rng.choice(COMPLEXITY)), rng)
    factor = float(rng.choice(FACTORS))
    strength = float(rng.choice(STRENGTHS.get(jobs, DEFAULT_STRENGTHS)))
    kinds = 2 if modes > 1 else 4
    nothing: list[list[Mode]] = [[(0, [0] * kinds, [0] * consumables)]]
    drawn = [_modes(modes, kinds, consumables, factor, rng) for _ in range(jobs)]
    every = nothing + drawn + nothing
    return Drawn(
        successors,
        every,
        [_capacity(successors, every, r, strength) for r in range(kinds)],
        [_budget(every, b, float(rng.choice((0.5, 0.7)))) for b in range(consumables)],
    )


def _network(jobs: int, complexity: float, rng: np.random.Generator) -> list[list[int]]:
    """0 is the source, jobs + 1 the sink; three jobs may begin and three may end."""
    arcs: set[tuple[int, int]] = set()
    for j in range(4, jobs + 1):
        arcs.add((int(rng.integers(1, j)), j))
    have = {a for a, _ in arcs}
    for i in range(1, jobs - 2):
        if i not in have:
            arcs.add((i, int(rng.integers(max(i + 1, 4), jobs + 1))))
    for _ in range(20 * jobs):
        if len(arcs) >= complexity * jobs:
            break
        i = int(rng.integers(1, jobs))
        arcs.add((i, int(rng.integers(max(i + 1, 4), max(jobs + 1, 5)))))
    arcs = {(a, b) for a, b in arcs if a < b}
    arcs |= {(0, j) for j in range(1, jobs + 1) if j not in {b for _, b in arcs}}
    arcs |= {(i, jobs + 1) for i in range(1, jobs + 1) if i not in {a for a, _ in arcs}}
    successors: list[list[int]] = [[] for _ in range(jobs + 2)]
    for a, b in sorted(arcs):
        successors[a].append(b)
    return successors


def _modes(
    count: int, kinds: int, consumables: int, factor: float, rng: np.random.Generator
) -> list[Mode]:
    """The longer a mode takes, the less of each resource it needs."""
    lasts = np.sort(rng.integers(1, 11, count)).tolist()
    columns = []
    for k in range(kinds + consumables):
        needs = np.sort(rng.integers(1, 11, count))[::-1]
        # Every job takes something of the first resource where the factor leaves it none.
        takes = rng.random() < factor or (k == 0 and count == 1)
        columns.append(needs.tolist() if takes else [0] * count)
    rows = [[column[m] for column in columns] for m in range(count)]
    return [(d, row[:kinds], row[kinds:]) for d, row in zip(lasts, rows, strict=True)]


def _capacity(successors: list[list[int]], modes: list[list[Mode]], r: int, strength: float) -> int:
    """Between the least that every job can be done with and the peak of the earliest schedule."""
    least = max(min(use[r] for _, use, _ in ways) for ways in modes)
    greedy = [max(ways, key=lambda way: way[1][r]) for ways in modes]
    start = [0] * len(modes)
    for i, heads in enumerate(successors):
        for h in heads:
            start[h] = max(start[h], start[i] + greedy[i][0])
    peak = max(
        sum(use[r] for (d, use, _), s in zip(greedy, start, strict=True) if s <= at < s + d)
        for at in set(start)
    )
    return max(least + round(strength * max(peak - least, 0)), least, 1)


def _budget(modes: list[list[Mode]], b: int, strength: float) -> int:
    least = sum(min(eats[b] for _, _, eats in ways) for ways in modes)
    most = sum(max(eats[b] for _, _, eats in ways) for ways in modes)
    return least + round(strength * (most - least))
