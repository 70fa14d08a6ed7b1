"""A Gantt chart as SVG: planned against actual, running, forecast, critical path, deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from athena_prefect.journal.state import Status
from athena_prefect.report.svg import (
    STATUS_CLASS,
    document,
    elapsed,
    line,
    num,
    rect,
    shortened,
    text,
    ticks,
)
from athena_prefect.report.view import Row, RunView

LABEL_PX = 6.3
"""Mean width of a character at 11 px, for the width of the label column."""
TOP = 40.0
BOTTOM = 40.0
RIGHT = 28.0
TALL = 900.0
"""Height in pixels from which the axis is written at the foot too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How seconds and rows become pixels."""

    left: float
    width: float
    horizon: float
    row: float
    label_every: int
    label_size: float

    @property
    def room(self) -> float:
        """Pixels of the time axis."""
        return self.width - self.left - RIGHT

    def x(self, seconds: float) -> float:
        """Where `seconds` from the start are."""
        return self.left + self.room * min(max(seconds, 0.0), self.horizon) / self.horizon


def row_height(rows: int) -> float:
    """Pixels a row: 24 up to 30 tasks, then less, but never below 6 (500 tasks: 3,000 px)."""
    for most, height in ((30, 24.0), (60, 18.0), (150, 12.0), (300, 8.0)):
        if rows <= most:
            return height
    return 6.0


def _scale(rows: Sequence[Row], horizon: float, width: float) -> Scale:
    height = row_height(len(rows))
    size = 11.0 if height >= 12 else 9.0
    longest = max((len(_label(r)) for r in rows), default=0)
    left = min(max(longest * LABEL_PX * size / 11 + 26, 90), width * 0.28)
    # A label takes its size and a little air; in flat rows only every n-th is written.
    every = max(1, -(-int(size + 3) // int(height)))
    return Scale(
        left=left, width=width, horizon=horizon, row=height, label_every=every, label_size=size
    )


def gantt(
    view: RunView, *, width: float = 1120, inline: bool = False, tooltips: bool = True
) -> str:
    """The chart of all tasks, in the order in which they begin. Escaped, self-contained SVG.

    A picture in a page shows no `tooltips`: without them it is half as large.
    """
    title = f"Gantt chart of {view.name}"
    return _chart(view, view.rows, width, inline, title=title, tooltips=tooltips)


def overview(
    view: RunView, *, width: float = 1120, inline: bool = False, tooltips: bool = True
) -> str | None:
    """One row a group of tasks, for plans too large to take in at once; None for few groups."""
    groups: dict[str, list[Row]] = {}
    for row in view.rows:
        groups.setdefault(row.group, []).append(row)
    if len(view.rows) <= 40 or not 2 <= len(groups) <= 40:
        return None
    rows = [_group_row(name, members) for name, members in groups.items()]
    rows.sort(key=lambda r: r.first)
    title = f"Groups of tasks of {view.name}"
    return _chart(view, rows, width, inline, title=title, tooltips=tooltips)


def _group_row(name: str, members: Sequence[Row]) -> Row:
    planned = [r.planned for r in members if r.planned]
    stretches = tuple(s for r in members for s in r.actual)
    forecasts = [r.forecast for r in members if r.forecast]
    done = sum(r.status.final for r in members)
    states = {r.status for r in members}
    worst = next(
        (s for s in (Status.FAILURE, Status.BLOCKED, Status.RUNNING) if s in states),
        Status.SUCCESS if done == len(members) else Status.WAITING,
    )
    return Row(
        task_id=name,
        group=name,
        status=worst,
        description=f"{len(members)} tasks, {done} over",
        planned=(min(p[0] for p in planned), max(p[1] for p in planned)) if planned else None,
        actual=stretches,
        forecast=(
            (
                max(f[0] for f in forecasts),
                max(f[1] for f in forecasts),
                max(f[2] for f in forecasts),
            )
            if forecasts
            else None
        ),
        items=(done, len(members)),
    )


def _chart(
    view: RunView,
    rows: Sequence[Row],
    width: float,
    inline: bool,
    title: str,
    tooltips: bool,
) -> str:
    scale = _scale(rows, view.horizon, width)
    height = TOP + len(rows) * scale.row + BOTTOM
    body = _guides(scale, len(rows)) + _axis(scale, height)
    for index, row in enumerate(rows):
        body.append(_row(row, index, scale, view.now, tooltips=tooltips))
    body += _moments(view, scale, height)
    body += _legend(view, rows, height)
    return document(width, height, body, title, inline=inline)


def _axis(scale: Scale, height: float) -> list[str]:
    body = []
    for moment in ticks(scale.horizon, scale.room):
        x = scale.x(moment)
        body.append(line(x, TOP - 4, x, height - BOTTOM, "grid"))
        body.append(text(x, TOP - 9, elapsed(moment), size=10, anchor="middle", css="soft"))
        if height > TALL:
            foot = height - BOTTOM + 14
            body.append(text(x, foot, elapsed(moment), size=10, anchor="middle", css="soft"))
    return body


def _guides(scale: Scale, rows: int) -> list[str]:
    """Bands that lead the eye from a label to its bar."""
    step = 2 if scale.row >= 12 else 20
    return [
        rect(0, TOP + i * scale.row, scale.width, min(step // 2, rows - i) * scale.row, "band")
        for i in range(step // 2, rows, step)
    ]


def _row(row: Row, index: int, scale: Scale, now: float | None, *, tooltips: bool) -> str:
    y = TOP + index * scale.row
    parts = []
    if tooltips:
        parts.append(f"<title>{escape(tooltip(row))}</title>")
        # Something to point at where the row shows nothing.
        parts.append(
            f'<rect x="0" y="{num(y)}" width="{num(scale.width)}" height="{num(scale.row)}" '
            'fill-opacity="0"/>'
        )
    if row.critical:
        parts.append(rect(scale.left - 7, y + 1, 3, scale.row - 2, "path"))
    if index % scale.label_every == 0:
        limit = int((scale.left - 18) / (LABEL_PX * scale.label_size / 11))
        baseline = y + scale.row / 2 + scale.label_size * 0.36
        if scale.label_every > 1:
            baseline = y + scale.label_size
        label = shortened(_label(row), limit)
        css = "soft" if row.status is Status.SKIPPED else ""
        parts.append(
            text(
                scale.left - 12,
                baseline,
                label,
                size=scale.label_size,
                anchor="end",
                css=css,
                bold=row.critical,
            )
        )
    parts += _bars(row, y, scale, now)
    return f'<g class="row">{"".join(parts)}</g>'


def _bars(row: Row, y: float, scale: Scale, now: float | None) -> list[str]:
    parts = []
    h = scale.row
    thin = h < 12
    if row.planned:
        # The plan lies behind the bar and looks out below it.
        x1, x2 = scale.x(row.planned[0]), scale.x(row.planned[1])
        top, tall = (y, h - 1) if thin else (y + h * 0.62, h * 0.24)
        parts.append(rect(x1, top, max(x2 - x1, 1), tall, "planned"))
    top, tall = (y + 1, h - 3) if thin else (y + h * 0.16, h * 0.46)
    for stretch in row.actual:
        x1, x2 = scale.x(stretch.start), scale.x(stretch.finish)
        parts.append(rect(x1, top, max(x2 - x1, 1.5), tall, STATUS_CLASS[stretch.status], 1.5))
    if row.forecast:
        parts += _forecast(row, row.forecast, top, tall, scale, now)
    if row.status is Status.SKIPPED and row.planned:
        x1, x2 = scale.x(row.planned[0]), scale.x(row.planned[1])
        parts.append(line(x1, top + tall / 2, x2, top + tall / 2, "grid"))
    return parts


def _forecast(
    row: Row,
    forecast: tuple[float, float, float],
    top: float,
    tall: float,
    scale: Scale,
    now: float | None,
) -> list[str]:
    parts = []
    begin = row.actual[-1].finish if row.actual else row.forecast_start
    if begin is None:
        begin = now
    low, middle, high = (scale.x(m) for m in forecast)
    if begin is not None:
        x1 = scale.x(begin)
        parts.append(rect(x1, top, max(middle - x1, 0), tall, "forecast"))
    if high - low >= 1:
        y = top + tall / 2
        cap = min(tall, 8) / 2
        parts.append(
            f'<path d="M{num(low)} {num(y)}H{num(high)}M{num(low)} {num(y - cap)}v{num(2 * cap)}'
            f'M{num(high)} {num(y - cap)}v{num(2 * cap)}" class="whisker"/>'
        )
    return parts


def _moments(view: RunView, scale: Scale, height: float) -> list[str]:
    body = []
    foot = height - BOTTOM
    if view.now is not None:
        x = scale.x(view.now)
        body.append(line(x, TOP - 4, x, foot + 4, "now"))
        body.append(text(x, foot + 14, "now", size=10, anchor="middle"))
    if view.deadline is not None:
        x = scale.x(view.deadline)
        outside = view.deadline > scale.horizon
        if not outside:
            body.append(line(x, TOP - 4, x, foot + 4, "deadline"))
        word = f"deadline {elapsed(view.deadline)}" + (" →" if outside else "")
        body.append(text(min(x, scale.width - 4), 12, word, size=10, anchor="end", css="deadline"))
    if view.finish:
        low, middle, high = (scale.x(m) for m in view.finish)
        y = foot + 5
        body.append(
            f'<path d="M{num(low)} {num(y)}H{num(high)}M{num(low)} {num(y - 4)}v8'
            f'M{num(high)} {num(y - 4)}v8M{num(middle)} {num(y - 4)}v8" class="whisker">'
            f"<title>forecast finish: P10 {elapsed(view.finish[0])}, "
            f"P50 {elapsed(view.finish[1])}, P90 {elapsed(view.finish[2])}</title></path>"
        )
    return body


def _legend(view: RunView, rows: Sequence[Row], height: float) -> list[str]:
    entries = [("planned", "planned")]
    if view.started is not None:
        seen = {s.status for r in rows for s in r.actual}
        entries += [
            (STATUS_CLASS[s], word)
            for s, word in (
                (Status.SUCCESS, "done"),
                (Status.PARTIAL, "partly done"),
                (Status.RUNNING, "running"),
                (Status.FAILURE, "failed"),
                (Status.BLOCKED, "blocked"),
            )
            if s in seen
        ]
    if any(r.forecast for r in rows):
        spread = any(r.forecast and r.forecast[2] > r.forecast[0] for r in rows)
        entries.append(("forecast", "forecast, P10–P90" if spread else "forecast"))
    if any(r.critical for r in rows):
        entries.append(("path", "critical path"))
    x, y, body = 10.0, height - 12, []
    for css, word in entries:
        body.append(rect(x, y - 8, 12, 9, css, 1.5))
        body.append(text(x + 17, y, word, size=10, css="soft"))
        x += 17 + len(word) * 6 + 18
    return body


def tooltip(row: Row) -> str:
    """What a row says when it is pointed at: one fact a line."""
    lines = [row.task_id + (f" [{row.items[0]}/{row.items[1]}]" if row.items else "")]
    if row.description:
        lines.append(row.description)
    lines.append(row.status.value + (", critical" if row.critical else ""))
    if row.planned:
        lines.append(
            f"planned {elapsed(row.planned[0])} – {elapsed(row.planned[1])} "
            f"({elapsed(row.planned[1] - row.planned[0])})"
        )
    # A long list of items would bury the rest.
    for stretch in row.actual[:5]:
        note = f" {stretch.note}" if stretch.note else ""
        lines.append(
            f"actual {elapsed(stretch.start)} – {elapsed(stretch.finish)} "
            f"({elapsed(stretch.finish - stretch.start)}){note}"
        )
    if len(row.actual) > 5:
        lines.append(f"and {len(row.actual) - 5} more attempts")
    if row.forecast:
        low, middle, high = map(elapsed, row.forecast)
        lines.append(f"forecast finish {middle} (P10 {low}, P90 {high})")
    if row.detail:
        lines.append(row.detail)
    return "\n".join(lines)


def _label(row: Row) -> str:
    return row.task_id + (
        f" {row.items[0]}/{row.items[1]}" if row.items and row.items[1] > 1 else ""
    )
