"""What finished runs and the run so far say of how long the rest of its tasks takes.

Of each category the slowness θ = log(actual / planned) of this run is unknown. Its
prior is a mixture: the slowness that the category had in each past run of the plan,
those that are built alike weighing more, and one broad component. A factor of the run
is common to all categories. The likelihood has the shape that residuals had in the
past, on a grid of θ; what runs counts with the probability to run longer than it has
(censored). Everything is drawn from the posterior; nothing is its mean.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.knowledge import ENOUGH, Knowledge, Tasks
from athena_prefect.monitor.prior import Prior, prior_of
from athena_prefect.monitor.residuals import (
    GRID,
    HALF,
    REACH,
    STEP,
    WIDE,
    Seen,
    Shape,
    draw,
    likelihood,
    smooth,
    spread_of,
)
from athena_prefect.plan.graph import Floats, Ints


def _expected(knowledge: Knowledge, tasks: Tasks) -> tuple[Prior, list[list[tuple[float, Shape]]]]:
    """The prior of a run of these tasks, and the candidate shapes of each category.

    Kept with the knowledge for the next forecast of the same run: they do not depend on
    what has happened.
    """
    key = (tasks.categories, tasks.category.tobytes(), tasks.planned.tobytes())
    kept: tuple[Prior, list[list[tuple[float, Shape]]]] | None = knowledge.memo.get(key)
    if kept is not None:
        return kept
    prior = prior_of(knowledge, tasks)
    counts, shares = tasks.counts.tolist(), tasks.shares.tolist()
    shapes = [
        knowledge.shapes(name, number, share, prior.runs)
        for name, number, share in zip(tasks.categories, counts, shares, strict=True)
    ]
    knowledge.memo.clear()  # one run is forecast again and again
    knowledge.memo[key] = prior, shapes
    return prior, shapes


class Posterior:
    """Slowness of each category of one run, drawn together."""

    def __init__(self, knowledge: Knowledge, tasks: Tasks) -> None:
        self.knowledge = knowledge
        self.tasks = tasks
        self.prior, self.shapes = _expected(knowledge, tasks)
        planned = np.maximum(tasks.planned, SHORTEST)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.ratios = np.clip(
                np.log(np.maximum(tasks.actual, SHORTEST) / planned), -REACH, REACH
            )
            self.least = np.clip(
                np.log(np.maximum(tasks.elapsed, SHORTEST) / planned), -REACH, REACH
            )
        self.done = ~np.isnan(tasks.actual)
        self.running = ~np.isnan(tasks.elapsed)
        self.seen: dict[int, Seen] = {}
        for c in range(len(tasks.categories)):
            mine = tasks.category == c
            ratios, least = self.ratios[mine & self.done], self.least[mine & self.running]
            if len(ratios) or len(least):
                self.seen[c] = likelihood(self.shapes[c], ratios, least)

    def slowness(self, samples: int, rng: np.random.Generator, wanted: Collection[int]) -> Floats:
        """θ of each category that is `wanted`, shape (categories, samples); 0 of the others."""
        prior = self.prior
        factors = np.linspace(-3, 3, 25)
        # log p(observed | component, factor), shape (components, factors).
        log = np.log(prior.weight + 1e-12)[:, None] - 0.5 * factors**2
        for c, seen in self.seen.items():
            log = log + self._evidence(seen, c, factors)
        joint = np.exp(log - log.max())
        luck = (rng.permutation(samples) + rng.random(samples)) / samples
        cell = draw(np.cumsum(joint.reshape(-1)), luck)
        component, step = np.divmod(cell, len(factors))
        factor = factors[step] + (rng.random(samples) - 0.5) * (factors[1] - factors[0])
        common = prior.common[component] * factor
        theta = np.zeros((len(self.tasks.categories), samples))
        for c in wanted:
            centre, own = prior.centre[component, c] + common, prior.own[component, c]
            if c in self.seen:
                theta[c] = self._given(self.seen[c], centre, own, rng)
            else:
                theta[c] = centre + own * rng.standard_normal(samples)
        return np.clip(theta, -REACH, REACH)

    def _evidence(self, seen: Seen, c: int, factors: Floats) -> Floats:
        """Log p(observed of `c` | component, factor): the likelihood, smoothed by the prior."""
        prior = self.prior
        weight = np.exp(seen.log - seen.log.max())
        centre = prior.centre[:, c, None] + prior.common[:, None] * factors
        widths, which = np.unique(np.maximum(prior.own[:, c], STEP), return_inverse=True)
        found = np.empty(centre.shape)
        for k, own in enumerate(widths.tolist()):
            kernel = np.exp(-0.5 * np.square(WIDE[HALF : 3 * HALF + 1] / own)) / own
            smoothed = np.log(np.convolve(weight, kernel, "same") + 1e-300)
            rows = which == k
            found[rows] = np.interp(centre[rows], GRID, smoothed)
        return found

    def _given(self, seen: Seen, centre: Floats, own: Floats, rng: np.random.Generator) -> Floats:
        use = np.flatnonzero(seen.log > seen.log.max() - 30)
        grid, log = GRID[use], seen.log[use] - seen.log.max()
        away = (grid - centre[:, None]) / np.maximum(own, STEP)[:, None]
        joint = log - 0.5 * np.square(away)
        mass = np.cumsum(np.exp(joint - joint.max(axis=1, keepdims=True)), axis=1)
        luck = rng.random(len(centre)) * mass[:, -1]
        place = np.minimum((mass < luck[:, None]).sum(axis=1), len(grid) - 1)
        result: Floats = grid[place] + (rng.random(len(centre)) - 0.5) * STEP
        return result

    def shape(self, c: int, theta: Floats, rng: np.random.Generator) -> Ints:
        """Which candidate shape the residuals of category `c` have in each scenario.

        One for all tasks of a scenario: how much they differ is a thing of the run. Drawn
        for each task anew, hundreds of them would always hold the same few odd ones.
        """
        if c not in self.seen:
            weights = np.array([w for w, _ in self.shapes[c]])
            return draw(np.cumsum(weights), rng.random(len(theta)))
        cells = np.clip(np.rint((theta + REACH) / STEP).astype(np.int64), 0, len(GRID) - 1)
        joint = self.seen[c].joint[:, cells]
        below = np.cumsum(np.exp(joint - joint.max(axis=0)), axis=0)
        luck = rng.random(len(theta)) * below[-1]
        result: Ints = np.minimum((below < luck).sum(axis=0), len(below) - 1)
        return result

    def residuals(self, c: int) -> Floats:
        """Cumulative weights on `WIDE` of the residuals of category `c`, one row a shape.

        The candidate's, and what this run has shown itself (Kaplan, Meier 1958): the more
        tasks have ended, the more.
        """
        masses = np.array([shape.mass for _, shape in self.shapes[c]])
        if c in self.seen:
            masses = self._with_own(c, masses)
        result: Floats = np.cumsum(masses, axis=1)
        result /= result[:, -1:]
        return result

    def _with_own(self, c: int, masses: Floats) -> Floats:
        mine = self.tasks.category == c
        done, running = self.ratios[mine & self.done], self.least[mine & self.running]
        number = len(done) + len(running)
        if len(done) < 3:
            return masses
        best = GRID[int(np.argmax(self.seen[c].log))]
        values = np.concatenate((done, running)) - best
        ended = np.concatenate((np.ones(len(done)), np.zeros(len(running))))
        order = np.lexsort((-ended, values))
        values, ended = values[order], ended[order]
        at_risk = number - np.arange(number)
        stay = np.cumprod(1 - ended / at_risk)
        weights = np.concatenate(([1.0], stay[:-1])) * ended / at_risk
        spread = max(spread_of(values[ended > 0]), STEP)
        own = smooth(
            values[ended > 0], weights[ended > 0], max(0.3 * spread * number**-0.2, STEP / 2)
        )
        left = float(stay[-1])
        beyond = np.where(values[-1] <= WIDE, masses, 0.0)
        total = beyond.sum(axis=1, keepdims=True)
        beyond = np.where(total > 1e-9, beyond / np.maximum(total, 1e-9), masses)
        observed = (1 - left) * own + left * beyond
        share = number / (number + ENOUGH)
        mixed: Floats = share * observed + (1 - share) * masses
        return mixed
