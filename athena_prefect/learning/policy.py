"""Every threshold of learning, with its unit and its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Share = float
"""A fraction: 0.15, never 15."""


class LearningPolicy(BaseModel):
    """What counts as a pattern, and how sure one has to be to tell of it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    level: Share = Field(default=0.05, gt=0, lt=1)
    """Corrected p-value below which an effect counts as more than chance: of twenty analyses of
    histories in which nothing recurs, one may tell of something."""
    correction: Literal["holm", "benjamini-hochberg"] = "holm"
    """For how many tests were made. `holm` (1979) keeps the chance of any false finding in an
    analysis below `level`; `benjamini-hochberg` (1995) the share of false ones among all found,
    which finds more in long lists that somebody looks through."""
    interval_level: Share = Field(default=0.9, gt=0, lt=1)
    """Of the intervals of sizes: 5 % on each side."""
    least_runs: int = Field(default=5, ge=2)
    """Runs from which an effect is tested: with fewer, no mean is told from its noise."""
    least_bias: Share = Field(default=0.10, gt=0)
    """Of a duration or a use, as a share of what was planned, that is worth telling: the slip
    that replanning tolerates by default."""
    least_trend_runs: int = Field(default=8, ge=4)
    """Runs from which a trend is tested: of seven, even a perfect order is hardly significant
    once it is corrected for other tests."""
    usable_error: Share = Field(default=1.0, gt=0)
    """Error of a run's estimates above which it counts as this large in the trend, so that one
    broken run does not decide it."""
