"""Pictures of what runs taught: what delayed them, how errors went, how forecasts fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from math import floor, log10

from athena_prefect.learning.results import (
    Bottleneck,
    Calibration,
    EstimationMetrics,
    Recommendation,
)
from athena_prefect.report.dashboard import picture
from athena_prefect.report.svg import document, elapsed, line, num, rect, shortened, text

IN_UI = 860.0
"""Width of a waterfall in Prefect's UI, which shows some 680 of it: letters stay legible."""
MOST = 12
"""Bars of a waterfall; smaller ones are told of together."""
CSS = {
    "estimation": "ok", "resource": "running", "dependency": "partial", "external": "failed",
}  # fmt: skip
Errors = Sequence[tuple[datetime, float]]
"""(start of a run, mean size of its estimates' errors)."""


def waterfall(found: Sequence[Bottleneck], *, width: float = 1120, inline: bool = False) -> str:
    """From the planned finish to the actual one, a step for each bottleneck.

    What made up for time goes back to the left.
    """
    bars = [(b.description, b.impact_duration.total_seconds(), CSS.get(b.type, "planned"))
            for b in found[:MOST]]  # fmt: skip
    rest = sum(b.impact_duration.total_seconds() for b in found[MOST:])
    if found[MOST:]:
        bars.append((f"{len(found) - MOST} more", rest, "planned"))
    steps = [0.0]
    for _, seconds, _ in bars:
        steps.append(steps[-1] + seconds)
    low, high = min(steps), max(steps)
    span = max(high - low, 1e-9)
    left, right, row = 470.0, 90.0, 24.0
    height = 44 + row * (len(bars) + 1)

    def x(seconds: float) -> float:
        return left + (width - left - right) * (seconds - low) / span

    body = [text(12, 18, "What delayed the finish", size=12, bold=True)]
    body.append(line(x(0), 28, x(0), height - 8, "grid"))
    for k, (what, seconds, css) in enumerate(bars):
        y = 32 + row * k
        begin, end = x(steps[k]), x(steps[k + 1])
        label = shortened(what, 66)
        body.append(text(12, y + 14, label, size=11))
        body.append(rect(min(begin, end), y + 3, max(abs(end - begin), 1), 15, css, 2))
        body.append(text(max(begin, end) + 5, y + 15, _signed(seconds), size=10.5, css="soft"))
        body.append(line(end, y + 3, end, y + row + 3, "grid"))
    y = 32 + row * len(bars)
    body.append(text(12, y + 14, "Delay in all", size=11, bold=True))
    begin, end = x(0), x(steps[-1])
    body.append(rect(min(begin, end), y + 3, max(abs(end - begin), 1), 15, "planned", 2))
    body.append(text(max(begin, end) + 5, y + 15, _signed(steps[-1]), size=10.5, bold=True))
    return document(width, height, body, "What delayed the finish", inline=inline)


def _signed(seconds: float) -> str:
    return ("+" if seconds > 0 else "") + elapsed(seconds)


def trend(errors: Errors, *, width: float = 540, inline: bool = False) -> str:
    """Mean size of the errors of estimates, run by run."""
    height, left, floor_, top = 190.0, 46.0, 160.0, 30.0
    values = [e for _, e in errors]
    peak = _nice(max(values, default=0.0))

    def x(k: int) -> float:
        return left + (width - left - 16) * (k / max(len(values) - 1, 1))

    def y(value: float) -> float:
        return floor_ - (floor_ - top) * value / peak

    body = [text(left, 16, "Error of estimates, run by run", size=12, bold=True)]
    for part in (0.0, 0.5, 1.0):
        body.append(line(left, y(part * peak), width - 16, y(part * peak), "grid"))
        label = f"{part * peak:.0%}".replace("%", " %")
        body.append(text(left - 6, y(part * peak) + 4, label, size=10, anchor="end", css="soft"))
    points = " ".join(f"{num(x(k))},{num(y(v))}" for k, v in enumerate(values))
    if values:
        body.append(f'<polyline points="{points}" class="whisker"/>')
        body += [rect(x(k) - 2, y(v) - 2, 4, 4, "ok", 2) for k, v in enumerate(values)]
        days = {moment.date() for moment, _ in (errors[0], errors[-1])}
        form = "%H:%M UTC" if len(days) == 1 < len(errors) else "%Y-%m-%d"
        for k, anchor in ((0, "start"), (len(errors) - 1, "end")):
            when = f"{errors[k][0]:{form}}"
            body.append(text(x(k), floor_ + 16, when, size=10, anchor=anchor, css="soft"))
    return document(width, height, body, "Error of estimates, run by run", inline=inline)


def _nice(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `value`; 0.1 at least."""
    if value <= 0.1:
        return 0.1
    power = 10.0 ** floor(log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value - 1e-12)


def calibration(
    reliability: Mapping[str, float], *, width: float = 300, inline: bool = False
) -> str:
    """Share of finishes at or below each quantile of our forecasts; right is the diagonal."""
    side, left, top = 200.0, 52.0, 30.0
    height = top + side + 40

    def x(share: float) -> float:
        return left + side * share

    def y(share: float) -> float:
        return top + side * (1 - share)

    body = [text(left, 16, "Forecasts against what came", size=12, bold=True)]
    for part in (0.0, 0.5, 1.0):
        body.append(line(x(0), y(part), x(1), y(part), "grid"))
        body.append(line(x(part), y(0), x(part), y(1), "grid"))
        label = f"{part:.0%}".replace("%", " %")
        body.append(text(left - 6, y(part) + 4, label, size=10, anchor="end", css="soft"))
        body.append(text(x(part), top + side + 15, label, size=10, anchor="middle", css="soft"))
    body.append(line(x(0), y(0), x(1), y(1), "deadline"))
    known = sorted((float(name.lstrip("p")) / 100, share) for name, share in reliability.items())
    points = " ".join(f"{num(x(q))},{num(y(s))}" for q, s in known)
    body.append(f'<polyline points="{points}" class="whisker"/>')
    body += [rect(x(q) - 3, y(s) - 3, 6, 6, "ok", 3) for q, s in known]
    body.append(text(x(0.5), top + side + 31, "quantile", size=10, anchor="middle", css="soft"))
    return document(width, height, body, "Forecasts against what came", inline=inline)


def calibrated(found: Calibration) -> str:
    """What a calibration plot shows, on how much, and how it is read."""
    runs = f"{found.runs} run{'s' if found.runs != 1 else ''}"
    inside = ""
    if found.coverage is not None:
        share = f"{found.coverage:.0%}".replace("%", " %")
        inside = f" {share} of the finishes were inside the 80 % interval."
    return (
        f"{found.forecasts} forecasts of {runs}.{inside} On the dashed line a forecast's "
        "quantiles are right; below it runs ended later than forecast, above it earlier."
    )


def learned_markdown(
    plan: str,
    runs: int,
    metrics: EstimationMetrics,
    *,
    bottlenecks: Sequence[Bottleneck] = (),
    recommendations: Sequence[Recommendation] = (),
    lessons: Iterable[tuple[str, float | None, int]] = (),
    errors: Errors = (),
    slowdowns: Iterable[str] = (),
    sampled: Iterable[str] = (),
) -> str:
    """What a plan's runs teach, as an artifact. `lessons`: statement, confidence, runs."""
    parts = [f"# {_cell(plan)}: what {runs} run{' teaches' if runs == 1 else 's teach'}"]
    if bottlenecks:
        chart = waterfall(bottlenecks, width=IN_UI)
        parts += ["## What delayed the finish", picture("Bottlenecks", chart)]
    slow = [f"- {_cell(s)}" for s in slowdowns]
    if slow:
        parts += ["## Slower than before", "\n".join(slow)]
    spent = [f"- {_cell(s)}" for s in sampled]
    if spent:
        parts += ["## Where the time goes", "\n".join(spent)]
    if recommendations:
        rows = [
            f"| {_cell(r.suggestion)} | {_cell(r.potential_benefit)} | {_sure(r.confidence)} | "
            f"{_cell(r.rationale)} |"
            for r in recommendations[:MOST]
        ]
        head = "| Change | Gain | Confidence | Because |\n|---|---|---|---|"
        parts += ["## What to change", "\n".join([head, *rows])]
    known = [f"| {_cell(s)} | {_sure(c)} | {n} |" for s, c, n in lessons]
    if known:
        head = "| Lesson | Confidence | Runs |\n|---|---|---|"
        parts += ["## Lessons", "\n".join([head, *known])]
    if len(errors) > 1:
        said = f" ({metrics.trend})" if metrics.trend else ""
        parts += [f"## Accuracy{said}", picture("Error of estimates", trend(errors))]
    found = metrics.calibration
    if found is not None and found.reliability:
        chart = picture("Calibration", calibration(found.reliability))
        parts += ["## Calibration", calibrated(found), chart]
    return "\n\n".join(parts) + "\n"


def _sure(confidence: float | None) -> str:
    return "seen once" if confidence is None else f"{confidence:.2f}"


def _cell(content: str) -> str:
    return escape(content, quote=False).replace("|", "\\|").replace("\n", " ")


def learned_section(
    bottlenecks: Sequence[Bottleneck],
    metrics: EstimationMetrics | None = None,
    errors: Errors = (),
    lessons: Iterable[str] = (),
    sampled: Iterable[str] = (),
) -> str:
    """The part of a run's page on what delayed it, and on what its plan's runs taught."""
    parts: list[str] = []
    if bottlenecks:
        chart = waterfall(bottlenecks, inline=True)
        rows = "".join(
            f"<tr><td>{escape(b.type)}</td><td>{escape(b.description)}</td>"
            f"<td>{escape(b.root_cause)}</td><td>{escape(b.mitigation)}</td></tr>"
            for b in bottlenecks[:MOST]
        )
        parts.append(
            f'<h2 id="delays">What delayed it</h2><div class="chart">{chart}</div>'
            "<table><thead><tr><th>Kind</th><th>What</th><th>Why</th><th>What would help</th></tr>"
            f"</thead><tbody>{rows}</tbody></table>"
        )
    spent = "".join(f"<li>{escape(item)}</li>" for item in sampled)
    if spent:
        parts.append(f'<h2 id="time">Where the time of its tasks goes</h2><ul>{spent}</ul>')
    charts, notes = [], ""
    if len(errors) > 1:
        charts.append(trend(errors, inline=True))
    found = None if metrics is None else metrics.calibration
    if found is not None and found.reliability:
        charts.append(calibration(found.reliability, inline=True))
        notes = f"<p>{escape(calibrated(found))}</p>"
    told = "".join(f"<li>{escape(item)}</li>" for item in lessons)
    if charts or told:
        listed = f"<ul>{told}</ul>" if told else ""
        parts.append(
            '<h2 id="learned">What its plan’s runs taught</h2>'
            + "".join(f'<div class="chart">{c}</div>' for c in charts)
            + notes
            + listed
        )
    return "\n".join(parts)
