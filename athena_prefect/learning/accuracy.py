"""How accurate estimates were: durations, resources, dependencies, assumptions, forecasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from athena_prefect.learning.calibration import calibration
from athena_prefect.learning.dependencies import dependency_accuracy
from athena_prefect.learning.frame import Codes, Floats, History
from athena_prefect.learning.groups import DENSE
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import Error, EstimationMetrics, Trend, TrendTest
from athena_prefect.learning.statistics import (
    group_medians,
    group_sums,
    mann_kendall,
    normal_upper,
)

NEWEST = 1000
"""Runs of a plan that a trend looks at: the pairs grow with their square, and what was long
ago tells of other estimates."""


def estimation_accuracy(
    history: History, *, policy: LearningPolicy | None = None
) -> EstimationMetrics:
    """Planned against actual, over every successful attempt that was planned."""
    policy = policy or LearningPolicy()
    rows = np.flatnonzero(history.succeeded & (history.planned > 0))
    errors = history.duration[rows] / history.planned[rows] - 1
    run, task = history.run[rows].astype(np.intp), history.task[rows].astype(np.intp)
    own, runs = _sums(task, len(history.tasks), errors), len(history.runs)
    group = history.task_category.astype(np.intp)
    by_task = _errors(own, task, errors, run, runs, _names(history))
    by_category = _errors(
        own.over(group, len(history.categories)), group[task], errors, run, runs,
        history.categories,
    )  # fmt: skip
    whole = own.over(np.zeros_like(group), 1)
    overall = _errors(whole, np.zeros_like(task), errors, run, runs, ("overall",)).get("overall")
    test = _trend(history, run, errors, policy)
    validity, assumptions = _assumptions(history)
    dependencies, why_none = dependency_accuracy(history)
    return EstimationMetrics(
        tasks_analyzed=len(by_task),
        avg_duration_error=overall.bias if overall else None,
        duration_error_std=overall.spread if overall else None,
        resource_usage_accuracy=_resources(history),
        assumption_validity_rate=validity,
        trend=_direction(test, policy),
        overall=overall,
        by_task=by_task,
        by_category=by_category,
        dependency_accuracy=dependencies,
        assumptions=assumptions,
        trend_test=test,
        calibration=calibration(history),
        reasons=_reasons(
            {
                "avg_duration_error": (overall, "no successful attempt had a planned duration"),
                "assumption_validity_rate": (validity, "no check of an assumption could be made"),
                "dependency_accuracy": (dependencies, why_none),
                "trend": (
                    test,
                    f"no plan has {policy.least_trend_runs} runs with planned durations",
                ),
            }
        ),
    )


def _reasons(fields: Mapping[str, tuple[object, str]]) -> dict[str, str]:
    return {name: why for name, (value, why) in fields.items() if value is None}


def _names(history: History) -> Sequence[str]:
    """Tasks' ids, with their plan's name in front where another plan has the same id."""
    shared = Counter(history.tasks)
    return [
        name if shared[name] == 1 else f"{history.plans[plan]}/{name}"
        for name, plan in zip(history.tasks, history.task_plan.tolist(), strict=True)
    ]


class _Sums(NamedTuple):
    """Of each group: samples, sum, sum of sizes, and sum of squares about its mean."""

    samples: Floats
    total: Floats
    size: Floats
    squares: Floats

    def over(self, group: Codes, groups: int) -> _Sums:
        """The sums of groups of these groups: what lies about the means of the parts, and what
        the parts' means lie about theirs, add up.
        """
        count, total, size = (group_sums(group, groups, v) for v in self[:3])
        apart = self.total / np.maximum(self.samples, 1) - (total / np.maximum(count, 1))[group]
        squares = group_sums(group, groups, self.squares + self.samples * apart**2)
        return _Sums(count, total, size, squares)


def _sums(code: Codes, groups: int, errors: Floats) -> _Sums:
    count = group_sums(code, groups)
    total = group_sums(code, groups, errors)
    rest = errors - (total / np.maximum(count, 1))[code]
    return _Sums(
        count,
        total,
        group_sums(code, groups, np.abs(errors)),
        group_sums(code, groups, rest * rest),
    )


def _errors(
    sums: _Sums, code: Codes, errors: Floats, run: Codes, runs: int, names: Sequence[str]
) -> dict[str, Error]:
    groups = len(names)
    n = np.maximum(sums.samples, 1)
    spread = np.sqrt(sums.squares / np.maximum(n - 1, 1)).tolist()
    columns = (sums.samples, _runs(code, groups, run, runs), sums.total / n,
               group_medians(code, groups, errors), sums.size / n)  # fmt: skip
    found = {}
    for name, extent, own in zip(names, spread, np.stack(columns, axis=1).tolist(), strict=True):
        samples, told, bias, typical, mape = own
        if samples:
            found[name] = Error(
                name=name,
                samples=int(samples),
                runs=int(told),
                bias=bias,
                typical=typical,
                mape=mape,
                spread=extent if samples > 1 else None,
            )
    return found


def _runs(code: Codes, groups: int, run: Codes, runs: int) -> Floats:
    """Different runs of each group."""
    if groups * runs <= DENSE:
        seen = np.zeros((groups, runs), dtype=np.bool_)
        seen[code, run] = True
        told: Floats = seen.sum(axis=1).astype(np.float64)
        return told
    cells = np.sort(code.astype(np.int64) * runs + run)
    return group_sums(cells[np.flatnonzero(np.diff(cells, prepend=-1))] // runs, groups)


def _resources(history: History) -> dict[str, float]:
    found = {}
    for name, planned in history.resources_planned.items():
        used = history.resources_used.get(name)
        if used is None:
            continue
        rows = history.kept & (planned > 0) & ~np.isnan(used)
        if rows.any():
            error = np.abs(used[rows] - planned[rows]) / planned[rows]
            found[name] = max(1.0 - float(error.mean()), 0.0)
    return found


def _assumptions(history: History) -> tuple[float | None, dict[str, float]]:
    made: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for run in history.runs:
        for check in run.checks:
            if check.holds is not None:
                made[check.assumption_id] += 1
                held[check.assumption_id] += check.holds
    total = made.total()
    return (
        held.total() / total if total else None,
        {name: held[name] / count for name, count in made.items()},
    )


def _trend(
    history: History, run: Codes, errors: Floats, policy: LearningPolicy
) -> TrendTest | None:
    """Within each plan and summed up, so that a plan that came later is no trend."""
    runs = len(history.runs)
    count = group_sums(run, runs)
    size = np.minimum(np.abs(errors), policy.usable_error)
    mean = group_sums(run, runs, size) / np.maximum(count, 1)
    s = variance = pairs = 0.0
    told = 0
    for plan in range(len(history.plans)):
        series = mean[(history.run_plan == plan) & (count > 0)][-NEWEST:]
        if len(series) < policy.least_trend_runs:
            continue
        own, own_variance = mann_kendall(series)
        s, variance = s + own, variance + own_variance
        pairs += len(series) * (len(series) - 1) / 2
        told += len(series)
    if not told:
        return None
    # The continuity correction of Kendall (1975): S moves in steps of two.
    z = max(abs(s) - 1, 0.0) / variance**0.5 if variance else 0.0
    return TrendTest(tau=s / pairs, p_value=min(2 * float(normal_upper(z)), 1.0), runs=told)


def _direction(test: TrendTest | None, policy: LearningPolicy) -> Trend | None:
    if test is None:
        return None
    if test.p_value > policy.level:
        return Trend.STABLE
    return Trend.DEGRADING if test.tau > 0 else Trend.IMPROVING
