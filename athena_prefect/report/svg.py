"""Text of SVG elements, the colours of all charts, and the time axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from athena_prefect.journal.state import Status

NICE_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000),
)
"""Distances in seconds between ticks that people read without reckoning."""

STATUS_CLASS = {
    Status.SUCCESS: "ok",
    Status.PARTIAL: "partial",
    Status.RUNNING: "running",
    Status.FAILURE: "failed",
    Status.BLOCKED: "blocked",
    Status.SKIPPED: "skipped",
    Status.WAITING: "waiting",
    Status.READY: "waiting",
}

# Blue, orange, vermilion, purple of Okabe and Ito (2008): told apart with every
# common colour blindness; each has 3:1 against its background, light and dark.
PALETTE = """
:root,svg{--bg:#ffffff;--fg:#1c2430;--soft:#667085;--grid:#e4e7ec;--band:#f6f7f9;
--planned:#c9d1dc;--ok:#1f77b4;--partial:#8a63d2;--running:#e08a00;--failed:#c2352b;
--blocked:#7a4b2a;--skipped:#98a2b3;--forecast:#9cc4e4;--path:#b0116b;--deadline:#c2352b}
@media (prefers-color-scheme:dark){:root,svg{--bg:#14181f;--fg:#e6e9ee;--soft:#98a2b3;
--grid:#2b323d;--band:#1a2029;--planned:#465162;--ok:#4ea3dc;--partial:#a98be8;--running:#f0a830;
--failed:#ef6a5f;--blocked:#c08a63;--skipped:#667085;--forecast:#2f5f85;--path:#f26bb5;
--deadline:#ef6a5f}}
"""
CHART_STYLE = """
svg text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:var(--fg)}
svg .soft{fill:var(--soft)}svg .grid{stroke:var(--grid);stroke-width:1}
svg .back{fill:var(--bg)}svg .band{fill:var(--band)}
svg .planned{fill:var(--planned)}svg .ok{fill:var(--ok)}svg .partial{fill:var(--partial)}
svg .running{fill:var(--running)}svg .failed{fill:var(--failed)}svg .blocked{fill:var(--blocked)}
svg .skipped{fill:var(--skipped)}svg .waiting{fill:var(--planned)}
svg .forecast{fill:var(--forecast);fill-opacity:.55;stroke:var(--ok);stroke-dasharray:3 2}
svg .whisker{stroke:var(--fg);stroke-width:1.2;fill:none}
svg .path{fill:var(--path)}svg .now{stroke:var(--fg);stroke-width:1}
svg .deadline{stroke:var(--deadline);stroke-width:1.5;stroke-dasharray:6 4}
svg text.deadline{fill:var(--deadline);stroke:none}
svg .capacity{stroke:var(--deadline);stroke-width:1.5;fill:none}
svg .demand{fill:var(--planned);fill-opacity:.8}svg .used{fill:var(--ok);fill-opacity:.55}
svg .edge{stroke:var(--soft);fill:none;stroke-width:1.1}svg .softedge{stroke-dasharray:5 4}
svg .pathedge{stroke:var(--path);stroke-width:2}
svg .node{fill:var(--band);stroke:var(--soft)}svg .pathnode{stroke:var(--path);stroke-width:2}
"""


def num(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = 11,
    anchor: str = "start",
    css: str = "",
    bold: bool = False,
) -> str:
    """A text element; `content` is escaped."""
    weight = ' font-weight="600"' if bold else ""
    css = f' class="{css}"' if css else ""
    return (
        f'<text x="{num(x)}" y="{num(y)}" font-size="{num(size)}" text-anchor="{anchor}"'
        f"{css}{weight}>{escape(content)}</text>"
    )


def rect(x: float, y: float, width: float, height: float, css: str, radius: float = 0) -> str:
    """A rectangle."""
    rounded = f' rx="{num(radius)}"' if radius else ""
    return (
        f'<rect x="{num(x)}" y="{num(y)}" width="{num(max(width, 0))}" '
        f'height="{num(height)}" class="{css}"{rounded}/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" class="{css}"/>'


def document(
    width: float, height: float, body: list[str], title: str, *, inline: bool = False
) -> str:
    """A whole SVG; `inline` in a page that has the palette already."""
    style = "" if inline else f"<style>{PALETTE}{CHART_STYLE}</style>"
    size = f'width="{num(width)}" height="{num(height)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {num(width)} {num(height)}" '
        f'role="img" aria-label="{escape(title)}">{style}'
        f"{rect(0, 0, width, height, 'back')}{''.join(body)}</svg>"
    )


def ticks(horizon: float, room: float, least: float = 70) -> Iterator[float]:
    """Moments for the axis from 0 to `horizon` seconds, at least `least` px apart in `room` px."""
    wanted = horizon * least / max(room, least)
    step: float = next((s for s in NICE_STEPS if s >= wanted), 0.0)
    if not step:
        step = math.ceil(wanted / NICE_STEPS[-1]) * NICE_STEPS[-1]
    for i in range(int(horizon / step + 1e-9) + 1):
        yield i * step


UNITS = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))
"""Units of time from a minute on, their seconds, and the next smaller ones."""


def elapsed(seconds: float) -> str:
    """`seconds` as people say them, to two units: ``1h 30m``, ``45s``, ``0.25s``."""
    sign = "−" if seconds < 0 else ""
    value = abs(seconds)
    if value < 10:
        return f"{sign}{value:.2f}".rstrip("0").rstrip(".") + "s"
    whole = round(value)
    if whole < 60:
        return f"{sign}{whole}s"
    unit, size, smaller, part = next(u for u in UNITS if whole >= u[1])
    count, rest = divmod(whole, size)
    less = rest // part
    return f"{sign}{count}{unit} {less}{smaller}" if less else f"{sign}{count}{unit}"


def shortened(content: str, limit: int) -> str:
    """`content` in at most `limit` characters, its end (the telling part of ids) kept."""
    if len(content) <= limit:
        return content
    keep = max(limit - 1, 1)
    front = keep // 3
    return content[:front] + "…" + content[len(content) - (keep - front) :]
