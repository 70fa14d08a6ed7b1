"""Pictures beside the Gantt: resource profile, network (SVG and mermaid)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape

from athena_prefect.report.gantt import tooltip
from athena_prefect.report.svg import (
    document,
    elapsed,
    line,
    num,
    rect,
    shortened,
    text,
    ticks,
)
from athena_prefect.report.view import RunView

Steps = Sequence[tuple[float, float]]
"""(moment in seconds, amount from then on), in order of time."""


def resource_profile(
    name: str,
    capacity: float,
    planned: Steps,
    used: Steps = (),
    *,
    horizon: float,
    now: float | None = None,
    width: float = 1120,
    inline: bool = False,
) -> str:
    """Demand for one resource over time as stepped areas, against its capacity."""
    height, left, top, bottom = 130.0, 60.0, 22.0, 22.0
    peak = max([capacity, *(a for _, a in planned), *(a for _, a in used)]) * 1.1
    floor = height - bottom

    def x(moment: float) -> float:
        return left + (width - left - 28) * min(max(moment, 0), horizon) / horizon

    def y(amount: float) -> float:
        return floor - (floor - top) * amount / peak

    body = []
    for moment in ticks(horizon, width - left - 28):
        body.append(line(x(moment), top, x(moment), floor, "grid"))
        body.append(
            text(x(moment), floor + 14, elapsed(moment), size=10, anchor="middle", css="soft")
        )
    for steps, css in ((planned, "demand"), (used, "used")):
        if steps:
            body.append(f'<path d="{_area(steps, x, y, floor)}" class="{css}"/>')
    body.append(line(x(0), y(capacity), x(horizon), y(capacity), "capacity"))
    body.append(text(left - 6, y(capacity) + 4, f"{capacity:g}", size=10, anchor="end"))
    body.append(text(left - 6, floor + 3, "0", size=10, anchor="end", css="soft"))
    if now is not None:
        body.append(line(x(now), top, x(now), floor, "now"))
    heading = f"{name}: planned" + (" and allocated" if used else "") + f" against {capacity:g}"
    body.append(text(left, 13, heading, size=11, bold=True))
    return document(width, height, body, f"Use of {name} over time", inline=inline)


def _area(
    steps: Steps, x: Callable[[float], float], y: Callable[[float], float], floor: float
) -> str:
    first = steps[0][0]
    parts = [f"M{num(x(first))} {num(floor)}"]
    for moment, amount in steps:
        parts.append(f"H{num(x(moment))}V{num(y(amount))}")
    parts.append(f"V{num(floor)}Z")
    return "".join(parts)


def layers(view: RunView) -> list[list[str]]:
    """The tasks by their longest chain of predecessors, each layer ordered to cross few arcs.

    One barycentre sweep down and one up (Sugiyama, Tagawa, Toda 1981).
    """
    order = [r.task_id for r in view.rows]
    before: dict[str, list[str]] = {t: [] for t in order}
    after: dict[str, list[str]] = {t: [] for t in order}
    for source, target, _ in view.arcs:
        before[target].append(source)
        after[source].append(target)
    level = _levels(order, before, after)
    found: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for task in order:
        found[level[task]].append(task)
    for sequence, near in ((found, before), (found[::-1], after)):
        place = {t: i for layer in found for i, t in enumerate(layer)}
        for layer in sequence:
            centre = {t: _mean([place[n] for n in near[t]], place[t]) for t in layer}
            layer.sort(key=centre.__getitem__)
            place.update({t: i for i, t in enumerate(layer)})
    return found


def _mean(places: Sequence[int], otherwise: int) -> float:
    return sum(places) / len(places) if places else otherwise


def _levels(
    order: Sequence[str], before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    waiting = {t: len(before[t]) for t in order}
    level = dict.fromkeys(order, 0)
    todo = [t for t in order if not waiting[t]]
    while todo:
        task = todo.pop()
        for follower in after[task]:
            level[follower] = max(level[follower], level[task] + 1)
            waiting[follower] -= 1
            if not waiting[follower]:
                todo.append(follower)
    return level


def network(view: RunView, *, inline: bool = False) -> str:
    """The network as layered SVG, left to right; soft arcs dashed, the critical path marked."""
    box_w, box_h, gap_x, gap_y, margin = 170.0, 34.0, 60.0, 12.0, 16.0
    found = layers(view)
    tall = max((len(layer) for layer in found), default=1)
    height = margin * 2 + tall * (box_h + gap_y)
    width = margin * 2 + len(found) * (box_w + gap_x) - gap_x
    place: dict[str, tuple[float, float]] = {}
    for column, layer in enumerate(found):
        offset = (height - len(layer) * (box_h + gap_y) + gap_y) / 2
        for i, task in enumerate(layer):
            place[task] = (margin + column * (box_w + gap_x), offset + i * (box_h + gap_y))
    rows = {r.task_id: r for r in view.rows}
    body = []
    for source, target, hard in view.arcs:
        x1, y1 = place[source][0] + box_w, place[source][1] + box_h / 2
        x2, y2 = place[target][0], place[target][1] + box_h / 2
        bend = max((x2 - x1) / 2, 20)
        on_path = rows[source].critical and rows[target].critical
        css = "edge" + ("" if hard else " softedge") + (" pathedge" if on_path else "")
        body.append(
            f'<path d="M{num(x1)} {num(y1)}C{num(x1 + bend)} {num(y1)} {num(x2 - bend)} {num(y2)} '
            f'{num(x2)} {num(y2)}" class="{css}">'
            f"<title>{_title(source, target, hard)}</title></path>"
        )
    for task, (x, y) in place.items():
        row = rows[task]
        css = "node" + (" pathnode" if row.critical else "")
        body.append(f"<g>{rect(x, y, box_w, box_h, css, 5)}")
        body.append(text(x + 8, y + 14, shortened(task, 25), size=11, bold=row.critical))
        span = row.planned
        word = (
            f"{elapsed(span[1] - span[0])}, from {elapsed(span[0])}" if span else "duration unknown"
        )
        body.append(text(x + 8, y + 28, word, size=9.5, css="soft"))
        body.append(f"<title>{escape(tooltip(row))}</title></g>")
    return document(width, height, body, f"Network of {view.name}", inline=inline)


def mermaid(view: RunView) -> str:
    """The network as a mermaid flowchart: soft arcs dotted, the critical path in bold."""
    names = {row.task_id: f"t{i}" for i, row in enumerate(view.rows)}
    out = ["flowchart LR"]
    for row in view.rows:
        span = row.planned
        took = f"<br/>{elapsed(span[1] - span[0])}" if span else ""
        out.append(f'    {names[row.task_id]}["{_mermaid(row.task_id)}{took}"]')
    for source, target, hard in view.arcs:
        out.append(f"    {names[source]} {'-->' if hard else '-.->'} {names[target]}")
    path = [names[r.task_id] for r in view.rows if r.critical]
    if path:
        out.append("    classDef critical stroke:#b0116b,stroke-width:3px")
        out.append(f"    class {','.join(path)} critical")
    return "\n".join(out) + "\n"


def _mermaid(content: str) -> str:
    # Mermaid's own way to write a character that would end the label.
    return re.sub(r"[^\w .,:\-]", lambda m: f"#{ord(m[0])};", content)


def _title(source: str, target: str, hard: bool) -> str:
    return escape(f"{source} → {target}" + ("" if hard else " (soft)"))
