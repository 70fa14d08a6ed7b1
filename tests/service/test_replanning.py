"""What is asked about the rest of a run, from the database; and of a plan before it runs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from athena_prefect.errors import InputError, StorageError, UnknownNameError
from athena_prefect.journal.events import CheckEvent, TaskEvent, TaskEventKind
from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.options import Kind
from athena_prefect.runtime.rows import Rows
from athena_prefect.service.following import utc_now
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import (
    engine_for,
    keep,
    keep_revision,
    replan,
    replanning_accuracy,
    revisions,
    simulate_plan,
    why_late,
)
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lessons import StoredLessons
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal
from tests.service.standin import StandIn

LEVERS = """
name: made-up
deadline: 40s
resources: {cpu: {capacity: 2}}
replanning: {policy: {budget_s: 0.3}}
tasks:
  - {id: get, call: "json:dumps", duration: 10s, resources: {cpu: 1}}
  - id: clean
    call: "json:dumps"
    depends_on: [get]
    duration: 20s
    modes: [{name: wide, duration: 5s, resources: {cpu: 2}}]
  - {id: put, call: "json:dumps", depends_on: [{task: clean, kind: soft}, get], duration: 10s}
  - {id: extra, call: "json:dumps", depends_on: [put], duration: 30s, optional: true, value: 0.2}
goals: [clean, put]
assumptions:
  - id: fast
    affects: [clean]
    milestones: [{after: get}]
    effect: {duration_factor: 3}
  - id: nothing
    affects: [put]
    milestones: [{after: get}]
"""


def _begun(settings: AthenaSettings, tmp_path: Path, text: str = LEVERS) -> UUID:
    """A run whose first task has ended, 6 s ago."""
    file = tmp_path / "levers.yaml"
    file.write_text(text)
    plan_run = uuid4()
    StandIn(stops_after=1)(Plan.load(file), settings=settings, plan_run=plan_run, parameters={})
    return plan_run


def test_options_are_measured_and_nothing_is_stored(
    settings: AthenaSettings, tmp_path: Path
) -> None:
    run = _begun(settings, tmp_path)
    found = replan(str(run), settings=settings, strategy="full")
    kinds = {o.kind for o in found.options}
    assert Kind.ABORT in kinds and len(kinds) >= 3
    assert found.recommended is not None
    assert found.before.keys() == {"get", "clean", "put", "extra"}
    assert found.after
    data = found.as_dict()
    assert data["options"][-1]["kind"] == "abort" and data["recommended_option"] is not None
    assert [r.revision for r in revisions(str(run), settings=settings)] == [1]


def test_a_kept_revision_has_its_lineage(settings: AthenaSettings, tmp_path: Path) -> None:
    run = _begun(settings, tmp_path)
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
    run = _begun(settings, tmp_path)
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


def test_a_runs_revision_becomes_the_plans(settings: AthenaSettings, tmp_path: Path) -> None:
    run = _begun(settings, tmp_path)
    with pytest.raises(InputError, match="there is nothing to keep"):
        keep(str(run), settings=settings)
    monitor = open_run(str(run), settings=settings)._monitored()
    assert monitor is not None
    result = engine_for(monitor).full_replan("too slow", {"budget_s": 0.2})
    assert result.modes, "the test is about a mode"
    keep_revision(run, result, settings=settings)
    file = tmp_path / "levers.yaml"
    before = file.read_text()
    kept = keep(str(run), settings=settings)
    assert kept.run_revision == 2 and kept.revision == 2 and kept.file == file
    assert kept.former is not None and kept.former.read_text() == before
    written = Plan.load(file)
    for task_id, name in result.modes.items():
        chosen = result.new_plan.get_task(task_id).mode(name)
        now = written.get_task(task_id)
        assert (now.call, now.duration, now.resources) == (
            chosen.call, chosen.duration, chosen.resources,
        )  # fmt: skip
    dropped = set(monitor.plan.task_ids) - set(result.new_plan.task_ids)
    assert set(written.task_ids) == set(monitor.plan.task_ids) - dropped
    newest = next(r for r in revisions("made-up", settings=settings) if r.plan_run is None)
    assert newest.reason == f"kept from revision 2 of run {str(run)[:8]}"
    # What was changed since by hand is nobody's to overwrite.
    with pytest.raises(InputError, match="has changed since run"):
        keep(str(run), settings=settings)


def test_violations_are_read_from_the_journal(settings: AthenaSettings, tmp_path: Path) -> None:
    run = _begun(settings, tmp_path)
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
    run = _begun(settings, tmp_path)
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
    run = _begun(settings, tmp_path)
    with pytest.raises(InputError, match="no strategy 'most'; there are none, local"):
        replan(str(run), settings=settings, strategy="most")
    with pytest.raises(UnknownNameError, match="no registered plan or plan run 'nobody'"):
        revisions("nobody", settings=settings)
    over = uuid4()
    StandIn()(Plan.load(tmp_path / "levers.yaml"), settings=settings, plan_run=over, parameters={})
    with pytest.raises(InputError, match="is over"):
        replan(str(over), settings=settings)


def test_a_plan_is_simulated_before_any_run(tmp_path: Path) -> None:
    file = tmp_path / "levers.yaml"
    file.write_text(LEVERS)
    found = simulate_plan(file)
    # get, clean, put, extra; one after the other but for extra.
    assert found.deadline == 40.0 and found.p_deadline == 0.0
    assert found.quantiles["p50"] == 70.0 and found.samples == 1
    assert set(found.scenarios) == {"best", "nominal", "worst", "edge", "recovery"}
    assert found.scenarios["recovery"] == 100.0, "the longest critical task is done twice"
    assert found.criticality == {"get": 1.0, "clean": 1.0, "put": 1.0, "extra": 1.0}
    fast, nothing = found.assumptions
    assert fast.assumption_id == "fast" and fast.finish == timedelta(seconds=40)
    assert nothing.finish is None and nothing.reason == "the plan declares no effect"
    unknown = Plan.model_validate({"name": "u", "tasks": [{"id": "a", "call": "json:dumps"}]})
    assert "no duration is known of a" in simulate_plan(unknown).reason


def test_what_keeps_the_goals_from_being_reached_hurts_most() -> None:
    blocks = {"id": "disk", "affects": ["a"], "milestones": [{"at": "start"}],
              "effect": {"block": True}}  # fmt: skip
    slow = blocks | {"id": "slow", "effect": {"duration_factor": 2.0}}
    aside = blocks | {"id": "aside", "affects": ["b"]}
    document = {
        "name": "p", "deadline": 100, "goals": ["a"], "assumptions": [slow, aside, blocks],
        "tasks": [{"id": "a", "duration": 10}, {"id": "b", "duration": 5, "optional": True}],
    }  # fmt: skip
    found = simulate_plan(Plan.model_validate(document)).assumptions
    assert [h.assumption_id for h in found] == ["disk", "slow", "aside"]
    assert found[0].blocks and found[0].p_deadline == 0.0
    assert found[0].reason == "blocks a: the goals would not be reached"
    assert found[2].reason == "blocks b, which no goal needs" and not found[2].blocks


def test_full_replans_are_made_with_the_stored_lessons(
    settings: AthenaSettings, tmp_path: Path
) -> None:
    run = _begun(settings, tmp_path)
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
