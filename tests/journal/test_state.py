"""Laws of the fold: what any sequence of events, however generated, must add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.journal.events import (
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
from athena_prefect.journal.journal import MemoryJournal, Recorded
from athena_prefect.journal.state import (
    ExecutionState,
    Status,
    TaskState,
    evolve,
    fold,
    fold_entries,
)

RUN = UUID(int=7)
T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)

moments = st.integers(0, 50).map(lambda s: T0 + timedelta(seconds=s))


def task_event(kind: TaskEventKind, at: float = 0, **values: Any) -> TaskEvent:
    values = {"task_id": "a", "source": "s1", **values}
    return TaskEvent(plan_run=RUN, kind=kind, at=T0 + timedelta(seconds=at), **values)


def started(at: float = 0, **values: Any) -> TaskEvent:
    return task_event(TaskEventKind.STARTED, at, **values)


def ended(at: float = 1, outcome: TaskOutcome | None = TaskOutcome.SUCCESS, **v: Any) -> TaskEvent:
    return task_event(TaskEventKind.ENDED, at, outcome=outcome, **v)


def abandoned(at: float = 1, **values: Any) -> TaskEvent:
    return task_event(TaskEventKind.ABANDONED, at, outcome=TaskOutcome.FAILURE, **values)


def run_event(kind: RunEventKind, at: float = 0, source: str = "", **data: Any) -> RunEvent:
    return RunEvent(
        plan_run=RUN, kind=kind, at=T0 + timedelta(seconds=at), source=source, data=data
    )


@st.composite
def task_events(draw: st.DrawFn) -> TaskEvent:
    kind = draw(st.sampled_from(list(TaskEventKind)))
    ends = kind is TaskEventKind.ENDED
    return TaskEvent(
        plan_run=RUN,
        task_id=draw(st.sampled_from("ab")),
        map_index=draw(st.sampled_from([None, 0])),
        kind=kind,
        at=draw(moments),
        source=draw(st.sampled_from(["s1", "s2"])),
        run_count=draw(st.integers(1, 2)),
        outcome=draw(st.sampled_from(list(TaskOutcome))) if ends else None,
        reported_by=draw(st.sampled_from([Reporter.HOOK, Reporter.API])),
        data={"items": 2} if kind is TaskEventKind.EXPANDED else {},
    )


@st.composite
def run_events(draw: st.DrawFn) -> RunEvent:
    kind = draw(st.sampled_from(list(RunEventKind)))
    return RunEvent(
        plan_run=RUN,
        kind=kind,
        at=draw(moments),
        source=draw(st.sampled_from(["1", "2", "3"])),
        data={
            "k": 1,
            "revision": draw(st.integers(1, 3)),
            "position": draw(st.integers(1, 3)),
            "name": draw(st.sampled_from(["deadline", "start-late|a"])),
            "episode": draw(st.integers(1, 2)),
            "level": draw(st.sampled_from(["medium", "high"])),
        },
    )


@st.composite
def check_events(draw: st.DrawFn) -> CheckEvent:
    return CheckEvent(
        plan_run=RUN,
        assumption_id=draw(st.sampled_from(["x", "y"])),
        check_id=draw(st.sampled_from(["1", "2"])),
        at=draw(moments),
        verdict=draw(st.sampled_from(["holds", "violated", "unknown"])),
        reported_by=draw(st.sampled_from([Reporter.CALLER, Reporter.API])),
    )


commands = st.builds(
    Command,
    plan_run=st.just(RUN),
    command_id=st.sampled_from(["1", "2"]),
    kind=st.sampled_from(list(CommandKind)),
    at=moments,
)
answers = st.builds(
    CommandAnswer,
    plan_run=st.just(RUN),
    command_id=st.sampled_from(["1", "2"]),
    at=moments,
    accepted=st.booleans(),
)
any_event = st.one_of(task_events(), run_events(), check_events(), commands, answers)


def journalled(events: Sequence[Event]) -> MemoryJournal:
    journal = MemoryJournal()
    for event in events:
        journal.append(event)
    return journal


# Folding


@given(st.lists(any_event, max_size=25), any_event)
def test_the_same_event_again_changes_nothing(events: list[Event], event: Event) -> None:
    once = evolve(fold(events), event)
    assert evolve(once, event) == once


@given(st.lists(any_event, max_size=25), st.data())
def test_a_fact_told_again_much_later_changes_nothing(events: list[Event], data: Any) -> None:
    # As when a listener and a reader of the journal both tell it. (Only two
    # different words of the API on one fact do not commute: the later wins.)
    plain = [e for e in events if getattr(e, "reported_by", None) is not Reporter.API]
    stored = [e.event for e in journalled(plain).read(RUN) if not e.conflict]
    if not stored:
        return
    again = data.draw(st.sampled_from(stored))
    assert fold([again], fold(stored)) == fold(stored)


@given(st.lists(any_event, max_size=25), st.integers(0, 25))
def test_reading_a_piece_of_the_journal_twice_changes_nothing(
    events: list[Event], start: int
) -> None:
    journal = journalled(events)
    state = fold_entries(journal.read(RUN))
    assert fold_entries(journal.read(RUN, after=min(start, state.position)), state) == state


@given(st.lists(any_event, max_size=25), st.integers(0, 25))
def test_folding_in_two_steps_is_folding_in_one(events: list[Event], cut: int) -> None:
    entries = journalled(events).read(RUN)
    assert fold_entries(entries[cut:], fold_entries(entries[:cut])) == fold_entries(entries)


@given(st.lists(any_event, max_size=25))
def test_folding_many_at_once_is_evolving_one_by_one(events: list[Event]) -> None:
    assert fold(events) == reduce(evolve, events, ExecutionState())
    again = fold(events)
    assert fold((), again) is again


@given(st.lists(any_event, max_size=25))
def test_position_and_conflicts_are_the_journals(events: list[Event]) -> None:
    entries = journalled(events).read(RUN)
    state = fold_entries(entries)
    assert state.position == len(entries)
    assert state.conflicts == sum(e.conflict for e in entries)


@given(st.lists(any_event, min_size=1, max_size=25))
def test_now_is_the_time_of_the_newest_event(events: list[Event]) -> None:
    state = fold(events)
    assert state.now is not None
    assert state.now <= max(e.at for e in events)


@given(st.lists(task_events(), max_size=25), any_event)
def test_an_older_state_is_never_changed(events: list[TaskEvent], event: Event) -> None:
    state = fold(events)
    tasks = dict(state.tasks.items())
    evolve(state, event)
    assert dict(state.tasks.items()) == tasks


# One success in force


@given(st.lists(task_events(), max_size=40))
def test_a_success_in_force_is_one_of_the_attempts_and_good(events: list[TaskEvent]) -> None:
    for task in fold(events).tasks.values():
        if task.in_force is not None:
            assert task.in_force in task.attempts
            assert task.in_force.outcome is not None and task.in_force.outcome.good
            assert not task.in_force.abandoned and not task.in_force.invalidated


@given(st.lists(task_events(), max_size=40), task_events())
def test_only_invalidation_or_the_api_ends_a_success(
    events: list[TaskEvent], event: TaskEvent
) -> None:
    before = fold(events)
    after = evolve(before, event)
    if event.kind is TaskEventKind.INVALIDATED or event.reported_by is Reporter.API:
        return
    for item, task in before.tasks.items():
        if task.in_force is not None:
            assert after.tasks[item].status.good


def test_a_second_success_does_not_replace_the_first() -> None:
    state = fold([started(), ended(1), started(2, source="s2"), ended(3, source="s2")])
    in_force = state.task("a").in_force
    assert in_force is not None and in_force.source == "s1"


def test_where_the_api_takes_a_success_back_another_one_counts() -> None:
    state = fold(
        [
            started(),
            ended(1),
            started(2, source="s2"),
            ended(3, source="s2"),
            ended(1, TaskOutcome.FAILURE, reported_by=Reporter.API),
        ]
    )
    in_force = state.task("a").in_force
    assert in_force is not None and in_force.source == "s2"


def test_an_invalidated_success_waits_then_runs_again() -> None:
    state = fold([started(), ended(1)])
    assert state.status("a") is Status.SUCCESS
    state = evolve(state, task_event(TaskEventKind.INVALIDATED, 2, source="rerun"))
    assert state.status("a") is Status.WAITING
    state = evolve(state, task_event(TaskEventKind.READY, 3, source="later"))
    assert state.status("a") is Status.READY
    state = fold([started(4, source="s2"), ended(5, source="s2")], state)
    assert state.status("a") is Status.SUCCESS


@pytest.mark.parametrize("kind", [TaskEventKind.READY, TaskEventKind.SKIPPED])
def test_what_changed_nothing_before_an_invalidation_does_not_when_it_is_told_again(
    kind: TaskEventKind,
) -> None:
    """Two processes tell it; the second hears of its own once more after the success is ended."""
    events = [
        task_event(kind, 0, source="session 1"),
        task_event(kind, 1, source="session 2"),
        task_event(TaskEventKind.INVALIDATED, 2, source="rerun"),
    ]
    state = fold(events)
    assert fold(events, state).task("a") == state.task("a")
    assert state.status("a") is Status.WAITING


@given(st.lists(task_events().filter(lambda e: e.reported_by is not Reporter.API), max_size=30))
def test_all_told_again_in_the_same_order_changes_nothing(events: list[TaskEvent]) -> None:
    state = fold(events)
    assert dict(fold(events, state).tasks) == dict(state.tasks)


def test_an_invalidated_attempt_never_comes_back() -> None:
    state = fold(
        [
            started(),
            ended(1),
            task_event(TaskEventKind.INVALIDATED, 2, source="rerun"),
            ended(1, TaskOutcome.PARTIAL, reported_by=Reporter.API),
        ]
    )
    assert state.task("a").in_force is None
    assert state.status("a") is Status.WAITING


# Order


def test_a_start_that_is_told_after_the_end_gives_the_same_attempt() -> None:
    events = [started(0), ended(5), task_event(TaskEventKind.OVERDUE, 3)]
    first, *others = [fold(order).task("a").attempts for order in permutations(events)]
    assert all(other == first for other in others)


@pytest.mark.parametrize("late", [Reporter.HOOK, Reporter.API])
def test_abandoned_outranks_any_later_end(late: Reporter) -> None:
    state = fold([started(), abandoned(1), ended(2, reported_by=late)])
    assert state.status("a") is Status.FAILURE
    assert state.task("a").in_force is None
    assert state.task("a").attempts[0].abandoned


@given(st.lists(task_events(), max_size=30))
def test_an_abandoned_attempt_never_comes_into_force(events: list[TaskEvent]) -> None:
    state = fold(events)
    before = {
        (item, a.source, a.run_count): a
        for item, t in state.tasks.items()
        for a in t.attempts
        if a.abandoned
    }
    ends = [
        ended(60, task_id=i[0], map_index=i[1], source=s, run_count=n, reported_by=Reporter.API)
        for i, s, n in before
    ]
    after = fold(ends, state)
    for (item, _, _), attempt in before.items():
        assert attempt in after.tasks[item].attempts


def test_an_end_before_it_was_abandoned_stays() -> None:
    state = fold([started(), ended(1), abandoned(2)])
    assert state.status("a") is Status.SUCCESS


# The API's word


@pytest.mark.parametrize("first", [Reporter.HOOK, Reporter.API])
def test_the_apis_word_wins_whenever_it_comes(first: Reporter) -> None:
    second = Reporter.API if first is Reporter.HOOK else Reporter.HOOK
    outcome = {Reporter.HOOK: TaskOutcome.SUCCESS, Reporter.API: TaskOutcome.FAILURE}
    events = [
        started(0, reported_by=first),
        ended(1, outcome[first], reported_by=first),
        started(0.5, reported_by=second),
        ended(2, outcome[second], reported_by=second),
    ]
    (attempt,) = fold(events).task("a").attempts
    assert attempt.outcome is TaskOutcome.FAILURE
    assert attempt.reported_by is Reporter.API
    api = [e.at for e in events if e.reported_by is Reporter.API]
    assert [attempt.started, attempt.ended] == api


def test_the_apis_word_on_a_check_wins() -> None:
    def check(verdict: str, by: Reporter) -> CheckEvent:
        return CheckEvent(
            plan_run=RUN, assumption_id="x", check_id="1", at=T0, verdict=verdict, reported_by=by
        )

    state = fold([check("holds", Reporter.CALLER), check("violated", Reporter.API)])
    assert [c.verdict for c in state.checks["x"]] == ["violated"]
    state = fold([check("violated", Reporter.API), check("holds", Reporter.CALLER)])
    assert [c.verdict for c in state.checks["x"]] == ["violated"]


# Status


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], Status.WAITING),
        ([task_event(TaskEventKind.READY)], Status.READY),
        ([started()], Status.RUNNING),
        ([started(), ended()], Status.SUCCESS),
        ([started(), ended(outcome=TaskOutcome.PARTIAL)], Status.PARTIAL),
        ([started(), ended(outcome=TaskOutcome.FAILURE)], Status.FAILURE),
        ([started(), ended(outcome=TaskOutcome.BLOCKED)], Status.BLOCKED),
        ([started(), ended(outcome=None)], Status.WAITING),
        ([started(), ended(outcome=TaskOutcome.FAILURE), started(2, run_count=2)], Status.RUNNING),
        ([ended(outcome=TaskOutcome.FAILURE, state_name="AwaitingRetry")], Status.WAITING),
        ([task_event(TaskEventKind.SKIPPED)], Status.SKIPPED),
        ([task_event(TaskEventKind.SKIPPED), started(), ended()], Status.SUCCESS),
        ([started(), ended(), task_event(TaskEventKind.SKIPPED)], Status.SUCCESS),
    ],
)
def test_status_of_a_task(events: list[TaskEvent], status: Status) -> None:
    assert fold(events).status("a") is status


def _item(index: int, *events: TaskEvent) -> list[TaskEvent]:
    return [replace(e, map_index=index) for e in events]


_EXPANDED = task_event(TaskEventKind.EXPANDED, source="x", data={"items": 2})
_FAILED = ended(outcome=TaskOutcome.FAILURE)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([_EXPANDED], Status.READY),
        ([_EXPANDED, *_item(0, started())], Status.RUNNING),
        ([_EXPANDED, *_item(0, started(), ended())], Status.RUNNING),
        ([_EXPANDED, *_item(0, ended()), *_item(1, ended())], Status.SUCCESS),
        (
            [_EXPANDED, *_item(0, ended(outcome=TaskOutcome.PARTIAL)), *_item(1, ended())],
            Status.PARTIAL,
        ),
        ([_EXPANDED, *_item(0, ended()), *_item(1, _FAILED)], Status.FAILURE),
        (
            [_EXPANDED, *_item(0, ended()), *_item(1, ended(outcome=TaskOutcome.BLOCKED))],
            Status.BLOCKED,
        ),
        ([_EXPANDED, started(), ended()], Status.SUCCESS),
    ],
)
def test_status_of_a_mapped_task_is_that_of_its_items(
    events: list[TaskEvent], status: Status
) -> None:
    assert fold(events).status("a") is status


def test_the_items_that_something_is_known_of() -> None:
    state = fold(_item(1, started()))
    assert list(state.items("a")) == [1]
    state = evolve(state, _EXPANDED)
    assert list(state.items("a")) == [1]
    assert state.task("a").items == 2
    assert state.task("nothing") == TaskState()


def test_duration_needs_both_times() -> None:
    state = fold([started(1)])
    (attempt,) = state.task("a").attempts
    assert attempt.running and attempt.duration is None
    (attempt,) = evolve(state, ended(4)).task("a").attempts
    assert not attempt.running and attempt.duration == timedelta(seconds=3)


# The run


def test_the_life_of_a_run() -> None:
    state = fold(
        [
            run_event(RunEventKind.STARTED, 0, revision=1, host="h"),
            run_event(RunEventKind.STARTED, 1, "again", revision=9),
            run_event(RunEventKind.BASELINED, 1, finish=10),
            run_event(RunEventKind.BASELINED, 2, "again", finish=20),
            run_event(RunEventKind.PAUSED, 3, "p"),
        ]
    )
    assert (state.started, state.revision, state.paused) == (T0, 1, True)
    assert state.run_data["host"] == "h"
    assert state.baseline == {"finish": 10}, "the baseline never changes"
    state = fold(
        [
            run_event(RunEventKind.CONTINUED, 4, "c"),
            run_event(RunEventKind.REVISED, 5, "r2", revision=2),
            run_event(RunEventKind.GAP, 6, "g", what="two events of a"),
            run_event(RunEventKind.GAP, 6, "h", what="two events of a"),
            run_event(RunEventKind.ENDED, 7, "e", status="failed", reason="a failed"),
        ],
        state,
    )
    assert (state.revision, state.paused, state.gaps) == (2, False, ("two events of a",))
    assert (state.end_status, state.end_reason) == ("failed", "a failed")
    assert state.ended == T0 + timedelta(seconds=7)
    state = evolve(state, run_event(RunEventKind.RESUMED, 8, "d2"))
    assert (state.ended, state.end_status, state.resumed) == (None, None, ("d2",))
    state = evolve(state, run_event(RunEventKind.SUPERSEDED, 9, "s"))
    assert state.end_status is None, "a flow run has ended, the plan run goes on"


def test_a_command_is_open_until_it_is_answered() -> None:
    command = Command(plan_run=RUN, command_id="1", kind=CommandKind.PAUSE, at=T0)
    answer = CommandAnswer(plan_run=RUN, command_id="1", at=T0, accepted=True)
    assert list(fold([command]).commands) == ["1"]
    orders: list[list[Event]] = [[command, answer], [answer, command], [command, answer, command]]
    for order in orders:
        state = fold(order)
        assert not state.commands and state.answers["1"] == answer


@given(st.lists(any_event, max_size=20))
def test_the_state_belongs_to_the_run_of_its_events(events: list[Event]) -> None:
    state = fold(events)
    assert state.plan_run in (None, RUN)
    assert fold([]) == ExecutionState()


def test_same_key_other_content_is_a_conflict() -> None:
    journal = MemoryJournal()
    assert journal.append(started(0), started(0)) == (Recorded.STORED, Recorded.KNOWN)
    assert journal.append(started(1)) == (Recorded.CONFLICT,)
    assert journal.append(started(1, reported_by=Reporter.API)) == (Recorded.KNOWN,)
    assert [e.conflict for e in journal.read(RUN)] == [False, True]


def test_a_breach_opens_worsens_ends_and_returns() -> None:
    def raised(episode: int, level: str, at: float) -> RunEvent:
        return run_event(
            RunEventKind.BREACHED, at, f"deadline:{episode}:{level}",
            name="deadline", episode=episode, level=level, reason=f"r{at:g}",
        )  # fmt: skip

    def eased(episode: int, at: float) -> RunEvent:
        source = f"deadline:{episode}"
        return run_event(RunEventKind.EASED, at, source, name="deadline", episode=episode)

    story = [raised(1, "medium", 1), raised(1, "high", 2), eased(1, 3), raised(2, "medium", 4)]
    stages = [fold(story[: n + 1]).breaches["deadline"] for n in range(4)]
    assert [(b.episode, b.level, b.open) for b in stages] == [
        (1, "medium", True), (1, "high", True), (1, "high", False), (2, "medium", True),
    ]  # fmt: skip
    assert stages[0].since == stages[1].since == stages[2].since != stages[3].since
    # A watcher that was slow tells of an episode that is over.
    late = fold([raised(1, "critical", 9), eased(1, 9)], fold(story))
    assert late.breaches["deadline"] == stages[3]
    assert fold([eased(7, 1)]).breaches == fold([]).breaches


def test_how_far_prefect_was_told_never_goes_back() -> None:
    marks = [run_event(RunEventKind.TOLD, 1, str(p), position=p) for p in (5, 3)]
    assert fold(marks).told == 5
