"""Events survive being written as JSON; what cannot be an event is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import NaiveDatetimeError
from athena_prefect.journal.codec import decode, encode
from athena_prefect.journal.events import (
    NOTHING,
    CheckEvent,
    Command,
    CommandAnswer,
    CommandKind,
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)

zones = st.integers(-12, 14).map(lambda h: timezone(timedelta(hours=h)))
moments = st.datetimes(
    min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=zones
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
data = st.dictionaries(st.text(max_size=5), plain, max_size=3)
names = st.text(min_size=1, max_size=8)

events = st.one_of(
    st.builds(
        TaskEvent,
        plan_run=st.uuids(),
        task_id=names,
        kind=st.sampled_from(list(TaskEventKind)),
        at=moments,
        source=names,
        run_count=st.integers(1, 9),
        map_index=st.none() | st.integers(0, 99),
        state_type=st.none() | names,
        state_name=st.none() | names,
        outcome=st.none() | st.sampled_from(list(TaskOutcome)),
        result_key=st.none() | names,
        reported_by=st.sampled_from(list(Reporter)),
        data=data,
    ),
    st.builds(
        RunEvent,
        plan_run=st.uuids(),
        kind=st.sampled_from(list(RunEventKind)),
        at=moments,
        source=st.text(max_size=5),
        reported_by=st.sampled_from(list(Reporter)),
        data=data,
    ),
    st.builds(
        CheckEvent,
        plan_run=st.uuids(),
        assumption_id=names,
        check_id=names,
        at=moments,
        verdict=st.sampled_from(["holds", "violated", "unknown"]),
        data=data,
    ),
    st.builds(
        Command,
        plan_run=st.uuids(),
        command_id=names,
        kind=st.sampled_from(list(CommandKind)),
        at=moments,
        author=st.text(max_size=5),
        data=data,
    ),
    st.builds(
        CommandAnswer,
        plan_run=st.uuids(),
        command_id=names,
        at=moments,
        accepted=st.booleans(),
        message=st.text(max_size=5),
        data=data,
    ),
)


@given(events)
def test_an_event_survives_json(event: Event) -> None:
    again = decode(json.loads(json.dumps(encode(event))))
    assert again == event
    assert (again.key, again.content) == (event.key, event.content)


@given(events)
def test_times_are_utc_inside(event: Event) -> None:
    assert event.at.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused_with_the_remedy() -> None:
    with pytest.raises(NaiveDatetimeError, match=r"datetime\.now\(UTC\)"):
        RunEvent(plan_run=UUID(int=1), kind=RunEventKind.PAUSED, at=datetime(2026, 1, 1))


def test_what_is_no_event_is_refused() -> None:
    with pytest.raises(KeyError):
        decode({"type": "weather"})
    row = encode(RunEvent(plan_run=UUID(int=1), kind=RunEventKind.PAUSED, at=datetime.now(UTC)))
    with pytest.raises(ValueError, match="snowed"):
        decode({**row, "kind": "snowed"})


def test_who_reported_a_fact_is_no_part_of_it() -> None:
    def event(by: Reporter, outcome: TaskOutcome) -> TaskEvent:
        return TaskEvent(
            plan_run=UUID(int=1),
            task_id="a",
            kind=TaskEventKind.ENDED,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            source="s",
            outcome=outcome,
            reported_by=by,
            data=NOTHING,
        )

    hook, api = event(Reporter.HOOK, TaskOutcome.SUCCESS), event(Reporter.API, TaskOutcome.SUCCESS)
    assert (hook.key, hook.content) == (api.key, api.content)
    assert event(Reporter.API, TaskOutcome.FAILURE).content != api.content
    assert decode(encode(hook)) == hook
    assert TaskOutcome.PARTIAL.good and not TaskOutcome.BLOCKED.good
