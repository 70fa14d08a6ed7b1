"""Exact tests of two-by-two tables: whether failures are more frequent with a condition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from athena_prefect.learning.statistics import Floats, fisher_upper, normal_upper

MOST = 150
"""Cases with or without the condition up to which every table is looked at; of more Fisher's test
loses next to nothing by its margins, and the tables grow with their product."""
MOST_SUM = 1000
"""Failures, over all tasks, up to which their sum's distribution is reckoned exactly."""
CHANCES = 99
"""Common chances of failure, evenly between 0 and 1, of which the worst counts."""


def more_often(a: int, b: int, c: int, d: int) -> float:
    """One-sided p of a table ((a, b), (c, d)): failures and others, with and without a condition.

    Boschloo's (1970) test: how often a table comes whose p by Fisher (1935) is as small,
    at the common chance of failure at which that is most often. How many have the
    condition is given; how many fail is not, and to take it for given, as Fisher does,
    wastes much of few runs.
    """
    own = fisher_upper(a, b, c, d)
    with_, without = a + b, c + d
    if max(with_, without) > MOST or own > 0.5 or not min(with_, without):
        return own
    extreme = _fisher(with_, without) <= own * (1 + 1e-9)
    chance = np.arange(1, CHANCES + 1) / (CHANCES + 1)
    mass = np.einsum("pi,ij,pj->p", _masses(with_, chance), extreme, _masses(without, chance))
    return float(min(mass.max(), own))


def more_often_in_all(tables: Sequence[tuple[int, ...]]) -> float:
    """One-sided p of several tables together, one a task, with the margins of each as they are.

    The sum of the failures with the condition has the convolution of the tables'
    hypergeometric distributions (Birch, 1964); of very many failures it is normal, as
    Mantel and Haenszel (1959) have it.
    """
    some = [t for t in tables if (t[0] + t[1]) and (t[2] + t[3]) and (t[0] + t[2])]
    if sum(min(a + b, a + c) for a, b, c, _ in some) > MOST_SUM:
        return _normal(some)
    found, least = np.ones(1), 0
    for a, b, c, d in some:
        bad, with_, total = a + c, a + b, a + b + c + d
        k = np.arange(max(0, bad - c - d), min(bad, with_) + 1)
        ways = [_log_choose(with_, i) + _log_choose(c + d, bad - i) for i in k.tolist()]
        found = np.convolve(found, np.exp(np.array(ways) - _log_choose(total, bad)))
        least += int(k[0])
    seen = sum(a for a, *_ in some)
    return float(min(found[seen - least :].sum(), 1.0))


def _normal(tables: Sequence[tuple[int, ...]]) -> float:
    more = variance = 0.0
    for a, b, c, d in tables:
        total = a + b + c + d
        more += a - (a + b) * (a + c) / total
        variance += (a + b) * (c + d) * (a + c) * (b + d) / (total**2 * (total - 1))
    if variance <= 0:
        return 1.0
    return float(normal_upper(max(more - 0.5, 0.0) / math.sqrt(variance)))


def _masses(n: int, chance: Floats) -> Floats:
    """By chance and number of failures of `n`, the probability of it."""
    k = np.arange(n + 1)
    choose = np.array([_log_choose(n, i) for i in k.tolist()])
    logs = k * np.log(chance)[:, None] + (n - k) * np.log1p(-chance)[:, None]
    found: Floats = np.exp(choose + logs)
    return found


def _fisher(with_: int, without: int) -> Floats:
    """Fisher's one-sided p of every table, by failures with and without the condition."""
    one = np.array([_log_choose(with_, i) for i in range(with_ + 1)])
    other = np.array([_log_choose(without, j) for j in range(without + 1)])
    found = np.zeros((with_ + 1, without + 1))
    for bad in range(with_ + without + 1):
        i = np.arange(max(0, bad - without), min(bad, with_) + 1)
        mass = np.exp(one[i] + other[bad - i] - _log_choose(with_ + without, bad))
        # At least so many of the failures with it: all tables of more, and itself.
        found[i, bad - i] = np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)
    return found


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
