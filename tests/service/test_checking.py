"""Assumptions from outside a run: listed, checked, answered."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from athena_prefect.errors import InputError, UnknownNameError, UnknownRunError
from athena_prefect.journal.journal import Journal
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.service import check, checks
from athena_prefect.service.checking import check_scheduled
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal

PLAN = """
name: shop
parameters: {file: {type: string, default: in.csv}}
tasks:
  - {id: load, duration: 10m}
  - {id: ship, duration: 20m, depends_on: [load]}
assumptions:
  - {id: there, check: {kind: file_exists, path: "{{ parameters.file }}"}, affects: [load]}
  - id: memory
    validation_frequency: 1h
    check: {kind: memory, unit: B}
    expected_value: 1
  - id: people
    validation_method: manual
    expected_value: 0.8
    sense: at_least
    affects: [ship]
    effect: {duration_factor: 2}
  - {id: of_the_run, check: {kind: function, call: "json:loads", with: {s: "{{ run.id }}"}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def live(file: Path, settings: AthenaSettings) -> tuple[Plan, Journal]:
    """A run of the plan that somebody records by hand."""
    plan, plan_run, now = Plan.load(file), uuid4(), datetime.now(UTC)
    database = Database.open(settings)
    PlanStore(database).open_run(plan_run, plan, started=now, namespace=settings.namespace)
    journal = SqlJournal(database)
    context = ExecutionContext(
        plan_run=plan_run, clock=lambda: now, started_at=now, journal=journal
    )
    ExecutionMonitor(plan, context)
    return plan, journal


def test_a_dry_run_needs_no_run(file: Path, settings: AthenaSettings) -> None:
    found = check(file, "there", dry_run=True, settings=settings)
    assert found.result.valid is False and found.exit_code == 1 and found.plan_run is None
    (file.parent / "in.csv").touch()
    found = check(file, "there", settings=settings)
    assert found.result.valid is True and found.exit_code == 0 and found.plan_run is None
    found = check(file, "people", value="0.9", dry_run=True, settings=settings)
    assert found.result.valid is True and found.result.method == "manual"
    assert "only in a run" in check(file, "of_the_run", settings=settings).result.error


def test_an_answer_goes_to_the_live_run(file: Path, settings: AthenaSettings) -> None:
    live(file, settings)
    found = check(file, "people", value="0.5", author="Ada", settings=settings)
    assert found.result.valid is False and found.result.author == "Ada"
    known = checks(file, settings=settings)
    assert known.live and known.plan_run == found.plan_run
    people = next(a for a in known.assumptions if a.assumption_id == "people")
    assert (people.verdict, people.checks, people.severity) == ("violated", 1, "high")
    assert "ship moves by 20m" in people.impact
    path = settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as rows:
        kept = rows.execute("select assumption_id, verdict from assumption_validations").fetchall()
    assert kept == [("people", "violated")]


def test_what_is_known_of_all(file: Path, settings: AthenaSettings) -> None:
    known = checks(file, settings=settings)
    assert known.plan_run is None
    assert [a.verdict for a in known.assumptions] == [None] * 4
    live(file, settings)
    assert check(file, "memory", settings=settings).result.valid is True
    memory = next(
        a for a in checks(file, settings=settings).assumptions if a.assumption_id == "memory"
    )
    assert memory.verdict == "holds" and memory.kind == "memory" and memory.frequency == "1h"
    assert memory.next is not None and memory.last is not None and memory.next > memory.last
    assert known.as_dict()["assumptions"][2]["method"] == "manual"


def test_what_is_refused(file: Path, settings: AthenaSettings) -> None:
    with pytest.raises(UnknownRunError, match="no live run"):
        check(file, "people", value="1", settings=settings)
    with pytest.raises(InputError, match="give --value"):
        check(file, "people", settings=settings)
    with pytest.raises(UnknownNameError, match="did you mean 'people'"):
        check(file, "peple", value="1", settings=settings)
    live(file, settings)
    live(file, settings)
    with pytest.raises(InputError, match="2 live runs; name one with --run"):
        check(file, "people", value="1", settings=settings)


def test_a_scheduled_check_without_a_run_is_a_row_of_its_own(
    file: Path, settings: AthenaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        PLAN.replace(
            "  - {id: there, ", "  - {id: there, active: always, validation_frequency: 1m, "
        )
    )
    told: list[str] = []
    monkeypatch.setattr(
        "athena_prefect.runtime.events.emit", lambda event, *_, **__: told.append(event)
    )
    moments = iter(range(10))

    def clock() -> datetime:
        return datetime(2026, 1, 5, 8, next(moments), tzinfo=UTC)

    def look() -> bool | None:
        return check_scheduled(file, "there", settings=settings, clock=clock).result.valid

    assert look() is False and look() is False
    (file.parent / "in.csv").touch()
    assert look() is True and look() is True
    assert [t.rpartition(".")[2] for t in told] == ["violated", "checked", "recovered", "checked"]
    path = settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as rows:
        kept = rows.execute("select plan_run, valid from assumption_validations").fetchall()
    assert kept == [(None, 0), (None, 0), (None, 1), (None, 1)]
    there = next(
        a for a in checks(file, settings=settings).assumptions if a.assumption_id == "there"
    )
    assert (there.verdict, there.reason) == ("holds", "by its schedule, while no run lives")


def test_how_often_in_a_row_something_could_not_be_seen_is_listed(
    file: Path, settings: AthenaSettings
) -> None:
    live(file, settings)
    for _ in range(2):
        check(file, "of_the_run", settings=settings)
    rows = {a.assumption_id: a for a in checks(file, settings=settings).assumptions}
    assert rows["of_the_run"].verdict == "unknown" and rows["of_the_run"].unknown_in_a_row == 2
    assert rows["memory"].unknown_in_a_row == 0


def test_a_scheduled_check_leaves_a_live_run_its_own(file: Path, settings: AthenaSettings) -> None:
    live(file, settings)
    first = check_scheduled(file, "memory", settings=settings)
    assert first.plan_run is not None and first.result.valid is True
    again = check_scheduled(file, "memory", settings=settings)
    assert again.result.check_id == first.result.check_id, "it was made in time: not again"
    with pytest.raises(InputError, match="not checked by the clock"):
        check_scheduled(file, "people", settings=settings)
