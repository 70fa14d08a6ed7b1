"""One self-contained HTML page about a plan run: nothing is fetched, nothing needs a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from athena_prefect.journal.events import (
    CheckEvent,
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
)
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.report.charts import Steps, resource_profile
from athena_prefect.report.gantt import gantt, overview
from athena_prefect.report.replanning import replanning_html
from athena_prefect.report.svg import CHART_STYLE, PALETTE, STATUS_CLASS, elapsed
from athena_prefect.report.view import Row, RunView

MOST_REASON = 600
"""Characters of a reason."""
MOST_EVENTS = 2000
"""Events that a page lists; more would make it slow to open. The journal has them all."""

_STYLE = """
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:24px 28px 60px;
background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",
sans-serif}h1{font-size:26px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 8px}
.sub{color:var(--soft);margin:0 0 18px}
.pill{display:inline-block;border-radius:12px;padding:2px 11px;
color:#fff;font-size:14px;font-weight:600;vertical-align:4px;margin-left:10px;background:var(--soft)}
.pill.ok{background:#1a6aa5}.pill.running{background:#9a5f00}.pill.failed{background:#b3261e}
.pill.partial{background:#6d49b4}.facts{display:grid;gap:10px;
grid-template-columns:repeat(auto-fit,minmax(165px,1fr));margin:0}
.facts div{background:var(--band);border:1px solid var(--grid);border-radius:8px;padding:9px 13px}
.facts dt{color:var(--soft);font-size:13px}.facts dd{margin:0;font-size:19px;font-weight:600}
.facts dd small{display:block;font-size:12.5px;font-weight:400;color:var(--soft)}
.chart{overflow-x:auto;border:1px solid var(--grid);border-radius:8px;margin:8px 0}
.chart svg{display:block;max-width:100%;height:auto}.reason{border-left:4px solid var(--failed);
padding:6px 14px;background:var(--band);white-space:pre-wrap;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{padding:4px 9px;text-align:left;
border-bottom:1px solid var(--grid);vertical-align:top;overflow-wrap:anywhere}
th{color:var(--soft);font-weight:600;white-space:nowrap;position:sticky;top:0;background:var(--bg)}
#tasks td:nth-child(2){white-space:nowrap}
#tasks td:first-child,#assumptions td:first-child{min-width:12.5em}
th[data-sort]{cursor:pointer}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;
white-space:nowrap}.dot{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:6px}
.dot.ok{background:var(--ok)}.dot.partial{background:var(--partial)}.dot.running{background:var(--running)}
.dot.failed{background:var(--failed)}.dot.blocked{background:var(--blocked)}
.dot.skipped{background:var(--skipped)}.dot.waiting{background:var(--planned)}
.crit{color:var(--path);font-weight:600}.soft{color:var(--soft)}summary{cursor:pointer}
input{font:inherit;padding:4px 9px;border:1px solid var(--grid);border-radius:6px;
background:var(--bg);color:var(--fg);margin-bottom:6px;width:280px;max-width:100%}
td:not(.n),th:not(.n){min-width:7.5em}
@media (max-width:820px){body{padding:16px 14px 40px}table{display:block;overflow-x:auto}
td:last-child{min-width:18em}.chart svg{max-width:none;width:820px}}
@media print{body{max-width:none}.chart{overflow:visible}}
"""
# Sorting and filtering are a convenience: without a script the tables are as written.
_SCRIPT = """
for(const th of document.querySelectorAll('th[data-sort]'))th.onclick=()=>{
const i=[...th.parentNode.children].indexOf(th),b=th.closest('table').tBodies[0],
d=th.dataset.dir=th.dataset.dir==='1'?'-1':'1',
k=r=>{const c=r.children[i],v=c.dataset.v;return v===undefined?c.textContent:v===''?null:+v};
[...b.rows].sort((p,q)=>{const x=k(p),y=k(q);
return x===null?1:y===null?-1:(typeof x==='number'?x-y:x.localeCompare(y))*d})
.forEach(r=>b.append(r))};
for(const f of document.querySelectorAll('input[data-filter]')){f.hidden=false;f.oninput=()=>{
const w=f.value.toLowerCase(),t=document.getElementById(f.dataset.filter);
for(const r of t.tBodies[0].rows)r.hidden=!r.textContent.toLowerCase().includes(w)}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A resource over time: planned demand and what attempts had allocated."""

    name: str
    capacity: float
    planned: Steps
    used: Steps = ()


def page(
    plan: Plan,
    view: RunView,
    state: ExecutionState,
    deviation: PlanDeviation | None,
    *,
    as_of: datetime,
    profiles: Sequence[Profile] = (),
    events: Sequence[Event] = (),
    learned: str = "",
) -> str:
    """The HTML of a run's report. `as_of` is when it was made; everything is escaped.

    `learned`: a part of its own, as `report.learning.learned_section` makes it.
    """
    title = f"{plan.name} · run {str(state.plan_run)[:8]}"
    parts = [
        _heading(plan, view, state, as_of),
        _facts(view, state, deviation),
        _reasons(view, state, deviation),
        _gantts(view),
        replanning_html(plan, state),
        _profiles(view, profiles),
        learned,
        _task_table(view),
        _assumptions(plan.assumptions, state.checks),
        _events(events),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{PALETTE}{CHART_STYLE}{_STYLE}</style></head><body>\n"
        + "\n".join(p for p in parts if p)
        + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def status_word(state: ExecutionState) -> tuple[str, str]:
    """(word, colour class) for where a run stands."""
    if state.end_status is not None:
        css = {"completed": "ok", "superseded": "partial"}.get(state.end_status, "failed")
        return state.end_status, css
    if state.started is None:
        return "not started", ""
    return ("paused", "partial") if state.paused else ("running", "running")


def _heading(plan: Plan, view: RunView, state: ExecutionState, as_of: datetime) -> str:
    word, css = status_word(state)
    about = f"<p>{escape(plan.description)}</p>" if plan.description else ""
    started = f"started {_moment(view.started)}, " if view.started else ""
    return (
        f'<h1>{escape(plan.name)}<span class="pill {css}">{escape(word)}</span></h1>'
        f'<p class="sub">plan run {escape(str(state.plan_run))} · {started}'
        f"revision {state.revision} · as of {_moment(as_of)}</p>{about}"
    )


def _facts(view: RunView, state: ExecutionState, deviation: PlanDeviation | None) -> str:
    facts: list[tuple[str, str, str]] = []
    over = [r for r in view.rows if r.status.good]
    counted = [r for r in view.rows if r.status is not Status.SKIPPED]
    running = sum(r.status is Status.RUNNING for r in view.rows)
    bad = sum(r.status in (Status.FAILURE, Status.BLOCKED) for r in view.rows)
    note = ", ".join(
        f"{n} {word}"
        for n, word in (
            (running, "running"),
            (bad, "failed or blocked"),
            (len(view.rows) - len(counted), "skipped"),
        )
        if n
    )
    facts.append(("Tasks done", f"{len(over)} of {len(counted)}", note))
    if view.ended is not None:
        facts.append(("Took", elapsed(view.ended), f"ended {_moment(state.ended)}"))
    elif view.finish:
        low, middle, high = view.finish
        interval = f"between {elapsed(low)} and {elapsed(high)}, 8 times in 10"
        if deviation is not None and deviation.basis:
            interval += f"; {deviation.basis}"
        facts.append(("Forecast finish", f"after {elapsed(middle)}", interval))
    else:
        why = (
            shortened_reason(deviation.reason) if deviation and deviation.reason else "no forecast"
        )
        facts.append(("Forecast finish", "unknown", why))
    if view.planned_finish is not None:
        facts.append(("Baseline finish", f"after {elapsed(view.planned_finish)}", "the plan's P50"))
    if deviation is not None:
        facts += _deviation_facts(deviation)
    if view.deadline is not None:
        facts.append(_deadline_fact(view, deviation))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in facts
    )
    return f'<dl class="facts">{cells}</dl>'


def _deviation_facts(deviation: PlanDeviation) -> list[tuple[str, str, str]]:
    off = deviation.time_deviation
    if off is None:
        return []
    seconds = off.total_seconds()
    share = deviation.time_deviation_percent
    word = "on time" if round(seconds, 2) == 0 else elapsed(abs(seconds))
    if round(seconds, 2):
        word += " late" if seconds > 0 else " early"
    note = f"{share:+.1%} of the baseline" if share is not None else ""
    if deviation.deviation_severity is not None:
        note += f"{', ' if note else ''}severity {deviation.deviation_severity}"
    return [("Against the baseline", word, note)]


def _deadline_fact(view: RunView, deviation: PlanDeviation | None) -> tuple[str, str, str]:
    assert view.deadline is not None
    name, at = "Deadline", f"after {elapsed(view.deadline)}"
    if view.ended is not None:
        spare = view.deadline - view.ended
        return (
            name,
            "met" if spare >= 0 else "missed",
            f"{at}, {elapsed(abs(spare))} " + ("to spare" if spare >= 0 else "too late"),
        )
    chance = deviation.deadline_probability if deviation else None
    if chance is None:
        return name, at, "probability unknown"
    rests = f"from {deviation.samples:,} samples" if deviation and deviation.samples else ""
    return "Met with probability", f"{chance:.0%}", f"{at}; {rests}".rstrip("; ")


def _reasons(view: RunView, state: ExecutionState, deviation: PlanDeviation | None) -> str:
    found = [shortened_reason(state.end_reason)] if state.end_reason else []
    found += [
        f"{r.task_id} {'failed' if r.status is Status.FAILURE else 'is blocked'}"
        + (f": {r.detail}" if r.detail else "")
        for r in view.rows
        if r.status in (Status.FAILURE, Status.BLOCKED)
    ][:20]
    if deviation and deviation.reason and view.ended is None:
        found.append(shortened_reason(deviation.reason))
    found += [f"missing from the record: {gap}" for gap in state.gaps]
    if state.unplanned:
        found.append(f"not in the plan, so not counted: {', '.join(state.unplanned)}")
    return "".join(f'<p class="reason">{escape(reason)}</p>' for reason in dict.fromkeys(found))


def shortened_reason(text: str) -> str:
    """A reason that lists hundreds of tasks, cut to what can be read; the table has them all."""
    return text if len(text) <= MOST_REASON else text[: MOST_REASON - 1] + "…"


def _gantts(view: RunView) -> str:
    groups = overview(view, inline=True)
    whole = f'<div class="chart">{gantt(view, inline=True)}</div>'
    if groups is None:
        return f"<h2>Schedule</h2>{whole}"
    return (
        f'<h2>Schedule by group</h2><div class="chart">{groups}</div>'
        f"<details open><summary><b>All {len(view.rows)} tasks</b></summary>{whole}</details>"
    )


def _profiles(view: RunView, profiles: Sequence[Profile]) -> str:
    charts = [
        '<div class="chart">'
        + resource_profile(
            p.name, p.capacity, p.planned, p.used, horizon=view.horizon, now=view.now, inline=True
        )
        + "</div>"
        for p in profiles
    ]
    return "<h2>Resources</h2>" + "".join(charts) if charts else ""


def _task_table(view: RunView) -> str:
    heads = (
        "Task",
        "Status",
        "Planned start",
        "Start",
        "Planned",
        "Took",
        "Finish",
        "Tries",
        "Note",
    )
    numeric = range(2, 8)
    head = "".join(
        f"<th data-sort{' class=n' if i in numeric else ''}>{h}</th>" for i, h in enumerate(heads)
    )
    rows = "".join(_table_row(r) for r in view.rows)
    return (
        '<h2>Tasks</h2><input data-filter="tasks" hidden placeholder="Filter, e.g. failed">'
        f'<table id="tasks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _table_row(row: Row) -> str:
    last = row.latest
    start = last.start if last else None
    end = last.finish if last and row.status is not Status.RUNNING else None
    took = end - start if start is not None and end is not None else None
    planned = row.planned[1] - row.planned[0] if row.planned else None
    finish = elapsed(end) if end is not None else ""
    if row.forecast:
        finish = f"≈ {elapsed(row.forecast[1])}"
    items = f" <span class=soft>{row.items[0]}/{row.items[1]}</span>" if row.items else ""
    name = f'<span class="{"crit" if row.critical else ""}">{escape(row.task_id)}</span>{items}'
    note = "; ".join(n for n in (row.description, row.detail) if n)
    order = row.forecast[1] if row.forecast else end
    return (
        f"<tr><td>{name}</td><td><span class='dot {STATUS_CLASS[row.status]}'></span>"
        f"{row.status.value}</td>{_cell(row.planned[0] if row.planned else None)}{_cell(start)}"
        f"{_cell(planned)}{_cell(took)}"
        f'<td class=n data-v="{"" if order is None else order}">{finish}</td>'
        f"<td class=n data-v={row.attempts}>{row.attempts or ''}</td><td>{escape(note)}</td></tr>"
    )


def _cell(seconds: float | None) -> str:
    if seconds is None:
        return '<td class=n data-v=""></td>'
    return f"<td class=n data-v={seconds:.6g}>{elapsed(seconds)}</td>"


def _assumptions(
    assumptions: Sequence[Assumption], checks: Mapping[str, Sequence[CheckEvent]]
) -> str:
    if not assumptions:
        return ""
    rows = []
    for assumption in assumptions:
        made = checks.get(assumption.id, ())
        last = f"{made[-1].verdict}, {_moment(made[-1].at)}" if made else "not checked"
        affects = ", ".join(assumption.affects)
        rows.append(
            f"<tr><td>{escape(assumption.id)}</td><td>{escape(assumption.description)}</td>"
            f"<td>{assumption.criticality}</td><td>{escape(last)}</td>"
            f"<td>{timeline(made)}</td><td>{escape(affects)}</td>"
            f"<td>{escape(assumption.mitigation)}</td></tr>"
        )
    return (
        "<h2>Assumptions</h2><table id=assumptions>"
        "<thead><tr><th>Assumption<th>It says<th>Criticality"
        "<th>Last check<th>Over time<th>Affects<th>Mitigation</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


_VERDICT_COLOURS = {"holds": "#2e8b57", "violated": "#c0392b", "unknown": "#c9a227"}
_STRIP = (220, 16)
"""Width and height of a timeline."""


def timeline(checks: Sequence[CheckEvent]) -> str:
    """The checks of an assumption from the first to the last, each until the next one."""
    if not checks:
        return ""
    ordered = sorted(checks, key=lambda c: c.at)
    width, height = _STRIP
    first, last = ordered[0].at, ordered[-1].at
    span = (last - first).total_seconds() or 1.0
    parts = []
    for check, after in zip(ordered, [*ordered[1:], None], strict=True):
        x = (check.at - first).total_seconds() / span * (width - 4)
        end = width if after is None else (after.at - first).total_seconds() / span * (width - 4)
        value, unit = check.data.get("value"), check.data.get("unit", "")
        seen = f", {value:g} {unit}" if isinstance(value, int | float) else ""
        parts.append(
            f'<rect x="{x:.1f}" width="{max(end - x, 2):.1f}" height="{height}" '
            f'fill="{_VERDICT_COLOURS.get(check.verdict, "#999")}">'
            f"<title>{escape(f'{check.verdict}{seen}, {check.at:%H:%M:%S} UTC')}</title></rect>"
        )
    label = f"{len(ordered)} checks, the last: {ordered[-1].verdict}"
    return (
        f'<svg role=img aria-label="{escape(label)}" width={width} height={height}>'
        f"{''.join(parts)}</svg>"
    )


def _events(events: Sequence[Event]) -> str:
    if not events:
        return ""
    shown = events[-MOST_EVENTS:]
    rows = "".join(
        f"<tr><td class=n>{_moment(e.at, seconds=True)}</td><td>{escape(event_words(e))}</td></tr>"
        for e in shown
    )
    left = f", the last {len(shown)}" if len(shown) < len(events) else ""
    return (
        f"<h2>Events</h2><details><summary>{len(events)} events{left}</summary>"
        f"<table><tbody>{rows}</tbody></table></details>"
    )


def event_words(event: Event) -> str:
    """One line that says what happened."""
    match event:
        case TaskEvent():
            item = "" if event.map_index is None else f"[{event.map_index}]"
            how = f" {event.outcome}" if event.outcome else ""
            again = f", try {event.run_count}" if event.run_count > 1 else ""
            why = event.data.get("reason") or event.data.get("error") or ""
            return f"{event.task_id}{item} {event.kind}{how}{again}" + (f": {why}" if why else "")
        case RunEvent() if event.kind is RunEventKind.FORECAST:
            share = f"{event.data['share_done']:.0%}".replace("%", " %")
            return f"forecast kept with {share} of the work done, {event.data['basis']}"
        case RunEvent():
            why = event.data.get("reason") or event.data.get("status") or ""
            return f"run {event.kind}" + (f": {why}" if why else "")
        case CheckEvent():
            return f"{event.assumption_id} {event.verdict}"
        case _:
            return f"{type(event).__name__} {event.key}"


def _moment(moment: datetime | None, *, seconds: bool = False) -> str:
    if moment is None:
        return ""
    return f"{moment:%Y-%m-%d %H:%M:%S}" + ("" if seconds else " UTC")
