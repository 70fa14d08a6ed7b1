"""What could be found at all: a test that knows what was planted, and only asks whether it shows.

It knows tasks, condition, direction and place, takes neither runs that are slow as a whole
nor skewed noise into account, and corrects only for the least number of questions that
somebody asks who does not know: each group of tasks, beside each category, on each day.
What it cannot tell from chance, or not size, no learner can at the same level.
"""

from __future__ import annotations

import math

import numpy as np

from athena_prefect.learning.frame import FAILURE, SUCCESS
from athena_prefect.learning.policy import KINDS, LearningPolicy
from athena_prefect.learning.statistics import (
    binomial_at_most,
    fisher_upper,
    normal_upper,
    student_upper,
)
from tests.learning.otherwise import NAMES, Otherwise

PLACES = {"hour": 24, "weekday": 7, "contention": len(NAMES), "interaction": len(NAMES)}
"""Hours at which it could begin, days, categories beside: for each group of tasks."""


def findable(made: Otherwise) -> bool:
    """Whether one who knows what was planted could show it, with its size."""
    if made.kind == "none" or not made.needed:
        return False
    told = _told(made)
    if told is None:
        return True
    p, size = told
    groups = 1 if made.kind == "retries" else len(made.history.tasks) + len(NAMES)
    questions = KINDS * groups * PLACES.get(made.kind, 1)
    right = abs(size - made.size) <= max(0.25 * abs(made.size), 0.05)
    return p * questions <= LearningPolicy().level and right


def _told(made: Otherwise) -> tuple[float, float] | None:
    """p-value and size; None of kinds that show in the mean of all runs."""
    history = made.history
    codes = np.array([t in made.tasks for t in history.tasks])
    own = codes[history.task]
    if made.kind == "retries":
        rows = own & (history.attempt > 1)
        n, k = int(rows.sum()), int((history.outcome[rows] == SUCCESS).sum())
        return float(binomial_at_most(k, n, LearningPolicy().useful_retry)), k / max(n, 1)
    if made.condition is None:
        return None
    first = own & (history.attempt == 1)
    if made.kind == "interaction":
        failed = history.outcome[first] == FAILURE
        return _more(failed, made.condition[history.run[first], history.task[first]], first, made)
    done = own & (history.outcome == SUCCESS) & (history.planned > 0)
    task, x = history.task[done], made.condition[history.run[done], history.task[done]].copy()
    y = np.log(history.duration[done] / history.planned[done])
    tasks = np.unique(task)
    for code in tasks.tolist():
        rows = task == code
        low, middle, high = np.quantile(y[rows], (0.25, 0.5, 0.75))
        reach = max(5 * (high - low) / 1.349, math.log(3))
        y[rows] = np.clip(y[rows], middle - reach, middle + reach)
        x[rows] -= x[rows].mean()
        y[rows] -= y[rows].mean()
    square = float((x * x).sum())
    freedom = len(y) - len(tasks) - 1
    if square < 1e-9 or freedom < 1:
        return 1.0, 0.0
    slope = float((x * y).sum()) / square
    error = math.sqrt(float(((y - slope * x) ** 2).sum()) / freedom / square)
    return float(student_upper(slope / error, freedom)), math.expm1(slope)


def _more(
    failed: np.ndarray, x: np.ndarray, first: np.ndarray, made: Otherwise
) -> tuple[float, float]:
    """Fisher's test of one task, that of Mantel and Haenszel of several."""
    task, met = made.history.task[first], x > 0
    tables = [
        [int(np.sum((task == code) & m & f)) for m in (met, ~met) for f in (failed, ~failed)]
        for code in np.unique(task).tolist()
    ]
    tables = [t for t in tables if t[0] + t[1] and t[2] + t[3]]
    if not tables:
        return 1.0, 0.0
    table = np.array(tables, dtype=np.float64)
    a, b, c, d = table.T
    n = a + b + c + d
    weight = (a + b) * (c + d) / n
    risk = float((weight * (a / (a + b) - c / (c + d))).sum() / weight.sum())
    if len(tables) == 1:
        return fisher_upper(*tables[0]), risk
    expected = (a + b) * (a + c) / n
    variance = float(((a + b) * (c + d) * (a + c) * (b + d) / (n**2 * (n - 1))).sum())
    z = float((a - expected).sum()) / math.sqrt(max(variance, 1e-12))
    return float(normal_upper(z)), risk
