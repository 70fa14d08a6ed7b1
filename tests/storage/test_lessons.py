"""Lessons in the database: every run counted once, whoever learns, and in how many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind, Outcome
from athena_prefect.storage.db import Database
from athena_prefect.storage.lessons import StoredLessons, outcomes
from athena_prefect.storage.plans import PlanStore
from tests.storage.test_history import START, plan_of


def finding(run: str, *, plan: str = "p", holds: bool = True) -> Evidence:
    return Evidence(
        kind=LessonKind.DURATION, subject="a", statement="a needs a buffer of 20 %", at=START,
        run=run, plan=plan, holds=holds, value=0.2,
    )  # fmt: skip


def test_lessons_are_kept_and_consolidated(database: Database) -> None:
    memory = StoredLessons(database)
    memory.learn([finding("r1"), finding("r2")], Consolidation())
    memory.learn([finding("r2"), finding("r3", holds=False)], Consolidation())
    (lesson,) = memory.lessons()
    assert (lesson.support, lesson.against, lesson.samples) == (2.0, 1.0, 3)
    assert lesson.value == pytest.approx(0.2)
    assert StoredLessons(database, namespace="prod").lessons() == []
    assert memory.forget("p", "duration", "a") and not memory.forget("p", "duration", "a")
    assert memory.lessons() == [] and memory.learn([], Consolidation()) == ()


def test_many_that_learn_at_once_lose_and_double_nothing(database: Database) -> None:
    def learn(number: int) -> None:
        runs = [finding(f"r{number}"), finding("shared"), finding(f"r{number}", plan="other")]
        StoredLessons(database).learn(runs, Consolidation())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(learn, range(8)))
    found = {lesson.plan: lesson for lesson in StoredLessons(database).lessons()}
    assert found["p"].samples == 9 and found["p"].support == pytest.approx(9.0)
    assert found["other"].samples == 8


def test_an_outcome_is_linked_to_its_decision(database: Database) -> None:
    store = PlanStore(database)
    decision = store.register(plan_of("p"))
    memory = StoredLessons(database)
    pattern = {"type": "duration", "description": "a takes longer", "frequency": 3,
               "confidence": 0.9, "actionable": True}  # fmt: skip
    outcome = Outcome(
        plan_id=decision.id, summary="1 run: 2 success", patterns=(pattern,), held=False
    )
    first = memory.store_outcome(outcome)
    assert memory.store_outcome(outcome) == first
    assert store.decision(decision.id).validation_status == "missed"
    found = outcomes(database, decision.id)
    assert found is not None and found[0] == "1 run: 2 success"
    assert outcomes(database, decision.id + 1) is None
