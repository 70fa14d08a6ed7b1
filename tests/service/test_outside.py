"""Runs that no Prefect flow runs: begun, told of, validated, replanned, ended, by their plan_id."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from athena_prefect.errors import (
    InputError,
    NaiveDatetimeError,
    RecordingError,
    StaleRevisionError,
    UnknownNameError,
    UnknownRunError,
)
from athena_prefect.journal.state import fold_entries
from athena_prefect.service import choosing
from athena_prefect.service.by_plan_id import (
    replanning_options,
    revisions_of,
    standing,
    validate_assumption,
)
from athena_prefect.service.choosing import Choice, Executed
from athena_prefect.service.outside import begin
from athena_prefect.service.plans import register
from athena_prefect.service.recording import record
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.history import StoredHistory
from athena_prefect.storage.records import ExecutionRecords
from athena_prefect.storage.replans import replanning_events
from athena_prefect.storage.sql_journal import SqlJournal
from tests.fixtures.plans import RELEASE

HOUR = timedelta(hours=1)


def execute(
    plan_id: int,
    strategy: str,
    option: int,
    *,
    settings: AthenaSettings,
    clock: Callable[[], datetime],
    **more: Any,
) -> Executed:
    choice = Choice(strategy=strategy, option_id=option, **more)
    return choosing.execute(plan_id, choice, settings=settings, clock=clock)


START = datetime(2025, 3, 3, 6, tzinfo=UTC)

FORK = """
name: fork
deadline: 40s
resources: {cpu: {capacity: 2, cost_per_hour: 3600}}
replanning: {cooldown: 0s, policy: {budget_s: 5}}
tasks:
  - {id: get, duration: 10s, resources: {cpu: 1}}
  - id: clean
    depends_on: [get]
    duration: 20s
    modes: [{name: wide, duration: 5s, resources: {cpu: 2}}]
  - {id: put, depends_on: [{task: clean, kind: soft}, get], duration: 10s}
  - {id: extra, depends_on: [put], duration: 30s, optional: true, value: 0.2}
goals: [clean, put]
"""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def at(self, hours: float) -> datetime:
        self.now = START + hours * HOUR
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plan_id(settings: AthenaSettings, tmp_path: Path) -> int:
    """A registered plan with nothing to call."""
    file = tmp_path / "release.yaml"
    file.write_text(RELEASE)
    return register(file, settings=settings).plan_id


def _first_half(run: int, settings: AthenaSettings, clock: Clock) -> None:
    """The specification's second scenario up to the end of its fourth task, late at 13.5 h."""
    for task, start, end in (("t1", 0, 2), ("t2", 2, 4), ("t3", 4, 7), ("t4", 7, 13.5)):
        clock.at(start)
        record(run, task, "start", settings=settings, clock=clock)
        clock.at(end)
        record(run, task, "complete", outcome="success", settings=settings, clock=clock)


def test_the_second_scenario_without_any_flow(
    plan_id: int, settings: AthenaSettings, clock: Clock
) -> None:
    run = begin(plan_id, settings=settings, clock=clock)
    assert run.new and run.outside and run.plan_id != plan_id and run.started == START
    _first_half(run.plan_id, settings, clock)
    late = standing(run.plan_id, settings=settings, clock=clock).status.deviation
    assert late is not None and late.completed_tasks == 4 and late.time_deviation == 1.5 * HOUR
    found = validate_assumption(
        run.plan_id, "resources_available", {"cpus": 5}, settings=settings, clock=clock
    )
    assert found.result.valid is False and [v.replanning_required for v in found.violations] == [
        True
    ]
    options = replanning_options(run.plan_id, settings=settings, clock=clock)
    assert str(options.found.strategy) == "segment" and options.revision == 1
    best = options.found.options[options.found.recommended or 0]
    assert best.finish == START + 27 * HOUR
    done = execute(
        run.plan_id, "segment", best.option_id, revision=1, key="k1", title=best.title,
        author="an agent", settings=settings, clock=clock,
    )  # fmt: skip
    assert done.revision == 2 and not done.known and done.changes
    assert begin(done.plan_id, settings=settings, clock=clock).plan_run == run.plan_run
    after = standing(run.plan_id, settings=settings, clock=clock)
    assert after.plan_id == done.plan_id, "an older decision's id means the revision in force"
    assert after.status.deviation is not None
    assert after.status.deviation.accepted_finish == START + 27 * HOUR
    newest, first = revisions_of(run.plan_id, settings=settings)
    assert (newest.revision, newest.outcome, newest.author) == (2, "adopted", "an agent")
    assert first.revision == 1
    for task, start, end in (("t5", 13.5, 18), ("t7", 18, 21), ("t6", 18, 22.5), ("t8", 22.5, 27)):
        told = record(
            run.plan_id, task, "start", at=clock.at(start), settings=settings, clock=clock
        )
        assert told.ended is None
        clock.at(27)
        told = record(
            run.plan_id, task, "complete", at=START + end * HOUR, outcome="success",
            settings=settings, clock=clock,
        )  # fmt: skip
    assert told.ended == "completed"
    over = standing(run.plan_id, settings=settings, clock=clock).status
    assert over.word == "completed" and over.state.ended == START + 27 * HOUR
    rows = ExecutionRecords(Database.open(settings)).read(run.plan_run)
    assert [r.outcome for r in rows] == ["success"] * 8
    (kept,) = StoredHistory(Database.open(settings)).history("release").runs
    shares = [f.share_done for f in kept.forecasts if f.share_done is not None]
    assert shares == [0.0, 0.125, 0.25, 0.5, 0.75], "what was forecast is kept as it was said"
    with pytest.raises(RecordingError, match="completed"):
        record(run.plan_id, "t8", "start", settings=settings, clock=clock)
    again = begin(plan_id, settings=settings, clock=clock)
    assert again.new and again.plan_run != run.plan_run


def test_a_run_is_begun_once(plan_id: int, settings: AthenaSettings, clock: Clock) -> None:
    runs: list[Any] = []
    threads = [
        threading.Thread(target=lambda: runs.append(begin(plan_id, settings=settings, clock=clock)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.plan_run for r in runs}) == 1 and sum(r.new for r in runs) == 1
    other = begin(plan_id, key="second", settings=settings, clock=clock)
    assert other.new and other.plan_run != runs[0].plan_run
    same = begin(plan_id, key="second", settings=settings, clock=clock)
    assert same.plan_run == other.plan_run and not same.new
    with pytest.raises(UnknownRunError, match="several live runs") as several:
        standing(plan_id, settings=settings, clock=clock)
    assert sorted(several.value.candidates) == sorted([runs[0].plan_id, other.plan_id])  # type: ignore[attr-defined]
    with pytest.raises(UnknownRunError, match="several live runs"):
        standing(None, settings=settings, clock=clock)


def test_which_run_is_meant(plan_id: int, settings: AthenaSettings, clock: Clock) -> None:
    with pytest.raises(UnknownRunError, match="no live run"):
        standing(None, settings=settings, clock=clock)
    with pytest.raises(UnknownRunError, match="no live run"):
        standing(plan_id, settings=settings, clock=clock)
    with pytest.raises(UnknownNameError):
        standing(plan_id + 1000, settings=settings, clock=clock)
    run = begin(plan_id, settings=settings, clock=clock)
    for meant in (None, plan_id, run.plan_id):
        found = standing(meant, settings=settings, clock=clock)
        assert (found.plan_id, found.status.plan_run) == (run.plan_id, run.plan_run)
    elsewhere = AthenaSettings(home=settings.home, namespace="stage")
    with pytest.raises(UnknownNameError):
        standing(run.plan_id, settings=elsewhere, clock=clock)


def test_the_same_key_is_the_same_event(
    plan_id: int, settings: AthenaSettings, clock: Clock
) -> None:
    run = begin(plan_id, settings=settings, clock=clock).plan_id

    def told(*args: str, **more: Any) -> bool:
        clock.now += timedelta(minutes=1)
        return record(run, *args, settings=settings, clock=clock, **more).known

    assert not told("t1", "start", key="a")
    assert told("t1", "start", key="a"), "told again, with no time of its own"
    assert not told("t1", "complete", key="b", outcome="failure")
    assert told("t1", "complete", key="b", outcome="failure")
    with pytest.raises(RecordingError, match="attempt 2, not 1"):
        told("t1", "start", key="c", attempt=1)
    assert not told("t1", "start", key="c", attempt=2)
    with pytest.raises(RecordingError, match="runs already"):
        told("t1", "start", key="d")
    assert not told("t1", "complete", outcome="success", resources_used={"cpu": 2.5})
    rows = ExecutionRecords(Database.open(settings)).read(
        standing(run, settings=settings, clock=clock).status.plan_run
    )
    assert [(r.attempt, r.outcome) for r in rows] == [(1, "failure"), (2, "success")]
    assert rows[1].resources_used == {"cpu": 2.5}


Wrong = Callable[[int, AthenaSettings, Clock], object]


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"task_id": "t9", "event_type": "start"}, UnknownNameError, "t9"),
        ({"event_type": "begin"}, RecordingError, "start, complete"),
        ({"event_type": "start", "outcome": "success"}, RecordingError, "no outcome"),
        ({"event_type": "start", "actual_duration": 3.0}, RecordingError, "actual_duration"),
        ({"event_type": "complete", "outcome": "success"}, RecordingError, "has not started"),
        ({"event_type": "complete"}, RecordingError, "success, failure"),
        ({"event_type": "start", "at": START + 2 * HOUR}, RecordingError, "in the future"),
        ({"event_type": "start", "at": START - HOUR}, RecordingError, "before its run"),
        ({"event_type": "start", "at": datetime(2025, 3, 3)}, NaiveDatetimeError, "time zone"),
        ({"event_type": "start", "resources_used": {"gpu": 1}}, UnknownNameError, "gpu"),
        ({"event_type": "start", "resources_used": {"cpu": 9}}, RecordingError, "8 are free"),
        ({"event_type": "start", "map_index": 0}, RecordingError, "not mapped"),
    ],
)
def test_what_is_wrong_changes_nothing(
    wrong: dict[str, Any],
    error: type[InputError],
    words: str,
    plan_id: int,
    settings: AthenaSettings,
    clock: Clock,
) -> None:
    run = begin(plan_id, settings=settings, clock=clock)
    journal = SqlJournal(Database.open(settings))
    before = journal.read(run.plan_run)
    task = wrong.pop("task_id", "t1")
    with pytest.raises(error, match=words):
        record(run.plan_id, task, settings=settings, clock=clock, **wrong)
    assert journal.read(run.plan_run) == before


def test_items_of_a_mapped_task(settings: AthenaSettings, tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "mapped.yaml"
    file.write_text(
        "name: mapped\ntasks:\n  - {id: list, duration: 1m}\n"
        "  - {id: each, duration: 1m, inputs: {x: list}, map_over: x, expected_items: 2}\n"
    )
    plan_id = register(file, settings=settings).plan_id
    run = begin(plan_id, settings=settings, clock=clock).plan_id
    record(run, "list", "start", settings=settings, clock=clock)
    record(run, "list", "complete", outcome="success", settings=settings, clock=clock)
    with pytest.raises(RecordingError, match="expects 2 items"):
        record(run, "each", "start", map_index=2, settings=settings, clock=clock)
    for index in (0, 1):
        record(run, "each", "start", map_index=index, settings=settings, clock=clock)
    ends = [
        record(
            run, "each", "complete", map_index=i, outcome="success", settings=settings, clock=clock
        ).ended
        for i in (0, 1)
    ]
    assert ends == [None, "completed"]


def test_two_choose_for_the_same_revision(
    settings: AthenaSettings, tmp_path: Path, clock: Clock
) -> None:
    file = tmp_path / "fork.yaml"
    file.write_text(FORK)
    run = begin(register(file, settings=settings).plan_id, settings=settings, clock=clock)
    record(run.plan_id, "get", "start", settings=settings, clock=clock)
    clock.now += timedelta(seconds=16)
    record(run.plan_id, "get", "complete", outcome="success", settings=settings, clock=clock)
    options = replanning_options(run.plan_id, strategy="full", settings=settings, clock=clock)
    assert len(options.found.options) >= 3, "two that change the plan, and the abort"
    answers: dict[str, Any] = {}

    def choose(key: str, option: int) -> None:
        try:
            answers[key] = execute(
                run.plan_id, "full", option, revision=1, key=key, author=key,
                settings=settings, clock=clock,
            )  # fmt: skip
        except StaleRevisionError as error:
            answers[key] = error

    threads = [threading.Thread(target=choose, args=(f"k{n}", n)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [a for a in answers.values() if isinstance(a, StaleRevisionError)]
    won = [a for a in answers.values() if not isinstance(a, StaleRevisionError)]
    assert len(won) == len(lost) == 1 and won[0].revision == 2
    assert lost[0].in_force == 2 and won[0].author in str(lost[0])
    again = execute(
        run.plan_id, "full", int(won[0].author[1]), revision=1, key=won[0].author,
        settings=settings, clock=clock,
    )  # fmt: skip
    assert again.known and again.revision == won[0].revision
    with pytest.raises(InputError, match="another key"):
        execute(
            run.plan_id, "full", 7, revision=1, key=won[0].author, settings=settings, clock=clock
        )
    assert len(revisions_of(run.plan_id, settings=settings)) == 2


def test_an_abort_ends_the_run(plan_id: int, settings: AthenaSettings, clock: Clock) -> None:
    run = begin(plan_id, settings=settings, clock=clock)
    _first_half(run.plan_id, settings, clock)
    options = replanning_options(run.plan_id, strategy="full", settings=settings, clock=clock)
    last = options.found.options[-1]
    with pytest.raises(InputError, match="no longer among"):
        execute(
            run.plan_id, "full", last.option_id, revision=1, key="a", title="Nothing",
            settings=settings, clock=clock,
        )  # fmt: skip
    with pytest.raises(InputError, match="no option 99"):
        execute(run.plan_id, "full", 99, revision=1, key="a", settings=settings, clock=clock)
    with pytest.raises(StaleRevisionError):
        execute(run.plan_id, "full", 0, revision=3, key="a", settings=settings, clock=clock)
    done = execute(
        run.plan_id, "full", last.option_id, revision=1, key="a", author="me",
        settings=settings, clock=clock,
    )  # fmt: skip
    assert done.ended == "aborted"
    database = Database.open(settings)
    assert fold_entries(SqlJournal(database).read(run.plan_run)).end_status == "aborted"
    (event,) = replanning_events(database, [run.plan_id])
    assert (event.outcome, event.new_plan_id) == ("aborted", None)


def test_a_revision_that_was_stored_and_not_told_is_told(
    plan_id: int, settings: AthenaSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(plan_id, settings=settings, clock=clock)
    _first_half(run.plan_id, settings, clock)

    def died(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(choosing, "_tell", died)
        with pytest.raises(KeyboardInterrupt):
            execute(run.plan_id, "full", 0, revision=1, key="a", settings=settings, clock=clock)
    told = record(run.plan_id, "t5", "start", settings=settings, clock=clock)
    assert told.revision == 2


def test_validations(plan_id: int, settings: AthenaSettings, clock: Clock) -> None:
    run = begin(plan_id, settings=settings, clock=clock).plan_id

    def judged(data: dict[str, Any] | None, **more: Any) -> Any:
        return validate_assumption(
            run, "resources_available", data, settings=settings, clock=clock, **more
        )

    assert judged({"cpus": 8}, key="1").result.valid is True
    assert judged({"cpus": 2}, key="1").known, "the same key is the same validation"
    assert judged({"cpus": 2}).result.valid is False
    assert judged({"cpus": "many"}).result.valid is not True
    with pytest.raises(InputError, match="empty"):
        judged({})
    with pytest.raises(InputError, match="no check of its own"):
        judged(None)
    with pytest.raises(InputError, match="method"):
        judged({"cpus": 8}, method="guess")
    with pytest.raises(UnknownNameError):
        validate_assumption(run, "nothing", {"a": 1}, settings=settings, clock=clock)


CHECKED = """
name: checked
deadline: 2h
tasks:
  - {id: a, duration: 1h}
assumptions:
  - id: there
    check: {kind: file_exists, path: FILE}
    affects: [a]
    effect: {duration_factor: 3}
"""


def test_without_data_the_plan_s_own_check_is_made(
    settings: AthenaSettings, tmp_path: Path, clock: Clock
) -> None:
    file, wanted = tmp_path / "checked.yaml", tmp_path / "wanted"
    file.write_text(CHECKED.replace("FILE", str(wanted)))
    plan_id = register(file, settings=settings).plan_id
    run = begin(plan_id, settings=settings, clock=clock).plan_id
    before = validate_assumption(run, "there", settings=settings, clock=clock)
    assert before.result.valid is False and before.violations
    wanted.touch()
    after = validate_assumption(run, "there", settings=settings, clock=clock)
    assert after.result.valid is True and not after.violations


def test_a_run_outside_prefect_is_watched_like_any_other(
    settings: AthenaSettings, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from athena_prefect.service.by_plan_id import why_it_is_late
    from athena_prefect.service.watching import watch_live

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    file = tmp_path / "checked.yaml"
    file.write_text(CHECKED.replace("FILE", str(tmp_path)))
    run = begin(register(file, settings=settings).plan_id, settings=settings, clock=clock)
    record(run.plan_id, "a", "start", settings=settings, clock=clock)
    clock.at(1.9)
    (early,) = watch_live(settings=settings, clock=clock).runs
    clock.at(2.5)
    (late,) = watch_live(settings=settings, clock=clock).runs
    assert (early.status, late.status) == ("running", "running")
    assert late.raised and not late.problem
    assert why_it_is_late(run.plan_id, settings=settings, clock=clock).slip == 1.5 * HOUR


def test_nothing_here_starts_its_tasks(
    plan_id: int, settings: AthenaSettings, tmp_path: Path, clock: Clock
) -> None:
    from athena_prefect.service.by_hand import skip
    from athena_prefect.service.running import run_plan

    run = begin(plan_id, settings=settings, clock=clock)
    record(run.plan_id, "t1", "start", settings=settings, clock=clock)
    with pytest.raises(InputError, match="recorded by those who do its work"):
        run_plan(tmp_path / "release.yaml", settings=settings, resume=str(run.plan_run))
    with pytest.raises(InputError, match="only monitored"):
        skip(str(run.plan_run), "t2", settings=settings)
