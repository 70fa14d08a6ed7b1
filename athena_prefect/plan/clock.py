"""Times of the clock in a zone that changes its clock: when "06:00" is, when a schedule fires.

As in RFC 5545 (3.3.5), a time that a change leaves out is reckoned with the offset before the
change (02:30 of a night without it is 03:30), and of a time that occurs twice
each occurrence is one; what asks for the next takes whichever comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim
from dateutil.rrule import rrulestr

ONE_DAY = timedelta(days=1)
WORKING = range(5)
"""Monday to Friday. Holidays are not reckoned with: a plan document declares none."""


def occurrences(day: date, at: time, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The moments (UTC) at which the clock of `zone` shows `at` on `day`: one, or two in order.

    A time that the day leaves out is one moment, as far behind the gap as it is inside.
    """
    first = datetime.combine(day, at, tzinfo=zone)
    moments = [m.astimezone(UTC) for m in (first, first.replace(fold=1))]
    if moments[0] == moments[1] or moments[0].astimezone(zone).time() != at:
        return (moments[0],)
    return tuple(moments)


def next_time(at: time, zone: str, after: datetime, *, working: bool = False) -> datetime:
    """The first moment (UTC) after `after` at which the clock shows `at`, on a working day."""
    place = ZoneInfo(zone)
    # From the day before: behind a gap, its time may fall on the next day.
    day = after.astimezone(place).date() - ONE_DAY
    while True:
        if not working or day.weekday() in WORKING:
            for moment in occurrences(day, at, place):
                if moment > after:
                    return moment
        day += ONE_DAY


def cron_times(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """When a cron expression fires after `after`, in UTC, the next first."""
    # CronSim follows Debian's cron at a change of the clock.
    for moment in CronSim(expression, after.astimezone(ZoneInfo(zone))):
        yield moment.astimezone(UTC)


def interval_times(interval: timedelta, anchor: datetime, after: datetime) -> Iterator[datetime]:
    """The moments (UTC) after `after` that are whole intervals from `anchor`."""
    step = (after - anchor) // interval + 1
    while True:
        yield (anchor + step * interval).astimezone(UTC)
        step += 1


def rrule_times(rule: str, zone: str, after: datetime) -> Iterator[datetime]:
    """When a recurrence rule fires after `after`, in UTC; by the clock of `zone`."""
    place = ZoneInfo(zone)
    # A rule without a start begins with some day: its times of day are the clock's.
    start = after.astimezone(place).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    found = rrulestr(rule, dtstart=start - ONE_DAY)
    aware = getattr(found, "_dtstart", start).tzinfo is not None
    for local in found:
        moments = (
            (local.astimezone(UTC),)
            if aware
            else occurrences(local.date(), local.time(), place)[:1]
        )
        yield from (m for m in moments if m > after)
