"""Which kinds of tests a history has data for: only among these the level is divided."""

from __future__ import annotations

import numpy as np

from athena_prefect.learning.frame import FAILURE, History
from athena_prefect.learning.policy import LearningPolicy


def kinds_asked(history: History, policy: LearningPolicy, *, met: bool) -> int:
    """How many kinds of tests are made at all, at least one. `met`: whether any task runs beside
    another.

    Told from what was reported and how often, never from how large anything was: what is
    told so leaves the tests as exact as they were.
    """
    timed = history.succeeded & (history.planned > 0) & (history.duration > 0)
    several = len(history.runs) >= policy.least_runs
    hours, days = (np.count_nonzero(np.bincount(c + 1)[1:]) for c in history.clock)
    overlap = several and met
    failures = int(((history.outcome == FAILURE) & history.kept).sum())
    asked = (
        any((history.resources_used[n][timed] > 0).any() for n in history.quantities),
        len(history.runs) >= policy.least_trend_runs,
        overlap,
        hours > 1,
        days > 1,
        bool(timed.any()),
        overlap and failures >= policy.least_failures,
        bool((history.attempt > 1).any()),
        bool((history.queued >= 0).any()),
        any(n in history.resources_used for n in history.resources_planned),
        any(c.holds is not None for r in history.runs for c in r.checks),
    )
    return max(asked.count(True), 1)
