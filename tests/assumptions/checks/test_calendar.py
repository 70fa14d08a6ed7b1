"""Calendars: recurrences, time zones, both changes of the clock, and files that are none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from athena_prefect.assumptions.checks.registry import kind_named
from tests.assumptions.checks.observing import SECRET, error, value
from tests.assumptions.checks.web import Reply, Site

BERLIN = """\
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:DAYLIGHT
DTSTART:19810329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:19961027T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
"""


def ics(*events: str, zone: str = "") -> bytes:
    """A calendar; an event is given by its lines."""
    body = "".join(
        f"BEGIN:VEVENT\nUID:{n}@example\nDTSTAMP:20260101T000000Z\n{event.strip()}\nEND:VEVENT\n"
        for n, event in enumerate(events)
    )
    text = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//t//t//EN\n{zone}{body}END:VCALENDAR\n"
    return text.replace("\n", "\r\n").encode()


def at(text: str) -> dict[str, Any]:
    return {"now": datetime.fromisoformat(text)}


def away(folder: Path, content: bytes, now: str, lasts: str = "30m", **options: Any) -> bool:
    (folder / "anna.ics").write_bytes(content)
    found = value(
        "calendar", folder, context=at(now), calendars={"anna": "anna.ics"}, lasts=lasts, **options
    )
    assert found["away"] in ([], ["anna"]) and found["share"] == 1 - len(found["away"])
    return bool(found["away"])


# A meeting of every week at 9 in Berlin is at 7 in summer and at 8 in winter, in UTC.
WEEKLY = """
SUMMARY:Weekly
DTSTART;TZID=Europe/Berlin:20260302T090000
DTEND;TZID=Europe/Berlin:20260302T093000
RRULE:FREQ=WEEKLY;BYDAY=MO
EXDATE;TZID=Europe/Berlin:20260316T090000
"""


@pytest.mark.parametrize("zone", [BERLIN, ""], ids=["own-zone", "named-zone"])
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-03-23T08:00+00:00", True),  # winter
        ("2026-03-23T07:00+00:00", False),
        ("2026-03-30T07:00+00:00", True),  # summer, from the day before
        ("2026-03-30T08:00+00:00", False),
        ("2026-10-19T07:00+00:00", True),  # summer
        ("2026-10-26T07:00+00:00", False),
        ("2026-10-26T08:00+00:00", True),  # winter, from the day before
        ("2026-03-16T08:00+00:00", False),  # excepted
        ("2026-03-24T08:00+00:00", False),  # no Monday
    ],
)
def test_recurrences_over_both_changes_of_the_clock(
    tmp_path: Path, zone: str, now: str, expected: bool
) -> None:
    assert away(tmp_path, ics(WEEKLY, zone=zone), now) is expected


def test_an_absence_over_the_night_of_the_change(tmp_path: Path) -> None:
    night = "DTSTART;TZID=Europe/Berlin:20261024T220000\nDTEND;TZID=Europe/Berlin:20261025T060000"
    (tmp_path / "a.ics").write_bytes(ics(night, zone=BERLIN))
    options: dict[str, Any] = {"calendars": {"anna": "a.ics"}, "lasts": "18h"}
    found = value("calendar", tmp_path, context=at("2026-10-24T20:00+00:00"), **options)
    # Nine hours, though the clock says eight.
    assert found == {"share": 0, "free": pytest.approx(0.5), "away": ["anna"]}


def test_whole_days_and_times_without_a_zone(tmp_path: Path) -> None:
    day = ics("DTSTART;VALUE=DATE:20261126\nDTEND;VALUE=DATE:20261127")
    assert away(tmp_path, day, "2026-11-26T23:15+00:00") is True
    assert away(tmp_path, day, "2026-11-27T00:00+00:00") is False
    assert away(tmp_path, day, "2026-11-26T23:15+00:00", timezone="Europe/Berlin") is False
    assert away(tmp_path, day, "2026-11-25T23:15+00:00", timezone="Europe/Berlin") is True
    floating = ics("DTSTART:20261126T090000\nDURATION:PT1H")
    assert away(tmp_path, floating, "2026-11-26T09:00+00:00") is True
    assert away(tmp_path, floating, "2026-11-26T09:00+00:00", timezone="America/New_York") is False
    assert away(tmp_path, floating, "2026-11-26T14:00+00:00", timezone="America/New_York") is True


def test_changed_and_cancelled_events(tmp_path: Path) -> None:
    daily = "DTSTART:20261123T090000Z\nDTEND:20261123T100000Z\n"
    assert away(tmp_path, ics(daily + "STATUS:CANCELLED"), "2026-11-23T09:00+00:00") is False
    assert away(tmp_path, ics(daily + "TRANSP:TRANSPARENT"), "2026-11-23T09:00+00:00") is False
    series = ics(daily + "RRULE:FREQ=DAILY;COUNT=3")
    assert away(tmp_path, series, "2026-11-25T09:00+00:00") is True
    assert away(tmp_path, series, "2026-11-26T09:00+00:00") is False
    moved = series.replace(
        b"END:VCALENDAR",
        b"BEGIN:VEVENT\r\nUID:0@example\r\nDTSTAMP:20260101T000000Z\r\n"
        b"RECURRENCE-ID:20261124T090000Z\r\nDTSTART:20261124T150000Z\r\n"
        b"DTEND:20261124T160000Z\r\nEND:VEVENT\r\nEND:VCALENDAR",
    )
    assert away(tmp_path, moved, "2026-11-24T09:00+00:00") is False
    assert away(tmp_path, moved, "2026-11-24T15:00+00:00") is True


def test_the_calendar_of_a_team_from_the_web(web: Site) -> None:
    whole = "DTSTART;VALUE=DATE:20261127\nDTEND;VALUE=DATE:20261128\n"
    web.answers["/team.ics"] = Reply(
        ics(
            whole + "SUMMARY:Holiday: Anna",
            whole + "SUMMARY:Course\nATTENDEE;CN=Ben Beispiel:mailto:ben@example.org",
            whole + "SUMMARY:Annabel moves\nTRANSP:OPAQUE",
            "DTSTART:20261127T180000Z\nDTEND:20261127T190000Z\nSUMMARY:Carl leaves early",
        )
    )
    people = ["Anna", "ben@example.org", "Ben Beispiel", "Carl", "Dora"]
    options: dict[str, Any] = {"source": f"{web.url}/team.ics?key={SECRET}", "people": people}
    found = value("calendar", context=at("2026-11-27T08:00+00:00"), **options)
    assert found["away"] == ["Anna", "ben@example.org", "Ben Beispiel"]
    assert found["share"] == pytest.approx(0.4)
    evening: dict[str, Any] = {"starts_in": "8h", "lasts": "4h"}
    later = value("calendar", context=at("2026-11-27T08:00+00:00"), **options, **evening)
    assert later["away"] == ["Anna", "ben@example.org", "Ben Beispiel", "Carl"]
    assert later["free"] == pytest.approx((1 + 0.75) / 5)


def test_only_working_hours_count(tmp_path: Path) -> None:
    night = ics("DTSTART:20261127T190000Z\nDTEND:20261128T050000Z")
    at_noon = "2026-11-27T12:00+00:00"
    assert away(tmp_path, night, at_noon, lasts="24h") is True
    assert away(tmp_path, night, at_noon, lasts="24h", hours="09:00-17:00") is False
    told = error(
        "calendar", tmp_path, context=at("2026-11-27T20:00+00:00"),
        calendars={"anna": "anna.ics"}, lasts="1h", hours="09:00-17:00",
    )  # fmt: skip
    assert "no hour of 09:00-17:00" in told


def test_hours_over_a_change_of_the_clock() -> None:
    check: Any = kind_named("calendar").model_validate(
        {"calendars": {"a": "a.ics"}, "lasts": "2d", "hours": "09:00-17:00",
         "timezone": "Europe/Berlin"}
    )  # fmt: skip
    spans = check.window(datetime(2026, 3, 28, 0, tzinfo=UTC))
    assert [(a.hour, b.hour) for a, b in spans] == [(8, 16), (7, 15)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html><body>Sign in</body></html>", "cannot be read"),
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"BEGIN:VEVENT\r\nUID:1\r\nEND:VEVENT\r\n", "it is a VEVENT"),
        (ics("DTSTART:yesterday\nSUMMARY:x"), "cannot be read"),
        (ics("DTSTART:20261126T090000Z\nRRULE:FREQ=NEVER"), "cannot be read"),
        (ics(WEEKLY)[:-40], "cannot be read"),
    ],
)
def test_calendars_that_cannot_be_read(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.ics").write_bytes(content)
    told = error("calendar", tmp_path, calendars={"anna": "a.ics"})
    assert "calendar of anna" in told and said in told


def test_a_calendar_of_the_web_that_is_none(web: Site) -> None:
    address = f"{web.url}/private-{SECRET}/basic.ics"
    told = error("calendar", calendars={"anna": address})
    assert told.startswith(f"{web.url}: HTTP 404")
    assert "no such file" in error("calendar", calendars={"anna": "none.ics"}).lower()
    assert "longer than" in error("calendar", calendars={"anna": f"{web.url}/endless"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "exactly one of source, calendars"),
        ({"source": "a.ics"}, "people are those to look for"),
        ({"calendars": {"a": "a.ics"}, "people": ["b"]}, "people are those to look for"),
        ({"calendars": {"a": "a.ics"}, "hours": "9-5"}, "no part of a day"),
        ({"calendars": {"a": "a.ics"}, "hours": "17:00-09:00"}, "does not end after"),
        ({"calendars": {"a": "a.ics"}, "lasts": "0s"}, "window of no length"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        kind_named("calendar").model_validate(options)
