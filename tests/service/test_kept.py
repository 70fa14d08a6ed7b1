"""Followed runs that are kept: as new as those opened anew, and for many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.service.by_plan_id import Standing, standing
from athena_prefect.service.following import FollowedRun
from athena_prefect.service.kept import KeptRuns
from athena_prefect.service.outside import begin
from athena_prefect.service.plans import register
from athena_prefect.service.recording import record
from athena_prefect.settings import AthenaSettings
from tests.fixtures.plans import RELEASE

START = datetime(2025, 3, 3, 6, tzinfo=UTC)


def followed(plan_run: UUID) -> FollowedRun:
    plan = Plan(name="p", tasks=[PlanTask(id="a", duration="1s")])
    return FollowedRun(plan=plan, plan_run=plan_run, journal=MemoryJournal())


def test_a_kept_run_says_what_one_opened_anew_says(
    settings: AthenaSettings, tmp_path: Path
) -> None:
    file = tmp_path / "release.yaml"
    file.write_text(RELEASE)
    plan_id = register(file, settings=settings).plan_id
    now = START

    def clock() -> datetime:
        return now

    run = begin(plan_id, started_at=START, author="test", settings=settings, clock=clock).plan_id
    kept = KeptRuns()

    def look(kept: KeptRuns | None) -> Standing:
        return standing(run, settings=settings, clock=clock, kept=kept)

    assert look(kept).status.as_dict() == look(None).status.as_dict()
    for task, hours in (("t1", 2), ("t2", 3), ("t3", 3)):
        record(run, task, "start", at=now, settings=settings, clock=clock)
        assert look(kept).status.as_dict() == look(None).status.as_dict()
        now += timedelta(hours=hours)
        record(run, task, "complete", at=now, outcome="success", settings=settings, clock=clock)
        assert look(kept).status.as_dict() == look(None).status.as_dict()


def test_a_run_is_opened_once_and_looked_at_by_one_thread_at_a_time() -> None:
    kept, plan_run, opened, inside = KeptRuns(), uuid4(), [], threading.Lock()

    def make() -> FollowedRun:
        opened.append(plan_run)
        return followed(plan_run)

    def look(_: int) -> FollowedRun:
        with kept.following(plan_run, make) as run:
            assert inside.acquire(blocking=False)
            inside.release()
            return run

    with ThreadPoolExecutor(8) as threads:
        assert len({id(run) for run in threads.map(look, range(50))}) == 1
    assert len(opened) == 1


def test_those_asked_for_last_are_kept() -> None:
    kept, runs, opened = KeptRuns(most=2), [uuid4() for _ in range(3)], []

    def look(plan_run: UUID) -> None:
        def make() -> FollowedRun:
            opened.append(plan_run)
            return followed(plan_run)

        with kept.following(plan_run, make):
            pass

    for number in (0, 1, 0, 2, 0, 1):
        look(runs[number])
    assert opened == [runs[0], runs[1], runs[2], runs[1]]


def test_one_that_failed_is_opened_anew() -> None:
    kept, plan_run, opened = KeptRuns(), uuid4(), []

    def make() -> FollowedRun:
        opened.append(plan_run)
        return followed(plan_run)

    for _ in range(2):
        with pytest.raises(RuntimeError), kept.following(plan_run, make):
            raise RuntimeError
    assert len(opened) == 2
