"""The body of every compiled flow: its start admitted or not, its session, its final state."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

# Whole, before a flow run has threads: of two that import it at once, one sees half of it.
import sqlalchemy  # noqa: F401
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from athena_prefect.runtime.admission import Verdict, admit
from athena_prefect.runtime.attempt import QuietHooks
from athena_prefect.runtime.blocks import current_settings
from athena_prefect.runtime.continuing import SUPERSEDED
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.handing_over import HANDED_OVER
from athena_prefect.runtime.heap import set_aside
from athena_prefect.runtime.run_hold import Asked, Compiled
from athena_prefect.runtime.session import Session

if TYPE_CHECKING:
    pass

ABORTED = "Aborted"
"""Name of the final state of a run that was stopped because there was no way to its goals."""


def run_session(compiled: Compiled, asked: Asked) -> Any:
    """Run the plan, or what is left of it, in the current flow run; its final state."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    logging.getLogger("prefect.task_runs").addFilter(_QUIET)
    settings = current_settings()
    flow_run = context.flow_run
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id and asked.plan_run is None and flow_run.run_count <= 1:
            admitted = admit(compiled.plan, flow_run, client=client, settings=settings)
            if admitted.verdict is Verdict.SKIP:
                return Completed(name="Skipped", message=admitted.reason)
            # Of starts that were missed it stands for the newest.
            due: Any = admitted.due
            flow_run = flow_run.model_copy(update={"expected_start_time": due})
        session = Session(
            compiled=compiled,
            asked=asked,
            settings=settings,
            client=client,
            flow_run=flow_run,
        )
        with set_aside():
            end = session.run_or_give_way()
            while end.status == "superseded":
                end = session.over.start(end) or session.run()
    return _final_state(end)


_QUIET = QuietHooks()


def _final_state(end: RunEnd) -> Any:
    if end.status == HANDED_OVER:
        return Completed(name=SUPERSEDED, message=end.reason)
    if end.status == "completed":
        return Completed(message=end.reason or "all required tasks are done")
    if end.status == "cancelled":
        return Cancelled(message=end.reason)
    if end.status == "aborted":
        return Failed(name=ABORTED, message=end.reason)
    return Failed(message=end.reason)
