"""Durations as people write them: ``20s``, ``1h30m``, ``2.5 h``, ``PT20S``, or seconds."""

from __future__ import annotations

import difflib
import math
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

SECONDS: dict[str, float] = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
"""Seconds in each unit that a duration may be written in."""

_LONG = {
    "millisecond": "ms", "milliseconds": "ms", "msec": "ms",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w",
}  # fmt: skip
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\W\d_]+)\s*")
_ISO = re.compile(
    r"P(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?"
    r"(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_EXAMPLES = "write e.g. 20s, 10m, 1h30m, 2d"
MOST_TOLD = 40
"""Characters of a text that is no duration that its refusal repeats."""
LONGEST = timedelta(days=3650)
"""No estimate is longer: what is, is a slip of the unit."""


def parse_duration(value: Any) -> timedelta:
    """The duration that `value` says; a bare number is seconds.

    Raises ValueError, saying what would be right, for an unknown unit, a
    negative or endless duration, or one beyond ten years.
    """
    if isinstance(value, timedelta):
        result = value
    elif isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is not a duration; {_EXAMPLES}")
    elif isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value!r} is not a duration; {_EXAMPLES}")
        result = _from_seconds(value)
    elif isinstance(value, str):
        result = _from_seconds(_parse_text(value))
    else:
        raise ValueError(f"{type(value).__name__} is not a duration; {_EXAMPLES}")
    if result < timedelta(0):
        raise ValueError(f"{value!r} is negative; a duration is zero or more")
    if result > LONGEST:
        raise ValueError(f"{value!r} is longer than ten years; is the unit right? {_EXAMPLES}")
    return result


def _from_seconds(seconds: float) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("longer than ten years; is the unit right?") from None


def _parse_text(text: str) -> float:
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", stripped):
        return float(stripped)
    iso = _ISO.fullmatch(stripped)
    if iso and stripped not in ("P", "PT") and any(iso.groupdict().values()):
        return sum(float(n) * SECONDS[unit] for unit, n in iso.groupdict().items() if n)
    total, end, last = 0.0, 0, math.inf
    for part in _PART.finditer(stripped):
        if part.start() != end:
            break
        unit = part[2] if part[2] in SECONDS else _LONG.get(part[2].lower())
        if unit is None:
            raise ValueError(f"{text!r}: unknown unit {part[2]!r}; {_unit_hint(part[2])}")
        if SECONDS[unit] >= last:
            raise ValueError(f"{text!r}: write the larger unit first, each once ({_EXAMPLES})")
        last = SECONDS[unit]
        total += float(part[1]) * SECONDS[unit]
        end = part.end()
    if end == 0 or end != len(stripped):
        raise ValueError(f"{_brief(text)} is not a duration; {_EXAMPLES}")
    return total


def _brief(text: str) -> str:
    """`text` in quotes; of a long one its beginning."""
    return repr(text) if len(text) <= MOST_TOLD else repr(text[:MOST_TOLD]) + "…"


def _unit_hint(unit: str) -> str:
    known = [*SECONDS, *_LONG]
    close = difflib.get_close_matches(unit.lower(), known, n=1, cutoff=0.5)
    meant = close[0] if close else None
    hint = f"did you mean {_LONG.get(meant, meant)}? " if meant else ""
    return f"{hint}known are {', '.join(SECONDS)} ({_EXAMPLES})"


def format_duration(value: timedelta) -> str:
    """`value` as a plan document writes it; `parse_duration` reads it back exactly."""
    micro = value // timedelta(microseconds=1)
    if micro == 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        count, micro = divmod(micro, size)
        if count:
            parts.append(f"{count}{unit}")
    if micro:
        seconds, rest = divmod(micro, 1_000_000)
        parts.append(
            f"{seconds}.{rest:06d}".rstrip("0").rstrip(".") + "s" if rest else f"{seconds}s"
        )
    return "".join(parts)


DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}],
    "description": f"A duration: {_EXAMPLES}; a bare number is seconds.",
    "examples": ["20s", "10m", "1h30m"],
}
"""JSON Schema of a duration."""

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(DURATION_SCHEMA, mode="validation"),
]
"""A pydantic field of a duration."""
