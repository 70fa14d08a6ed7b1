"""A flow run gives its plan run to the continuation that goes on by a newer revision."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from prefect.exceptions import ObjectNotFound

from athena_prefect.errors import AthenaError, StorageError
from athena_prefect.journal.state import ExecutionState
from athena_prefect.runtime.continuing import (
    Continuation,
    continuation_of,
    hands_over,
    link_to,
    newest_continued,
    newest_flow_run,
    redeploy,
    roll_forward,
    start,
    waiting_revision,
)
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.rows import Rows
from athena_prefect.runtime.seams import reached

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from athena_prefect.journal.journal import Journal

logger = logging.getLogger(__name__)

HANDED_OVER = "handed over"
"""What has become of a flow run whose continuation is there."""
SERVER_PATIENCE_SECONDS = 120.0
"""How long a flow run that has drained tries to start its continuation: a restart of the server
takes less, and what it has not started by then the watching flow does."""


@dataclass(slots=True, kw_only=True)
class HandingOver:
    """Whether, to what and how one flow run hands its plan run over."""

    plan: str
    flow_run: FlowRun
    client: SyncPrefectClient
    rows: Rows
    journal: Callable[[], Journal]
    mine: int | None
    """The revision that this flow run was started to go on by."""
    alone: bool = False
    """Whether it goes on by every revision itself: nothing is there that could."""
    first: bool = False
    """Whether this flow run is the first that goes on by the revision in force."""
    _deployed: bool | None = None

    def waiting(self, state: ExecutionState) -> int | None:
        """The revision that a continuation other than this flow run is to go on by."""
        if state.started is None:
            return None
        journal, plan_run = self.journal(), self.rows.plan_run
        try:
            now = self.rows.clock()
            roll_forward(self.rows.store, journal, plan_run, state.revision, now=now)
            waiting = waiting_revision(journal.read(plan_run))
        except StorageError as error:
            logger.error("whether a newer revision waits cannot be seen: %s", error)
            return None
        self.first = waiting is not None and self.mine == waiting
        if waiting is None or self.alone or self.first:
            return None
        return waiting if self.possible() else None

    def possible(self) -> bool:
        """Whether greater revisions are for the replanning flow; False while nobody can say."""
        if self.alone:
            return False
        if self._deployed is None:
            try:
                self._deployed = hands_over(
                    self.client, self.flow_run, self.plan, self.rows.settings.namespace
                )
            except Exception as error:  # noqa: BLE001 - the boundary: the server may be away
                logger.warning("whether the plan has a continuation cannot be seen: %r", error)
                return False
        return self._deployed

    def overtaken(self) -> RunEnd | None:
        """How this flow run ends where a continuation has the plan run already."""
        entries = self.journal().read(self.rows.plan_run)
        other = newest_flow_run(entries)
        if (
            other is None
            or other == self.flow_run.id
            or newest_continued(entries) <= (self.mine or 1)
        ):
            return None
        reason = f"a newer revision goes on already: {link_to(other)}"
        return RunEnd(status=HANDED_OVER, reason=reason)

    def start(self, end: RunEnd) -> RunEnd | None:
        """Start the continuation, the lease given back; None where there can be none."""
        settings, plan_run = self.rows.settings, self.rows.plan_run
        try:
            revision = waiting_revision(self.journal().read(plan_run))
            if revision is None:  # somebody has taken it up already
                return RunEnd(status=HANDED_OVER, reason=f"{end.reason}, which goes on already")
            wanted = continuation_of(
                self.rows.store, plan_run, revision, namespace=settings.namespace
            )
            started = self._started(wanted)
        except (AthenaError, httpx.HTTPError) as error:
            logger.error("the continuation is not started yet: %r; the watching flow does", error)
            return RunEnd(
                status=HANDED_OVER, reason=f"{end.reason}, which the watching flow starts"
            )
        if started is None:
            logger.error("plan %r has no continuation; this process goes on", wanted.plan)
            self.alone = True
            return None
        link = link_to(started.id)
        return RunEnd(status=HANDED_OVER, reason=f"{end.reason}, which goes on: {link}")

    def _started(self, wanted: Continuation) -> FlowRun | None:
        """The continuation's flow run; None where there is no such deployment."""
        until = time.monotonic() + SERVER_PATIENCE_SECONDS
        while True:
            try:
                reached("drained")
                redeploy(self.client, wanted)
                return start(self.client, wanted)
            except ObjectNotFound:
                return None
            except httpx.HTTPError as error:
                if time.monotonic() > until:
                    raise
                logger.warning("the continuation cannot be started yet: %r", error)
                time.sleep(2.0)
