"""PostgreSQL stops in the middle of a run and comes back: the run goes on, nothing is lost."""

from __future__ import annotations

import contextvars
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from tests.chaos.support import check_against_the_tasks_own_words, starts, thirty_tasks
from tests.fixtures.postgres import PostgresServer
from tests.runtime.support import run

pytestmark = [pytest.mark.prefect, pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of this test's own, which it may stop."""
    own = PostgresServer(Path(tempfile.mkdtemp(prefix="athena-outage-")) / "data")
    yield own
    own.close()


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_postgresql_stops_in_the_middle_of_a_run(
    prefect_api: str,
    server: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    how: str,
) -> None:
    url = server.create().render_as_string(hide_password=False)
    monkeypatch.setenv("ATHENA_DATABASE_URL", url)
    database = Database(url)
    request.addfinalizer(database.close)
    database.upgrade()
    path, plan_run = thirty_tasks(tmp_path, seconds=1.0), uuid4()
    plan = Plan.load(path)
    away: list[int] = []

    def outage() -> None:
        while sum(starts(tmp_path).values()) < 8:
            time.sleep(0.01)
        server.stop(how)
        before = sum(starts(tmp_path).values())
        wanted = min(before + 8, 30)  # the run goes on without it
        while sum(starts(tmp_path).values()) < wanted:
            time.sleep(0.01)
        away.append(sum(starts(tmp_path).values()) - before)
        server.start()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(outage,))
    thread.start()
    done = run(plan, plan_run)
    thread.join()
    assert away[0] >= 1
    assert done.final.is_completed()
    assert set(starts(tmp_path).values()) == {1}
    state = done.state
    assert state.end_status == "completed"
    assert check_against_the_tasks_own_words(state, plan, tmp_path) == []
    assert not state.gaps
    assert PlanStore(database).run(plan_run).status == "completed"
    said = [r for r in caplog.records if "spool" in r.getMessage() and r.levelname == "ERROR"]
    assert len(said) == 1, [r.getMessage() for r in said]
