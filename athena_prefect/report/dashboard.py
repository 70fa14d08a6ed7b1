"""What a run's dashboard says: Markdown, a picture, a table and a share. Pure; no Prefect."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from athena_prefect.journal.state import Status
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.report.assumptions import assumptions_line
from athena_prefect.report.figures import Figures
from athena_prefect.report.gantt import gantt, overview
from athena_prefect.report.svg import elapsed
from athena_prefect.report.view import Row, RunView

MOST_LATE = 15
"""Tasks that the status lists; the table has them all."""
MOST_FOCUS = 40
"""Rows of the chart of what matters now, for plans too large to take in at once."""
LARGE = 60
"""Tasks from which the whole chart is no longer read but navigated."""
LATE_SECONDS = 1.0
"""Less than that is not worth telling."""

_WORDS = {
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "aborted": "Aborted",
    "running": "Running",
    "paused": "Paused",
    "interrupted": "Interrupted",
    "superseded": "Superseded",
    "not started": "Not started",
}


def done_and_total(figures: Figures) -> tuple[int, int]:
    """Tasks done and tasks in all, skipped ones not counted; a mapped task once."""
    found = figures.deviation
    if found is not None:
        return found.completed_tasks, found.total_tasks
    rows = [r for r in figures.view.rows if r.status is not Status.SKIPPED]
    return sum(r.status.good for r in rows), len(rows)


def progress_of(figures: Figures) -> float:
    """Share of the tasks that are done, in percent: the unit of a progress artifact."""
    done, total = done_and_total(figures)
    return round(100 * done / total, 1) if total else 0.0


def status_markdown(figures: Figures, links: Mapping[str, str] | None = None) -> str:
    """The status as Markdown: the sentence that matters, the figures, what is late, links."""
    parts = [
        f"## {headline(figures)}",
        _figures_table(figures),
        _reasons(figures),
        _late_table(figures),
        _links(links or {}),
        f"*Plan run `{figures.plan_run}` as of {moment(figures.as_of)}.*",
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def headline(figures: Figures) -> str:
    """Where the run stands, in one sentence."""
    word = _WORDS.get(figures.word, figures.word.capitalize())
    view, found = figures.view, figures.deviation
    if view.ended is not None:
        tail = f" after {elapsed(view.ended)}"
        if view.deadline is not None and figures.word == "completed":
            spare = view.deadline - view.ended
            tail += f", {elapsed(abs(spare))} {'before' if spare >= 0 else 'past'} the deadline"
        return f"{word}{tail}"
    if found is None or found.estimated_completion is None:
        return f"{word}, no forecast"
    text = f"{word}, forecast to finish {moment(found.estimated_completion)}"
    if found.deadline is not None and found.deadline_probability is not None:
        text += f", deadline met with {percent(found.deadline_probability, found.samples)}"
    return text


def _figures_table(figures: Figures) -> str:
    found, view = figures.deviation, figures.view
    done, total = done_and_total(figures)
    share = f" ({done / total:.0%})".replace("%", " %") if total else ""
    rows = [("Progress", f"**{done} of {total} tasks**{share}")]
    running = [r.task_id for r in view.rows if r.status is Status.RUNNING]
    if running and view.ended is None:
        rows.append(("Running now", _names(running, 5)))
    if view.started is not None:
        rows.append(("Started", moment(view.started)))
    if view.ended is not None:
        rows.append(("Ended", f"**{moment(figures.state.ended)}**, took {elapsed(view.ended)}"))
    if found is not None:
        rows += _forecast_rows(found, over=view.ended is not None)
    told = assumptions_line(figures)
    if told:
        rows.append(("Assumptions", told))
    if figures.state.revision > 1:
        rows.append(("Revision", str(figures.state.revision)))
    lines = [f"| {name} | {_cell(text)} |" for name, text in rows]
    return "\n".join(["| | |", "| :-- | :-- |", *lines])


def _forecast_rows(found: PlanDeviation, *, over: bool) -> list[tuple[str, str]]:
    rows = []
    if not over:
        rows.append(("Forecast finish", _forecast(found)))
        if found.estimated_completion is not None and found.basis:
            rows.append(("Forecast rests on", resting_on(found.basis)))
    if found.deadline is not None:
        text = moment(found.deadline)
        if found.deadline_probability is not None and not over:
            text += f", met with **{percent(found.deadline_probability, found.samples)}**"
        rows.append(("Deadline", text))
    if found.baseline_finish is not None:
        rows.append(("Baseline finish", f"{moment(found.baseline_finish)}{_off(found)}"))
    if found.deviation_severity is not None:
        rows.append(("Severity", f"**{found.deviation_severity.value}**"))
    return rows


def resting_on(basis: str) -> str:
    """What a forecast rests on, without the preposition that it begins with."""
    return basis.removeprefix("from ")


def _forecast(found: PlanDeviation) -> str:
    if found.estimated_completion is None:
        return f"unknown: {found.reason}" if found.reason else "unknown"
    text = f"**{moment(found.estimated_completion)}**"
    low, high = found.quantiles.get("p10"), found.quantiles.get("p90")
    if low is not None and high is not None and high - low > timedelta(seconds=0.5):
        day = found.estimated_completion
        between = f"between {clock(low, day)} and {clock(high, day)}"
        text += f", {between} in 8 of 10 simulated runs"
    return text


def _off(found: PlanDeviation) -> str:
    if found.time_deviation is None:
        return ""
    seconds = found.time_deviation.total_seconds()
    if abs(seconds) < 0.05:
        return ", on time"
    share = found.time_deviation_percent
    text = f", {elapsed(abs(seconds))} {'late' if seconds > 0 else 'early'}"
    return text + (f" ({share:+.0%})".replace("%", " %") if share is not None else "")


def _reasons(figures: Figures) -> str:
    state = figures.state
    said = [state.end_reason] if state.end_reason else []
    said += [f"missing from the record: {gap}" for gap in state.gaps]
    if state.unplanned:
        said.append(f"not in the plan, so not counted: {', '.join(state.unplanned)}")
    if figures.word == "interrupted":
        said.append("the process that ran it is gone")
    return "\n".join(f"> {_cell(text)}" for text in said)


def lateness(row: Row) -> float | None:
    """Seconds by which a task ended, or is forecast to end, after its plan; None if unknown."""
    if row.planned is None:
        return None
    if row.status.final:
        return row.latest.finish - row.planned[1] if row.latest else None
    return row.forecast[1] - row.planned[1] if row.forecast else None


def late_rows(figures: Figures) -> list[Row]:
    """What is late, worst first: failed, blocked, at risk, then by lateness.

    A task that has ended well is listed only while the run is under way, and one
    counts as late beyond the tolerated share of its own planned time.
    """
    tolerated = figures.plan.replanning.policy.tolerated_slip
    found = []
    for row in figures.view.rows:
        bad = row.status in (Status.FAILURE, Status.BLOCKED)
        late = lateness(row)
        own = row.planned[1] - row.planned[0] if row.planned else 0.0
        over = late is not None and late > max(LATE_SECONDS, tolerated * own)
        if bad or row.at_risk or (over and not row.status.final):
            found.append(row)
    worst = {Status.FAILURE: 0, Status.BLOCKED: 1}
    found.sort(key=lambda r: (worst.get(r.status, 2), not r.at_risk, -(lateness(r) or 0.0)))
    return found


def _late_table(figures: Figures) -> str:
    rows = late_rows(figures)
    if not rows:
        return "Nothing is late." if figures.view.ended is None and figures.deviation else ""
    lines = ["### Late, at risk or failed", "", "| Task | Status | Planned | Expected | |"]
    lines.append("| :-- | :-- | --: | --: | :-- |")
    for row in rows[:MOST_LATE]:
        late = lateness(row)
        notes = [f"{elapsed(late)} late"] if late is not None and late > LATE_SECONDS else []
        notes += ["at risk"] if row.at_risk and row.status not in _BAD else []
        notes += ["critical"] if row.critical else []
        notes += [row.detail[:160]] if row.detail else []
        planned = f"+{elapsed(row.planned[1])}" if row.planned else ""
        cells = (f"`{row.task_id}`", row.status.value, planned, _expected(row), "; ".join(notes))
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    more = len(rows) - MOST_LATE
    if more > 0:
        lines += ["", f"… and {more} more; the task table lists them all."]
    return "\n".join(lines)


_BAD = (Status.FAILURE, Status.BLOCKED)


def _expected(row: Row) -> str:
    if row.status.final and row.latest:
        return f"+{elapsed(row.latest.finish)}"
    return f"≈ +{elapsed(row.forecast[1])}" if row.forecast else ""


def _links(links: Mapping[str, str]) -> str:
    return " · ".join(f"[{name}]({url})" for name, url in links.items())


# -- the picture ----------------------------------------------------------------------------------


def gantt_markdown(figures: Figures, links: Mapping[str, str] | None = None) -> str:
    """The Gantt chart as a picture in Markdown; large plans get their groups and a focus first."""
    view = figures.view
    parts = [f"## {headline(figures)}"]
    if len(view.rows) > LARGE:
        groups = overview(view, tooltips=False)
        if groups is not None:
            parts.append(picture("Groups of tasks", groups))
        focus = focused(view)
        if focus.rows:
            chart = gantt(focus, tooltips=False)
            parts += ["### What matters now", picture("What matters now", chart)]
        parts.append(f"### All {len(view.rows)} tasks")
    parts.append(picture("Gantt chart, planned against actual", gantt(view, tooltips=False)))
    parts.append(_links(links or {}))
    parts.append(
        f"*Times since the start, {moment(view.started) if view.started else 'not started'}; "
        f"as of {moment(figures.as_of)}.*"
    )
    return "\n\n".join(p for p in parts if p) + "\n"


def focused(view: RunView) -> RunView:
    """The rows that matter now: failed, running, at risk, critical, then what comes next."""

    def rank(row: Row) -> int | None:
        if row.status in _BAD:
            return 0
        if row.status is Status.RUNNING:
            return 1
        if row.status.final:
            return None
        return 2 if row.at_risk else 3 if row.critical else 4

    ranked = [(rank(r), i, r) for i, r in enumerate(view.rows)]
    kept = sorted((k, i, r) for k, i, r in ranked if k is not None)[:MOST_FOCUS]
    chosen = sorted(i for _, i, _ in kept)
    return replace(view, rows=tuple(view.rows[i] for i in chosen))


def picture(title: str, svg: str) -> str:
    """An SVG as an image of a markdown artifact."""
    data = base64.b64encode(svg.encode()).decode()
    return f"![{title}](data:image/svg+xml;base64,{data})"


# -- the table ------------------------------------------------------------------------------------


def task_table(figures: Figures) -> list[dict[str, Any]]:
    """One row a task, in the order in which they begin. Cells are text: the UI shows them so."""
    start = figures.view.started
    return [_table_row(row, start) for row in figures.view.rows]


def _table_row(row: Row, start: datetime | None) -> dict[str, Any]:
    def at(seconds: float | None) -> str:
        if seconds is None or start is None:
            return ""
        return clock(start + timedelta(seconds=seconds), start)

    begun = row.actual[0].start if row.actual else None
    ended = row.latest.finish if row.latest and row.status.final else None
    late = lateness(row)
    return {
        "task": row.task_id,
        "status": row.status.value,
        "items": f"{row.items[0]} of {row.items[1]}" if row.items else "",
        "planned start": at(row.planned[0] if row.planned else None),
        "planned finish": at(row.planned[1] if row.planned else None),
        "start": at(begun),
        "finish": at(ended),
        "forecast finish": at(row.forecast[1] if row.forecast else None),
        "late by": elapsed(late) if late is not None and late > LATE_SECONDS else "",
        "attempts": str(row.attempts) if row.attempts else "",
        "notes": "; ".join(
            [
                *(["critical"] if row.critical else []),
                *(["at risk"] if row.at_risk else []),
                *([row.detail] if row.detail else []),
            ]
        ),
    }


# -- words ----------------------------------------------------------------------------------------


def moment(at: datetime | None) -> str:
    """Date and time of day in UTC, to the second."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def clock(at: datetime, beside: datetime) -> str:
    """Time of day in UTC, to the second; with its date where that is not the one `beside` it."""
    return f"{at:%H:%M:%S}" if at.date() == beside.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def percent(chance: float, samples: int) -> str:
    """A probability for people; 0 % and 100 % only where nothing was left to chance."""
    if samples > 1 and chance < 0.01:
        return "<1 %"
    if samples > 1 and chance > 0.99:
        return ">99 %"
    return f"{chance:.0%}".replace("%", " %")


def _names(ids: Sequence[str], most: int) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(f"`{i}`" for i in ids[:most]) + more


def _cell(text: str) -> str:
    """`text` in one cell of a Markdown table: on one line, without a column's end."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
