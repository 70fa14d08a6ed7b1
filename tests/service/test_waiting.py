"""Waiting for a plan run: over a change of flow run, before it begins, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from athena_prefect import wait_for_plan_run
from athena_prefect.errors import RunError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.plan.model import Plan
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal


class Life:
    """A run that lives on, a step at each look."""

    def __init__(self, settings: AthenaSettings, *steps: RunEventKind, status: str) -> None:
        self.database = Database.open(settings)
        self.run, self.steps, self.status = uuid4(), list(steps), status
        self.plan = Plan.model_validate({"name": "orders", "tasks": [{"id": "a"}]})
        self.looks = 0

    def __call__(self, seconds: float) -> None:
        self.looks += 1
        kind, now = self.steps.pop(0), datetime.now(UTC)
        if kind is RunEventKind.STARTED:
            PlanStore(self.database).open_run(self.run, self.plan, started=now)
        data = {"revision": 2 if kind is RunEventKind.REVISED else 1}
        more = {"status": self.status, "reason": "as told"} if kind is RunEventKind.ENDED else data
        SqlJournal(self.database).append(
            RunEvent(plan_run=self.run, kind=kind, at=now, source=str(uuid4()), data=more)
        )


LIFE = (
    RunEventKind.STARTED, RunEventKind.REVISED, RunEventKind.SUPERSEDED, RunEventKind.RESUMED,
    RunEventKind.ENDED,
)  # fmt: skip


def test_it_waits_for_the_beginning_and_through_a_change_over(settings: AthenaSettings) -> None:
    life = Life(settings, *LIFE, status="completed")
    found = wait_for_plan_run(life.run, settings=settings, sleep=life)
    assert (found.status, found.revision, found.plan) == ("completed", 2, "orders")
    assert found.plan_run == life.run and found.ended is not None
    assert life.looks == len(LIFE)


def test_a_run_that_fails_is_an_error_unless_told_otherwise(settings: AthenaSettings) -> None:
    life = Life(settings, *LIFE, status="failed")
    with pytest.raises(RunError, match=r"failed: as told") as raised:
        wait_for_plan_run(str(life.run), settings=settings, sleep=life)
    assert raised.value.__dict__["status"] == "failed"
    again = wait_for_plan_run(life.run, settings=settings, raise_on_failure=False)
    assert again.status == "failed"


def test_it_does_not_wait_for_ever(settings: AthenaSettings) -> None:
    passed = iter(range(100))
    with pytest.raises(RunError, match="not ended within 3 s"):
        wait_for_plan_run(
            UUID(int=1), timeout=3, settings=settings,
            clock=lambda: float(next(passed)), sleep=lambda _: None,
        )  # fmt: skip
