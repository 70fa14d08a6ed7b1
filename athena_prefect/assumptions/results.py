"""What a validation found, and what a violation means for the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.assumptions.verdict import Verdict
from athena_prefect.journal.events import CheckEvent
from athena_prefect.monitor.records import plain
from athena_prefect.plan.model import Criticality


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionValidationResult:
    """One validation of an assumption. Ask ``result.valid is False``: unknown is not false."""

    assumption_id: str
    valid: bool | None
    """True, False, or None where it could not be seen."""
    validation_time: datetime
    actual_value: Any
    confidence: float | None
    """Probability that the verdict is right, from the samples; None where there are none."""
    error_margin: float | None
    """Half-width of the 95 % interval of the observed mean, in its unit; None without samples."""
    notes: str
    """Why, in words: what was observed against what was expected, or the error."""
    verdict: Verdict = Verdict.UNKNOWN
    unit: str = ""
    method: str = ""
    """Where the observation came from: manual, sensor, external."""
    check_id: str = ""
    error: str = ""
    """Why the check could not be made."""
    author: str = ""
    """Who answered, as claimed."""

    @classmethod
    def of(cls, event: CheckEvent) -> AssumptionValidationResult:
        """The result that a journal's event tells of."""
        data, verdict = event.data, Verdict(event.verdict)
        return cls(
            assumption_id=event.assumption_id,
            valid=verdict.valid,
            validation_time=event.at,
            actual_value=data.get("value"),
            confidence=data.get("confidence"),
            error_margin=data.get("margin"),
            notes=str(data.get("reason", "")),
            verdict=verdict,
            unit=str(data.get("unit", "")),
            method=str(data.get("method", "")),
            check_id=event.check_id,
            error=str(data.get("error", "")),
            author=str(data.get("author", "")),
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionViolation:
    """An assumption that does not hold, and what that does to the rest of the run."""

    assumption_id: str
    violation_time: datetime
    """When it was first seen not to hold."""
    severity: Criticality
    impact: str
    """What goes wrong, as the plan says, and by how much the dates move, as computed."""
    mitigation: str
    replanning_required: bool
    affected_tasks: tuple[str, ...]
    """The unfinished tasks that rest on it, in the order of the plan."""
    criticality: Criticality = Criticality.MEDIUM
    cone: tuple[str, ...] = ()
    """Those and all unfinished tasks behind them."""
    finish_impact: timedelta | None = None
    """By how much its effect moves the end of the run (P50); None where there is no figure."""
    date_impact: Mapping[str, timedelta] = field(default_factory=dict)
    """Tasks whose end its effect moves, and by how much."""
    actual_value: Any = None
    reason: str = ""
    """Observed against expected, in words."""
    last_checked: datetime | None = None

    def __str__(self) -> str:
        return f"{self.assumption_id} is violated: {self.reason}".rstrip(": ")

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data; durations in seconds."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedViolation:
    """An assumption that holds, and more likely than not will not when it is next needed."""

    assumption_id: str
    probability: float
    reason: str
    needed_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}
