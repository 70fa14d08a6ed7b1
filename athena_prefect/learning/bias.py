"""Groups whose figures are off in one direction: durations against plans, use against demand.

Of the groups that a task belongs to (all, category, resource, itself) the one that
explains most is told, its mean taken off, and what is left looked at again, until
nothing is left that is more than chance: a category is told once and not once a
task, and one slow task does not make its category slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.cells import Cells
from athena_prefect.learning.findings import Family, Finding
from athena_prefect.learning.groups import Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.statistics import Floats, group_sums, student_two_sided

JITTER = 1e-3
"""Standard deviation of a share that is never undercut: clocks and the dispatcher are no more
exact, so equal figures do not make an effect certain."""
MOST = 200
"""Findings of a family: who has more to read reads none."""
DEVIANT = 0.01
"""p-value, over the number of the group's tasks, from which one counts as different from it."""


def biases(
    cells: Cells,
    groups: Groups,
    policy: LearningPolicy,
    *,
    logarithmic: bool,
    kind: PatternKind,
    least: float,
    beside: str = "",
    mean: Floats | None = None,
    doubt: Floats | None = None,
    drifted: Sequence[Floats] = (),
) -> Family:
    """Groups whose mean `y` is off from 0 by `least` and more, and by more than chance.

    `mean`: by cell what the arithmetic mean is taken of, where `y` is a logarithm; a
    bias must show in both, so that skewed noise is none. `doubt`: by task the standard
    error of what was taken off its mean before. `drifted`: by task what it may have been
    off otherwise, at other times or by another account of its drift; a bias must show in
    all of them.
    """
    n = cells.counts()
    safe = np.maximum(n, 1)
    m = group_sums(cells.task, cells.tasks, cells.y) / safe
    e = cells.y - m[cells.task]
    variance = group_sums(cells.task, cells.tasks, e * e) / np.maximum(n - 1, 1)
    variance = np.maximum(variance, JITTER**2)
    pairs, k = groups.pairs, groups.size
    total = groups.sums(n)
    within, runs = _clustered(cells, groups, e, variance, n, total)
    if doubt is not None:
        within = within + (groups.sums(n * doubt) / np.maximum(total, 1)) ** 2
    arithmetic, doubtful = None, np.zeros(len(groups))
    scatter = variance[pairs[1]]
    if not logarithmic:
        # What is near 0 scatters less: a task is as far from its group as the group scatters.
        scatter = np.maximum(scatter, (groups.sums(n * variance) / np.maximum(total, 1))[pairs[0]])
    if mean is not None:
        arithmetic = group_sums(cells.task, cells.tasks, mean) / safe
        squares = group_sums(cells.task, cells.tasks, (mean - arithmetic[cells.task]) ** 2)
        squares = groups.sums(squares * n / np.maximum(n - 1, 1))
        doubtful = np.sqrt(squares) / np.maximum(total, 1)
    tested = (runs >= policy.least_runs) & (total > 0)
    family = Family()
    done = np.zeros(len(groups), dtype=np.bool_)
    # The tasks are those that there are, not a sample of others: how they differ is no error
    # of their mean, but a reason not to speak of them as one (`_agree`).
    error, freedom = np.sqrt(within), np.maximum(runs - 1, 1)
    centre, p = np.full(len(groups), np.nan), np.ones(len(groups))
    told, exceptions = np.zeros(cells.tasks), 0
    while len(family.findings) + exceptions < MOST:
        last_centre, centre = centre, groups.sums(n * m) / np.maximum(total, 1)
        # What was taken off some tasks changes nothing about the groups of others.
        moved = np.flatnonzero(centre != last_centre)
        above = np.maximum(np.abs(centre[moved]) - policy.negligible * least, 0.0)
        p[moved] = student_two_sided(above / error[moved], freedom[moved])
        count = int(tested.sum())
        good = tested & ~done & (p * count <= policy.family_level) & (np.abs(centre) >= least)
        if arithmetic is not None:
            factor = groups.sums(n * arithmetic) / np.maximum(total, 1) - 1
            shown = factor * np.sign(centre)
            # Whichever of the two means was planned, no more than chance may not be told.
            good &= shown >= math.expm1(least) / 2
            place = np.flatnonzero(good)
            ratio = shown[place] / np.maximum(doubtful[place], JITTER / np.sqrt(total[place]))
            sure = student_two_sided(ratio, freedom[place])
            good[place] = sure * count <= policy.family_level
        for otherwise in drifted:
            there = centre + groups.sums(n * otherwise) / np.maximum(total, 1)
            good &= there * np.sign(centre) >= least
        if good.any():
            good &= _agree(pairs, centre, m, scatter / safe[pairs[1]], n, k, least, policy)
        if not good.any():
            family.others += p[tested & ~done].tolist()
            return family
        best = int(np.argmax(np.where(good, total * centre**2, -1.0)))
        group = groups[best]
        # A task that is unlike its group is told of by what it is, not by how unlike.
        before = float((n * told)[group.tasks].sum() / max(total[best], 1))
        whole = float(centre[best]) + before
        told[group.tasks] += centre[best]
        if abs(whole) >= least and (logarithmic or before == 0 or whole > 0):
            found = Finding(
                kind=kind,
                subject=group.name,
                subject_kind=group.kind,
                tasks=group.tasks,
                beside=beside,
                effect=float(centre[best]),
                error=float(error[best]),
                freedom=float(max(freedom[best], 1)),
                p=float(p[best]),
                samples=int(total[best]),
                runs=int(runs[best]),
                least=least,
                logarithmic=logarithmic,
            )
            family.findings.append(found if before == 0 else _all_of_it(found, whole, policy))
        else:
            exceptions += 1
        done[best] = True
        m[group.tasks] -= centre[best]
        if arithmetic is not None:
            arithmetic[group.tasks] /= math.exp(centre[best])
    return family


def _all_of_it(finding: Finding, effect: float, policy: LearningPolicy) -> Finding:
    """A finding about tasks of which something was told before: sized by both together."""
    size, interval = replace(finding, effect=effect).sized(policy)
    return replace(finding, size=size, interval=interval)


def _clustered(
    cells: Cells, groups: Groups, e: Floats, variance: Floats, n: Floats, total: Floats
) -> tuple[Floats, Floats]:
    """Variance of each group's mean with runs as clusters, and the group's runs.

    A run that is slow as a whole is one witness, however many tasks it has.
    """
    found = np.zeros(len(groups))
    runs = np.zeros(len(groups))
    places, code = groups.alone
    found[places] = variance[code] / np.maximum(n[code], 1)
    runs[places] = n[code]
    tables = groups.clusters.tables(cells.task, cells.run, cells.runs, (e, None))
    for members, (sums, seen) in tables:
        many = (seen > 0).sum(axis=1)
        squares = (sums**2).sum(axis=1) * many / np.maximum(many - 1, 1)
        size = total[members]
        found[members] = np.maximum(squares / np.maximum(size, 1), JITTER**2) / np.maximum(size, 1)
        runs[members] = many
    return found, runs


def _agree(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    centre: Floats,
    m: Floats,
    sampling: Floats,
    n: Floats,
    k: Floats,
    least: float,
    policy: LearningPolicy,
) -> NDArray[np.bool_]:
    """Groups of which few tasks differ: by more than is worth telling and more than by chance,
    or by going the other way.
    """
    group, task = pairs
    off = np.abs(m[task] - centre[group])
    far = off >= least
    strange = np.zeros(len(task), dtype=np.bool_)
    t = off[far] / np.sqrt(np.maximum(sampling[far], 1e-18))
    p = student_two_sided(t, np.maximum(n[task[far]] - 1, 1))
    strange[far] = p * k[group[far]] < DEVIANT
    strange |= m[task] * np.sign(centre[group]) <= 0
    share = np.bincount(group, weights=strange, minlength=len(k)) / k
    agreed: NDArray[np.bool_] = (share <= policy.deviating_share) | (k == 1)
    return agreed
