"""calendar: which people are there in a window of time, by their calendars."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.extras import needed
from athena_prefect.assumptions.checks.fetching import MOST_BYTES, Fetcher
from athena_prefect.assumptions.checks.spans import Span, intersected, length, without
from athena_prefect.errors import CheckError
from athena_prefect.journal.events import utc
from athena_prefect.plan.model import Sense, ValidationMethod
from athena_prefect.plan.scalars import ZoneName
from athena_prefect.plan.units import Duration


def _hours(text: str) -> str:
    """`text` as two times of a day. Raises ValueError."""
    try:
        begin, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        raise ValueError(f"{text!r} is no part of a day; write e.g. 09:00-17:00") from None
    if begin.tzinfo or end.tzinfo or begin >= end:
        raise ValueError(f"{text!r} does not end after it begins; write e.g. 09:00-17:00")
    return text


class Calendar(Check):
    """People available in a window: `share` of those who have no absence in it at all,
    `free` share of all their time, and who is `away`.

    An event is an absence, unless it is cancelled or marked as free time. Recurrences
    and time zones are those of the calendars.
    """

    kind: ClassVar[str] = "calendar"
    sense: ClassVar[Sense] = Sense.AT_LEAST
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    counts: ClassVar[str | None] = "share"
    can_hang: ClassVar[bool] = True  # a recurrence may have no end

    source: str | None = None
    """iCalendar file or address of the absences of all; an event is an absence of those
    who stand in its summary or among its attendees."""
    people: tuple[str, ...] = ()
    """Who is asked for in `source`: names, or e-mail addresses."""
    calendars: Mapping[str, str] = Field(default_factory=dict)
    """Instead: each person's own calendar, by name, as file or address."""
    starts_in: Duration = timedelta(0)
    """From the moment of the check to the window's start."""
    lasts: Duration = timedelta(hours=8)
    """The window's length."""
    hours: Annotated[str, AfterValidator(_hours)] | None = None
    """Only these hours of each day count, e.g. ``09:00-17:00``."""
    timezone: ZoneName = "UTC"
    """Time zone of `hours`, of whole days and of events that name none."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.calendars) is (self.source is not None):
            raise ValueError("give exactly one of source, calendars")
        if (self.source is not None) is not bool(self.people):
            raise ValueError("people are those to look for in source: give both, or calendars")
        if not self.lasts:
            raise ValueError("a window of no length; write e.g. lasts: 8h")
        return self

    def observe(self, context: CheckContext) -> Observation:
        """Read the calendars, and see who is away when."""
        window = self.window(context.now)
        whole = length(window)
        if not whole:
            raise CheckError(f"no hour of {self.hours} falls into the window")
        fetcher = Fetcher(context, self.patience, only_host=True)
        away, free = [], 0.0
        for person, absences in self._absences(context, fetcher, window).items():
            left = length(without(window, absences))
            free += left / whole
            if left < whole:
                away.append(person)
        count = len(self.people or self.calendars)
        return Observation(
            value={"share": 1 - len(away) / count, "free": free / count, "away": away},
            details=f"{count - len(away)} of {count} people are there"
            + (f"; away: {', '.join(away)}" if away else ""),
        )

    def window(self, now: datetime) -> list[Span]:
        """The spans of the window that count, in order."""
        start = now + self.starts_in
        whole = [(start, start + self.lasts)]
        if self.hours is None:
            return whole
        zone = ZoneInfo(self.timezone)
        begin, end = (time.fromisoformat(part.strip()) for part in self.hours.split("-"))
        day, last = start.astimezone(zone).date(), whole[0][1].astimezone(zone).date()
        daily = []
        while day <= last:
            # Each by itself, so that a change of the clock between them is right.
            daily.append(tuple(utc(datetime.combine(day, t, zone), "hours") for t in (begin, end)))
            day += timedelta(days=1)
        return intersected(whole, [(a, b) for a, b in daily])

    def _absences(
        self, context: CheckContext, fetcher: Fetcher, window: list[Span]
    ) -> Mapping[str, list[Span]]:
        if self.source is None:
            return {
                person: [span for _, span in self._events(context, fetcher, person, at, window)]
                for person, at in self.calendars.items()
            }
        events = list(self._events(context, fetcher, "all", self.source, window))
        return {p: [span for event, span in events if _concerns(event, p)] for p in self.people}

    def _events(
        self, context: CheckContext, fetcher: Fetcher, whose: str, source: str, window: list[Span]
    ) -> Iterator[tuple[Any, Span]]:
        content = _content(context, fetcher, whose, source)
        calendar = needed("icalendar", self.kind).Calendar
        try:
            parsed = calendar.from_ical(content)
            if parsed.name != "VCALENDAR":
                raise ValueError(f"it is a {parsed.name}")
            broken = [e for c in parsed.walk() for e in getattr(c, "errors", ())]
            if broken:
                raise ValueError(f"{broken[0][0]}: {broken[0][1]}")
            zone = ZoneInfo(self.timezone)
            # A day more on both sides: whole days and times without zone are placed here below.
            begin = window[0][0].astimezone(zone) - timedelta(days=1)
            end = window[-1][1].astimezone(zone) + timedelta(days=1)
            events = needed("recurring_ical_events", self.kind).of(parsed).between(begin, end)
            for event in events:
                cancelled = str(event.get("STATUS", "")).upper() == "CANCELLED"
                if not cancelled and str(event.get("TRANSP", "")).upper() != "TRANSPARENT":
                    yield event, (_utc(event.start, zone), _utc(event.end, zone))
        except CheckError:
            raise
        except Exception as error:  # noqa: BLE001 - the parsers raise of every kind; none is ours
            said = str(error).partition("\n")[0][:200] or type(error).__name__
            raise CheckError(f"the calendar of {whose} cannot be read: {said}") from None


def _content(context: CheckContext, fetcher: Fetcher, whose: str, source: str) -> bytes:
    address = re.sub(r"^webcal://", "https://", source)
    if address.startswith(("http://", "https://")):
        return fetcher.get(address).content
    try:
        with Path(context.path(source)).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        said = error.strerror or type(error).__name__
        raise CheckError(f"the calendar of {whose} ({source}): {said}") from None
    if len(content) > MOST_BYTES:
        raise CheckError(f"the calendar of {whose} is longer than {MOST_BYTES // 10**6} MB")
    return content


def _utc(moment: date, zone: ZoneInfo) -> datetime:
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return utc(moment if moment.tzinfo else moment.replace(tzinfo=zone), "event")


def _concerns(event: Any, person: str) -> bool:
    """Whether the person stands in the summary, as words, or among the attendees."""
    attendees = event.get("ATTENDEE", [])
    listed = attendees if isinstance(attendees, list) else [attendees]
    texts = [str(event.get("SUMMARY", ""))]
    for attendee in listed:
        texts.append(re.sub(r"(?i)^mailto:", "", str(attendee)))
        texts.append(str(getattr(attendee, "params", {}).get("CN", "")))
    words = re.compile(rf"(?i)(?<!\w){re.escape(person)}(?!\w)")
    return any(words.search(text) for text in texts)
