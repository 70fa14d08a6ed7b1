"""Assumptions on a run's dashboards: the line, the table, and what a person is told of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from athena_prefect.assumptions.unseen import NOBODY, unseen
from athena_prefect.journal.events import CheckEvent, Event, RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import fold
from athena_prefect.plan.model import Plan
from athena_prefect.report.assumptions import assumption_table, assumptions_line
from athena_prefect.report.page import timeline
from athena_prefect.runtime.telling import Deriver

RUN = UUID(int=11)
START = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
PLAN = Plan.model_validate(
    {
        "name": "shown",
        "tasks": [{"id": "load", "duration": 60}],
        "replanning": {"policy": {"unknown_in_a_row": 2}},
        "assumptions": [
            {"id": "disk", "check": {"kind": "disk_free", "path": ".", "unit": "GB"},
             "expected_value": 5, "sense": "at_least", "affects": ["load"],
             "validation_frequency": "1m", "impact": "Loading fails"},
            {"id": "feed", "check": {"kind": "http", "url": "http://feed.test"},
             "criticality": "critical", "validation_frequency": "1m"},
            {"id": "people", "validation_frequency": "1h"},
            {"id": "later", "milestones": [{"after": "load"}],
             "check": {"kind": "memory", "unit": "B"}, "expected_value": 1},
        ],
    }
)  # fmt: skip


def check(name: str, minutes: float, verdict: str, **data: Any) -> CheckEvent:
    at = START + timedelta(minutes=minutes)
    return CheckEvent(
        plan_run=RUN, assumption_id=name, check_id=f"{name}|{minutes}", at=at, verdict=verdict,
        data=data,
    )  # fmt: skip


STARTED = RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=START, source="")
DISK = [
    check("disk", 0, "holds", value=9.0, unit="GB", reason="is 9 GB"),
    check("disk", 1, "violated", value=4.0, unit="GB", reason="is 4 GB, expected at least 5 GB"),
    check("disk", 2, "unknown", reason="no answer", error="no answer"),
]
FEED = [
    check("feed", 0, "holds", value=True, reason="is true"),
    check("feed", 1, "unknown", reason="HTTP 500", error="HTTP 500"),
    check("feed", 2, "unknown", reason="HTTP 502", error="HTTP 502"),
]
PEOPLE = [check("people", 60, "unknown", reason=NOBODY, error=NOBODY, method="manual")]


def figures(*events: CheckEvent) -> Any:
    return SimpleNamespace(plan=PLAN, state=fold([STARTED, *events]))


def test_the_line_says_what_is_violated_what_cannot_be_seen_and_what_may_fail() -> None:
    line = assumptions_line(figures(*DISK, *FEED, *PEOPLE))
    assert line == (
        "**disk violated**: is 4 GB, expected at least 5 GB; "
        "**feed unknown 2 times in a row** (critical): HTTP 502; 1 unknown; 1 not checked yet"
    )
    predicted = {"probability": 0.83, "reason": "falling by 2 GB an hour"}
    line = assumptions_line(figures(check("disk", 0, "holds", value=6.0, predicted=predicted)))
    assert "**disk may fail**: falling by 2 GB an hour; 1 hold; 3 not checked yet" in line


def test_the_table_has_a_row_an_assumption() -> None:
    predicted = {"probability": 0.83, "reason": "rising"}
    rows = assumption_table(figures(*DISK, *FEED[:1], check("feed", 3, "holds", value=True,
                                    reason="is true", predicted=predicted)))  # fmt: skip
    by_name = {row["assumption"]: row for row in rows}
    assert list(by_name) == ["disk", "feed", "people", "later"]
    assert all(isinstance(cell, str) for row in rows for cell in row.values())
    disk, feed = by_name["disk"], by_name["feed"]
    assert disk["verdict"] == "violated since 04:01:00; now unknown"
    assert disk["expected"] == "at least 5" and disk["affects"] == "load"
    assert disk["notes"] == "no answer; Loading fails"
    assert disk["last check"] == "04:02:00" and "04:03:00" <= disk["next check"] <= "04:03:06"
    assert (feed["verdict"], feed["observed"], feed["may fail"]) == ("holds", "true", "83 %")
    assert by_name["later"]["verdict"] == "not checked" and by_name["later"]["next check"] == ""


def test_what_cannot_be_seen_is_escalated_by_the_policy() -> None:
    found = unseen(PLAN, figures(*DISK, *FEED).state)
    assert [(u.assumption_id, u.in_a_row, str(u.severity)) for u in found] == [
        ("feed", 2, "critical")
    ]
    assert found[0].since == FEED[1].at and found[0].reason == "HTTP 502"
    seen_again = check("feed", 3, "holds", value=True)
    assert unseen(PLAN, figures(*FEED, seen_again).state) == []


def test_people_are_told_once_of_what_cannot_be_seen_and_reminded_each_time() -> None:
    journal = MemoryJournal()
    later = [check("feed", 3, "unknown", error="HTTP 500"), check("feed", 4, "holds", value=True)]
    again = [check("feed", 5 + k, "unknown", error="HTTP 500", reason="x") for k in range(3)]
    events: list[Event] = [STARTED, *FEED, *later, *again, *PEOPLE]
    for event in events:
        journal.append(event)
    told = [e for _, e in Deriver(PLAN, RUN, "default").take(journal.read(RUN))]
    words = [e.event.removeprefix("athena.assumption.") for e in told[1:]]
    assert words == [
        "checked", "checked", "unknown", "checked", "checked",
        "checked", "unknown", "checked", "reminder",
    ]  # fmt: skip
    first = told[3].figures
    assert first["severity"] == "critical" and first["unknown_in_a_row"] == 2
    assert first["since"] == FEED[1].at.isoformat() and first["error"] == "HTTP 502"


def test_a_prediction_is_an_event_of_its_own_once() -> None:
    journal = MemoryJournal()
    predicted = {"probability": 0.83, "reason": "falling by 2 GB an hour"}
    checks = [
        check("disk", 0, "holds", value=9.0),
        check("disk", 1, "holds", value=8.0, predicted=predicted),
        check("disk", 2, "holds", value=7.0, predicted=predicted),
        check("disk", 3, "holds", value=9.0),
        check("disk", 4, "holds", value=7.0, predicted=predicted),
    ]
    journal.append(STARTED)
    for event in checks:
        journal.append(event)
    told = [e for _, e in Deriver(PLAN, RUN, "default").take(journal.read(RUN))][1:]
    words = [e.event.removeprefix("athena.assumption.") for e in told]
    assert words == ["checked", "predicted", "checked", "checked", "predicted"]
    assert told[1].figures["predicted"] == predicted


def test_the_report_has_a_timeline_of_every_assumption() -> None:
    strip = timeline(DISK)
    assert strip.count("<rect") == 3
    for told in ("holds, 9 GB, 04:00:00", "violated, 4 GB, 04:01:00", "unknown, 04:02:00"):
        assert told in strip
