"""Revisions of a plan and of its runs, as they are kept and listed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from athena_prefect.errors import StorageError
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import engine_for
from athena_prefect.service.revisions import (
    first_accuracy,
    keep_revision,
    replanning_accuracy,
    revisions,
)
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from tests.service.levers import begun


def test_a_kept_revision_has_its_lineage(settings: AthenaSettings, tmp_path: Path) -> None:
    run = begun(settings, tmp_path)
    followed = open_run(str(run), settings=settings)
    monitor = followed._monitored()
    assert monitor is not None
    result = engine_for(monitor).full_replan("too slow", {"budget_s": 0.2})
    assert result.verification_passed
    kept = keep_revision(run, result, settings=settings, author="somebody")
    assert kept.revision == 2 and kept.strategy == "full" and kept.outcome == "proposed"
    newest, first = revisions(str(run), settings=settings)
    assert (newest.revision, first.revision) == (2, 1)
    assert newest.author == "somebody" and newest.reason == "too slow"
    assert newest.strategy == "full" and set(newest.changes) == set(result.changes)
    # As data too, with what of the plan before is kept and what is lost of the work.
    assert [c["words"] for c in newest.details] == list(newest.changes)
    assert {c["kind"] for c in newest.details} <= {"mode", "dropped", "dependency"}
    assert result.stability is not None and newest.stability == result.stability.value
    assert newest.work_lost == timedelta(0) and first.work_lost is None
    assert first.stability is None and first.details == ()
    told = newest.as_dict()
    assert told["promised"] == pytest.approx(result.acceptance["accepted"])
    assert told["work_lost"] == 0.0
    assert {r.plan_run for r in revisions("made-up", settings=settings)} == {run, None}
    # The stored document is a plan that can be read again.
    again = open_run(str(run), settings=settings).plan
    assert again.task_ids == result.new_plan.task_ids
    with pytest.raises(StorageError):
        keep_revision(run, result, settings=settings)


@pytest.mark.parametrize("late", [False, True])
def test_a_promise_is_held_against_how_the_run_ended(
    settings: AthenaSettings, tmp_path: Path, late: bool
) -> None:
    run = begun(settings, tmp_path)
    monitor = open_run(str(run), settings=settings)._monitored()
    assert monitor is not None
    result = engine_for(monitor).full_replan("too slow", {"budget_s": 0.2})
    keep_revision(run, result, settings=settings)
    newest, first = revisions(str(run), settings=settings)
    promised = timedelta(seconds=result.acceptance["accepted"])
    assert newest.promised == promised and newest.p_deadline == result.acceptance["p_deadline"]
    assert newest.kept is None, "it goes on"
    assert replanning_accuracy((newest, first)) == (0, 0)
    store = PlanStore(Database.open(settings))
    began = store.run(run).started_at
    ended = began + promised + timedelta(seconds=1 if late else 0)
    store.set_run_status(run, "completed", ended=ended)
    found = revisions(str(run), settings=settings)
    assert [r.kept for r in found] == [not late, None], "the first one was replaced"
    assert replanning_accuracy(found) == (0 if late else 1, 1)


@pytest.mark.parametrize("late", [False, True])
def test_what_was_promised_when_the_run_began_is_told_and_judged(
    settings: AthenaSettings, tmp_path: Path, late: bool
) -> None:
    run = begun(settings, tmp_path)
    monitor = open_run(str(run), settings=settings)._monitored()
    assert monitor is not None and monitor.baseline.accepted is not None
    promised = timedelta(seconds=monitor.baseline.accepted)
    (first,) = revisions(str(run), settings=settings)
    assert first.promised == promised and first.kept is None, "it goes on"
    assert first.p_deadline == monitor.baseline.p_deadline
    store = PlanStore(Database.open(settings))
    ended = store.run(run).started_at + promised + timedelta(seconds=1 if late else 0)
    store.set_run_status(run, "completed", ended=ended)
    found = revisions(str(run), settings=settings)
    assert [r.kept for r in found] == [not late]
    assert first_accuracy(found) == (0 if late else 1, 1) and replanning_accuracy(found) == (0, 0)
