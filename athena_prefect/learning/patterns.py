"""Patterns: what recurs from run to run, tested, corrected for all tests, sized and worded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from athena_prefect.learning.asked import kinds_asked
from athena_prefect.learning.bias import biases
from athena_prefect.learning.cells import Cells, cells_of, cut_off
from athena_prefect.learning.counted import unreliable, vain_retries
from athena_prefect.learning.drift import drifts, positions
from athena_prefect.learning.findings import Family, significant
from athena_prefect.learning.frame import Floats, History
from athena_prefect.learning.groups import Groups, groups_of
from athena_prefect.learning.neighbours import Neighbourhood, conditional, interactions
from athena_prefect.learning.observations import observations
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import ExecutionPattern, PatternKind, SubjectKind
from athena_prefect.learning.scaling import scalings
from athena_prefect.learning.statistics import group_sums
from athena_prefect.learning.wording import pattern_of


def execution_patterns(
    history: History, policy: LearningPolicy | None = None
) -> list[ExecutionPattern]:
    """Every pattern that stands after correction, the surest kinds of harm first.

    Of one run nothing can be tested: what was off in it are observations, without a
    confidence.
    """
    policy = policy or LearningPolicy()
    groups = _groups(history)
    near = Neighbourhood(history, policy)
    asked = kinds_asked(history, policy, met=bool(near.beside.any()))
    policy = policy.model_copy(update={"kinds": min(policy.kinds, asked)})
    plain = groups.of(SubjectKind.CATEGORY, SubjectKind.TASK)
    together = groups.of(SubjectKind.PLAN, SubjectKind.CATEGORY, SubjectKind.TASK)
    families = [
        *_durations(history, groups, near, policy),
        interactions(near, together, policy),
        vain_retries(history, plain, policy),
        _queues(history, plain, policy),
        _uses(history, plain, policy),
        unreliable(history, policy),
    ]
    found = [
        pattern_of(finding, history, policy, corrected=p)
        for finding, p in significant(families, policy)
    ]
    found += observations(history, policy)
    return sorted(found, key=lambda p: (p.confidence is None, p.impact or 0.0, p.pattern_id))


def _groups(history: History) -> Groups:
    there = np.zeros(len(history.tasks), dtype=np.bool_)
    there[history.task] = True
    demand = {}
    for name, planned in history.resources_planned.items():
        uses = np.zeros(len(history.tasks), dtype=np.bool_)
        uses[history.task[planned > 0]] = True
        demand[name] = uses
    plan = history.plans[0] if len(history.plans) == 1 else ""
    return groups_of(
        history.tasks, history.task_category, history.categories, there, plan=plan, resources=demand
    )


def _durations(
    history: History, groups: Groups, near: Neighbourhood, policy: LearningPolicy
) -> list[Family]:
    """What explains durations, each explanation taken off before the next is looked for.

    A quantity first, then drift, then what runs beside and the clock; what is left of
    a task's mean is bias.
    """
    tasks = len(history.tasks)
    timed = history.succeeded & (history.planned > 0) & (history.duration > 0)
    rows = np.flatnonzero(timed)
    if not len(rows):
        return []
    y = np.log(history.duration[rows] / history.planned[rows])
    scaled = scalings(history, rows, y, groups, policy)
    least = math.log(policy.outlier_factor)
    y = cut_off(y, history.task[rows], tasks, policy.outlier_sigmas, least)
    cells = cells_of(history, rows, y)
    x_run = positions(history.run_plan, len(history.plans))
    drifted = drifts(cells, groups, x_run, policy)
    found, offsets = conditional(near, cells, groups, policy)
    doubt = _doubt(cells, x_run, drifted, found)
    if near.whole:
        # The cells were those of the search: their effects are taken off already.
        offsets = np.zeros(tasks)
    cells.y -= offsets[cells.task]
    least = math.log1p(policy.least_bias)
    ends, lines = np.zeros(tasks), np.zeros(tasks)
    for finding in drifted.findings:
        ends[finding.tasks] += finding.effect
        lines[finding.tasks] += float(finding.data.get("line", 0.0))
    biased = biases(
        cells,
        groups,
        policy,
        kind=PatternKind.DURATION,
        least=least,
        logarithmic=True,
        mean=np.exp(cells.y),
        doubt=doubt,
        drifted=(ends, lines) if drifted.findings else (),
    )
    return [scaled, drifted, *found, biased]


def _doubt(cells: Cells, x_run: Floats, drifted: Family, met: Sequence[Family]) -> Floats:
    """By task the standard error of what was taken off its mean for drift and conditions."""
    middle = group_sums(cells.task, cells.tasks, x_run[cells.run]) / np.maximum(cells.counts(), 1)
    square = np.zeros(cells.tasks)
    for finding in drifted.findings:
        square[finding.tasks] += (finding.error * middle[finding.tasks]) ** 2
    for finding in chain.from_iterable(family.findings for family in met):
        share = float(finding.data["with"]) / max(finding.samples, 1)
        square[finding.tasks] += (finding.error * share) ** 2
    doubt: Floats = np.sqrt(square)
    return doubt


def _queues(history: History, groups: Groups, policy: LearningPolicy) -> Family:
    """Waiting for a slot or a resource, as a share of the time that the task typically runs."""
    rows = np.flatnonzero(
        history.succeeded & (history.attempt == 1) & (history.queued >= 0) & (history.duration > 0)
    )
    if not len(rows):
        return Family()
    task = history.task[rows]
    count = np.maximum(group_sums(task, len(history.tasks)), 1)
    typical = np.exp(group_sums(task, len(history.tasks), np.log(history.duration[rows])) / count)
    cells = cells_of(history, rows, history.queued[rows] / typical[task])
    found = biases(
        cells, groups, policy, kind=PatternKind.QUEUE, least=policy.least_queue, logarithmic=False
    )
    if found.findings:
        queued = group_sums(task, len(history.tasks), history.queued[rows])
        ran = group_sums(task, len(history.tasks), history.duration[rows])
        found.findings = [
            replace(
                f,
                data={
                    "mean_queue_seconds": float(queued[f.tasks].sum() / count[f.tasks].sum()),
                    "mean_run_seconds": float(ran[f.tasks].sum() / count[f.tasks].sum()),
                },
            )
            for f in found.findings
        ]
    return found


def _uses(history: History, groups: Groups, policy: LearningPolicy) -> Family:
    """Measured use of each resource against what was planned."""
    family = Family()
    for name, planned in history.resources_planned.items():
        used = history.resources_used.get(name)
        if used is None:
            continue
        rows = np.flatnonzero(history.kept & (planned > 0) & ~np.isnan(used) & history.succeeded)
        if not len(rows):
            continue
        error: Floats = used[rows] / planned[rows] - 1
        family.add(
            biases(
                cells_of(history, rows, error),
                groups,
                policy,
                kind=PatternKind.RESOURCE,
                least=policy.least_bias,
                logarithmic=False,
                beside=name,
            )
        )
    return family
