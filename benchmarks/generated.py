"""Instances as the published ones are made, for holding out: nothing was tuned on them.

Networks, demands and capacities are drawn as Kolisch, Sprecher and Drexl (1995)
describe: an order of jobs with about `complexity` arcs each, the share of
resources that a mode takes (resource factor), and capacities between what one job
needs and what the earliest schedule would need (resource strength); budgets
between what all jobs need least and most of each (strength of what is used up).
Or, with ``mmlib=1``, as Van Peteghem and Vanhoucke (2014) do for MMLIB: networks in
layers with a given share of all pairs in order (order strength), modes of distinct
durations that take just the share of the resources that the factor says, and every
combination of the strengths and factors of `MMLIB` alike.
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
FACTORS_IN_MODES = (0.5, 1.0)
BUDGET_STRENGTHS = (0.2, 0.5, 0.7)
"""With 0.2, two budgets and modes that use up now one and now the other, many a draw has no
assignment that keeps both."""
MMLIB = (0.25, 0.5, 0.75)
"""Order strengths, strengths of resources and of budgets of MMLIB50 and MMLIB100; the factors are
those of `FACTORS_IN_MODES`."""
LAYERS = (8, 16)
"""Layers of such a network, at least and at most: the three published ones that were looked at have
9 to 14."""


@dataclass(frozen=True, kw_only=True)
class Sort:
    """What the instances of a set have in common; where it is None, it is drawn."""

    jobs: int
    modes: int = 1
    kinds: int = 4
    """Renewable resources."""
    consumables: int = 0
    complexity: float | None = None
    factor: float | None = None
    strength: float | None = None
    budget_factor: float | None = None
    budget_strength: float | None = None
    barely: int = 0
    """1: the budgets are the least strength at which any assignment of modes keeps them all."""
    mmlib: int = 0
    """1: in the design of MMLIB."""
    order: float | None = None
    """Order strength, in the design of MMLIB."""

    @classmethod
    def named(cls, name: str) -> Sort:
        """``j60``: one mode; ``m50``: three modes, two resources, two budgets; or with options.

        Such as ``m50:modes=9:consumables=4:budget_strength=0.1`` or ``m100:mmlib=1``. Raises
        ValueError.
        """
        kind, *options = name.split(":")
        if kind[:1] not in ("j", "m"):
            raise ValueError(f"{name!r} begins with neither j nor m")
        several = {"modes": 3, "kinds": 2, "consumables": 2} if kind[0] == "m" else {}
        given: dict[str, float] = {"jobs": int(kind[1:]), **several}
        for option in options:
            field, value = option.split("=")
            whole = field in ("modes", "kinds", "consumables", "barely", "mmlib")
            given[field] = int(value) if whole else float(value)
        return cls(**given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Drawn:
    """Jobs with their modes, what comes after each, and what there is."""

    successors: list[list[int]]
    modes: list[list[Mode]]
    renewable: list[int]
    consumed: list[int]


def draw(sort: Sort, *, seed: int) -> Drawn:
    """One instance of a sort, between a source and a sink."""
    rng = np.random.default_rng(seed)

    def either(given: float | None, values: tuple[float, ...]) -> float:
        drawn = float(rng.choice(values))
        return drawn if given is None else given

    jobs, kinds, consumables = sort.jobs, sort.kinds, sort.consumables
    if sort.mmlib:
        successors = _layered(jobs, either(sort.order, MMLIB), rng)
    else:
        successors = _network(jobs, either(sort.complexity, COMPLEXITY), rng)
    factor = either(sort.factor, FACTORS if sort.modes == 1 else FACTORS_IN_MODES)
    strengths = MMLIB if sort.mmlib else STRENGTHS.get(jobs, DEFAULT_STRENGTHS)
    strength = either(sort.strength, strengths)
    budget_factor = either(sort.budget_factor, FACTORS_IN_MODES)
    budget_strength = either(sort.budget_strength, MMLIB if sort.mmlib else BUDGET_STRENGTHS)
    nothing: list[list[Mode]] = [[(0, [0] * kinds, [0] * consumables)]]
    factors = [factor] * kinds + [budget_factor] * consumables
    make = _modes_of_mmlib if sort.mmlib else _modes
    drawn = [make(sort.modes, kinds, factors, rng) for _ in range(jobs)]
    every = nothing + drawn + nothing
    if sort.barely and consumables:
        budget_strength = _least_strength(every, consumables)
    return Drawn(
        successors,
        every,
        [_capacity(successors, every, r, strength) for r in range(kinds)],
        [_budget(every, b, budget_strength) for b in range(consumables)],
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


def _layered(jobs: int, order: float, rng: np.random.Generator) -> list[list[int]]:
    """Arcs from layer to later layer until the share `order` of all pairs is in order."""
    layer = np.sort(rng.integers(0, rng.integers(LAYERS[0], LAYERS[1] + 1), jobs))
    after = np.zeros((jobs, jobs), dtype=np.bool_)
    while after.sum() < order * jobs * (jobs - 1) / 2:
        a, b = np.sort(rng.choice(jobs, 2, replace=False)).tolist()
        if layer[a] == layer[b] or after[a, b]:
            continue
        # All that is before the one comes before all that is after the other.
        above, below = after[:, a].copy(), after[b].copy()
        above[a] = below[b] = True
        after |= np.outer(above, below)
    direct = after & ~((after.astype(int) @ after.astype(int)) > 0)
    successors = [[], *[(np.flatnonzero(row) + 1).tolist() for row in direct], []]
    successors[0] = [j + 1 for j in range(jobs) if not direct[:, j].any()]
    for heads in successors[1:-1]:
        heads.extend([] if heads else [jobs + 1])
    return successors


def _modes_of_mmlib(
    count: int, kinds: int, factors: list[float], rng: np.random.Generator
) -> list[Mode]:
    """Distinct durations while there are some; each mode takes just a share of the resources."""
    lasts = np.sort(rng.choice(np.arange(1, 11), count, replace=count > 10)).tolist()
    columns = np.stack([np.sort(rng.integers(1, 11, count))[::-1] for _ in factors], axis=1)
    rows = []
    for row in columns.tolist():
        taken: set[int] = set()
        for part in (range(kinds), range(kinds, len(factors))):
            if part:
                some = max(1, round(factors[part[0]] * len(part)))
                taken |= set(rng.choice(list(part), some, replace=False).tolist())
        rows.append([use if k in taken else 0 for k, use in enumerate(row)])
    return [(d, row[:kinds], row[kinds:]) for d, row in zip(lasts, rows, strict=True)]


def _modes(count: int, kinds: int, factors: list[float], rng: np.random.Generator) -> list[Mode]:
    """The longer a mode takes, the less it needs of what it takes."""
    lasts = np.sort(rng.integers(1, 11, count)).tolist()
    columns = []
    for factor in factors:
        needs = np.sort(rng.integers(1, 11, count))[::-1]
        columns.append(np.where(rng.random(count) < factor, needs, 0))
    rows = np.stack(columns, axis=1)
    # Every mode takes something of some resource where the factor leaves it none.
    for row in rows:
        if not row[:kinds].any():
            row[rng.integers(0, kinds)] = rng.integers(1, 11)
    return [(d, row[:kinds], row[kinds:]) for d, row in zip(lasts, rows.tolist(), strict=True)]


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


def _least_strength(modes: list[list[Mode]], consumables: int) -> float:
    """Of all assignments' worst strengths the least, in thousandths, as far as 5 s tell."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    chosen = [[model.new_bool_var("") for _ in ways] for ways in modes]
    for literals in chosen:
        model.add_exactly_one(literals)
    worst = model.new_int_var(0, 1000, "worst")
    for b in range(consumables):
        least = sum(min(eats[b] for _, _, eats in ways) for ways in modes)
        most = sum(max(eats[b] for _, _, eats in ways) for ways in modes)
        used = sum(
            way[2][b] * literal
            for ways, literals in zip(modes, chosen, strict=True)
            for way, literal in zip(ways, literals, strict=True)
        )
        model.add(1000 * (used - least) <= (most - least) * worst)
    model.minimize(worst)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = 5.0
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = 0
    solver.solve(model)
    return solver.value(worst) / 1000
