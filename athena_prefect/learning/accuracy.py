"""How accurate estimates were: durations, resources, dependencies, assumptions, forecasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

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
    run, task = history.run[rows], history.task[rows]
    by_task = _errors(task, errors, run, len(history.runs), _names(history))
    category = history.task_category[task]
    by_category = _errors(category, errors, run, len(history.runs), history.categories)
    whole = _errors(np.zeros(len(rows), np.int32), errors, run, len(history.runs), ("overall",))
    overall = whole.get("overall")
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


def _errors(
    code: Codes, errors: Floats, run: Codes, runs: int, names: Sequence[str]
) -> dict[str, Error]:
    groups = len(names)
    count = group_sums(code, groups)
    n = np.maximum(count, 1)
    mean = group_sums(code, groups, errors) / n
    size = group_sums(code, groups, np.abs(errors)) / n
    squares = group_sums(code, groups, (errors - mean[code]) ** 2)
    spread = np.sqrt(squares / np.maximum(n - 1, 1)).tolist()
    columns = (count, _runs(code, groups, run, runs), mean, group_medians(code, groups, errors),
               size)  # fmt: skip
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
