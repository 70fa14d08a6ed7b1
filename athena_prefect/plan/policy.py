"""Every threshold of the monitor and of replanning, with its unit and its reason.

It stands with the plan because it is a section of the plan document
(``replanning.policy``) and because the monitor, which is below replanning,
reads severity and risk from it.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = float
"""A fraction: 0.15, never 15."""


class ReplanningPolicy(BaseModel):
    """Thresholds for severity, risk and the choice of a replanning strategy."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    tolerated_slip: Share = Field(default=0.10, ge=0)
    """Finish slip, as a share of the planned duration, that needs no response."""
    segment_slip: Share = Field(default=0.15, ge=0)
    """Slip from which one task's repair is not expected to be enough."""
    medium_slip: Share = Field(default=0.10, ge=0)
    """Slip from which severity is medium."""
    high_slip: Share = Field(default=0.25, ge=0)
    """Slip from which severity is high."""
    critical_slip: Share = Field(default=0.50, ge=0)
    """Slip from which severity is critical."""
    medium_probability: Share = Field(default=0.9, ge=0, le=1)
    """P(deadline) below which severity is at least medium."""
    high_probability: Share = Field(default=0.7, ge=0, le=1)
    """P(deadline) below which severity is at least high."""
    critical_probability: Share = Field(default=0.4, ge=0, le=1)
    """P(deadline) below which severity is critical."""
    min_probability: Share = Field(default=0.7, ge=0, le=1)
    """P(deadline) that a revision must reach to count as meeting its deadline."""
    probability_drop: Share = Field(default=0.1, ge=0, le=1)
    """Fall of P(deadline) since acceptance that calls for a response, so that a
    plan accepted as risky is not replanned for being what it was."""
    risk_probability: Share = Field(default=0.5, ge=0, le=1)
    """P(finish > latest finish) above which a task is at risk: more likely late than not."""
    accept_quantile: Share = Field(default=0.9, gt=0, lt=1)
    """Quantile of the forecast finish that is promised when a revision is accepted."""
    estimates_trusted: Share = Field(default=0.65, ge=0, le=1)
    """Probability that three-point estimates have no bias, before a run without history has shown
    anything: what is promised for its rest goes by how long its tasks took. 1: by the estimates
    alone."""
    full_violations: int = Field(default=3, ge=1)
    """Violations requiring replanning from which the whole rest is replanned."""
    full_risk_share: Share = Field(default=0.5, ge=0, le=1)
    """Share of all tasks at risk above which the whole rest is replanned."""
    segment_tasks: int = Field(default=5, ge=1)
    """Unstarted tasks of the cone that a SEGMENT may change."""
    resource_buffer: Share = Field(default=0.2, ge=0, lt=1)
    """Share of an observed, reduced capacity that stays unplanned."""
    timeout_growth: float = Field(default=2.0, gt=1)
    """Factor on the time-out of a task that ran past it and is done again: all that is known of
    it is that it takes longer, and doubling is within a factor of two of what it needs."""
    unknown_in_a_row: int = Field(default=3, ge=1)
    """Checks of an assumption in a row that could not be made, from which people are told: by
    then it is no blip."""
    hysteresis: Share = Field(default=0.2, ge=0, lt=1)
    """Share of a threshold by which a figure must have come back before its alert is over, so
    that one which hovers there is told once."""
    budget_s: float = Field(default=1.0, gt=0)
    """Seconds for the whole set of options."""

    forecast_runs: int | None = Field(default=3, ge=1)
    """Finished runs of the plan from which forecasts rest on them instead of on its estimates
    alone: of fewer nobody can say how much runs differ. Null: never."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.medium_slip <= self.high_slip <= self.critical_slip:
            raise ValueError("medium_slip ≤ high_slip ≤ critical_slip must hold")
        if not self.medium_probability >= self.high_probability >= self.critical_probability:
            raise ValueError(
                "medium_probability ≥ high_probability ≥ critical_probability must hold"
            )
        return self
