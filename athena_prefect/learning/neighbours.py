"""What running beside others does: tasks take longer (contention), or fail (interaction)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from athena_prefect.learning.beside import beside, sampled_runs
from athena_prefect.learning.cells import Cells, cells_of
from athena_prefect.learning.clock import clock_conditions
from athena_prefect.learning.contrasts import Contrasts
from athena_prefect.learning.findings import Family
from athena_prefect.learning.frame import FAILURE, PARTIAL, SUCCESS, Floats, History
from athena_prefect.learning.groups import Group, Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.search import Condition, search
from athena_prefect.learning.statistics import (
    group_quantiles,
    group_sums,
)
from athena_prefect.learning.tables import more_often, more_often_in_all

SHORTEST = 0.05
"""Quantile of a task's durations within which nearly every attempt of it still runs."""
ANYTHING = "anything else"
"""What is beside where no category is named."""


class Neighbourhood:
    """What runs beside each attempt of the runs that are looked at."""

    def __init__(self, history: History, policy: LearningPolicy) -> None:
        self.history, self.policy = history, policy
        width = 3 * (len(history.categories) + 1)
        kept = sampled_runs(history, width, policy.most_cells)
        self.whole = bool(kept.all())
        known = ~np.isnan(history.started) & (history.outcome >= 0) & history.kept
        self.rows = np.flatnonzero(known & kept[history.run])
        timed = self.rows[history.duration[self.rows] > 0]
        least, typical = (
            np.nan_to_num(q)[history.task[self.rows]]
            for q in group_quantiles(
                history.task[timed], len(history.tasks), history.duration[timed], (SHORTEST, 0.5)
            )
        )
        # What is shorter than the part that is looked at would meet less for that alone.
        part = np.minimum(policy.beside_share * typical, least)
        reaches = [np.zeros(len(typical)), part, typical]
        self.beside = beside(history, self.rows, reaches, policy.touching * typical)
        self.place = np.full(len(history), -1, dtype=np.int64)
        self.place[self.rows] = np.arange(len(self.rows))

    def conditions(self, cells: Cells, kind: PatternKind, groups: Groups) -> list[Condition]:
        """Each category beside, and anything, as conditions of `cells` (all of them sampled).

        Anything counts only of groups in which some task meets several: of two tasks that
        meet nothing but one another each has its name for it.

        Beside at the start, in the first part of a task's typical duration, or in all of
        it: whichever explains most. What takes longer meets more, so that the longer
        counts only where the shortest agrees.
        """
        place = self.place[cells.rows]
        found: list[Condition] = []
        most = [np.zeros(cells.tasks) for _ in self.beside]
        """By window and task how often it met the category that it met most."""
        for column, name in enumerate((*self.history.categories, ANYTHING)):
            witness: int | None = None
            seen: list[bytes] = []
            first = len(found)
            for number, window in enumerate(self.beside):
                x = window[place, column]
                if not x.any() or x.all() or (number == 2 and witness is None):
                    continue
                if x.tobytes() not in seen:
                    like = range(0 if name == ANYTHING else first, len(found))
                    met = group_sums(cells.task, cells.tasks, x)
                    only = None
                    if name == ANYTHING:
                        several = (met > most[number]).astype(np.float64)
                        only = np.flatnonzero(groups.sums(several) > 0).tolist()
                    most[number] = np.maximum(most[number], met)
                    within = (0.0, self.policy.beside_share, 1.0)[number]
                    one = Condition(
                        kind, x.astype(np.float64), lambda group, name=name: name, only,  # type: ignore[misc]
                        witness=witness, like=like, data=lambda group, w=within: {"within": w},  # type: ignore[misc]
                    )  # fmt: skip
                    found.append(one)
                    seen.append(x.tobytes())
                if witness is None:
                    witness = len(found) - 1
        return found


def conditional(
    near: Neighbourhood, cells: Cells, groups: Groups, policy: LearningPolicy
) -> tuple[list[Family], Floats]:
    """Contention and the clock's effects on durations, a family each, and what they add to each
    task's mean.
    """
    history = near.history
    sampled = np.flatnonzero(near.place[cells.rows] >= 0)
    part = cells if len(sampled) == len(cells) else cells.taken(sampled)
    contrasts = Contrasts(part, groups, policy)
    beside_ = near.conditions(part, PatternKind.CONTENTION, groups)
    hour, day = (c[part.rows] for c in history.clock)
    clock = clock_conditions(part, groups, hour, day)

    def conditions(e: Floats) -> Sequence[Condition]:
        return [*beside_, *clock(e)]

    found = search(
        contrasts, conditions, policy, least=math.log1p(policy.least_bias), logarithmic=True
    )
    return list(found.families.values()), found.offsets


def interactions(near: Neighbourhood, groups: Groups, policy: LearningPolicy) -> Family:
    """Tasks whose first attempts fail more often beside something."""
    history = near.history
    tasks = len(history.tasks)
    ended = np.isin(history.outcome, (SUCCESS, PARTIAL, FAILURE)) & history.kept
    rows = np.flatnonzero(ended & (history.attempt == 1) & (near.place >= 0))
    failed = (history.outcome[rows] == FAILURE).astype(np.float64)
    by_task = group_sums(history.task[rows], tasks, failed)
    enough = [g for g in groups if by_task[g.tasks].sum() >= policy.least_failures]
    if not enough:
        return Family()
    inside = np.zeros(tasks, dtype=np.bool_)
    for group in enough:
        inside[group.tasks] = True
    inside &= by_task > 0
    own = inside[history.task[rows]]
    cells = cells_of(history, rows[own], failed[own])
    cells = cells.taken(np.arange(len(cells)))
    # Of a mapped task it counts whether any item failed.
    cells.y = np.ceil(np.minimum(cells.y, 1.0))
    outcome = cells.y.copy()
    # Of several names for the tasks that fail, the one that says least else.
    named: dict[bytes, Group] = {}
    for group in sorted(enough, key=lambda g: len(g.tasks)):
        tasks_left = group.tasks[inside[group.tasks]]
        named.setdefault(tasks_left.tobytes(), Group(group.kind, group.name, tasks_left))
    left = groups.some(named.values())
    contrasts = Contrasts(cells, left, policy, counted=True)
    conditions = near.conditions(cells, PatternKind.INTERACTION, left)

    def confirm(group: Group, condition: Condition) -> float:
        return _stratified(cells, outcome, condition.x, group)

    return search(
        contrasts,
        lambda e: conditions,
        policy,
        least=policy.least_risk,
        logarithmic=False,
        only_more=True,
        confirm=confirm,
    ).family(PatternKind.INTERACTION)


def _stratified(cells: Cells, failed: Floats, x: Floats, group: Group) -> float:
    """One-sided p of more failures with the condition, one table a task."""
    tables = []
    for code in group.tasks.tolist():
        own = cells.task == code
        with_, bad = x[own] > 0, failed[own] > 0
        tables.append(
            tuple(int(np.sum(m)) for m in (with_ & bad, with_ & ~bad, ~with_ & bad, ~with_ & ~bad))
        )
    return more_often(*tables[0]) if len(tables) == 1 else more_often_in_all(tables)
