"""What was decided about the rest of a run: revisions, options, before and after; in Markdown
for Prefect's pages, in HTML for the report.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.hindsight import hindsight
from athena_prefect.report.comparison import comparison, in_characters
from athena_prefect.report.svg import elapsed

MOST_DECISIONS = 200
"""Decisions that a page lists: the newest."""

_WORDS = {
    RunEventKind.PROPOSED: "proposed",
    RunEventKind.ASKED: "asked",
    RunEventKind.ANSWERED: "answered",
    RunEventKind.CHOSEN: "chosen",
    RunEventKind.REVISED: "adopted",
    RunEventKind.NOT_REPLANNED: "not replanned",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One decision, in words."""

    at: datetime
    what: str
    strategy: str
    who: str
    changes: str
    why: str


def lines(plan: Plan, state: ExecutionState) -> list[Line]:
    """The decisions of a run, the oldest first."""
    found = []
    for event in state.decisions[-MOST_DECISIONS:]:
        data, what = event.data, _WORDS[event.kind]
        if event.kind is RunEventKind.REVISED:
            what = f"revision {data.get('revision')} adopted"
        if event.kind is RunEventKind.PROPOSED and data.get("escalate"):
            what = "escalated"
        changes = "; ".join(data.get("changes") or ())
        if not changes and event.kind is not RunEventKind.NOT_REPLANNED:
            changes = str(data.get("option") or "")
        why = str(data.get("reason") or "")
        looked_back = _looked_back(plan, state, event)
        if looked_back:
            why = f"{why}. In hindsight {looked_back}" if why else f"In hindsight {looked_back}"
        found.append(
            Line(
                at=event.at,
                what=what,
                strategy=str(data.get("strategy") or ""),
                who=str(data.get("author") or ""),
                changes=changes,
                why=why,
            )
        )
    return found


def _looked_back(plan: Plan, state: ExecutionState, event: RunEvent) -> str:
    """Of what was only advised: whether it would have been right, once that can be told."""
    course = event.data.get("course")
    if event.kind is not RunEventKind.PROPOSED or event.data.get("decide") != "advise":
        return ""
    found = None if course is None else hindsight(course, plan, state)
    return "" if found is None else str(found)


def newest_options(state: ExecutionState) -> Mapping[str, Any] | None:
    """What is kept of the newest set of options that was found."""
    told = (e.data for e in reversed(state.decisions) if e.data.get("options"))
    return next(told, None)


def picture(data: Mapping[str, Any], *, inline: bool = False) -> str:
    """The chart of before and after; empty where no times are kept."""
    if "before" not in data or not data.get("after"):
        return ""
    return comparison(
        data["before"],
        data["after"],
        now=data.get("now"),
        deadline=data.get("deadline"),
        inline=inline,
    )


OPTION_HEADS = ("", "option", "P50 finish", "promised", "success", "cost", "lost", "effort",
                "changes", "risks")  # fmt: skip


def option_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The options with their trade-offs, as text; the recommended one is marked."""
    best = data.get("recommended")
    rows: list[tuple[str, ...]] = []
    for option in data["options"]:
        number = str(option["option_id"])
        if option["option_id"] == best or (best is None and option["title"] == data.get("option")):
            number += " ★"
        samples = option["samples"]
        chance = f"{option['success_probability']:.0%}".replace("%", " %")
        lost = option.get("value_lost", 0.0) + option.get("quality_lost", 0.0)
        rows.append(
            (
                number,
                str(option["title"]),
                _signed(option["timeline_impact"]),
                _clock(option.get("accepted_finish")),
                f"{chance} of {samples:,}" if samples > 1 else chance,
                _amount(option["cost_impact"]),
                f"{lost:.2g}" if lost else "",
                str(option.get("implementation_effort", "")),
                "; ".join(option["changes"]) or "none",
                "; ".join(option.get("risks") or ()),
            )
        )
    return rows


def _signed(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if abs(seconds) < 1e-3:
        return "as is"
    return f"{elapsed(abs(seconds))} {'earlier' if seconds < 0 else 'later'}"


def _clock(text: str | None) -> str:
    return "" if not text else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"


def _amount(value: float) -> str:
    return "as is" if abs(value) < 5e-7 else f"{value:+.3g}"


# -- Markdown -------------------------------------------------------------------------------


def options_markdown(data: Mapping[str, Any]) -> str:
    """The table of options, and before and after by the recommended one."""
    heads = "| " + " | ".join(OPTION_HEADS) + " |"
    rule = "|" + " :-- |" * len(OPTION_HEADS)
    rows = ["| " + " | ".join(_cell(c) for c in row) + " |" for row in option_rows(data)]
    parts = ["\n".join([heads, rule, *rows])]
    chart = picture(data)
    if chart:
        encoded = base64.b64encode(chart.encode()).decode()
        parts.append(f"![Before and after](data:image/svg+xml;base64,{encoded})")
    return "\n\n".join(parts)


def form_markdown(data: Mapping[str, Any]) -> str:
    """The options for a form, in which there is room for less than on a page."""
    kept = [OPTION_HEADS.index(h) for h in ("", "option", "P50 finish", "success", "cost", "lost")]
    rows = option_rows(data)
    heads = "| " + " | ".join(OPTION_HEADS[k] for k in kept) + " |\n|" + " :-- |" * len(kept)
    table = ["| " + " | ".join(_cell(row[k]) for k in kept) + " |" for row in rows]
    parts = ["\n".join([heads, *table])]
    changes, risks = OPTION_HEADS.index("changes"), OPTION_HEADS.index("risks")
    parts.append(
        "\n".join(
            f"- **{row[0]}** {row[changes]}" + (f". Risks: {row[risks]}" if row[risks] else "")
            for row in rows
        )
    )
    if "before" in data and data.get("after"):
        chart = in_characters(data["before"], data["after"])
        parts.append(f"Before (░) and after (█) by the marked one:\n\n```\n{chart}\n```")
        parts.append("The artifact *Replanning* of the plan's flow run has the picture.")
    return "\n\n".join(parts)


def question_markdown(data: Mapping[str, Any], *, why_again: str = "") -> str:
    """What people are asked, above a form: strategy, reason, the options.

    `why_again`: why what was chosen before cannot be done; empty the first time.
    """
    parts = [f"**{str(data.get('strategy') or '').upper()}**: {data.get('reason', '')}"]
    if why_again:
        parts.append(f"What was chosen before cannot be done any more: {why_again}")
    return "\n\n".join([*parts, form_markdown(data)])


def replanning_markdown(plan: Plan, state: ExecutionState) -> str:
    """Revisions and decisions of a run, and the newest options; empty where there are none."""
    if not state.decisions:
        return ""
    parts = [f"## Revision {state.revision} is in force"]
    told = newest_options(state)
    if told is not None:
        parts += ["### Options", options_markdown(told)]
    rows = [
        "| " + " | ".join(
            _cell(c)
            for c in (f"{d.at:%Y-%m-%d %H:%M:%S}", d.what, d.strategy, d.who, d.changes, d.why)
        ) + " |"
        for d in lines(plan, state)
    ]  # fmt: skip
    heads = "| when (UTC) | what | strategy | who | changes | why |\n|" + " :-- |" * 6
    parts += ["### What was decided", "\n".join([heads, *rows])]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# -- HTML -----------------------------------------------------------------------------------


def replanning_html(plan: Plan, state: ExecutionState) -> str:
    """The same as a part of the report."""
    if not state.decisions:
        return ""
    parts = ["<h2>Replanning</h2>"]
    rows = [
        (f"{d.at:%Y-%m-%d %H:%M:%S}", d.what, d.strategy, d.who, d.changes, d.why)
        for d in lines(plan, state)
    ]
    parts.append(_table(("when (UTC)", "what", "strategy", "who", "changes", "why"), rows))
    told = newest_options(state)
    if told is not None:
        parts.append("<h3>Options that were found last</h3>")
        parts.append(_table(OPTION_HEADS, option_rows(told)))
        chart = picture(told, inline=True)
        if chart:
            parts.append("<h3>Before and after</h3>" + f'<div class="chart">{chart}</div>')
    return "\n".join(parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in r) + "</tr>" for r in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
