"""Durations that grow with a quantity that the task reports: rows, lines, bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.findings import Family, Finding
from athena_prefect.learning.frame import Codes, Floats, History
from athena_prefect.learning.groups import Group, Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind, SubjectKind
from athena_prefect.learning.statistics import (
    group_sums,
    student_quantile,
    student_two_sided,
)

FEWEST = 8
"""Attempts from which a line is drawn."""
POINTS = 400
"""Attempts that a line is drawn through at most: the pairs grow with their square, and the
slope's error is then a fifteenth of that of a pair."""
AGREE = 0.25
"""Difference of a task's slope from its category's, as a share, up to which one rate stands for
both."""


@dataclass(frozen=True, slots=True)
class Line:
    """Theil's (1950) and Sen's (1968) line, the interval of its slope, and its level at 0."""

    slope: float
    low: float
    high: float
    level: float


def robust_line(x: Floats, y: Floats, level: float) -> Line | None:
    """The median of the slopes of all pairs; of many points an even choice."""
    if len(x) > POINTS:
        chosen = np.linspace(0, len(x) - 1, POINTS).astype(np.int64)
        x, y = x[chosen], y[chosen]
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    told = apart != 0
    slopes = np.sort((y[j] - y[i])[told] / apart[told])
    n, pairs = len(x), len(slopes)
    if not pairs:
        return None
    # Kendall's S has this variance without ties; its quantile is taken from Student's t.
    sd = (n * (n - 1) * (2 * n + 5) / 18) ** 0.5
    reach = student_quantile(0.5 + level / 2, max(n - 2, 1)) * sd
    low = int(np.clip((pairs - reach) / 2, 0, pairs - 1))
    high = int(np.clip((pairs + reach) / 2 + 1, 0, pairs - 1))
    slope = float(np.median(slopes))
    return Line(slope, float(slopes[low]), float(slopes[high]), float(np.median(y - slope * x)))


def scalings(
    history: History, rows: Codes, y: Floats, groups: Groups, policy: LearningPolicy
) -> Family:
    """Groups whose durations a quantity explains; `y` (by row) becomes what it does not.

    Tested on logarithms (so that no factor between tasks matters), described by a
    robust line of seconds over the quantity.
    """
    family = Family()
    own = groups.of(SubjectKind.CATEGORY, SubjectKind.TASK)
    for name in history.quantities:
        amount = history.resources_used[name][rows]
        some = np.flatnonzero(amount > 0)
        if len(some) >= FEWEST:
            family.add(_one(history, rows, y, some, amount[some], name, own, policy))
    return family


def _one(
    history: History,
    rows: Codes,
    y: Floats,
    some: Codes,
    amount: Floats,
    name: str,
    groups: Groups,
    policy: LearningPolicy,
) -> Family:
    family, tasks = Family(), len(history.tasks)
    task = history.task[rows[some]]
    seconds = history.duration[rows[some]]
    q, d = np.log(amount), np.log(seconds)
    n = group_sums(task, tasks)
    groups = _reporting(groups, n > 0)
    safe = np.maximum(n, 1)
    qd = q - (group_sums(task, tasks, q) / safe)[task]
    dd = d - (group_sums(task, tasks, d) / safe)[task]
    count = len(groups)
    qq = groups.sums(group_sums(task, tasks, qd * qd))
    qy = groups.sums(group_sums(task, tasks, qd * dd))
    yy = groups.sums(group_sums(task, tasks, dd * dd))
    total = groups.sums(n)
    freedom = total - groups.sums((n > 0).astype(np.float64)) - 1
    tested = (freedom >= FEWEST - 2) & (qq > 1e-9) & (yy > 1e-12)
    slope = qy / np.maximum(qq, 1e-12)
    explained = np.clip(qy**2 / np.maximum(qq * yy, 1e-18), 0.0, 1 - 1e-12)
    t = np.sqrt(explained * np.maximum(freedom, 1) / (1 - explained))
    p = np.ones(count)
    p[tested] = student_two_sided(t[tested], freedom[tested])
    good = tested & (slope > 0) & (explained >= policy.least_scaling)
    good &= p * int(tested.sum()) <= policy.family_level
    taken = np.zeros(tasks, dtype=np.bool_)
    lines: dict[int, Line | None] = {}
    by_task = np.argsort(task, kind="stable")
    bounds = np.searchsorted(task[by_task], np.arange(tasks + 1))

    def line(code: int) -> Line | None:
        if code not in lines:
            at = by_task[bounds[code] : bounds[code + 1]]
            lines[code] = robust_line(amount[at], seconds[at], policy.interval_level)
        return lines[code]

    told: set[int] = set()
    for place in np.flatnonzero(good)[np.argsort(-total[good], kind="stable")].tolist():
        group = groups[place]
        if taken[group.tasks].any():
            continue
        at = np.concatenate([by_task[bounds[c] : bounds[c + 1]] for c in group.tasks.tolist()])
        found = robust_line(amount[at], seconds[at], policy.interval_level)
        if found is None or found.slope <= 0:
            continue
        if len(group.tasks) > 1 and not _one_rate(found, [line(c) for c in group.tasks.tolist()]):
            continue
        taken[group.tasks] = True
        told.add(place)
        middle = float(np.median(amount[at]))
        family.findings.append(
            Finding(
                kind=PatternKind.SCALING,
                subject=group.name,
                subject_kind=group.kind,
                tasks=group.tasks,
                effect=float(slope[place]),
                error=float(slope[place] / max(t[place], 1e-12)),
                freedom=float(freedom[place]),
                p=float(p[place]),
                samples=int(total[place]),
                runs=len(np.unique(history.run[rows[some[at]]])),
                least=0.0,
                beside=name,
                size=found.slope,
                interval=(found.low, found.high),
                unit=f"seconds per {name}",
                data={
                    "level_seconds": found.level,
                    "typical_amount": middle,
                    "explained": float(explained[place]),
                },
            )
        )
        _take_off(history, rows, y, some[at], amount[at], task[at], found)
    family.others += p[[n for n in np.flatnonzero(tested).tolist() if n not in told]].tolist()
    return family


def _reporting(groups: Groups, reports: NDArray[np.bool_]) -> Groups:
    """The groups with only the tasks that report the quantity; of several names for the same
    tasks, the one that says least else.
    """
    named: dict[bytes, Group] = {}
    for group in sorted(groups, key=lambda g: len(g.tasks)):
        left = group.tasks[reports[group.tasks]]
        if len(left):
            named.setdefault(left.tobytes(), Group(group.kind, group.name, left))
    return groups.some(named.values())


def _one_rate(whole: Line, parts: list[Line | None]) -> bool:
    known = [p for p in parts if p is not None]
    return all(abs(p.slope - whole.slope) <= AGREE * whole.slope for p in known)


def _take_off(
    history: History, rows: Codes, y: Floats, at: Codes, amount: Floats, task: Codes, line: Line
) -> None:
    """Leave in `y` what the line does not explain, about what the task takes on average."""
    fit = line.level + line.slope * amount
    usable = fit > 0
    at, fit, task = at[usable], fit[usable], task[usable]
    count = np.maximum(group_sums(task, len(history.tasks)), 1)
    mean = group_sums(task, len(history.tasks), fit) / count
    taken = history.duration[rows[at]]
    y[at] = np.log(taken / fit) + np.log(mean[task] / history.planned[rows[at]])
