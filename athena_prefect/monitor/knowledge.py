"""What a history knows of a plan: how slow its categories were, and how they spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from athena_prefect.monitor.history import SHORTEST, History
from athena_prefect.monitor.residuals import REACH, STEP, Shape, smooth
from athena_prefect.plan.graph import Floats, Ints

SCALES: Floats = np.array([0.04, 0.08, 0.16, 0.32, 0.64, 1.28])
"""Spreads of log durations of one category in one run that are thought possible."""
ENOUGH = 10.0
"""Records of a category from which its own residuals count as much as the general shape."""
PRIOR_RUNS = 3.0
"""Runs that the spread between runs of all plans together weighs."""
ODDITIES: Floats = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
"""Spreads of log(actual / planned) around 0 that runs of a plan never seen may have."""
SHARED = 0.5
"""Share of the variance of slowness that all categories of such a run have in common."""
WORK: Floats = np.array([0.0, 0.02, 0.2])
"""Least shares of the planned work of the classes that a category may be of."""


def work_class(shares: Floats) -> Ints:
    """The class of `WORK` of each share."""
    result: Ints = np.searchsorted(WORK, shares, side="right") - 1
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Tasks:
    """The tasks of a run as the posterior sees them; seconds."""

    categories: tuple[str, ...]
    category: Ints
    planned: Floats
    actual: Floats
    """Durations of what has ended well; NaN of the rest."""
    elapsed: Floats
    """What running tasks have taken so far; NaN of the rest."""

    @cached_property
    def counts(self) -> Floats:
        """Tasks of each category."""
        return np.bincount(self.category, minlength=len(self.categories)).astype(np.float64)

    @cached_property
    def shares(self) -> Floats:
        """Share of each category in the planned work."""
        work = np.bincount(self.category, weights=self.planned, minlength=len(self.categories))
        result: Floats = work / max(float(work.sum()), SHORTEST)
        return result


class Knowledge:
    """What a history knows of a plan: slowness by run and category, shapes, spreads."""

    def __init__(self, history: History, plan: str) -> None:
        history = history.work
        self.history = history
        self.names = history.categories
        self.ratios = np.clip(history.ratios, -REACH, REACH)
        self.theta, self.count = self._slowness()
        group = history.run * max(len(self.names), 1) + history.category
        self.residuals = self.ratios - self.theta.reshape(-1)[group] if len(group) else self.ratios
        self.own = history.of_plan(plan)
        self.code = {name: i for i, name in enumerate(self.names)}
        self.spread = self._spreads()
        self.memo: dict[Any, Any] = {}
        """What was worked out for the run that was forecast last."""

    def fresh(self, work: Mapping[str, float]) -> float:
        """Share of `work` (seconds by category) in categories that no run of the plan had."""
        had = np.flatnonzero(self.count[self.own].sum(axis=0) > 0)
        known = {self.names[c] for c in had.tolist()}
        new = sum(seconds for category, seconds in work.items() if category not in known)
        total = sum(work.values())
        return new / total if total > 0 else 0.0

    def _slowness(self) -> tuple[Floats, Floats]:
        """Median log ratio of each run and category (NaN: none), and the records behind it."""
        history = self.history
        shape = (len(history.keys), max(len(self.names), 1))
        theta, count = np.full(shape, np.nan), np.zeros(shape)
        group = history.run * shape[1] + history.category
        order = np.lexsort((self.ratios, group))
        found, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
        values = self.ratios[order]
        low, high = first + (sizes - 1) // 2, first + sizes // 2
        theta.reshape(-1)[found] = (values[low] + values[high]) / 2
        count.reshape(-1)[found] = sizes
        return theta, count

    def _spreads(self) -> Floats:
        """Spread of residuals in each run and category of three records or more; NaN else."""
        history = self.history
        cells = self.theta.size
        group = history.run * self.theta.shape[1] + history.category
        squares = np.bincount(group, weights=np.square(self.residuals), minlength=cells)
        count = self.count.reshape(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(count >= 3, np.sqrt(squares / count), np.nan)
        return spread.reshape(self.theta.shape)

    @cached_property
    def _group(self) -> Ints:
        """Of each record its run and category as one index into `theta`."""
        result: Ints = self.history.run * self.theta.shape[1] + self.history.category
        return result

    @cached_property
    def scale_weights(self) -> Floats:
        """Prior of `SCALES`, shape (classes of `WORK`, scales): how often a spread was near."""
        known = np.isfinite(self.spread)
        kind = work_class(self.shares[known])
        spreads = self.spread[known]
        table = np.array([self._near(spreads[kind == k]) for k in range(len(WORK))])
        overall = table.sum(axis=0) + 1.0
        overall /= overall.sum()
        held = table + PRIOR_RUNS * overall
        result: Floats = held / held.sum(axis=1, keepdims=True)
        return result

    def _near(self, spreads: Floats, weights: Floats | None = None) -> Floats:
        if not len(spreads):
            return np.zeros(len(SCALES))
        place = np.log(np.maximum(spreads, SCALES[0])[:, None] / SCALES)
        near = np.exp(-0.5 * np.square(place / np.log(2)))
        near /= near.sum(axis=1, keepdims=True)
        result: Floats = (near if weights is None else near * weights[:, None]).sum(axis=0)
        return result

    @cached_property
    def scaled(self) -> list[Shape]:
        """The general shape in each of `SCALES`: that of the categories that varied so much.

        Every category of every run of five records or more weighs the same.
        """
        spread = self.spread.reshape(-1)[self._group]
        count = self.count.reshape(-1)[self._group]
        keep = (count >= 5) & (spread > 0)
        values = np.clip(self.residuals[keep] / spread[keep], -5.0, 5.0)
        weights, place = 1 / count[keep], np.log(spread[keep])
        # A normal one where there are no records, and a little of it everywhere.
        normal = np.linspace(-2.5, 2.5, 21)
        values = np.concatenate((values, normal))
        bell = np.exp(-0.5 * normal**2)
        found = []
        for s in SCALES.tolist():
            near = weights * np.exp(-0.5 * np.square((place - np.log(s)) / np.log(2)))
            mass = np.concatenate((near, bell / bell.sum()))
            found.append(Shape(mass=smooth(values * s, mass, max(0.3 * s, STEP / 2))))
        return found

    def shapes(
        self, category: str, number: float, share: float, weights: Floats
    ) -> list[tuple[float, Shape]]:
        """Candidate shapes of a category's residuals, with their prior weights.

        `number`: tasks that the category has in the run, `share`: in its planned work.
        `weights`: of the plan's own runs, in their order.
        """
        code = self.code.get(category)
        scales = self.scale_weights[work_class(np.array([share]))[0]]
        if code is None:
            return (
                self._alone()
                if number < 3
                else list(zip(scales.tolist(), self.scaled, strict=True))
            )
        runs = self.own if len(self.own) and (self.count[self.own, code] > 0).any() else None
        inside = np.arange(len(self.history.keys)) if runs is None else runs
        weight = np.zeros(len(self.history.keys))
        weight[inside] = 1.0 if runs is None else weights * len(weights)
        of_run = weight * (self.count[:, code] >= 3)
        if of_run.sum() < 0.2 * (weight * (self.count[:, code] > 0)).sum() or number < 3:
            return self._alone()
        spreads = self.spread[:, code]
        known = np.isfinite(spreads) & (of_run > 0)
        near = self._near(spreads[known], of_run[known])
        scales = scales * PRIOR_RUNS + near
        scales /= scales.sum()
        rows = (self.history.category == code) & (of_run[self.history.run] > 0)
        residuals = self.residuals[rows]
        mass = of_run[self.history.run[rows]]
        effective = float(mass.sum() ** 2 / np.square(mass).sum()) if len(mass) else 0.0
        own = effective / (effective + ENOUGH)
        found = [((1 - own) * s, shape) for s, shape in zip(scales, self.scaled, strict=True)]
        if len(residuals):
            spread = float(np.sqrt(np.average(np.square(residuals), weights=mass)))
            width = max(0.25 * spread * max(effective, 1.0) ** -0.2, STEP / 2)
            found.append((own, Shape(mass=smooth(residuals, mass, width))))
        return found

    def _alone(self) -> list[tuple[float, Shape]]:
        """The shape of one task in a run: all of its spread is between runs."""
        return [(1.0, self.scaled[0])]

    @cached_property
    def oddity(self) -> Floats:
        """Weights of `ODDITIES`: how far runs of all plans were off what was planned.

        Every plan weighs the same. Fixed spreads, so that a few steps of expectation
        and maximisation (Dempster, Laird, Rubin 1977) find the weights.
        """
        known = np.isfinite(self.theta)
        with np.errstate(invalid="ignore"):
            relative = (self.between / self.between[-1])[np.maximum(work_class(self.shares), 0)]
        off = np.where(known, self.theta, 0.0) / relative
        number = known.sum(axis=1)
        logs = []
        for s in ODDITIES.tolist():
            own, common = (1 - SHARED) * s**2, SHARED * s**2
            held = 1 + number * common / own
            square = np.square(off).sum(axis=1) / own
            square -= common * np.square(off.sum(axis=1) / own) / held
            logs.append(-0.5 * (square + number * np.log(own) + np.log(held)))
        log = np.array(logs).T
        near = np.exp(log - log.max(axis=1, keepdims=True)) if len(log) else log
        plans = np.array(self.plans_of_runs)
        of_run = 1 / np.bincount(plans)[plans] if len(plans) else np.zeros(0)
        first = np.full(len(ODDITIES), 1 / len(ODDITIES))
        weights = first
        for _ in range(30 if len(log) else 0):
            share = near * weights
            share /= share.sum(axis=1, keepdims=True)
            weights = (of_run @ share + first) / (of_run.sum() + 1)
        return weights

    @cached_property
    def plans_of_runs(self) -> list[int]:
        """Of each run a number for its plan."""
        number: dict[str, int] = {}
        return [number.setdefault(plan, len(number)) for plan in self.history.plans]

    @cached_property
    def shares(self) -> Floats:
        """Share of each category in the planned work of each run, like `theta`."""
        history = self.history
        group = history.run * self.theta.shape[1] + history.category
        work = np.bincount(group, weights=history.planned, minlength=self.theta.size)
        table = work.reshape(self.theta.shape)
        result: Floats = table / np.maximum(table.sum(axis=1, keepdims=True), SHORTEST)
        return result

    @cached_property
    def levels(self) -> Floats:
        """Mean log planned duration of each run and category, like `theta`; NaN: none."""
        history = self.history
        group = history.run * self.theta.shape[1] + history.category
        logs = np.log(np.maximum(history.planned, SHORTEST))
        total = np.bincount(group, weights=logs, minlength=self.theta.size)
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Floats = (total / self.count.reshape(-1)).reshape(self.theta.shape)
        return result

    @cached_property
    def between(self) -> Floats:
        """Spread between runs of one plan of a category's slowness, over all plans.

        One for each class of `WORK`: what is little work is also short, and varies most.
        """
        squares, count = np.zeros(len(WORK)), np.zeros(len(WORK))
        for plan in dict.fromkeys(self.history.plans):
            runs = self.history.of_plan(plan)
            theta = self.theta[runs]
            known = np.isfinite(theta)
            size = known.sum(axis=0)
            use = size >= 2
            if not use.any():
                continue
            middle = np.nanmedian(theta[:, use], axis=0)
            off = np.where(known[:, use], theta[:, use] - middle, 0.0)
            with np.errstate(invalid="ignore"):
                share = self.shares[runs][:, use].sum(axis=0) / size[use]
            kind = work_class(share)
            # One large effect counts as two: a spread, not an outlier, is asked for.
            np.add.at(squares, kind, np.square(np.clip(off, -2, 2)).sum(axis=0))
            np.add.at(count, kind, size[use] - 1)
        pooled = (squares.sum() + 0.5**2 * PRIOR_RUNS) / (count.sum() + PRIOR_RUNS)
        result: Floats = np.sqrt((squares + pooled * PRIOR_RUNS) / (count + PRIOR_RUNS))
        return result
