"""The Gantt chart of before and after: when each task was to run, and when it is to run now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from athena_prefect.report.svg import document, elapsed, line, rect, shortened, text, ticks

LABEL_PX = 6.3
TOP, BOTTOM, ROW, RIGHT = 40.0, 30.0, 22.0, 28.0
MOST_ROWS = 60
"""Tasks that are drawn: the ones that move the most; more is navigated, not read."""

MOST_LINES = 12
"""Tasks of a chart in characters, which stands in a form: the ones that move the most."""

Spans = Mapping[str, Sequence[float]]
"""Task → start and finish in seconds from the start of the run."""


def comparison(
    before: Spans,
    after: Spans,
    *,
    now: float | None = None,
    deadline: float | None = None,
    width: float = 1120,
    inline: bool = False,
) -> str:
    """The chart as escaped, self-contained SVG; grey is before, blue after."""
    names = _shown(before, after, MOST_ROWS)
    horizon = max((float(s[1]) for spans in (before, after) for s in spans.values()), default=1.0)
    if deadline is not None and deadline <= 3 * horizon:
        horizon = max(horizon, deadline)
    horizon = horizon or 1.0
    left = min(max([len(n) for n in names] or [8]) * LABEL_PX + 26, width * 0.28)
    room = width - left - RIGHT
    height = TOP + len(names) * ROW + BOTTOM

    def x(seconds: float) -> float:
        return left + room * min(max(float(seconds), 0.0), horizon) / horizon

    body = []
    for moment in ticks(horizon, room):
        body.append(line(x(moment), TOP - 4, x(moment), height - BOTTOM, "grid"))
        body.append(text(x(moment), TOP - 9, elapsed(moment), size=10, anchor="middle", css="soft"))
    for k, name in enumerate(names):
        y = TOP + k * ROW
        css = "" if name in after else "soft"
        label = shortened(name, int((left - 18) / LABEL_PX))
        body.append(text(left - 12, y + ROW / 2 + 4, label, anchor="end", css=css))
        if name in before:
            start, finish = before[name]
            body.append(rect(x(start), y + 3, max(x(finish) - x(start), 1), 7, "planned"))
        if name in after:
            start, finish = after[name]
            body.append(rect(x(start), y + 11, max(x(finish) - x(start), 1), 7, "ok"))
        else:
            note = "left out"
            body.append(text(x(before[name][1]) + 6, y + 11, note, size=10, css="soft"))
    for mark, css in ((now, "now"), (deadline, "deadline")):
        if mark is not None and mark <= horizon:
            body.append(line(x(mark), TOP - 4, x(mark), height - BOTTOM, css))
            body.append(
                text(x(mark) + 4, height - BOTTOM + 12, css, size=10,
                     css="deadline" if css == "deadline" else "soft")
            )  # fmt: skip
    foot = height - 8
    body += [
        rect(left, foot - 8, 14, 7, "planned"),
        text(left + 20, foot, "before", size=10),
        rect(left + 80, foot - 8, 14, 7, "ok"),
        text(left + 100, foot, "after", size=10),
    ]
    return document(width, height, body, "Gantt chart of before and after", inline=inline)


def in_characters(before: Spans, after: Spans, *, room: int = 40) -> str:
    """The same chart in characters, for where there is little room: ░ before, █ after."""
    names = _shown(before, after, MOST_LINES)
    ends = [float(s[1]) for spans in (before, after) for n, s in spans.items() if n in names]
    horizon = max(ends, default=0.0) or 1.0
    width = min(max([len(n) for n in names] or [4]), 24)

    def bar(span: Sequence[float] | None, mark: str) -> str:
        if span is None:
            return "left out" if mark == "█" else ""
        first = min(int(room * float(span[0]) / horizon), room - 1)
        last = max(round(room * float(span[1]) / horizon), first + 1)
        return " " * first + mark * (last - first)

    lines = []
    for name in names:
        lines.append(f"{shortened(name, width):<{width}} {bar(before.get(name), '░')}".rstrip())
        lines.append(f"{'':<{width}} {bar(after.get(name), '█')}".rstrip())
    lines.append(f"{'':<{width}} 0{elapsed(horizon):>{room - 1}}")
    return "\n".join(lines)


def _shown(before: Spans, after: Spans, most: int) -> list[str]:
    """The tasks drawn, in the order in which they begin; of many those that move the most."""
    names = list(dict.fromkeys((*before, *after)))

    def begins(name: str) -> tuple[float, float]:
        start, finish = after.get(name) or before[name]
        return float(start), float(finish)

    def moves(name: str) -> float:
        if name not in before or name not in after:
            return float("inf")
        pairs = zip(before[name], after[name], strict=True)
        return max(abs(float(a) - float(b)) for a, b in pairs)

    if len(names) > most:
        names = sorted(names, key=moves, reverse=True)[:most]
    return sorted(names, key=begins)
