"""When a run will finish, how sure that is, and what the answer rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.journal.events import utc
from athena_prefect.monitor.records import plain

Floats = NDArray[np.float64]
QUANTILES: Mapping[str, float] = {"p10": 0.1, "p50": 0.5, "p80": 0.8, "p90": 0.9, "p95": 0.95}
"""The quantiles of the finish that a forecast names."""


def quantile_of(ordered: Floats, quantile: float) -> float:
    """Quantile of values in ascending order, as `numpy.quantile` gives it, without its checks."""
    place = quantile * (len(ordered) - 1)
    below = int(place)
    low = float(ordered[below])
    high = float(ordered[min(below + 1, len(ordered) - 1)])
    share = place - below
    # As numpy does, from the nearer end: the result never leaves the interval.
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a forecast rests on: how many open tasks, and what is known of how long they take."""

    open_tasks: int
    certain: int
    """Open tasks (or items) whose duration is one number."""
    estimated: int
    """Open tasks (or items) with a three-point estimate."""
    samples: int
    """Simulated runs; 1 where nothing is uncertain."""
    history: str = ""
    """The finished runs behind it; empty where it rests on the plan's estimates."""

    def __str__(self) -> str:
        if self.history:
            return f"{self.history}; {self.samples:,} scenarios of {self.open_tasks} open tasks"
        runs = "1 run" if self.samples == 1 else f"{self.samples:,} simulated runs"
        return (
            f"{runs} of {self.open_tasks} open tasks: {self.estimated} with a three-point "
            f"estimate, {self.certain} with one number"
        )


@dataclass(frozen=True, kw_only=True)
class Moments(Mapping[float, datetime]):
    """By when a run is over with each probability that was asked for."""

    moments: Mapping[float, datetime]
    basis: Basis
    """What that rests on."""

    def __getitem__(self, quantile: float) -> datetime:
        return self.moments[quantile]

    def __iter__(self) -> Iterator[float]:
        return iter(self.moments)

    def __len__(self) -> int:
        return len(self.moments)


@dataclass(frozen=True, kw_only=True)
class TaskOutlook:
    """The tasks of a forecast, by place: P50 times in seconds from the start, and risk."""

    task_ids: tuple[str, ...] = ()
    starts: Floats = field(default_factory=lambda: np.zeros(0))
    finishes: Floats = field(default_factory=lambda: np.zeros(0))
    risks: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Quantiles of the finish of a run, and of each of its open tasks.

    A forecast that cannot be made has no quantiles, every probability None,
    and a `reason`.
    """

    as_of: datetime
    """When the simulation behind it was made."""
    started: datetime
    deadline: datetime | None = None
    seed: int = 0
    basis: Basis | None = None
    reason: str = ""
    finishes: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """Sorted finishes of the simulated runs, in seconds from the start."""
    outlook: TaskOutlook = field(default_factory=TaskOutlook, repr=False, compare=False)

    @property
    def samples(self) -> int:
        """Simulated runs; 1 where nothing is uncertain, 0 where there is no forecast."""
        return len(self.finishes)

    def seconds(self, quantile: float) -> float | None:
        """Quantile of the finish, in seconds from the start of the run."""
        if not len(self.finishes):
            return None
        return quantile_of(self.finishes, quantile)

    def quantile(self, quantile: float) -> datetime | None:
        """The moment by which the run is over with probability `quantile`."""
        seconds = self.seconds(quantile)
        return None if seconds is None else self.started + timedelta(seconds=seconds)

    @cached_property
    def quantiles(self) -> Mapping[str, datetime]:
        """p10, p50, p80, p90 and p95 of the finish; empty where there is no forecast."""
        found = {name: self.quantile(q) for name, q in QUANTILES.items()}
        return {name: moment for name, moment in found.items() if moment is not None}

    @property
    def p50(self) -> datetime | None:
        """Median finish."""
        return self.quantile(0.5)

    def probability(self, deadline: datetime) -> float | None:
        """Share of the simulated runs that finish by `deadline`. Raises NaiveDatetimeError."""
        if not len(self.finishes):
            return None
        limit = (utc(deadline, "deadline") - self.started) / timedelta(seconds=1)
        # Datetimes hold whole microseconds: a finish that prints as the deadline meets it.
        return float(np.searchsorted(self.finishes, limit + 5e-7, side="right")) / self.samples

    @property
    def p_deadline(self) -> float | None:
        """P(finish ≤ deadline); None without a deadline or without a forecast."""
        return None if self.deadline is None else self.probability(self.deadline)

    @cached_property
    def starts(self) -> Mapping[str, datetime]:
        """P50 start of each open task."""
        return self._moments(self.outlook.starts)

    @cached_property
    def task_finishes(self) -> Mapping[str, datetime]:
        """P50 finish of each open task."""
        return self._moments(self.outlook.finishes)

    @cached_property
    def risks(self) -> Mapping[str, float]:
        """P(finish > latest finish) of each open task."""
        return dict(zip(self.outlook.task_ids, self.outlook.risks.tolist(), strict=True))

    def _moments(self, seconds: Floats) -> Mapping[str, datetime]:
        at = [self.started + timedelta(seconds=s) for s in seconds.tolist()]
        return dict(zip(self.outlook.task_ids, at, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """The forecast as JSON-able data: times in ISO 8601."""
        row = {
            "as_of": self.as_of,
            "quantiles": self.quantiles,
            "deadline": self.deadline,
            "p_deadline": self.p_deadline,
            "samples": self.samples,
            "seed": self.seed,
            "basis": str(self.basis) if self.basis else None,
            "reason": self.reason,
            "tasks": {
                t: {"start": self.starts[t], "finish": self.task_finishes[t], "risk": risk}
                for t, risk in self.risks.items()
            },
        }
        return {name: plain(value) for name, value in row.items()}
