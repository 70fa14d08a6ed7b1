"""Time in whole ticks from the present, as a constraint program counts it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, gcd
from typing import Self

import numpy as np

from athena_prefect.schedule.rest import Rest

TICKS = 100_000
"""Ticks to a horizon of times that have no common measure: an error of 10⁻⁵ of the horizon a
task, which generation takes out again."""
FINE = 1e-3
"""Seconds: times that are no multiples of a millisecond have no common measure."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """How long a tick is, and whether all times of a rest are whole multiples of it."""

    size: float
    """Seconds."""
    exact: bool

    @classmethod
    def of(cls, rest: Rest, horizon: float) -> Self:
        """The greatest tick that all times share, else one of `TICKS` to the horizon."""
        free = rest.free
        times = [
            rest.problem.durations[free],
            np.maximum(rest.release[free] - rest.now, 0.0),
            rest.problem.network.pred_lag,
            (rest.starts + rest.problem.durations)[~free] - rest.now,
            np.array([w.duration for ways in rest.ways.values() for w in ways]),
            np.array([at - rest.now for s in rest.steps.values() for at, _ in s]),
        ]
        found = np.unique(np.concatenate(times)) / FINE
        parts = np.round(found)
        if not (np.abs(found - parts) <= 1e-6 * np.maximum(1.0, np.abs(found))).all():
            return cls(max((horizon - rest.now) / TICKS, 1e-6), False)
        return cls(FINE * (gcd(*(abs(int(p)) for p in parts.tolist())) or 1), True)

    def up(self, seconds: float) -> int:
        """The first tick that is not before so many seconds."""
        return ceil(seconds / self.size - 1e-6)

    def down(self, seconds: float) -> int:
        """The last tick that is not after so many seconds."""
        return floor(seconds / self.size + 1e-6)
