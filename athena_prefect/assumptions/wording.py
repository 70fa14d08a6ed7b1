"""Validations and violations in words, and as the data of an event."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic_core import to_jsonable_python

from athena_prefect.assumptions.checks.making import Made
from athena_prefect.assumptions.verdict import Judgement
from athena_prefect.monitor.impact import Impact
from athena_prefect.plan.model import Assumption, ValidationMethod
from athena_prefect.plan.units import format_duration


def event_data(
    judgement: Judgement, made: Made, method: ValidationMethod, author: str
) -> dict[str, Any]:
    """What a check's event says beside its verdict: value, unit, reason, error, certainty."""
    observation = made.observation
    value = judgement.value
    data: dict[str, Any] = {
        "method": str(method),
        "reason": judgement.reason,
        "value": to_jsonable_python(value, fallback=str, inf_nan_mode="constants"),
    }
    if value is not None and isinstance(value, float) and not abs(value) < float("inf"):
        data["value"] = None
    if observation is not None:
        if observation.unit and isinstance(value, int | float) and not isinstance(value, bool):
            data["unit"] = observation.unit
        if observation.details:
            data["details"] = observation.details
    if made.error:
        data["error"] = made.error
    if judgement.margin is not None:
        data["margin"] = judgement.margin
    if judgement.confidence is not None:
        data["confidence"] = judgement.confidence
    if author:
        data["author"] = author
    return data


def numeric(value: Any) -> float | None:
    """`value` where it is a number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def impact_words(assumption: Assumption, impact: Impact) -> str:
    """What a violation means: the plan's words, and the dates that its effect moves."""
    words = [assumption.impact] if assumption.impact else []
    if assumption.effect is None:
        return "; ".join(words)
    if impact.reason:
        words.append(impact.reason)
    elif not impact.moved:
        words.append("no date moves")
    else:
        named = list(impact.moved)[:3]
        more = f" and {len(impact.moved) - 3} more" if len(impact.moved) > 3 else ""
        most = max(impact.moved.values(), key=abs)
        upto = "up to " if len(set(map(_span, impact.moved.values()))) > 1 else ""
        verb = "move" if len(impact.moved) > 1 else "moves"
        words.append(f"{', '.join(named)}{more} {verb} by {upto}{_span(most)}")
        if impact.finish is not None:
            words.append(
                "the end of the run stays"
                if not impact.finish
                else f"the end of the run moves by {_span(impact.finish)}"
            )
    return "; ".join(words)


def _span(value: timedelta) -> str:
    seconds = abs(value.total_seconds())
    rounded = timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    return ("-" if value < timedelta(0) else "") + format_duration(rounded)
