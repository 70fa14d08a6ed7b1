"""Lessons: strengthened, contradicted, faded, recalled, and used for the next plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from athena_prefect.errors import InputError
from athena_prefect.learning.evidence import evidence_of
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.memory import (
    Consolidation,
    Evidence,
    Lesson,
    LessonKind,
    Memory,
    MemoryPolicy,
    estimates_with,
    recall,
)
from athena_prefect.learning.records import CheckRecord
from athena_prefect.plan.model import Plan
from tests.learning.runs import T0, plan_of, record, run_of

DAY = timedelta(days=1)
POLICY = MemoryPolicy()


def finding(run: str, *, holds: bool = True, day: float = 0, value: float = 0.2) -> Evidence:
    return Evidence(
        kind=LessonKind.DURATION, subject="t3", statement="t3 needs a buffer", at=T0 + day * DAY,
        run=run, plan="p", holds=holds, value=value, category="load", call="tasks.sql:run",
    )  # fmt: skip


def learned(*given: Evidence) -> Lesson:
    memory = Memory()
    memory.learn(given, Consolidation())
    (lesson,) = memory.lessons()
    return lesson


def test_the_same_finding_again_strengthens_and_a_contradicting_one_weakens() -> None:
    once = learned(finding("r1"))
    assert once.confidence(once.last, POLICY) is None, "one sample is an observation"
    twice = learned(finding("r1"), finding("r2"))
    assert twice.confidence(twice.last, POLICY) == pytest.approx(2.5 / 3)
    against = learned(finding("r1"), finding("r2"), finding("r3", holds=False))
    assert against.confidence(against.last, POLICY) == pytest.approx(2.5 / 4)
    assert against.samples == 3 and against.runs == ("r1", "r2", "r3")


def test_the_same_run_counts_once() -> None:
    assert learned(finding("r1"), finding("r1")) == learned(finding("r1"))


def test_evidence_counts_for_half_after_a_half_life_and_fades() -> None:
    lesson = learned(finding("r1"), finding("r2"))
    later = lesson.last + POLICY.half_life
    assert lesson.evidence(later, POLICY) == pytest.approx((1.0, 0.0))
    assert lesson.confidence(later, POLICY) == pytest.approx(1.5 / 2)
    assert not lesson.faded(later, POLICY)
    assert lesson.faded(later + 2 * POLICY.half_life, POLICY)
    new = learned(finding("r1"), finding("r2", day=90))
    assert new.support == pytest.approx(1.5)


def test_the_value_is_a_mean_in_which_newer_runs_weigh_more() -> None:
    assert learned(finding("r1", value=0.2), finding("r2", value=0.4)).value == pytest.approx(0.3)
    late = learned(finding("r1", value=0.2), finding("r2", value=0.4, day=90))
    assert late.value == pytest.approx((0.5 * 0.2 + 0.4) / 1.5)


def test_a_contradiction_of_what_nobody_learned_is_no_lesson() -> None:
    memory = Memory()
    assert memory.learn([finding("r1", holds=False)], Consolidation()) == ()
    assert memory.lessons() == ()


def test_a_lesson_is_the_same_after_it_was_written_down() -> None:
    lesson = learned(finding("r1"), replace(finding("r2"), decision=7, tags=("a",)))
    assert Lesson.from_dict(lesson.as_dict()) == lesson
    assert lesson.decisions == (7,)


def test_evidence_of_a_run_bear_out_and_contradict() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 4}},
        tasks=[{"id": "a", "duration": "1h", "resources": {"cpu": 2}}],
        assumptions=[{"id": "room", "description": "room", "expected_value": 5, "affects": ["a"],
                      "milestones": [{"after": "a"}], "validation_method": "external",
                      "effect": {"capacity": {"cpu": "observed"}}}],
    )  # fmt: skip
    bad = run_of(plan, record("a", (0, 1), (0, 1.5)),
                 checks=(CheckRecord(assumption_id="room", at=T0, holds=False),))  # fmt: skip
    found = {(f.kind, f.subject): f for f in evidence_of(bad)}
    assert found[LessonKind.DURATION, "a"].value == pytest.approx(0.5)
    assert found[LessonKind.ASSUMPTION, "room"].statement == "assumption room was invalid"
    assert "resource estimate of cpu needs improvement" in (
        found[LessonKind.RESOURCE, "cpu"].statement
    )
    good = run_of(plan, record("a", (0, 1), (0, 1), run="r2"),
                  checks=(CheckRecord(assumption_id="room", at=T0, holds=True),))  # fmt: skip
    assert evidence_of(good) == (), "nothing is said against what nobody has learned"
    memory = Memory()
    memory.learn(found.values(), Consolidation())
    against = evidence_of(good, memory.lessons())
    assert {(f.kind, f.subject) for f in against} >= set(found)
    assert not any(f.holds for f in against)


def new_plan(**more: object) -> Plan:
    tasks = [
        {"id": "x", "duration": "10m", "category": "load"},
        {"id": "y", "duration": "10m", "category": "other", "resources": {"cpu": 1}},
    ]
    return plan_of(**{"name": "q", "resources": {"cpu": {"capacity": 2}}, "tasks": tasks, **more})


def test_lessons_of_another_plan_are_recalled_by_what_they_have_in_common() -> None:
    lesson = learned(finding("r1"), finding("r2"))
    (found,) = recall([lesson], new_plan(), now=lesson.last)
    assert found.tasks == ("x",) and found.because == "category load"
    called = new_plan(tasks=[{"id": "z", "duration": "1m", "call": "tasks.sql:run"}])
    (found,) = recall([lesson], called, now=lesson.last)
    assert found.because == "calls tasks.sql:run"
    short = replace(lesson, kind=LessonKind.RESOURCE, subject="cpu", resource="cpu", category="")
    (found,) = recall([short], new_plan(), now=lesson.last)
    assert found.tasks == ("y",) and found.because == "takes cpu"
    tagged = replace(lesson, category="", call="", tags=("nightly",))
    (found,) = recall([tagged], new_plan(tags=["nightly"]), now=lesson.last)
    assert found.tasks == () and found.because == "tag nightly"
    assert recall([tagged], new_plan(), now=lesson.last) == ()
    assert recall([lesson], new_plan(), now=lesson.last + 1000 * DAY) == (), "it has faded"


def test_only_lessons_that_are_sure_change_an_estimate() -> None:
    once, twice = learned(finding("r1")), learned(finding("r1"), finding("r2"))
    plan = new_plan()
    assert estimates_with(plan, recall([once], plan, now=T0)) == ({}, ())
    estimates, used = estimates_with(plan, recall([twice], plan, now=T0))
    assert set(estimates) == {"x"} and estimates["x"].likely == timedelta(minutes=12)
    assert str(used[0]) == "t3 needs a buffer (category load; 2 runs, P 0.83)"


def test_an_outcome_is_stored_with_what_its_runs_teach() -> None:
    memory = Memory()
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}])
    learner = ExecutionLearner(memory, Consolidation(), plan=plan)
    history = [record("a", (0, 1), (0, 2), run="r1"), record("a", (0, 1), (0, 2), run="r2")]
    first = learner.store_execution_outcome(1, history, [], ["the vendor's API was slow"])
    assert first == learner.store_execution_outcome(1, history, [], [])
    lessons = {lesson.kind: lesson for lesson in memory.lessons()}
    assert lessons[LessonKind.DURATION].samples == 2
    assert lessons[LessonKind.DURATION].decisions == (1,)
    assert lessons[LessonKind.NOTE].statement == "the vendor's API was slow"
    with pytest.raises(InputError, match="there is no memory"):
        ExecutionLearner().store_execution_outcome(1, history)
