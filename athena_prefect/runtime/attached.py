"""A hand-written flow's run in the eyes of the monitor: a thread beside it, and nothing else.

The flow's own thread does no more than begin and end this; whatever goes wrong here
is said once in the flow run's log and ends the watching, never the flow.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

# Whole, before a flow run has threads: of two that import it at once, one sees half of it.
import sqlalchemy  # noqa: F401
from prefect.client.orchestration import get_client
from prefect.logging.loggers import flow_run_logger

from athena_prefect.errors import AthenaError
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root
from athena_prefect.runtime.afterwards import afterwards
from athena_prefect.runtime.attached_end import FlowEnd, end_elsewhere, end_of
from athena_prefect.runtime.attached_session import AttachedSession
from athena_prefect.runtime.attempt import plain
from athena_prefect.runtime.blocks import current_settings
from athena_prefect.runtime.matching import Matching
from athena_prefect.runtime.run_hold import Asked, Compiled
from athena_prefect.runtime.tap import Observed, listen, stop_listening

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A plan, and how the tasks of a flow are found in it; travels with the flow."""

    plan: Plan | Path
    names: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Plan:
        """The plan. Raises PlanDocumentError, and UnknownNameError for a wrong mapping."""
        plan = self.plan if isinstance(self.plan, Plan) else Plan.load(self.plan)
        Matching(plan, self.names)
        return plan

    @property
    def root(self) -> Path:
        """The project that the plan is part of."""
        source = self.plan.source if isinstance(self.plan, Plan) else self.plan
        return project_root(source) if source else Path.cwd()


_runs: dict[UUID, AttachedRun] = {}
_lock = threading.Lock()


def begin(
    attachment: Attachment, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]
) -> None:
    """Watch a flow run that has begun with `state`; nothing where this process does already."""
    with _lock:
        if flow_run.id in _runs:
            return  # Prefect tries the flow run again: it is the same plan run
        run = _runs[flow_run.id] = AttachedRun(attachment, flow, flow_run, plain(state.timestamp))
    run.start()


def end(flow_run_id: UUID, state: State[Any]) -> None:
    """Its flow run has ended, here or, where this process is its worker's, in another."""
    ended = FlowEnd(end=end_of(state), at=plain(state.timestamp))
    with _lock:
        run = _runs.pop(flow_run_id, None)
    if run is not None:
        run.finish(ended)
        return
    with get_client(sync_client=True) as client:
        end_elsewhere(flow_run_id, ended, settings=current_settings(), client=client)


class AttachedRun:
    """One attached flow run, for the process that runs it."""

    def __init__(
        self, attachment: Attachment, flow: Flow[..., Any], flow_run: FlowRun, began: datetime
    ) -> None:
        self._attachment = attachment
        self._flow = flow
        self._flow_run = flow_run
        self._began = began
        self._log = flow_run_logger(flow_run, flow)
        self._seen: queue.SimpleQueue[Observed | FlowEnd] = queue.SimpleQueue()
        # A plain thread has no run context: Prefect's client and settings need it.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._watch,), name="athena-attached", daemon=True
        )

    def start(self) -> None:
        """Listen, and begin to write down what is heard."""
        listen(self._flow_run.id, self._seen.put)
        self._thread.start()

    def finish(self, end: FlowEnd) -> None:
        """Write down what is left; the flow does not wait for it, its process does."""
        self._seen.put(end)
        afterwards("the end of an attached run", self._thread.join)

    def _watch(self) -> None:
        try:
            with get_client(sync_client=True) as client:
                AttachedSession(
                    compiled=Compiled(plan=self._attachment.load(), root=self._attachment.root),
                    asked=Asked(parameters={}, plan_run=None, logical_date=None),
                    settings=current_settings(),
                    client=client,
                    flow_run=self._flow_run,
                    more={"attached": True, "names": dict(self._attachment.names)},
                    seen=self._seen,
                    log=self._log,
                    began=self._began,
                    given_name=self._flow.flow_run_name is not None,
                    elsewhere=_elsewhere(self._flow),
                ).watch()
        except Exception as error:  # noqa: BLE001 - the boundary between the monitor and the pipeline
            self._log.error(
                "athena: this run is not monitored, or no longer; the flow goes on: %s",
                error if isinstance(error, AthenaError) else repr(error),
            )
        finally:
            stop_listening(self._flow_run.id)


def _elsewhere(flow: Flow[..., Any]) -> bool:
    """Whether states of tasks may come later than the end of their flow."""
    from prefect.task_runners import ThreadPoolTaskRunner

    return not isinstance(flow.task_runner, ThreadPoolTaskRunner)
