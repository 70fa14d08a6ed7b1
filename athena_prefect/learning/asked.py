"""Which kinds of tests a history has data for: only among these the level is divided."""

from __future__ import annotations

import numpy as np

from athena_prefect.learning.frame import FAILURE, History
from athena_prefect.learning.policy import LearningPolicy


def kinds_asked(history: History, policy: LearningPolicy) -> int:
    """How many kinds of tests are made at all, at least one.

    Told from what was reported and how often, never from how large anything was: what is
    told so leaves the tests as exact as they were.
    """
    timed = history.succeeded & (history.planned > 0) & (history.duration > 0)
    several = len(history.runs) >= policy.least_runs
    hour, day = (np.unique(c[timed]) for c in history.clock)
    overlap = several and _overlap(history)
    failures = int(((history.outcome == FAILURE) & history.kept).sum())
    asked = (
        any((history.resources_used[n][timed] > 0).any() for n in history.quantities),
        len(history.runs) >= policy.least_trend_runs,
        overlap,
        len(hour[hour >= 0]) > 1,
        len(day[day >= 0]) > 1,
        bool(timed.any()),
        overlap and failures >= policy.least_failures,
        bool((history.attempt > 1).any()),
        bool((history.queued >= 0).any()),
        any(n in history.resources_used for n in history.resources_planned),
        any(c.holds is not None for r in history.runs for c in r.checks),
    )
    return max(sum(asked), 1)


def _overlap(history: History) -> bool:
    """Whether any attempt runs while another one of its run does."""
    known = np.flatnonzero(~np.isnan(history.started) & ~np.isnan(history.ended))
    order = known[np.lexsort((history.started[known], history.run[known]))]
    same = history.run[order][1:] == history.run[order][:-1]
    begun: bool = (history.started[order][1:] < history.ended[order][:-1])[same].any()
    return bool(begun)
