"""Where a run's assumptions stand, in a line and in a table, for its dashboards."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from athena_prefect.assumptions.schedule import ScheduledChecks
from athena_prefect.assumptions.unseen import unknown_in_a_row, unseen
from athena_prefect.journal.events import CheckEvent
from athena_prefect.monitor.effects import in_order, violation_of, violations_in_force
from athena_prefect.plan.model import Assumption
from athena_prefect.report.figures import Figures

_SEEN = (("holds", "hold"), ("unknown", "unknown"))


def assumptions_line(figures: Figures) -> str:
    """How many assumptions hold, and which do not; empty in a plan without any."""
    plan, state = figures.plan, figures.state
    if not plan.assumptions:
        return ""
    violated = violations_in_force(plan, state)
    told = [u for u in unseen(plan, state) if u.assumption_id not in violated]
    apart = {*violated, *(u.assumption_id for u in told)}
    newest = {
        a.id: max(known, key=lambda c: c.at)
        for a in plan.assumptions
        if (known := state.checks.get(a.id)) and a.id not in apart
    }
    counts = Counter(c.verdict for c in newest.values())
    words = [f"**{name} violated**: {c.data.get('reason', '')}" for name, c in violated.items()]
    words += [
        f"**{u.assumption_id} unknown {u.in_a_row} times in a row** ({u.severity}): {u.reason}"
        for u in told
    ]
    words += [
        f"**{name} may fail**: {c.data['predicted']['reason']}"
        for name, c in newest.items()
        if c.data.get("predicted")
    ]
    words += [f"{counts[v]} {w}" for v, w in _SEEN if counts[v]]
    not_yet = len(plan.assumptions) - len(apart) - len(newest)
    if not_yet:
        words.append(f"{not_yet} not checked yet")
    return "; ".join(words)


def assumption_table(figures: Figures) -> list[dict[str, Any]]:
    """One row an assumption, in the plan's order. Cells are text: the UI shows them so."""
    state = figures.state
    due = ScheduledChecks(figures.plan, started=state.started, checks=state.checks)
    over = state.ended is not None
    return [
        _row(
            assumption,
            in_order(state.checks.get(assumption.id, ())),
            None if over else due.next(assumption.id),
        )
        for assumption in figures.plan.assumptions
    ]


def _row(
    assumption: Assumption, checks: list[CheckEvent], following: datetime | None
) -> dict[str, Any]:
    newest = checks[-1] if checks else None
    began, row = violation_of(checks), unknown_in_a_row(checks)
    data = newest.data if newest is not None else {}
    predicted = data.get("predicted") or {}
    return {
        "assumption": assumption.id,
        "verdict": _verdict(newest, began, len(row)),
        "observed": _cell(data.get("value"), str(data.get("unit") or "")),
        "expected": _expected(assumption),
        "last check": _time(newest.at if newest is not None else None),
        "next check": _time(following),
        "checks": str(len(checks)) if checks else "",
        "criticality": str(assumption.criticality),
        "affects": ", ".join(assumption.affects),
        "may fail": f"{predicted['probability']:.0%}".replace("%", " %") if predicted else "",
        "notes": "; ".join(
            text
            for text in (
                str(data.get("reason") or ""),
                str(predicted.get("reason") or ""),
                assumption.impact if began is not None else "",
            )
            if text
        ),
    }


def _verdict(newest: CheckEvent | None, began: CheckEvent | None, unknown: int) -> str:
    if newest is None:
        return "not checked"
    word = newest.verdict if unknown < 2 else f"unknown, {unknown} times in a row"
    if began is not None:
        since = f"violated since {_time(began.at)}"
        return since if newest.verdict == "violated" else f"{since}; now {word}"
    return word


def _expected(assumption: Assumption) -> str:
    value = assumption.expected_value
    if value is None:
        return ""
    sense = assumption.sense.value.replace("_", " ") if assumption.sense is not None else ""
    return f"{sense} {_cell(value)}".strip()


def _cell(value: Any, unit: str = "") -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    return f"{text} {unit}".strip()


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%H:%M:%S}"
