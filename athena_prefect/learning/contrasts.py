"""Effects of a condition (an hour, something beside) on the same tasks with and without it.

Each task is its own control: a condition that comes with certain tasks only tells
nothing. The effect is the slope of a regression with one level a task (Frisch and
Waugh, 1933; Lovell, 1963), its error clusters by run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.bias import DEVIANT, JITTER
from athena_prefect.learning.cells import Cells
from athena_prefect.learning.groups import Codes, Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import SubjectKind
from athena_prefect.learning.statistics import Floats, group_sums, student_two_sided

Flags = NDArray[np.bool_]
BEYOND = 0.01
"""Chance that all of a few runs lie so far beyond the others, from which they are an effect and
not an outlier or two: how the others scatter then holds of them, too."""
FEWEST = 3
"""Runs with, and runs without the condition, from which it is tested."""


def beyond(e: Floats, x: Flags) -> float:
    """P(all of the few lie as far beyond the others, on the side where their mean is).

    The few are the smaller of the two parts, by the condition `x`. Exact, whatever the
    distribution: with m of the others as far out, C(k + m, k) of the C(n, k) ways to
    choose k of n (Rosenbaum, 1954).
    """
    if 2 * x.sum() > len(x):
        x = ~x
    few, others = e[x], e[~x]
    if few.mean() < others.mean():
        few, others = -few, -others
    as_far = int((others >= few.min()).sum())
    return comb(len(few) + as_far, len(few)) / comb(len(e), len(few))


@dataclass(frozen=True, slots=True)
class Contrast:
    """What one condition does to each group."""

    effect: Floats
    error: Floats
    freedom: Floats
    p: Floats
    tested: Flags
    agrees: Callable[[int], bool]
    """Whether few of the tasks of the group at that place differ from it."""
    gain: Floats
    """Sum of squares that it explains."""
    with_it: Floats
    """Cells with the condition."""
    samples: Floats
    runs: Floats
    told: Flags
    """Tasks that it tells of: in some of their runs the condition was there, in some not."""


class Contrasts:
    """Groups of tasks, set up once for many conditions on the same cells."""

    def __init__(
        self, cells: Cells, groups: Groups, policy: LearningPolicy, *, counted: bool = False
    ) -> None:
        """`counted`: `y` is 0 or 1, so that how it scatters follows from its mean."""
        self.cells, self.groups, self.policy, self.counted = cells, groups, policy, counted
        self.n = cells.counts()
        self.explained = np.zeros(cells.tasks, dtype=np.bool_)
        """Tasks of whose `y` something was taken off."""
        self._category = np.array([g.kind is SubjectKind.CATEGORY for g in groups], dtype=np.bool_)
        # Fewer standard errors than this pass no level, whatever the degrees of freedom and
        # the number of tests: no p-value is reckoned for them, nor for too small an effect.
        self.screen = NormalDist().inv_cdf(1 - policy.family_level / 2)

    def of(self, x: Floats, e: Floats, least: float, only: Sequence[int] | None = None) -> Contrast:
        """The contrast of condition `x` (by cell) in `e`, which is less its tasks' means.

        `only`: places of the groups that are asked for.
        """
        cells, groups, count = self.cells, self.groups, len(self.groups)
        mean = group_sums(cells.task, cells.tasks, x) / np.maximum(self.n, 1)
        xd = x - mean[cells.task]
        num, den = e * xd, xd * xd
        num_t = group_sums(cells.task, cells.tasks, num)
        den_t = group_sums(cells.task, cells.tasks, den)
        den_t[den_t < 1e-9] = 0.0
        den_g = groups.sums(den_t)
        effect = groups.sums(num_t) / np.maximum(den_g, 1e-12)
        # Cells of tasks in which the condition never changes tell nothing.
        told = den_t > 0
        with_t = np.where(told, group_sums(cells.task, cells.tasks, x), 0.0)
        n_t = np.where(told, self.n, 0.0)
        with_g, n_g = groups.sums(with_t), groups.sums(n_t)
        variance = np.full(count, np.nan)
        runs_with, runs_without = np.zeros(count), np.zeros(count)
        own_t = num_t / np.maximum(den_t, 1e-12)
        square_t = group_sums(cells.task, cells.tasks, e * e)
        rest_t = np.maximum(square_t - own_t * num_t, 0.0)
        varying_t, pooled_t = self._tasks(num, den, den_t, own_t, rest_t)
        error_t = np.maximum(varying_t, pooled_t)
        alone, code = groups.alone
        # A share scatters less the nearer it is to 0 or 1, so that what is told of its size is
        # the one that varies; that it is no chance is judged by what holds without an effect.
        variance[alone] = (varying_t if self.counted else error_t)[code]
        judged = variance.copy()
        judged[alone] = (pooled_t if self.counted else error_t)[code]
        freedom = np.maximum(groups.sums(n_t) - 2, 1.0)
        runs_with[alone], runs_without[alone] = with_t[code], n_t[code] - with_t[code]
        # Below the least effect nothing is told, so that its error need not be known.
        wide = (
            groups.wide
            if only is None
            else np.intersect1d(groups.wide, np.asarray(only, dtype=np.int64))
        )
        variance[wide] = judged[wide] = np.inf
        runs_with[wide], runs_without[wide] = with_g[wide], n_g[wide] - with_g[wide]
        if (np.abs(effect[wide]) >= least).any():
            shown = told[cells.task].astype(np.float64)
            columns = (num, den, shown, x * shown, xd, e * shown)
            square_g = groups.sums(np.where(told, square_t, 0.0))
            tasks_g = groups.sums(told.astype(np.float64))
            made = groups.clusters.tables(cells.task, cells.run, cells.runs, columns)
            for members, (sums, weights, seen, having, off, less) in made:
                many = np.maximum((seen > 0).sum(axis=1), 2)
                slope, of = effect[members], np.maximum(den_g[members], 1e-12)
                rest = sums - slope[:, None] * weights
                squares = (rest**2).sum(axis=1) * many / (many - 1)
                left = np.maximum(square_g[members] - slope**2 * den_g[members], 0.0)
                cell = left / np.maximum(n_g[members] - tasks_g[members] - 1, 1)
                pairs = (seen * (seen - 1)).sum(axis=1)
                alike = ((less - slope[:, None] * off) ** 2).sum(axis=1) - left
                alike = np.clip(alike / np.maximum(pairs, 1), 0.0, cell)
                together = np.maximum((off**2).sum(axis=1) - den_g[members], 0.0)
                pooled = cell * den_g[members] + alike * together
                larger = np.maximum(squares, pooled)
                variance[members] = (squares if self.counted else larger) / of**2
                judged[members] = (pooled if self.counted else larger) / of**2
                freedom[members] = np.maximum(many - 2, 1)
                runs_with[members] = (having > 0).sum(axis=1)
                runs_without[members] = (seen - having > 1e-9).sum(axis=1)
        few = np.minimum(runs_with, runs_without)
        tested = (den_g > 0) & (few >= FEWEST) & ~np.isnan(variance)
        tested &= runs_with + runs_without >= self.policy.least_runs
        tested &= self._by_its_name(groups.sums(told.astype(np.float64)))
        if only is not None:
            asked = np.zeros(count, dtype=np.bool_)
            asked[np.asarray(only, dtype=np.int64)] = True
            tested &= asked
        floor = JITTER**2 / np.maximum(den_g, 1e-12)
        error = np.sqrt(np.maximum(np.nan_to_num(variance, posinf=np.inf), floor))
        # What is left of shares of which a part was taken off scatters as it does.
        partly = groups.sums(self.explained.astype(np.float64)) > 0
        judged[partly] = np.fmax(judged, variance)[partly]
        sure = np.sqrt(np.maximum(np.nan_to_num(judged, posinf=np.inf), floor))
        p = np.ones(count)
        above = np.abs(effect) - (0.0 if self.counted else self.policy.negligible * least)
        clear = tested & (np.abs(effect) >= least) & (above > self.screen * sure)
        p[clear] = student_two_sided(above[clear] / sure[clear], freedom[clear])
        # Two outliers among three runs are no effect, however well the others are known. (Where
        # that would not suffice either, for as many as are tested, it is not looked at.)
        badly = few < self.policy.least_runs
        if not self.counted:
            passing = clear & badly & (p * tested.sum() <= self.policy.family_level)
            for place in np.flatnonzero(passing).tolist():
                own = groups[place].tasks
                badly[place] = not self._beyond(own[told[own]], e, x)
        freedom = np.where(badly, np.maximum(few - 1, 1.0), freedom)
        again = clear & badly
        p[again] = student_two_sided(above[again] / sure[again], freedom[again])

        def agrees(place: int) -> bool:
            spread = self._shared(place, effect, e, x, xd) if self.counted else error_t
            return self._agrees(place, effect, own_t, spread, told, with_t, n_t, least)

        return Contrast(
            effect=effect,
            error=error,
            freedom=freedom,
            p=p,
            tested=tested,
            agrees=agrees,
            gain=den_g * effect**2,
            with_it=with_g,
            samples=n_g,
            runs=np.maximum(runs_with, runs_without),
            told=told,
        )

    def _beyond(self, tasks: Codes, e: Floats, x: Floats) -> bool:
        """Whether the few runs of `tasks` with the condition, or without it, lie beyond the others.

        By run; where it holds of a part of a run's tasks there are no two sorts of runs.
        """
        cells = self.cells
        inside = np.zeros(cells.tasks, dtype=np.bool_)
        inside[tasks] = True
        row = np.flatnonzero(inside[cells.task])
        runs, run, size = np.unique(cells.run[row], return_inverse=True, return_counts=True)
        with_it = group_sums(run, len(runs), x[row])
        if ((with_it > 0) & (with_it < size)).any():
            return False
        return beyond(group_sums(run, len(runs), e[row]) / size, with_it > 0) <= BEYOND

    def _by_its_name(self, told: Floats) -> Flags:
        """Groups of which as a whole is told, with so many tasks that it tells of: a category
        where there are several, all of a plan or of a resource only where most are; else the
        tasks speak for themselves.
        """
        size = self.groups.size
        enough: Flags = (size == 1) | ((told > 1) & (self._category | (2 * told > size)))
        return enough

    def _tasks(
        self, num: Floats, den: Floats, den_t: Floats, own_t: Floats, rest_t: Floats
    ) -> tuple[Floats, Floats]:
        """Variance of each task's own effect, from scores that vary with the condition, and
        from ones that do not, as is so where it has no effect: of few runs with it the first
        is known badly, the second as well as of all.
        """
        cells = self.cells
        score = num - own_t[cells.task] * den
        squares = group_sums(cells.task, cells.tasks, score**2)
        squares *= self.n / np.maximum(self.n - 2, 1)
        pooled = rest_t / np.maximum(self.n - 2, 1) * den_t
        floor, safe = JITTER**2 * den_t, np.maximum(den_t, 1e-12) ** 2
        return np.maximum(squares, floor) / safe, np.maximum(pooled, floor) / safe

    def _shared(self, place: int, effect: Floats, e: Floats, x: Floats, xd: Floats) -> Floats:
        """Variance of each task's own effect, where those of the group have the group's: none of
        ten failures does not say that a task never fails.
        """
        cells = self.cells
        inside = np.zeros(cells.tasks, dtype=np.bool_)
        inside[self.groups[place].tasks] = True
        row = np.flatnonzero(inside[cells.task])
        squares = (e[row] - effect[place] * xd[row]) ** 2
        found = np.zeros(cells.tasks)
        for side in (x[row] > 0, x[row] <= 0):
            count = group_sums(cells.task[row][side], cells.tasks)
            found += squares[side].mean() / np.maximum(count, 1)
        return found

    def _agrees(
        self,
        place: int,
        effect: Floats,
        own_t: Floats,
        error_t: Floats,
        told: Flags,
        with_t: Floats,
        n_t: Floats,
        least: float,
    ) -> bool:
        task = self.groups[place].tasks
        if len(task) == 1:
            return True
        task = task[told[task]]
        off = np.abs(own_t[task] - effect[place])
        few = np.minimum(with_t, n_t - with_t)[task]
        far = (off >= least) & (few >= FEWEST)
        t = off[far] / np.sqrt(np.maximum(error_t[task[far]], 1e-18))
        # Few runs with it speak against what all the others say only as far as they are known.
        strange = student_two_sided(t, np.maximum(few[far] - 1, 1)) * len(task) < DEVIANT
        return bool(strange.sum() <= self.policy.deviating_share * len(task))
