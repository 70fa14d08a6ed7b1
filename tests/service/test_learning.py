"""Learning from what is stored: shown, remembered once, and written into the plan as a whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
import yaml

from athena_prefect.errors import InputError, StorageError, UnknownNameError
from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.memory import Lesson
from athena_prefect.learning.records import TaskRecord
from athena_prefect.plan.model import Plan
from athena_prefect.service.learning import learn
from athena_prefect.service.remembering import lessons, recalled
from athena_prefect.service.simulating import simulate_plan
from athena_prefect.service.taught import accuracy, patterns, taught
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.records import ExecutionRecords

T0 = datetime(2026, 3, 2, 4, tzinfo=UTC)
M = timedelta(minutes=1)
TEXT = """\
name: nightly
tasks:
  - id: extract
    duration: 10m
    call: tasks.load:extract
  - id: load
    duration: 20m   # as the vendor says
    depends_on: [extract]
"""


@pytest.fixture
def settings(tmp_path: Path) -> AthenaSettings:
    return AthenaSettings(home=tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT)
    return path


def store_run(
    settings: AthenaSettings, file: Path, day: int, load: float, extract: float = 10.0
) -> UUID:
    """A finished run in which `load` took so many minutes."""
    database = Database.open(settings)
    plan, run, begun = Plan.load(file), uuid4(), T0 + timedelta(days=day)
    store = PlanStore(database)
    store.open_run(run, plan, started=begun)

    def attempt(task: str, planned: tuple[float, float], at: float, took: float) -> TaskRecord:
        return TaskRecord(
            task_id=task, outcome=TaskOutcome.SUCCESS, queue_time=timedelta(0),
            planned_start=begun + planned[0] * M, planned_duration=planned[1] * M,
            actual_start=begun + at * M, actual_duration=took * M,
        )  # fmt: skip

    attempts = [
        attempt("extract", (0, 10), 0, extract),
        attempt("load", (10, 20), extract, load),
    ]
    ExecutionRecords(database).write(run, attempts)
    store.set_run_status(run, "completed", ended=begun + (extract + load) * M)
    return run


def test_nothing_is_learned_out_of_nothing(settings: AthenaSettings, file: Path) -> None:
    found = learn(file, settings=settings)
    assert found.runs == 0 and "no run of this plan has finished yet" in found.reason
    assert lessons(settings=settings).lessons == ()
    assert accuracy(settings=settings).runs == 0 and patterns(settings=settings).patterns == ()


def test_one_run_is_an_observation_that_changes_nothing(
    settings: AthenaSettings, file: Path
) -> None:
    store_run(settings, file, 0, 30)
    found = learn(file, settings=settings, apply=True)
    (slow,) = found.bottlenecks
    assert slow.type == "estimation" and slow.share == pytest.approx(1.0)
    assert found.recommendations[0].suggestion == "50 % buffer for load"
    assert not found.applied and found.diff == "" and file.read_text() == TEXT
    assert found.reason.endswith("--only buffer:load takes one nevertheless")
    (known,) = found.lessons
    assert known.confidence is None and known.lesson.samples == 1


def test_what_is_sure_is_shown_and_then_written_as_a_revision(
    settings: AthenaSettings, file: Path
) -> None:
    rng = np.random.default_rng(1)
    for day in range(8):
        store_run(settings, file, day, 26 * float(np.exp(rng.normal(0, 0.03))))
    shown = learn("nightly", settings=settings)
    assert "-    duration: 20m   # as the vendor says" in shown.diff
    assert file.read_text() == TEXT and not shown.applied
    seen: list[str] = []
    found = learn(file, settings=settings, apply=True, before=seen.append)
    assert seen == [found.diff] and found.applied
    assert found.proposed == ("buffer:load",)
    plan = Plan.load(file)
    planned = plan.get_task("load").planned_duration
    assert planned is not None and 25 * M < planned < 27 * M
    assert "# as the vendor says" in file.read_text(), "the rest of the text stays"
    stored = PlanStore(Database.open(settings))
    assert stored.plan("nightly") == plan
    assert found.plan_id is not None
    decision = stored.decision(found.plan_id)
    assert decision.author == "athena learn" and "% buffer for load" in decision.reason
    assert [p.name for p in file.parent.iterdir() if p.name.startswith(".")] == []


def test_learning_again_counts_no_run_twice(settings: AthenaSettings, file: Path) -> None:
    for day in range(3):
        store_run(settings, file, day, 30)
    first = learn(file, settings=settings).lessons
    again = learn(file, settings=settings).lessons
    assert [k.lesson for k in first] == [k.lesson for k in again]
    (known,) = [k for k in again if k.lesson.subject == "load"]
    assert known.lesson.samples == 3 and len(known.lesson.decisions) == 3


def test_what_is_named_is_taken_and_what_is_not_there_is_refused(
    settings: AthenaSettings, file: Path
) -> None:
    store_run(settings, file, 0, 30)
    with pytest.raises(UnknownNameError, match="buffer:load"):
        learn(file, settings=settings, only=["buffer:laod"])
    found = learn(file, settings=settings, apply=True, only=["buffer:load"])
    assert found.applied and "duration: 30m" in file.read_text()
    with pytest.raises(UnknownNameError):
        learn("nobody", settings=settings)


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_line_ends_of_a_document_are_kept(
    settings: AthenaSettings, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    text = TEXT if name == "plan.yaml" else json.dumps(yaml.safe_load(TEXT), indent=2) + "\n"
    file.write_bytes(text.replace("\n", "\r\n").encode())
    store_run(settings, file, 0, 30)
    found = learn(file, settings=settings, apply=True, only=["buffer:load"])
    assert found.applied and "\r" not in found.diff
    written = file.read_bytes()
    assert written.count(b"\r\n") == written.count(b"\n") == text.count("\n")
    assert b"30m" in written


def test_a_file_that_was_changed_meanwhile_is_left_alone(
    settings: AthenaSettings, file: Path
) -> None:
    store_run(settings, file, 0, 30)

    def meddle(_: str) -> None:
        file.write_text(TEXT + "# another's\n")

    with pytest.raises(InputError, match="was changed meanwhile"):
        learn(file, settings=settings, apply=True, only=["buffer:load"], before=meddle)
    assert file.read_text() == TEXT + "# another's\n"


def test_a_document_whose_revision_cannot_be_stored_is_put_back(
    settings: AthenaSettings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_run(settings, file, 0, 30)

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(PlanStore, "register", refuse)
    with pytest.raises(StorageError, match="no room"):
        learn(file, settings=settings, apply=True, only=["buffer:load"])
    assert file.read_text() == TEXT
    assert [f.name for f in file.parent.iterdir() if f.name.startswith(f".{file.name}")] == []


def test_lessons_of_one_plan_are_recalled_for_another(
    settings: AthenaSettings, file: Path, tmp_path: Path
) -> None:
    for day in range(3):
        store_run(settings, file, day, 20, extract=15)
    learn(file, settings=settings)
    other = tmp_path / "other.yaml"
    other.write_text(
        "name: other\ntasks:\n  - {id: pull, call: 'tasks.load:extract', duration: 1h}\n"
    )
    now = T0 + timedelta(days=4)
    (known,) = lessons(other, settings=settings, clock=lambda: now).lessons
    assert known.tasks == ("pull",) and known.because == "calls tasks.load:extract"
    (found,) = recalled(Plan.load(other), settings=settings, now=now)
    assert found.confidence is not None and found.confidence > 0.8
    later = T0 + timedelta(days=900)
    assert lessons(settings=settings, clock=lambda: later).lessons == ()
    assert len(lessons(settings=settings, every=True, clock=lambda: later).lessons) == 1


def test_a_task_that_became_slower_is_told_with_why_nothing_more_is_known(
    settings: AthenaSettings, file: Path
) -> None:
    for day in range(24):
        store_run(settings, file, day, 20, extract=10 if day < 12 else 25)
    found = learn(file, settings=settings)
    (slow,) = found.slowdowns
    assert slow.task_id == "extract" and slow.change.ratio == pytest.approx(2.5)
    assert slow.commit is None and "is not in the project" in str(slow)
    assert any(k.lesson.kind == "code" for k in found.lessons)


def test_decisions_are_held_or_missed_by_what_was_promised_with_them(
    settings: AthenaSettings, file: Path
) -> None:
    from athena_prefect.journal.events import RunEvent, RunEventKind
    from athena_prefect.storage.sql_journal import SqlJournal

    database = Database.open(settings)
    store, journal = PlanStore(database), SqlJournal(database)

    def promised(run: UUID, day: int, minutes: float) -> int:
        """What the first revision promised; its decision."""
        at = T0 + timedelta(days=day)
        quantiles = {"p50": 60 * minutes - 60, "p90": 60 * minutes}
        journal.append(RunEvent(plan_run=run, kind=RunEventKind.BASELINED, at=at,
                                data={"quantiles": quantiles}))  # fmt: skip
        return store.run(run).decision_id

    on_time = promised(store_run(settings, file, 0, 20), 0, 31)
    late = promised(store_run(settings, file, 1, 30), 1, 31)
    changed = store_run(settings, file, 2, 30)
    replaced = promised(changed, 2, 31)
    plan = Plan.load(file)
    second = store.save_run_revision(changed, 2, plan, figures={"accepted": 41 * 60.0}).id
    untouched = store_run(settings, file, 3, 20)
    learn(file, settings=settings)
    told = {d: store.decision(d).validation_status for d in (on_time, late, replaced, second)}
    assert told == {on_time: "held", late: "missed", replaced: "missed", second: "held"}
    assert store.decision(store.run(untouched).decision_id).validation_status == "valid"


def test_figures_are_those_of_the_plan_that_is_asked_for(
    settings: AthenaSettings, file: Path
) -> None:
    for day in range(4):
        store_run(settings, file, day, 25)
    found = accuracy("nightly", settings=settings)
    assert found.runs == 4
    assert found.accuracy.by_task["load"].bias == pytest.approx(0.25)
    assert patterns(file, settings=settings).plan == "nightly"


def test_a_slowdown_is_told_with_commit_function_and_line(
    settings: AthenaSettings, file: Path
) -> None:
    from athena_prefect.journal.events import RunEvent, RunEventKind, TaskEvent, TaskEventKind
    from athena_prefect.storage.sql_journal import SqlJournal
    from tests.runtime.test_code_version import git

    root = file.parent
    (root / "tasks").mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    source = root / "tasks" / "load.py"
    source.write_text("def extract():\n    return parse()\n\n\ndef parse():\n    return 1\n")
    git(root, "add", "tasks")
    git(root, "commit", "--quiet", "-m", "first")
    before = git(root, "rev-parse", "HEAD")
    source.write_text("def extract():\n    return parse()\n\n\ndef parse():\n    return 2 ** 9\n")
    git(root, "commit", "--quiet", "-am", "second thoughts")
    after = git(root, "rev-parse", "HEAD")
    journal = SqlJournal(Database.open(settings))
    spot = {"file": "tasks/load.py", "line": 5, "function": "parse", "own": 9.0, "total": 9.0,
            "share": 0.9, "below": 0.9}  # fmt: skip
    for day in range(24):
        run = store_run(settings, file, day, 20, extract=10 if day < 12 else 25)
        at = T0 + timedelta(days=day)
        journal.append(
            RunEvent(plan_run=run, kind=RunEventKind.STARTED, at=at,
                     data={"commit": before if day < 12 else after}),
            TaskEvent(plan_run=run, task_id="extract", kind=TaskEventKind.ENDED, at=at, source="s",
                      outcome=TaskOutcome.SUCCESS, data={"profile": [spot]}),
        )  # fmt: skip
    (slow,) = learn(file, settings=settings).slowdowns
    assert slow.commit is not None and slow.commit.sha == after
    said = slow.as_dict()
    assert (said["file"], said["line"], said["function"]) == ("tasks/load.py", 5, "parse")
    assert "second thoughts" in str(slow)
    assert "90 % of its time is spent in parse (tasks/load.py:5)" in str(slow)


def test_where_the_time_of_a_sampled_task_goes_is_told_though_it_became_no_slower(
    settings: AthenaSettings, file: Path
) -> None:
    from athena_prefect.journal.events import TaskEvent, TaskEventKind
    from athena_prefect.storage.sql_journal import SqlJournal

    (file.parent / "tasks").mkdir()
    (file.parent / "tasks" / "load.py").write_text("\n\ndef parse(): ...\n")
    journal = SqlJournal(Database.open(settings))
    for day, share in enumerate((0.5, 0.75, None)):
        run = store_run(settings, file, day, 30)
        spot = {"file": "tasks/load.py", "line": 1, "function": "parse", "own": 9.0, "total": 9.0,
                "share": share, "below": share}  # fmt: skip
        journal.append(
            TaskEvent(plan_run=run, task_id="load", kind=TaskEventKind.ENDED, source="s",
                      at=T0 + timedelta(days=day), outcome=TaskOutcome.SUCCESS,
                      data={} if share is None else {"profile": [spot]}),
        )  # fmt: skip
    found = learn(file, settings=settings)
    (sampled,) = found.sampled
    assert found.slowdowns == ()
    assert str(sampled) == "load spends 75 % in parse (tasks/load.py:3)", "the newest, as it is now"
    assert sampled.at == T0 + timedelta(days=1)
    assert taught(Plan.load(file), settings=settings).sampled == (str(sampled),)


def test_a_task_that_is_slower_no_more_weakens_the_lesson_that_it_is(
    settings: AthenaSettings, file: Path
) -> None:
    def known() -> Lesson:
        found = learn(file, settings=settings).lessons
        return next(k.lesson for k in found if k.lesson.kind == "code")

    for day in range(24):
        run = store_run(settings, file, day, 20, extract=10 if day < 12 else 25)
    slow = known()
    assert (slow.support, slow.against, slow.samples) == (1.0, 0.0, 1)
    assert slow.decisions == (PlanStore(Database.open(settings)).run(run).decision_id,)
    assert known() == slow, "the same run counts once"
    store_run(settings, file, 24, 20, extract=25)
    assert known().samples == 2 and known().against == 0
    for day in range(25, 37):
        store_run(settings, file, day, 20, extract=10)
    mended = known()
    assert mended.samples == 3 and mended.against == pytest.approx(1.0)


def test_a_new_plan_is_simulated_with_what_other_plans_taught(
    settings: AthenaSettings, file: Path, tmp_path: Path
) -> None:
    for day in range(3):
        store_run(settings, file, day, 20, extract=15)
    learn(file, settings=settings)
    other = tmp_path / "other.yaml"
    other.write_text(
        "name: other\ntasks:\n  - {id: pull, call: 'tasks.load:extract', duration: 1h}\n"
    )
    now = T0 + timedelta(days=4)
    found = simulate_plan(other, now=now, settings=settings)
    assert found.quantiles["p50"] == pytest.approx(90 * 60)
    (told,) = found.lessons
    assert told.startswith("extract needs a buffer of 50 % (calls tasks.load:extract; 3 runs, P 0")
    plain = simulate_plan(other, now=now)
    assert plain.lessons == () and plain.quantiles["p50"] == pytest.approx(60 * 60)
    nowhere = AthenaSettings(home=tmp_path / "nowhere")
    assert simulate_plan(other, now=now, settings=nowhere).lessons == ()
    assert not (tmp_path / "nowhere").exists(), "to look at a plan makes no database"
