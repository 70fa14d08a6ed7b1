"""What is counted rather than measured: retries that do not help, assumptions that do not hold."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from athena_prefect.learning.findings import Family, Finding
from athena_prefect.learning.frame import PARTIAL, SUCCESS, History
from athena_prefect.learning.groups import Groups
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind, SubjectKind
from athena_prefect.learning.statistics import beta_below, binomial_at_most, group_sums

PRIOR = 0.5
"""Both parameters of the Beta prior of a chance (Jeffreys): half a success, half a failure."""


def rate_interval(k: int, n: int, level: float) -> tuple[float, float]:
    """The interval of a chance after `k` of `n`, from its Beta posterior, by bisection."""
    found = []
    for p in ((1 - level) / 2, (1 + level) / 2):
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            below = float(beta_below(middle, PRIOR + k, PRIOR + n - k)) < p
            low, high = (middle, high) if below else (low, middle)
        found.append(low)
    # With nothing seen on one side, the end of the scale belongs to the interval.
    return (0.0 if k == 0 else found[0], 1.0 if k == n else found[1])


def _rate(
    kind: PatternKind,
    of: SubjectKind,
    subject: str,
    counts: tuple[int, int],
    policy: LearningPolicy,
    **more: Any,
) -> Finding:
    """What was counted `counts[0]` times of `counts[1]`, as a finding; its size is that share."""
    k, n = counts
    return Finding(
        kind=kind, subject=subject, subject_kind=of, samples=n, effect=k / n, size=k / n,
        error=0.0, freedom=0.0, interval=rate_interval(k, n, policy.interval_level), **more,
    )  # fmt: skip


def vain_retries(history: History, groups: Groups, policy: LearningPolicy) -> Family:
    """Groups whose attempts after the first succeed less often than is worth their time."""
    family = Family()
    tasks = len(history.tasks)
    rows = np.flatnonzero(history.kept & (history.attempt > 1) & (history.outcome >= 0))
    if not len(rows):
        return family
    # All retries of one task in one run have one cause, and count as one.
    keys = (history.run[rows], history.task[rows], history.item[rows])
    order = np.lexsort(keys)
    changed = np.zeros(len(rows), dtype=np.bool_)
    changed[0] = True
    for key in keys:
        changed[1:] |= np.diff(key[order]) != 0
    first = np.flatnonzero(changed)
    good = np.isin(history.outcome[rows], (SUCCESS, PARTIAL)).astype(np.float64)[order]
    helped = np.maximum.reduceat(good, first)
    task = history.task[rows][order][first]
    run = history.run[rows][order][first]
    n_t, k_t = group_sums(task, tasks), group_sums(task, tasks, helped)
    time = group_sums(history.task[rows], tasks, np.nan_to_num(history.duration[rows]))
    taken = np.zeros(tasks, dtype=np.bool_)
    told: list[tuple[float, float]] = []
    for group in groups.of(SubjectKind.CATEGORY, SubjectKind.TASK):
        n, k = int(n_t[group.tasks].sum()), int(k_t[group.tasks].sum())
        runs = len(np.unique(run[np.isin(task, group.tasks)])) if n else 0
        if runs < policy.least_runs or taken[group.tasks].any():
            continue
        p = float(binomial_at_most(k, n, policy.useful_retry))
        helps = k_t[group.tasks] >= policy.useful_retry * np.maximum(n_t[group.tasks], 1)
        if p > policy.level or (len(group.tasks) > 1 and helps.any()):
            told.append((p, (1 - policy.useful_retry) ** n))
            continue
        taken[group.tasks] = True
        family.findings.append(
            _rate(
                PatternKind.RETRIES,
                group.kind,
                group.name,
                (k, n),
                policy,
                tasks=group.tasks[n_t[group.tasks] > 0],
                p=p,
                runs=runs,
                least=policy.useful_retry,
                confidence=float(beta_below(policy.useful_retry, PRIOR + k, PRIOR + n - k)),
                data={"helped": k, "seconds": float(time[group.tasks].sum())},
            )
        )
    family.others = _able(told, len(family.findings), policy.family_level)
    return family


def _able(told: list[tuple[float, float]], found: int, level: float) -> list[float]:
    """The p-values of the tests, each with the least p that it could have had, that could have
    shown anything: only for so many is corrected (Tarone, 1990).
    """
    count = 1
    while sum(least <= level / count for _, least in told) + found > count:
        count += 1
    return [p for p, least in told if least <= level / count]


def unreliable(history: History, policy: LearningPolicy) -> Family:
    """Assumptions that did not hold in more runs than an assumption may."""
    family = Family()
    for (plan, name), verdicts in _verdicts(history).items():
        n, k = len(verdicts), sum(not held for held in verdicts)
        if n < 2:
            continue
        # P(at least k of n) is the upper tail.
        p = 1.0 - float(binomial_at_most(k - 1, n, policy.least_violation)) if k else 1.0
        if not k or p > policy.level:
            family.others.append(p)
            continue
        family.findings.append(
            _rate(
                PatternKind.ASSUMPTION,
                SubjectKind.ASSUMPTION,
                name,
                (k, n),
                policy,
                tasks=np.zeros(0, dtype=np.int64),
                p=p,
                runs=n,
                least=policy.least_violation,
                confidence=1 - float(beta_below(policy.least_violation, PRIOR + k, PRIOR + n - k)),
                data={"violated": k, "plan": plan},
            )
        )
    return family


def _verdicts(history: History) -> dict[tuple[str, str], list[bool]]:
    """(plan, assumption) → by run whether it held all the time, of the runs that know."""
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for run in history.runs:
        seen: dict[str, bool] = {}
        for check in run.checks:
            if check.holds is not None:
                seen[check.assumption_id] = seen.get(check.assumption_id, True) and check.holds
        for name, held in seen.items():
            found[run.plan_name, name].append(held)
    return found
