"""Spans of time, as lists of pairs in order: what two have in common, what is left of one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

Span = tuple[datetime, datetime]
"""From and until; the end does not belong to it."""


def intersected(left: Iterable[Span], right: list[Span]) -> list[Span]:
    """What is in a span of both, in order."""
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return sorted(span for span in both if span[0] < span[1])


def without(spans: list[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of `spans` after `taken`, whose spans may overlap."""
    left = spans
    for begin, end in taken:
        if begin >= end:
            continue
        rest = [(a, min(b, begin)) for a, b in left] + [(max(a, end), b) for a, b in left]
        left = [span for span in rest if span[0] < span[1]]
    return left


def length(spans: Iterable[Span]) -> float:
    """Seconds in all of them."""
    return sum((b - a).total_seconds() for a, b in spans)
