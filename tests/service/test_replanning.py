"""What is asked about the rest of a run, from the database."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.journal.events import CheckEvent, TaskEvent, TaskEventKind
from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.options import Kind
from athena_prefect.runtime.rows import Rows
from athena_prefect.service.following import utc_now
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import replan, why_late
from athena_prefect.service.revisions import revisions
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lessons import StoredLessons
from athena_prefect.storage.sql_journal import SqlJournal
from tests.service.levers import begun
from tests.service.standin import StandIn


def test_options_are_measured_and_nothing_is_stored(
    settings: AthenaSettings, tmp_path: Path
) -> None:
    run = begun(settings, tmp_path)
    found = replan(str(run), settings=settings, strategy="full")
    kinds = {o.kind for o in found.options}
    assert Kind.ABORT in kinds and len(kinds) >= 3
    assert found.recommended is not None
    assert found.before.keys() == {"get", "clean", "put", "extra"}
    assert found.after
    data = found.as_dict()
    assert data["options"][-1]["kind"] == "abort" and data["recommended_option"] is not None
    assert [r.revision for r in revisions(str(run), settings=settings)] == [1]


def test_violations_are_read_from_the_journal(settings: AthenaSettings, tmp_path: Path) -> None:
    run = begun(settings, tmp_path)
    journal = SqlJournal(Database.open(settings))
    calm = replan(str(run), settings=settings).evaluation
    for assumption in ("fast", "nothing"):
        journal.append(
            CheckEvent(
                plan_run=run, assumption_id=assumption, check_id="1", at=utc_now(),
                verdict="violated", data={"value": 3},
            )
        )  # fmt: skip
    found = replan(str(run), settings=settings).evaluation
    assert found.slip is not None and calm.slip is not None and found.slip > calm.slip + 0.3
    assert any("fast" in r.text for r in found.reasons)
    assert not any("nothing" in r.text for r in found.reasons), "it has no effect"
    journal.append(
        CheckEvent(plan_run=run, assumption_id="fast", check_id="2", at=utc_now(), verdict="holds")
    )
    after = replan(str(run), settings=settings).evaluation
    assert not any("fast" in r.text for r in after.reasons)


def test_why_reads_the_run(settings: AthenaSettings, tmp_path: Path) -> None:
    run = begun(settings, tmp_path)
    journal = SqlJournal(Database.open(settings))
    journal.append(
        TaskEvent(
            plan_run=run, task_id="clean", kind=TaskEventKind.STARTED, at=utc_now(), source="c"
        )
    )
    found = why_late(str(run), settings=settings)
    assert found.slip is not None
    total = sum((s.amount for s in found.shares), timedelta(0))
    assert total.total_seconds() == pytest.approx(found.slip.total_seconds(), abs=0.05)


def test_what_is_wrong_is_said(settings: AthenaSettings, tmp_path: Path) -> None:
    run = begun(settings, tmp_path)
    with pytest.raises(InputError, match="no strategy 'most'; there are none, local"):
        replan(str(run), settings=settings, strategy="most")
    with pytest.raises(UnknownNameError, match="no registered plan or plan run 'nobody'"):
        revisions("nobody", settings=settings)
    over = uuid4()
    StandIn()(Plan.load(tmp_path / "levers.yaml"), settings=settings, plan_run=over, parameters={})
    with pytest.raises(InputError, match="is over"):
        replan(str(over), settings=settings)


def test_full_replans_are_made_with_the_stored_lessons(
    settings: AthenaSettings, tmp_path: Path
) -> None:
    run = begun(settings, tmp_path)
    plan = open_run(str(run), settings=settings).plan
    assert replan(str(run), settings=settings, strategy="full").lessons == ()
    said = [
        Evidence(kind=LessonKind.DURATION, subject="put", statement="put needs a buffer of 50 %",
                 at=utc_now(), run=key, plan=plan.name, value=0.5)
        for key in ("r1", "r2")
    ]  # fmt: skip
    memory = StoredLessons(Database.open(settings), namespace=settings.namespace)
    memory.learn(said, Consolidation())
    found = replan(str(run), settings=settings, strategy="full")
    (lesson,) = found.lessons
    assert lesson.startswith("put needs a buffer of 50 % (the same task; 2 runs")
    assert found.as_dict()["lessons"] == [lesson]
    # The run's own process recalls the same.
    rows = Rows(settings=settings, plan_run=run, clock=utc_now)
    assert [r.lesson.subject for r in rows.recalled(plan)] == ["put"]
