"""Forecasts that are written down while a run goes, to be judged when it is over.

One at the start (the baseline) and one when each of `CHECKPOINTS` of the work is done. What
is written is what was said then: nothing is reckoned again later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from athena_prefect.monitor.forecast import QUANTILES

CHECKPOINTS = (0.1, 0.25, 0.5, 0.75)
"""Shares of the work at which a forecast is written down, once each: those at which forecasts
from history are calibrated."""


def source_of(checkpoint: float) -> str:
    """What makes the event of a checkpoint one event: its percentage."""
    return str(round(100 * checkpoint))


KEYS: Mapping[str, float] = {f"run|{source_of(c)}|forecast": c for c in CHECKPOINTS}
"""Keys of the events that hold recorded forecasts, and their checkpoints."""


def reached(share_done: float) -> float | None:
    """The last checkpoint that is passed where `share_done` of the work is; None before all."""
    passed = [c for c in CHECKPOINTS if c <= share_done]
    return max(passed, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastForecast:
    """A forecast of a run that was written down; seconds from the run's start."""

    at: float
    share_done: float
    quantiles: Mapping[float, float]
    """0.1 → by when the run ends with probability 0.1."""
    from_history: bool = False
    """Whether it rested on finished runs; else on the plan's estimates."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> PastForecast:
        """What an event that records a forecast says."""
        return cls(
            at=float(data["at_s"]),
            share_done=float(data["share_done"]),
            quantiles={QUANTILES[n]: float(s) for n, s in data["quantiles"].items()},
            from_history=bool(data["from_history"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """The forecast as an event holds it, which `of` reads back."""
        names = {q: name for name, q in QUANTILES.items()}
        return {
            "at_s": self.at,
            "share_done": self.share_done,
            "quantiles": {names[q]: s for q, s in self.quantiles.items()},
            "from_history": self.from_history,
        }
