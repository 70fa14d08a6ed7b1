"""The search for conditions that change a figure: strongest first, each taken off before the next.

Of several names for one cause (beside anything, beside a category) the one that
explains most is told, and only what it leaves unexplained is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from athena_prefect.learning.contrasts import Contrast, Contrasts, Flags
from athena_prefect.learning.findings import Family, Finding
from athena_prefect.learning.groups import Group
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.statistics import Floats, group_sums, student_two_sided

WITNESS = (0.05, 0.3)
"""p-value and share of the effect with which a witness agrees."""
PASSES = 4
"""Conditions that are told of one task at most: more would be a model, not a finding."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition by cell, of all groups or of those in `only`."""

    kind: PatternKind
    x: Floats
    name: Callable[[int], str]
    """Its name, by the group's place."""
    only: Sequence[int] | None = None
    trials: int = 1
    """Alternatives that it is the best of."""
    data: Callable[[int], Mapping[str, Any]] = lambda group: {}
    witness: int | None = None
    """Place of the condition, among those offered, whose effect must agree with this one's."""
    like: Sequence[int] = ()
    """Places of conditions offered before that may be the same one for some groups."""
    reverse: Condition | None = None
    """The same told the other way round: slow from 8:00 to 22:00 is quick from 22:00 to 8:00."""


@dataclass(slots=True)
class Search:
    """What was found, and what it adds to each task's mean."""

    families: dict[PatternKind, Family] = field(default_factory=dict)
    """By kind of condition, each with the tests of its own kind."""
    offsets: Floats = field(default_factory=lambda: np.zeros(0))

    def family(self, kind: PatternKind) -> Family:
        """That of a kind."""
        return self.families.setdefault(kind, Family())


Confirm = Callable[[Group, Condition], float]
"""A second p-value, for what the first is only an approximation of."""


def search(
    contrasts: Contrasts,
    conditions: Callable[[Floats], Sequence[Condition]],
    policy: LearningPolicy,
    *,
    least: float,
    logarithmic: bool,
    only_more: bool = False,
    confirm: Confirm | None = None,
) -> Search:
    """Conditions whose effect is at least `least`; their effects are taken off the cells' `y`.

    `only_more`: effects below 0 are no finding.
    """
    cells, groups = contrasts.cells, contrasts.groups
    found = Search(offsets=np.zeros(cells.tasks))
    rejected: set[tuple[str, int]] = set()
    of_name: dict[tuple[PatternKind, str], set[int]] = {}
    """Tasks of which a condition by that name was told."""
    for _ in range(PASSES):
        e = cells.demeaned()
        offered = conditions(e)
        results = [contrasts.of(c.x, e, least, c.only) for c in offered]
        tested = [r.tested.copy() for r in results]
        for which, condition in enumerate(offered):
            for other in condition.like:
                # What holds of the same attempts is one test, whatever its names.
                tested[which] &= ~_same(results[which], results[other])
        p = [np.minimum(r.p * c.trials, 1.0) for r, c in zip(results, offered, strict=True)]
        counts = dict.fromkeys((c.kind for c in offered), 0)
        for condition, own in zip(offered, tested, strict=True):
            counts[condition.kind] += int(own.sum())
        of_each = [counts[c.kind] for c in offered]
        chosen = _chosen(results, tested, p, of_each, policy, least, only_more)
        taken = np.zeros(cells.tasks, dtype=np.bool_)
        any_taken = False
        told: set[tuple[int, int]] = set()
        for which, place in chosen:
            condition, result, group = offered[which], results[which], groups[place]
            name = (condition.name(place), place)
            if taken[group.tasks].any() or name in rejected:
                continue
            if condition.witness is not None and not _agrees(
                results[condition.witness], result, place
            ):
                continue
            before = of_name.setdefault((condition.kind, name[0]), set())
            value = float(p[which][place])
            if confirm is not None:
                if before.issuperset(group.tasks.tolist()):
                    # What was counted is confirmed as it was, told of a group already or not.
                    continue
                value = max(value, confirm(group, condition))
                if value * of_each[which] > policy.family_level:
                    rejected.add(name)
                    continue
            taken[group.tasks] = any_taken = True
            before.update(group.tasks.tolist())
            contrasts.explained[group.tasks] = True
            told.add((which, place))
            # Of a task that always met it, or never, nothing is known.
            met = group.tasks[result.told[group.tasks]]
            inside = np.zeros(cells.tasks, dtype=np.bool_)
            inside[met] = True
            row = inside[cells.task]
            effect = float(result.effect[place])
            if condition.reverse is not None and _nearer(cells.y[row], condition.x[row] > 0):
                # What is as planned needs no word: the exception is told.
                condition, effect = condition.reverse, -effect
            mean = group_sums(cells.task, cells.tasks, condition.x) / np.maximum(contrasts.n, 1)
            cells.y[row] -= effect * condition.x[row]
            found.offsets[met] += effect * mean[met]
            with_it = int((condition.x[row] > 0).sum())
            found.family(condition.kind).findings.append(
                _finding(
                    condition, result, group, place, value, least, logarithmic, effect, with_it
                )
            )
        if not any_taken:
            for which, own in enumerate(tested):
                others = found.family(offered[which].kind).others
                others += p[which][own].tolist()
            return found
    return found


def _same(result: Contrast, other: Contrast) -> Flags:
    """Groups for which both are tests of the same attempts."""
    same = result.tested & other.tested & (result.with_it == other.with_it)
    alike: Flags = same & (result.samples == other.samples) & (result.effect == other.effect)
    return alike


def _nearer(y: Floats, inside: Flags) -> bool:
    """Whether `y` is nearer to 0 inside than elsewhere."""
    return bool(abs(y[inside].mean()) < abs(y[~inside].mean()))


def _agrees(witness: Contrast, result: Contrast, place: int) -> bool:
    if not witness.tested[place]:
        return True
    level, share = WITNESS
    t = abs(witness.effect[place]) / witness.error[place]
    sure = float(student_two_sided(t, witness.freedom[place])) <= level
    return bool(sure and witness.effect[place] / result.effect[place] >= share)


def _chosen(
    results: Sequence[Contrast],
    tested: Sequence[Flags],
    p: Sequence[Floats],
    counts: Sequence[int],
    policy: LearningPolicy,
    least: float,
    only_more: bool,
) -> list[tuple[int, int]]:
    """(condition, group) of what passes, the one that explains most first."""
    passing: list[tuple[float, int, int]] = []
    for which, result in enumerate(results):
        good = tested[which] & (p[which] * counts[which] <= policy.family_level)
        size = result.effect if only_more else np.abs(result.effect)
        for place in np.flatnonzero(good & (size >= least)).tolist():
            if result.agrees(place):
                passing.append((-float(result.gain[place]), which, place))
    return [(which, place) for _, which, place in sorted(passing)]


def _finding(
    condition: Condition,
    result: Contrast,
    group: Group,
    place: int,
    p: float,
    least: float,
    logarithmic: bool,
    effect: float,
    with_it: int,
) -> Finding:
    return Finding(
        kind=condition.kind,
        subject=group.name,
        subject_kind=group.kind,
        tasks=group.tasks[result.told[group.tasks]],
        beside=condition.name(place),
        effect=effect,
        error=float(result.error[place]),
        freedom=float(result.freedom[place]),
        p=p,
        samples=int(result.samples[place]),
        runs=int(result.runs[place]),
        least=least,
        logarithmic=logarithmic,
        data={"with": with_it, **condition.data(place)},
    )
