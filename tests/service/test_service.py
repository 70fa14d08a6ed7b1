"""The use cases, with the runtime stood in for: what they answer, refuse, and leave behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from athena_prefect import service
from athena_prefect.errors import (
    InputError,
    LeaseHeldError,
    ParameterError,
    PlanDocumentError,
    SchemaError,
    UnknownNameError,
    UnknownRunError,
)
from athena_prefect.journal.events import CommandKind, Event
from athena_prefect.journal.journal import MemoryJournal, Recorded
from athena_prefect.service.following import FollowedRun, ReadOnly
from athena_prefect.service.reading import pause_after
from athena_prefect.service.replanning import replan
from athena_prefect.service.results import RunOutcome, RunStatus, ShownPlan, Unwatched
from athena_prefect.service.running import run_plan
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Leases
from athena_prefect.storage.sql_journal import SqlJournal
from tests.service.standin import PLAN, StandIn


class Notes(Unwatched):
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.events: list[Event] = []
        self.last: RunStatus | None = None

    def planned(self, shown: ShownPlan) -> None:
        self.said.append(f"plan {shown.plan.name}")

    def happened(self, events: tuple[Event, ...]) -> None:
        self.events += events

    def stands(self, status: RunStatus) -> None:
        self.last = status

    def cancelling(self) -> None:
        self.said.append("cancelling")


def run(file: Path, settings: AthenaSettings, **more: Any) -> RunOutcome:
    options: dict[str, Any] = {"values": {"limit": "3"}, "execute": StandIn(), **more}
    return run_plan(file, settings=settings, **options)


# -- plans --------------------------------------------------------------------------------------


def test_a_sound_plan_is_described(plan_file: Path) -> None:
    found = service.validate(plan_file)
    assert (found.name, found.tasks, found.resources, found.runnable) == ("made-up", 3, 1, True)
    assert json.loads(json.dumps(found.as_dict()))["file"] == str(plan_file)


def test_a_plan_whose_callable_is_missing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("json:dumps", "json:dmps"))
    with pytest.raises(PlanDocumentError, match="dumps"):
        service.validate(file)


def test_a_shown_plan_has_floats_path_and_baseline(plan_file: Path) -> None:
    shown = service.show(plan_file)
    assert shown.critical_path == ("get", "clean", "put")
    assert shown.makespan == pytest.approx(10 + 57 / 6 + 4)
    assert [t.total_float for t in shown.tasks] == [0, 0, 0]
    assert shown.baseline["p10"] <= shown.baseline["p50"] <= shown.baseline["p90"]
    told = json.loads(json.dumps(shown.as_dict()))
    assert told["deadline"] == "1h"


def test_what_is_not_known_of_a_plan_is_null_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("name: p\ntasks: [{id: a}, {id: b, duration: 2s, depends_on: [a]}]")
    shown = service.show(file)
    assert shown.makespan is None
    assert shown.baseline == {}
    assert shown.tasks[0].duration is None
    assert "a" in shown.reason
    assert service.validate(file).unknown_durations == ("a",)
    assert not service.validate(file).runnable


def test_a_document_is_registered_once(plan_file: Path, settings: AthenaSettings) -> None:
    first = service.register(plan_file, settings=settings)
    again = service.register(plan_file, settings=settings)
    assert (first.new, again.new) == (True, False)
    assert first.plan_id == again.plan_id
    plan_file.write_text(PLAN.replace("Three steps", "Three better steps"))
    assert service.register(plan_file, settings=settings).revision == first.revision + 1


# -- runs ---------------------------------------------------------------------------------------


def test_a_run_is_watched_recorded_and_reported(plan_file: Path, settings: AthenaSettings) -> None:
    notes, stand_in = Notes(), StandIn()
    outcome = run(plan_file, settings, observer=notes, execute=stand_in)
    assert (outcome.status, outcome.exit_code) == ("completed", 0)
    assert notes.said == ["plan made-up"]
    assert notes.last is not None
    assert notes.last.over
    assert len(notes.events) == 2 + 2 * 3 + 1  # started, baselined, the tasks, ended
    assert stand_in.seen[0]["parameters"] == {"limit": 3}
    assert outcome.report is not None
    assert "completed" in outcome.report.read_text()
    assert json.loads(json.dumps(outcome.as_dict()))["plan"] == "made-up"


def test_a_runs_status_and_report_come_from_the_database_by_the_first_letters(
    plan_file: Path, settings: AthenaSettings, tmp_path: Path
) -> None:
    outcome = run(plan_file, settings)
    prefix = str(outcome.plan_run)[:6]
    found = service.status(prefix, settings=settings)
    assert (found.plan_run, found.word, found.exit_code) == (outcome.plan_run, "completed", 0)
    assert found.deviation is not None
    assert found.view.planned_finish is not None
    assert set(found.as_dict()["tasks"].values()) == {"success"}
    written = service.report(prefix, tmp_path / "new" / "r.html", settings=settings)
    assert written.file.read_text().startswith("<!doctype html>")
    assert service.status(None, settings=settings).plan_run == outcome.plan_run


def test_looking_at_a_run_writes_nothing(plan_file: Path, settings: AthenaSettings) -> None:
    outcome = run(plan_file, settings)
    journal = SqlJournal(Database.open(settings))
    before = journal.last_position(outcome.plan_run)
    service.status(None, settings=settings)
    service.report(None, settings.home / "r.html", settings=settings)
    assert journal.last_position(outcome.plan_run) == before
    followed = service.open_run(None, settings=settings)
    memory = MemoryJournal()
    assert set(ReadOnly(memory).append(*followed.poll())) == {Recorded.KNOWN}
    assert memory.read(outcome.plan_run) == ()


def test_a_run_whose_process_is_gone_is_interrupted(
    plan_file: Path, settings: AthenaSettings
) -> None:
    outcome = run(plan_file, settings, execute=StandIn(stops_after=1, flow_run_id=str(uuid4())))
    found = service.status(None, settings=settings)
    assert (found.word, found.exit_code) == ("interrupted", 1)
    leases = Leases(Database.open(settings))
    lease = leases.acquire(outcome.plan_run, "a dispatcher", ttl=timedelta(minutes=1))
    assert service.status(None, settings=settings).word == "running"
    leases.release(lease)
    assert service.status(None, settings=settings).word == "interrupted"
    run(plan_file, settings, values={}, resume=str(outcome.plan_run))
    assert service.status(None, settings=settings).word == "completed"


def test_a_run_that_was_killed_after_its_last_task_says_one_thing_everywhere(
    plan_file: Path, settings: AthenaSettings
) -> None:
    execute = StandIn(stops_after=3, flow_run_id=str(uuid4()))
    run_id = str(run(plan_file, settings, execute=execute).plan_run)
    found = service.status(None, settings=settings)
    assert (found.word, found.over) == ("interrupted", False)
    assert "nothing of it is left to be done" in found.gone
    assert f"--resume {run_id[:8]}" in found.gone
    with pytest.raises(InputError) as told:
        replan(run_id, settings=settings)
    assert str(told.value) == f"plan run {run_id[:8]} is interrupted: {found.gone}"
    run(plan_file, settings, values={}, resume=run_id)
    assert service.status(None, settings=settings).gone == ""
    with pytest.raises(InputError, match=r"is over \(completed\): nothing of it is left"):
        replan(run_id, settings=settings)


def test_a_run_that_somebody_records_by_hand_is_not_interrupted(
    plan_file: Path, settings: AthenaSettings
) -> None:
    run(plan_file, settings, execute=StandIn(stops_after=1))
    assert service.status(None, settings=settings).word == "running"


def test_runs_are_listed_newest_first_within_the_limit(
    plan_file: Path, settings: AthenaSettings
) -> None:
    made = [run(plan_file, settings).plan_run for _ in range(3)]
    assert [r.plan_run for r in service.runs(settings=settings, limit=2)] == made[:0:-1]
    with pytest.raises(UnknownNameError, match="there is 'made-up'"):
        service.runs(settings=settings, plan="another")
    other = AthenaSettings(home=settings.home, namespace="other")
    assert service.runs(settings=other) == ()


def test_a_failed_run_says_which_task_and_ends_with_1(
    plan_file: Path, settings: AthenaSettings
) -> None:
    outcome = run(plan_file, settings, execute=StandIn(fails="clean"))
    assert (outcome.exit_code, outcome.reason) == (1, "clean failed")
    found = service.status(None, settings=settings)
    assert found.exit_code == 1
    assert {r.task_id: r.detail for r in found.view.rows}["clean"] == "it broke"


def test_a_run_that_ends_after_its_deadline_ends_with_3(
    plan_file: Path, settings: AthenaSettings
) -> None:
    plan_file.write_text(PLAN.replace("deadline: 1h", "deadline: 4s"))
    run(plan_file, settings)
    assert service.status(None, settings=settings).exit_code == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"values": {}}, ParameterError, "'limit'"),
        ({"values": {"limit": "x"}}, ParameterError, "'limit'"),
        ({"resume": "ffff"}, UnknownRunError, "no plan run 'ffff'"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    plan_file: Path,
    settings: AthenaSettings,
    options: Mapping[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    stand_in = StandIn()
    with pytest.raises(error, match=message):
        run(plan_file, settings, execute=stand_in, **options)
    assert stand_in.seen == []
    assert service.runs(settings=settings) == ()


def test_a_plan_with_nothing_to_call_is_not_run(tmp_path: Path, settings: AthenaSettings) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("name: p\ntasks: [{id: a, duration: 1s}]")
    with pytest.raises(InputError, match=r"only monitored.*a;.*attach\(flow, plan\)"):
        run(file, settings, values={})


def test_what_the_runtime_refuses_is_raised(plan_file: Path, settings: AthenaSettings) -> None:
    held = LeaseHeldError("held by another", holder="another")
    with pytest.raises(LeaseHeldError):
        run(plan_file, settings, execute=StandIn(refuses=held))


def test_a_run_is_gone_on_with_from_its_stored_revision(
    plan_file: Path, settings: AthenaSettings
) -> None:
    first = run(plan_file, settings, execute=StandIn(stops_after=1))
    assert first.exit_code == 1
    plan_file.write_text(PLAN.replace("Three steps", "Edited since"))
    stand_in = StandIn()
    again = run(plan_file, settings, values={}, resume=str(first.plan_run)[:8], execute=stand_in)
    assert again.plan_run == first.plan_run
    assert stand_in.seen[0]["plan_run"] == first.plan_run
    assert again.final is not None
    assert again.final.plan.description == "Three steps"
    plan_file.write_text("name: [not sound")
    done = run(plan_file, settings, values={}, resume=str(first.plan_run), execute=StandIn())
    assert (done.exit_code, done.reason) == (
        0,
        "the run was completed already; nothing was started",
    )


def test_a_run_that_is_gone_on_with_keeps_its_parameters_and_its_plan(
    plan_file: Path, settings: AthenaSettings, tmp_path: Path
) -> None:
    first = run(plan_file, settings, execute=StandIn(stops_after=1))
    with pytest.raises(ParameterError, match="keeps its parameters"):
        run(plan_file, settings, resume=str(first.plan_run))
    other = tmp_path / "other.yaml"
    other.write_text(PLAN.replace("made-up", "other"))
    with pytest.raises(InputError, match="one of plan 'made-up'"):
        run(other, settings, values={}, resume=str(first.plan_run))


def test_a_report_that_cannot_be_written_does_not_change_how_the_run_ended(
    plan_file: Path, settings: AthenaSettings, tmp_path: Path
) -> None:
    outcome = run(plan_file, settings, report=tmp_path)
    assert (outcome.exit_code, outcome.report) == (0, None)
    with pytest.raises(InputError, match="another file with -o"):
        service.report(None, tmp_path, settings=settings)


def test_there_is_nothing_to_say_before_the_first_run(settings: AthenaSettings) -> None:
    with pytest.raises(UnknownRunError, match="no plan run yet"):
        service.status(None, settings=settings)


def test_an_unknown_name_of_the_service_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        service.nothing  # noqa: B018


# -- watching -----------------------------------------------------------------------------------


def test_a_watched_run_is_told_until_it_is_over(plan_file: Path, settings: AthenaSettings) -> None:
    run(plan_file, settings)
    notes = Notes()
    found = service.watch_run(service.open_run(None, settings=settings), notes)
    assert found.over
    assert notes.last is found
    assert len(notes.events) == 9


def test_looking_takes_at_most_its_share() -> None:
    assert pause_after(0.001) == 0.5
    assert pause_after(1.0) == 20.0


def test_a_run_without_a_journal_has_not_started(plan_file: Path) -> None:
    followed = FollowedRun(
        plan=service.show(plan_file).plan, plan_run=UUID(int=5), journal=MemoryJournal()
    )
    found = followed.status()
    assert (found.word, found.exit_code, found.deviation) == ("not started", 0, None)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_asks_the_dispatcher_to_end(plan_file: Path, settings: AthenaSettings) -> None:
    class Waiting(StandIn):
        def __call__(self, *args: Any, **options: Any) -> Any:
            ended = StandIn.__call__(self, *args, **options)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            journal = SqlJournal(Database.open(settings))
            end = time.monotonic() + 240  # more than a loaded machine needs
            while time.monotonic() < end:
                entries = journal.read(options["plan_run"])
                if any(getattr(e.event, "kind", None) is CommandKind.CANCEL for e in entries):
                    return ended
                time.sleep(0.05)
            pytest.fail("no command was written")

    notes = Notes()
    before = signal.getsignal(signal.SIGINT)
    run(plan_file, settings, observer=notes, execute=Waiting())
    assert notes.said[-1] == "cancelling"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_view_that_fails_does_not_end_the_run(plan_file: Path, settings: AthenaSettings) -> None:
    class Broken(Notes):
        def happened(self, events: tuple[Event, ...]) -> None:
            raise RuntimeError("a defect of the view")

    assert run(plan_file, settings, observer=Broken()).status == "completed"


# -- the database -------------------------------------------------------------------------------


def test_the_schema_is_told_and_upgraded(settings: AthenaSettings) -> None:
    before = service.db_current(settings=settings)
    assert (before.found, before.current) == (None, False)
    after = service.db_upgrade(settings=settings)
    assert after.current
    assert service.db_current(settings=settings).as_dict() == after.as_dict()


def test_a_newer_schema_is_refused(plan_file: Path, settings: AthenaSettings) -> None:
    service.db_upgrade(settings=settings)
    from sqlalchemy import text

    with Database.open(settings).writing() as connection:
        connection.execute(text("update athena_alembic_version set version_num = '9999'"))
    with pytest.raises(SchemaError, match="upgrade athena"):
        run(plan_file, settings)


@pytest.fixture(autouse=True)
def _closed(settings: AthenaSettings) -> Iterator[None]:
    yield
    from athena_prefect.storage.db import database_for

    database_for(settings.database_url, durable=settings.durable).close()
