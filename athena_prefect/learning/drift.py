"""Durations that change from run to run in one direction: step by step, or in one step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.bias import DEVIANT, JITTER, MOST
from athena_prefect.learning.cells import Cells, Codes
from athena_prefect.learning.findings import Family, Finding
from athena_prefect.learning.groups import Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.statistics import Floats, group_sums, student_two_sided

Flags = NDArray[np.bool_]
FEWEST = 3
"""Runs on each side of a change of level: fewer could be two unlucky ones."""
CLEARLY = 1.5
"""Times Schwarz's penalty of a step's place by which a step must explain more than a slope: the
best of many places explains somewhat more even of a slope."""
STEADIEST = 0.9
"""Correlation of one run's rest with the next one's beyond which no series is believed to
have any information at all."""


def positions(run_plan: Codes, plans: int) -> Floats:
    """By run its place among its plan's, from 0 (the first) to 1 (the last)."""
    found = np.zeros(len(run_plan))
    for plan in range(plans):
        own = np.flatnonzero(run_plan == plan)
        found[own] = np.linspace(0, 1, len(own)) if len(own) > 1 else 0.0
    return found


def drifts(cells: Cells, groups: Groups, x_run: Floats, policy: LearningPolicy) -> Family:
    """Groups with a slope over the runs; what they drifted since the first is taken off `y`.

    The slope is of a regression with one level a task, its error clusters by run and
    allows for rests that follow the one before.
    """
    family = Family()
    least = math.log1p(policy.least_drift)
    nothing = policy.negligible * least
    n = cells.counts()
    x = x_run[cells.run]
    mean_x = group_sums(cells.task, cells.tasks, x) / np.maximum(n, 1)
    xd = x - mean_x[cells.task]
    den_t = group_sums(cells.task, cells.tasks, xd * xd)
    pairs, size = groups.pairs, groups.size
    den = groups.sums(den_t)
    total = groups.sums(n)
    done = np.zeros(len(groups), dtype=np.bool_)
    e = cells.demeaned()
    num_t = group_sums(cells.task, cells.tasks, e * xd)
    ss_t = group_sums(cells.task, cells.tasks, e * e)
    own = num_t / np.maximum(den_t, 1e-12)
    own_error = _own_error(n, num_t, ss_t, den_t, np.zeros(cells.tasks))
    # Rests that follow one another make errors larger, never smaller: of tasks of which there
    # is nothing to tell without that, it need not be known.
    close = _close(groups, own, own_error, groups.sums(num_t) / np.maximum(den, 1e-12), policy)
    if close.any():
        lag_t = _lag(cells, e, xd, own, close)
        own_error = _own_error(n, num_t, ss_t, den_t, lag_t)
    error, runs = _errors(cells, groups, e, x_run, num_t, den_t, den, own_error, n)
    tested = (runs >= policy.least_trend_runs) & (den > 1e-9)
    slope = groups.sums(num_t) / np.maximum(den, 1e-12)
    steps = _Steps(cells, groups, x_run, nothing)
    promising = np.abs(slope) >= least
    places, code = groups.alone
    promising[places] &= close[code]
    promising &= tested
    while len(family.findings) < MOST:
        slope = groups.sums(num_t) / np.maximum(den, 1e-12)
        t = np.maximum(np.abs(slope) - nothing, 0.0) / np.maximum(error, 1e-12)
        p = np.where(tested, student_two_sided(t, np.maximum(runs - 2, 1)), 1.0)
        for place in np.flatnonzero(promising & ~done).tolist():
            step = steps.of(place)
            if step is not None and abs(step.effect) >= least:
                # What rests on a line through a step is no noise, and follows from run to run.
                p[place] = min(p[place], step.p)
        count = int(tested.sum())
        good = tested & ~done & (p * count <= policy.family_level) & (np.abs(slope) >= least)
        if good.any():
            own = num_t / np.maximum(den_t, 1e-12)
            off = np.abs(own[pairs[1]] - slope[pairs[0]])
            t = off / np.maximum(own_error[pairs[1]], 1e-12)
            unlike = student_two_sided(t, np.maximum(n[pairs[1]] - 2, 1)) * size[pairs[0]]
            strange = (off >= least) & (unlike < DEVIANT)
            share = np.bincount(pairs[0], weights=strange, minlength=len(groups)) / size
            good &= (share <= policy.deviating_share) | (size == 1)
        if not good.any():
            family.others += p[tested & ~done].tolist()
            return family
        best = int(np.argmax(np.where(good, den * slope**2, -1.0)))
        group = groups[best]
        row = steps.rows(best)
        step = steps.of(best)
        effect, spread = float(slope[best]), float(error[best])
        data: dict[str, object] = {}
        taken: Floats = effect * x[row]
        if step is not None and abs(step.effect) >= least:
            effect, spread = step.effect, step.error
            # By a line the first run was so much farther off than by the step.
            data = {"shape": "step", "runs_before": step.before, "line": step.line}
            taken = np.where(x[row] >= step.since, effect, 0.0)
        family.findings.append(
            Finding(
                kind=PatternKind.DRIFT,
                subject=group.name,
                subject_kind=group.kind,
                tasks=group.tasks,
                effect=effect,
                error=spread,
                freedom=float(max(runs[best] - 2, 1)),
                p=float(p[best]),
                samples=int(total[best]),
                runs=int(runs[best]),
                least=least,
                logarithmic=True,
                data=data,
            )
        )
        done[best] = True
        cells.y[row] -= taken
        steps.changed(group.tasks)
        num_t[group.tasks] -= group_sums(cells.task[row], cells.tasks, taken * xd[row])[group.tasks]
    return family


def _close(
    groups: Groups, own: Floats, error: Floats, slope: Floats, policy: LearningPolicy
) -> Flags:
    """Tasks that may have a drift to tell of, or are in a group of several that may."""
    least = math.log1p(policy.least_drift)
    screen = NormalDist().inv_cdf(1 - policy.family_level / 2)
    close: Flags = (np.abs(own) >= least) & (np.abs(own) > screen * error)
    for place in groups.wide.tolist():
        if abs(slope[place]) >= least:
            close[groups[place].tasks] = True
    return close


@dataclass(frozen=True, slots=True)
class _Step:
    """A change from one run to the next."""

    effect: float
    error: float
    since: float
    """Position of the first run after it."""
    before: int
    """Runs before it."""
    line: float
    """What a line through it says of the first run, less what the step does."""
    p: float
    """Of its effect, over all places at which it could have been."""


class _Steps:
    """The step of each group that is asked for, kept until its tasks change."""

    def __init__(self, cells: Cells, groups: Groups, x_run: Floats, nothing: float) -> None:
        self.cells, self.groups, self.x_run, self.nothing = cells, groups, x_run, nothing
        self._known: dict[int, _Step | None] = {}

    @cached_property
    def _order(self) -> tuple[Codes, Codes]:
        """Cells by task, and where each task's begin."""
        narrow = np.uint16 if self.cells.tasks <= np.iinfo(np.uint16).max else np.int64
        order = np.argsort(self.cells.task.astype(narrow), kind="stable")
        return order, np.concatenate(([0], np.cumsum(self.cells.counts()))).astype(np.int64)

    def rows(self, place: int) -> Codes:
        """Cells of a group."""
        order, first = self._order
        members = self.groups[place].tasks.tolist()
        return np.concatenate([order[first[t] : first[t + 1]] for t in members])

    def of(self, place: int) -> _Step | None:
        """That of a group, as `y` is now."""
        if place not in self._known:
            row = self.rows(place)
            own, task = self.cells.y[row], self.cells.task[row]
            n = np.maximum(group_sums(task, self.cells.tasks), 1)
            rest = own - (group_sums(task, self.cells.tasks, own) / n)[task]
            self._known[place] = _step(rest, self.cells.run[row], self.x_run, self.nothing)
        return self._known[place]

    def changed(self, tasks: Codes) -> None:
        """What is known of groups with one of these tasks holds no longer."""
        inside = np.zeros(self.cells.tasks, dtype=np.bool_)
        inside[tasks] = True
        for place in list(self._known):
            if inside[self.groups[place].tasks].any():
                del self._known[place]


def _step(rest: Floats, run: Codes, x_run: Floats, nothing: float) -> _Step | None:
    """The one change of level that explains the runs' means better than a slope; None where
    none does, by Schwarz's (1978) criterion for the place that is chosen beside the level.
    """
    runs, code, weight = np.unique(run, return_inverse=True, return_counts=True)
    mean = np.bincount(code, weights=rest) / weight
    order = np.argsort(x_run[runs], kind="stable")
    x, w, m = x_run[runs][order], weight[order].astype(np.float64), mean[order]
    count = len(m)
    if count < 2 * FEWEST:
        return None
    centre, middle = np.average(m, weights=w), np.average(x, weights=w)
    squares = float((w * (m - centre) ** 2).sum())
    along = float((w * (x - middle) * (m - centre)).sum())
    line = squares - along**2 / max(float((w * (x - middle) ** 2).sum()), 1e-12)
    left, total = np.cumsum(w)[:-1], w.sum()
    part = np.cumsum(w * (m - centre))[:-1]
    gain = part**2 * total / (left * (total - left))
    usable = np.arange(1, count)
    # Of several plans' runs, those at one position lie on one side.
    gain[(usable < FEWEST) | (count - usable < FEWEST) | (np.diff(x) <= 0)] = -1.0
    at = int(np.argmax(gain))
    best = squares - float(gain[at])
    if gain[at] < 0 or count * math.log(max(best, 1e-12) / max(line, 1e-12)) > -CLEARLY * math.log(
        count
    ):
        return None
    apart = float(left[at] * (total - left[at]) / total)
    effect = float(part[at] / -apart)
    error = math.sqrt(max(best / (count - 2), JITTER**2) / apart)
    rest_ = np.sqrt(w) * (m - centre - effect * (np.arange(count) > at))
    rest_ -= rest_.mean()
    lag = float((rest_[1:] * rest_[:-1]).sum() / max(float((rest_**2).sum()), 1e-18))
    lag = float(_beyond_chance(np.array(lag), np.array(count)))
    # A side of few runs, or one that scatters more than the other, is known no better than so.
    sides = (rest_[: at + 1], left[at]), (rest_[at + 1 :], total - left[at])
    wider = math.sqrt(sum(float((r**2).sum()) / (len(r) - 1) / float(v) for r, v in sides))
    spread = max(error, wider) * math.sqrt((1 + lag) / (1 - lag))
    t = max(abs(effect) - nothing, 0.0) / spread
    slope = along / max(float((w * (x - middle) ** 2).sum()), 1e-12)
    before = -effect * float(total - left[at]) / float(total)
    return _Step(
        effect=effect,
        error=error,
        since=float(x[at + 1]),
        before=at + 1,
        line=-slope * float(middle) - before,
        p=_anywhere(float(student_two_sided(t, max(count - 3, 1))), int((gain >= 0).sum()), count),
    )


def _anywhere(p: float, places: int, runs: int) -> float:
    """p-value of the largest of the steps at all places, one of which has `p`.

    The least of Bonferroni's bound (a line, which may fit instead, is one place more) and
    the tail of the largest of a standardised Brownian bridge (Vostrikova, 1981).
    """
    bound = min((places + 1) * p, 1.0)
    if not 1e-300 < p < 0.01:
        return bound
    x = -NormalDist().inv_cdf(p / 2)
    edge = FEWEST / runs
    width = 2 * math.log((1 - edge) / edge)
    tail = x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * (width * (1 - 1 / x**2) + 4 / x**2)
    return min(bound, tail + p)


def _own_error(n: Floats, num: Floats, ss: Floats, den: Floats, lag: Floats) -> Floats:
    """Standard error of each task's own slope."""
    safe = np.maximum(den, 1e-12)
    rest = np.maximum(ss - num**2 / safe, 0.0) / np.maximum(n - 2, 1)
    rest = np.maximum(rest, JITTER**2) * (1 + lag) / (1 - lag)
    error: Floats = np.sqrt(rest / safe)
    return error


def _lag(cells: Cells, e: Floats, xd: Floats, slope: Floats, close: Flags) -> Floats:
    """By task: correlation of a run's rest with the next one's, less what chance gives; 0 of
    tasks that are not `close`.
    """
    near = np.flatnonzero(close[cells.task])
    rest = e[near] - slope[cells.task[near]] * xd[near]
    # Cells come in the order of runs, and small numbers are sorted by their digits.
    narrow = np.uint16 if cells.tasks <= np.iinfo(np.uint16).max else np.int64
    order = np.argsort(cells.task[near].astype(narrow), kind="stable")
    task, u = cells.task[near][order], rest[order]
    same = task[1:] == task[:-1]
    products = group_sums(task[1:][same], cells.tasks, u[1:][same] * u[:-1][same])
    squares = group_sums(task, cells.tasks, u * u)
    return _beyond_chance(products / np.maximum(squares, 1e-18), cells.counts())


def _beyond_chance(lag: Floats, n: Floats) -> Floats:
    return np.clip(lag - 1 / np.sqrt(np.maximum(n, 1)), 0.0, STEADIEST)


def _errors(
    cells: Cells,
    groups: Groups,
    e: Floats,
    x_run: Floats,
    num_t: Floats,
    den_t: Floats,
    den: Floats,
    own_error: Floats,
    n: Floats,
) -> tuple[Floats, Floats]:
    """Standard error of each group's slope with runs as clusters, and the group's runs."""
    error, runs = np.full(len(groups), np.inf), np.zeros(len(groups))
    places, code = groups.alone
    error[places], runs[places] = own_error[code], n[code]
    tables = groups.clusters.tables(cells.task, cells.run, cells.runs, (e, None))
    for members, (sums, seen) in tables:
        many = (seen > 0).sum(axis=1)
        weight = np.maximum(seen.sum(axis=1, keepdims=True), 1)
        xd = x_run - (seen * x_run).sum(axis=1, keepdims=True) / weight
        inside = [groups[m].tasks for m in members]
        slope = np.array([num_t[t].sum() for t in inside]) / np.maximum(den[members], 1e-12)
        rest = sums - slope[:, None] * xd * seen
        lag = (rest[:, 1:] * rest[:, :-1]).sum(axis=1)
        lag = _beyond_chance(lag / np.maximum((rest**2).sum(axis=1), 1e-18), many)
        squares = ((rest * xd) ** 2).sum(axis=1) * many / np.maximum(many - 2, 1)
        squares = np.maximum(squares, JITTER**2 * den[members]) * (1 + lag) / (1 - lag)
        error[members] = np.sqrt(squares) / np.maximum(den[members], 1e-12)
        runs[members] = many
    return error, runs
