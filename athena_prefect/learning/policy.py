"""Every threshold of learning, with its unit and its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Share = float
"""A fraction: 0.15, never 15."""
KINDS = 11
"""Kinds of tests in an analysis: scaling, drift, contention, hours, weekdays, bias, failures,
retries, queues, uses and assumptions."""


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
    kinds: int = Field(default=KINDS, ge=1, le=KINDS)
    """Kinds of tests among which `level` is divided at most: of a history those that it has data
    for, since where nothing reports a queue, nothing is asked about queues."""
    negligible: Share = Field(default=0.3, ge=0, lt=1)
    """Share of the least effect worth telling up to which nothing counts as there: tested is
    whether an effect is larger than this, not whether it is exactly 0, as none ever is (Murphy
    and Myors, 1999). Of durations, queues and uses; what is counted is tested exactly."""
    least_runs: int = Field(default=5, ge=2)
    """Runs from which an effect is tested: with fewer, no mean is told from its noise."""
    least_bias: Share = Field(default=0.10, gt=0)
    """Of a duration or a use, as a share of what was planned, that is worth telling: the slip
    that replanning tolerates by default."""
    least_drift: Share = Field(default=0.10, gt=0)
    """Change of a duration from the first run to the last that is worth telling."""
    least_risk: Share = Field(default=0.10, gt=0)
    """Added chance of failure beside something that is worth telling: one run in ten."""
    least_failures: int = Field(default=4, ge=1)
    """Failures from which they are set against what ran beside them: of three, no table of ten
    runs is significant once it is corrected."""
    least_queue: Share = Field(default=0.20, gt=0)
    """Queue time, as a share of the run time, that is worth telling: a plan whose tasks
    wait so long is longer by a sixth for it."""
    useful_retry: Share = Field(default=0.25, gt=0, lt=1)
    """Chance of success from which a retry is worth its time: one in four."""
    least_violation: Share = Field(default=0.10, gt=0, lt=1)
    """Share of runs in which an assumption may fail before it counts as unreliable."""
    least_scaling: Share = Field(default=0.30, gt=0, le=1)
    """Share of a duration's variance (of logarithms) that a quantity explains before the
    duration counts as scaling with it: less would not improve an estimate by much."""
    deviating_share: Share = Field(default=0.125, ge=0, lt=1)
    """Tasks of a group that may differ from it before the group's figure says nothing of them:
    one of eight."""
    outlier_sigmas: float = Field(default=5.0, gt=0)
    """Robust standard deviations from a task's median at which a duration is cut off, so that
    one attempt that hung does not make a pattern."""
    outlier_factor: float = Field(default=3.0, gt=1)
    """Times as long, or as short, as a task's median up to which nothing is cut off: of a task
    with hardly any noise, five standard deviations are less than what a busy Monday does."""
    beside_share: Share = Field(default=0.5, gt=0, le=1)
    """Share of a task's typical duration from its start within which another counts as beside
    it. All of it would not do: what takes longer meets more."""
    touching: Share = Field(default=0.01, ge=0, lt=0.5)
    """Overlap at either end, as a share of a task's typical duration, with which another only
    touches it: where one begins as the other ends, rounded times overlap or do not."""
    most_cells: int = Field(default=2_000_000, ge=10_000)
    """Attempts × contrasts (hours, weekdays, categories beside) that are looked at; of more
    attempts whole runs are taken, evenly. So many tell a tenth from its noise by far."""
    least_trend_runs: int = Field(default=8, ge=4)
    """Runs from which a trend is tested: of seven, even a perfect order is hardly significant
    once it is corrected for other tests."""
    usable_error: Share = Field(default=1.0, gt=0)
    """Error of a run's estimates above which it counts as this large in the trend, so that one
    broken run does not decide it."""

    @property
    def family_level(self) -> float:
        """`level` within one kind of test, so that what is taken off for the next also stands
        when all kinds are corrected together.
        """
        return self.level / self.kinds
