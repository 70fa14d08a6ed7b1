"""What tools take. Everything is bounded, and nothing of it is ever resolved, fetched or run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

MOST_NAMES = 50
"""Entries of a mapping that a caller gives: no plan has more resources."""
MOST_NODES = 200
"""Values in one validation's data, nested ones included: an observation is a few figures."""
MOST_TEXT = 2_000
"""Characters of one text in it."""
MOST_DEPTH = 8
"""How deep it may be nested."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"

PlanId = Annotated[
    int,
    Field(
        ge=1,
        le=2**63 - 1,
        description=(
            "A planning decision's id: what `athena register PLAN` prints, or a run's own, as "
            "every reply names it. A plan's id means its one live run; any id of a run means the "
            "run's revision in force."
        ),
    ),
]
Text = Annotated[str, Field(min_length=1, max_length=255, pattern=_PRINTABLE)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/+=-]{1,100}$")]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Amounts = Annotated[dict[Text, Amount], Field(max_length=MOST_NAMES)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Moment = AwareDatetime
Strategy = Literal["local", "segment", "full", "abort"]


def _modest(data: dict[str, Any] | None) -> dict[str, Any] | None:
    """Refuse what no observation is: deep, long, or beyond what every database keeps."""
    if data is None:
        return None
    left = MOST_NODES
    todo: list[tuple[Any, int]] = [(data, 1)]
    while todo:
        value, depth = todo.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"holds more than {MOST_NODES} values; give the figure that counts")
        if depth > MOST_DEPTH:
            raise ValueError(f"is nested more than {MOST_DEPTH} deep; give the figure that counts")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            todo += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            _text(value)
        elif isinstance(value, float) and value - value != 0:
            raise ValueError("holds a number that is not finite; give a number, or leave it out")
        elif isinstance(value, int) and abs(value) > 2**63 - 1:
            raise ValueError("holds a whole number of more than 64 bits; give it as text")
    return data


def _text(value: str) -> None:
    if len(value) > MOST_TEXT:
        raise ValueError(
            f"holds a text of more than {MOST_TEXT} characters; give what counts of it"
        )
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("holds a character that is no text (NUL, or half a surrogate pair)")


Observed = Annotated[dict[str, Any] | None, AfterValidator(_modest)]
