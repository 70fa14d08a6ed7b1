"""What is seen to when a run has ended: its spool, what Prefect is told, schedules of checks."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from prefect.client.orchestration import get_client

from athena_prefect.errors import (
    AthenaError,
)
from athena_prefect.runtime.dashboard import Boards
from athena_prefect.runtime.questions import Questions
from athena_prefect.runtime.recorder import Recorder

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.runtime.run_hold import RunHold

LAST_WAIT_SECONDS = 15.0
"""How long a run that has ended waits for its database: a restart of PostgreSQL takes that long."""


def last_words(hold: RunHold, boards: Boards, questions: Questions | None = None) -> None:
    """How it ended, to Prefect; with a client of its own, for the run's is closed by then."""
    # Given settings of its own, it is not the flow run's client, which is closed by now.
    with get_client(sync_client=True, httpx_settings={}) as client:
        hold.telling.client = boards.client = client
        hold.telling.end()
        boards.publish()
        if questions is not None:
            questions.client = client
            questions.end()
        if hold.more.get("scheduled_checks"):
            _give_back(hold, client)


def _give_back(hold: RunHold, client: SyncPrefectClient) -> None:
    """Pause the schedules of checks that no other run needs."""
    from athena_prefect.runtime.deployment.check_schedules import needed, settle

    plan, namespace = hold.compiled.plan.name, hold.settings.namespace
    settle(client, namespace, lambda: needed(hold.rows.database, plan, namespace), plan)


def wait_for_database(recorder: Recorder) -> None:
    """Give an absent database a moment: when the run has ended, nobody drains its spool."""
    end = time.monotonic() + LAST_WAIT_SECONDS
    while getattr(recorder.journal, "degraded", False) and time.monotonic() < end:
        with suppress(AthenaError, OSError):
            recorder.journal.drain()  # type: ignore[attr-defined]
        time.sleep(0.25)
