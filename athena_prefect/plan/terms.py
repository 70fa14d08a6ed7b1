"""What surrounds the tasks: resources, runner, parameters, schedule, deadline, replanning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from cronsim import CronSim, CronSimError
from dateutil.rrule import rrulestr
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from athena_prefect.errors import NaiveDatetimeError
from athena_prefect.plan.clock import cron_times, interval_times, next_time, rrule_times
from athena_prefect.plan.estimate import either
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.plan.scalars import (
    Amount,
    DocumentPart,
    Number,
    Plain,
    RunnerKind,
    StorageName,
    ZoneName,
)
from athena_prefect.plan.units import DURATION_SCHEMA, Duration, format_duration, parse_duration

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import (
        DeadlineArguments,
        ReplanningArguments,
        ScheduleArguments,
    )


class Resource(DocumentPart):
    """A renewable resource: `capacity` units at every moment, shared by the tasks that run."""

    capacity: Annotated[float, Field(gt=0, allow_inf_nan=False), Number]
    """Units there are, in the unit of the resource's name."""
    cost_per_hour: Amount = 0.0
    """Price of one unit for one hour."""
    concurrency_limit: Annotated[str, Field(min_length=1)] | None = None
    """A Prefect global concurrency limit that other flows share."""
    max_capacity: Annotated[float, Field(gt=0, allow_inf_nan=False), Number] | None = None
    """Units that there can be when a replan adds some, at the same price; without it none."""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max_capacity is not None and self.max_capacity < self.capacity:
            raise ValueError(
                f"max_capacity {self.max_capacity:g} is less than capacity {self.capacity:g}"
            )
        return self

    @property
    def can_grow(self) -> bool:
        """Whether a replan may add capacity. Slots of a shared limit are not this plan's to add."""
        more = self.max_capacity is not None and self.max_capacity > self.capacity
        return more and self.concurrency_limit is None


class Runner(DocumentPart):
    """What runs the tasks; each running item takes one of `max_workers`."""

    kind: RunnerKind = RunnerKind.THREADS
    """Threads or processes of this machine, or a Dask or Ray cluster."""
    max_workers: Annotated[int, Field(ge=1, le=10_000), Number] = 8
    """Tasks at once. Eight keeps a laptop usable and a plan without resources parallel."""


class Results(DocumentPart):
    """Where the results of tasks are kept: `local`, or a Prefect storage block ``type/name``."""

    storage: StorageName = "local"
    """`local`, or a storage block, e.g. ``s3-bucket/results``."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parses(parse: Callable[[str], Any]) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        try:
            parse(value)
        except (TypeError, ValueError):
            return False
        return True

    return fits


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment


_FITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda v: isinstance(v, str), "text"),
    "integer": (lambda v: _is_number(v) and v == int(v), "a whole number, e.g. 4"),
    "number": (_is_number, "a number, e.g. 0.5"),
    "boolean": (lambda v: isinstance(v, bool), "true or false"),
    "date": (_parses(date.fromisoformat), 'a date in quotes, e.g. "2026-11-30"'),
    "datetime": (_parses(_aware), 'a moment with its zone, e.g. "2026-11-30T06:00:00Z"'),
    "duration": (_parses(parse_duration), "a duration, e.g. 10m"),
    "list": (lambda v: isinstance(v, list), "a list, e.g. [1, 2]"),
    "object": (lambda v: isinstance(v, dict), "a mapping, e.g. {a: 1}"),
}


class Parameter(DocumentPart):
    """A typed parameter of the plan's flow."""

    type: Literal[
        "string", "integer", "number", "boolean", "date", "datetime", "duration", "list", "object"
    ] = "string"
    """What its values are; dates, moments and durations are written as text."""
    default: Plain = None
    """The value of a run that gives none."""
    description: str = ""
    """What it is for."""
    required: bool = False
    """Without a default and required, a run without it is refused."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.default is not None and (misfit := self.misfit(self.default)):
            raise ValueError(f"default {misfit}")
        return self

    def misfit(self, value: Any) -> str | None:
        """Why `value` (as JSON has it) is not of this parameter's type; None where it is."""
        fits, example = _FITS[self.type]
        return None if fits(value) else f"{value!r} is no {self.type}; write {example}"


CRON_FROM = datetime(2024, 1, 1, tzinfo=UTC)
"""Any moment: a cron expression is sound when it fires at all after it."""


def _cron(text: str) -> str:
    # Prefect reads five fields; a sixth means seconds to some and years to others.
    if len(text.split()) != 5:
        raise ValueError(f"{text!r} has not five fields; write e.g. 0 4 * * 1-5")
    try:
        next(CronSim(text, CRON_FROM))
    except CronSimError as error:
        raise ValueError(f"{text!r}: {str(error).lower()}; write e.g. 0 4 * * 1-5") from None
    except StopIteration:
        raise ValueError(f"{text!r} never fires; write e.g. 0 4 * * 1-5") from None
    return text


def _rrule(text: str) -> str:
    try:
        rrulestr(text)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is not a recurrence rule ({error}); write e.g. FREQ=WEEKLY;BYDAY=MO"
        ) from None
    return text


class Schedule(DocumentPart):
    """When the plan starts by itself: cron, interval or rrule, in a time zone."""

    cron: Annotated[str, AfterValidator(_cron)] | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    interval: Duration | None = None
    """Time from one start to the next."""
    rrule: Annotated[str, AfterValidator(_rrule)] | None = None
    """A recurrence rule of RFC 5545."""
    timezone: ZoneName = "UTC"
    """The zone whose clock the schedule follows."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ScheduleArguments]) -> None: ...

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        given = [n for n in ("cron", "interval", "rrule") if getattr(self, n) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of cron, interval, rrule; got {got}")
        if self.interval is not None and not self.interval:
            raise ValueError("an interval of zero; write e.g. 1h")
        return self

    def times(self, after: datetime, anchor: datetime) -> Iterator[datetime]:
        """When it fires after `after`, in UTC; an interval is counted from `anchor`."""
        if self.cron is not None:
            return cron_times(self.cron, self.timezone, after)
        if self.rrule is not None:
            return rrule_times(self.rrule, self.timezone, after)
        assert self.interval is not None
        return interval_times(self.interval, anchor, after)


def _clock(value: Any) -> Any:
    # A bare number would be read as seconds after midnight.
    if isinstance(value, str | time):
        return value
    raise ValueError(f'{value!r} is not a time of the clock; write e.g. "06:00"')


class Deadline(DocumentPart):
    """By when the run should be over: `after` its start, or `at` a time of the clock.

    In a document a plain duration stands for ``{after: …}``.
    """

    after: Duration | None = None
    """From the start of the run."""
    at: Annotated[time, BeforeValidator(_clock)] | None = None
    """The first such time of the clock after the start."""
    timezone: ZoneName = "UTC"
    """The zone of `at`."""
    days: Literal["daily", "working"] = "daily"
    """Every day, or Monday to Friday."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[DeadlineArguments]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return value if isinstance(value, Deadline | Mapping) else {"after": value}

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.after is None) == (self.at is None):
            raise ValueError('give a duration from the start of the run, or {at: "06:00"}')
        if self.at is not None and self.at.tzinfo is not None:
            raise ValueError("`at` has no offset of its own; name the zone in `timezone`")
        if self.after is not None and not self.after:
            raise ValueError("a deadline of zero; write e.g. 10m, or take it out")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        return handler(self) if self.after is None else format_duration(self.after)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return either(DURATION_SCHEMA, core, handler)

    def resolve(self, start: datetime, scheduled: datetime | None = None) -> datetime:
        """The moment (UTC) of the deadline of a run that started at `start`.

        A time of the clock is the first such time after `scheduled`, the moment at
        which the run should have started (`start` where it has none, or is the
        earlier): a late start moves no deadline. On a working day (Monday to
        Friday) where `days` says so. A time that a clock change leaves out is as far
        behind the gap as it is inside; one that occurs twice counts twice.
        """
        if start.tzinfo is None:
            raise NaiveDatetimeError("start")
        if self.after is not None:
            return start.astimezone(UTC) + self.after
        assert self.at is not None
        if scheduled is not None and scheduled.tzinfo is None:
            raise NaiveDatetimeError("scheduled")
        since = start if scheduled is None else min(start, scheduled)
        return next_time(self.at, self.timezone, since, working=self.days == "working")


class Replanning(DocumentPart):
    """What may be decided about the rest of a run, by whom, and how often."""

    decide: Literal["auto", "ask", "advise", "off"] = "auto"
    """By itself, by a human, only said (it changes nothing), or not at all."""
    answer_within: Duration = timedelta(minutes=30)
    """With `ask`: how long an answer is waited for."""
    unanswered: Literal["carry_on", "recommended"] = "carry_on"
    """With `ask`: what happens when no answer came."""
    max_replans: Annotated[int, Field(ge=0, le=1000), Number] = 5
    """Revisions a run may adopt; after them it carries on and escalates."""
    cooldown: Duration = timedelta(seconds=60)
    """Time after a replan in which no other is begun."""
    abort: Literal["ask", "auto"] = "ask"
    """Who may stop work for good."""
    running_tasks_on_abort: Literal["finish", "cancel"] = "finish"
    """What becomes of tasks that run when work is stopped."""
    policy: ReplanningPolicy = ReplanningPolicy()
    """Thresholds that differ from the defaults."""

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[ReplanningArguments]) -> None: ...
