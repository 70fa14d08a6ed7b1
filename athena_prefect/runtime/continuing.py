"""The change to another revision, of a deployed run: from one flow run to the next.

Whoever made the revision has stored it and written `REVISED`, with `continuation`
in its data. The dispatcher that runs the plan sees that, drains and hands over; where
it is gone a watcher does. What goes on is a run of the deployment `<plan>.continuation`,
made under an idempotency key: whoever asks for it, and how often, gets the same one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.plan.document import digest
from athena_prefect.runtime.deployment import names

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from athena_prefect.journal.journal import Journal
    from athena_prefect.storage.plans import PlanStore

logger = logging.getLogger(__name__)

SUPERSEDED = "Superseded"
"""Name of the final state of a flow run that has handed over to a continuation."""
SETTLED = timedelta(seconds=10)
"""A revision that has been stored for so long, and is not in the journal, was left there by a
process that died: the two are written within milliseconds of each other."""
VERSION = 12
"""Letters of a document's digest that stand for it, as in the plan's own deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What is left of a plan run, as the run of a deployment."""

    plan: str
    plan_run: UUID
    revision: int
    parameters: Mapping[str, Any]
    """Of the plan run."""
    version: str
    """Of the revision's document."""
    namespace: str = names.DEFAULT

    @property
    def deployment(self) -> str:
        """The deployment's name, with its flow's."""
        name = names.deployment_name(self.plan, self.namespace, names.CONTINUATION)
        return f"{self.plan}/{name}"

    @property
    def key(self) -> str:
        """The idempotency key of its flow run: there is one."""
        return f"athena:{self.plan_run}:{self.revision}"

    @property
    def arguments(self) -> dict[str, Any]:
        """The parameters of its flow run."""
        return {
            **self.parameters, "plan_run": str(self.plan_run), "revision": self.revision,
        }  # fmt: skip

    def tags(self, there: Iterable[str]) -> list[str]:
        """The deployment's tags: those that are there, but of another run."""
        kept = [t for t in there if not t.startswith(("revision:", "run:"))]
        return sorted({*kept, f"revision:{self.revision}", f"run:{str(self.plan_run)[:8]}"})


def continuation_of(
    store: PlanStore, plan_run: UUID, revision: int, *, namespace: str
) -> Continuation:
    """The continuation that runs a stored revision. Raises UnknownRunError, UnknownNameError."""
    row = store.run(plan_run)
    plan = store.revision(plan_run, revision)
    return Continuation(
        plan=plan.name,
        plan_run=plan_run,
        revision=revision,
        parameters=row.parameters,
        version=f"{digest(plan)[:VERSION]}-r{revision}",
        namespace=namespace,
    )


# -- what the journal says of it ------------------------------------------------------------


def waiting_revision(entries: Iterable[Entry]) -> int | None:
    """The newest revision that a continuation is to run, and none has taken up; None: none."""
    asked = taken = 0
    over = False
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind in (RunEventKind.STARTED, RunEventKind.RESUMED):
            taken, over = int(event.data.get("revision", 1)), False
        elif event.kind is RunEventKind.REVISED and event.data.get("continuation"):
            asked = max(asked, int(event.data["revision"]))
        elif event.kind is RunEventKind.ENDED:
            over = True
    return asked if asked > taken and not over else None


def newest_continued(entries: Iterable[Entry]) -> int:
    """The newest revision that a continuation goes on by, or is to; 1 where there is none."""
    return max(
        (
            int(e.event.data["revision"])
            for e in entries
            if isinstance(e.event, RunEvent)
            and e.event.kind is RunEventKind.REVISED
            and e.event.data.get("continuation")
        ),
        default=1,
    )


def newest_flow_run(entries: Iterable[Entry]) -> UUID | None:
    """The flow run that last took the plan run up; None where none of Prefect's did."""
    kinds = (RunEventKind.STARTED, RunEventKind.RESUMED)
    told = [
        str(e.event.data["flow_run_id"])
        for e in entries
        if isinstance(e.event, RunEvent)
        and e.event.kind in kinds
        and e.event.data.get("flow_run_id")
    ]
    return UUID(told[-1]) if told else None


def flows_answer(entries: Iterable[Entry], position: int) -> str | None:
    """Why the replanning flow made no revision, where it has looked at all up to `position`."""
    for entry in entries:
        event = entry.event
        if (
            isinstance(event, RunEvent)
            and event.kind is RunEventKind.NOT_REPLANNED
            and int(event.data.get("position", -1)) >= position
        ):
            return str(event.data.get("reason") or "")
    return None


def unanswered(entries: Iterable[Entry]) -> tuple[int, RunEvent] | None:
    """The newest proposal that was left to the replanning flow and has no answer, its position."""
    found: tuple[int, RunEvent] | None = None
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind is RunEventKind.PROPOSED and event.data.get("handed_over"):
            found = entry.position, event
        elif event.kind is RunEventKind.PROPOSED and event.data.get("options"):
            found = None  # no flow came in time: the run's own process asks people
        elif event.kind in (RunEventKind.REVISED, RunEventKind.ENDED):
            found = None
        elif event.kind is RunEventKind.NOT_REPLANNED:
            answered = int(event.data.get("position", -1))
            found = None if found is not None and answered >= found[0] else found
    return found


def superseded(entries: Iterable[Entry]) -> set[UUID]:
    """The flow runs that have handed over."""
    return {
        UUID(str(e.event.data["flow_run_id"]))
        for e in entries
        if isinstance(e.event, RunEvent)
        and e.event.kind is RunEventKind.SUPERSEDED
        and e.event.data.get("flow_run_id")
    }


def last_revised(entries: Iterable[Entry]) -> datetime | None:
    """When replanning last changed the run; None where it never has."""
    return max(
        (
            e.event.at
            for e in entries
            if isinstance(e.event, RunEvent)
            and e.event.kind is RunEventKind.REVISED
            and not e.event.data.get("by_hand")
        ),
        default=None,
    )


def changeovers(entries: Iterable[Entry]) -> tuple[timedelta, ...]:
    """How long each change-over to a continuation took: from its revision to its first breath."""
    found: list[timedelta] = []
    asked: tuple[int, datetime] | None = None
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent):
            continue
        if event.kind is RunEventKind.REVISED and event.data.get("continuation"):
            asked = int(event.data["revision"]), event.at
        elif event.kind is RunEventKind.RESUMED and asked is not None:
            if event.data.get("revision") == asked[0]:
                found.append(event.at - asked[1])
            asked = None
    return tuple(found)


def revised_event(
    plan_run: UUID, number: int, figures: Mapping[str, Any], *, author: str, reason: str,
    at: datetime,
) -> RunEvent:  # fmt: skip
    """What brings a stored revision into force; the same from whoever finds it stored."""
    return RunEvent(
        plan_run=plan_run,
        kind=RunEventKind.REVISED,
        at=at,
        source=str(number),
        reported_by=Reporter.CALLER,
        data={**figures, "revision": number, "author": author, "reason": reason},
    )


def roll_forward(
    store: PlanStore, journal: Journal, plan_run: UUID, revision: int, *, now: datetime
) -> int | None:
    """Bring into force what was stored by a process that died before it could say so.

    `revision` is the one that the journal knows. The number of the newest that was
    brought into force, or None where nothing was left lying.
    """
    newest = None
    for decision in reversed(store.decisions(plan_run=plan_run)):
        if decision.revision <= revision or now - decision.created_at < SETTLED:
            continue
        figures = store.figures(plan_run, decision.revision) or {}
        event = revised_event(
            plan_run, decision.revision, figures,
            author=decision.author, reason=decision.reason, at=now,
        )  # fmt: skip
        journal.append(event)
        newest = decision.revision
        logger.warning(
            "revision %d of plan run %s was stored and not yet in force", newest, plan_run
        )
    return newest


# -- what is done on the server -------------------------------------------------------------


def in_pool(client: SyncPrefectClient, deployment: str) -> bool:
    """Whether there is such a deployment, and workers run it rather than a process of our own.

    Raises what Prefect's client raises where the server is away.
    """
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(deployment).work_pool_name is not None
    except ObjectNotFound:
        return False


def hands_over(client: SyncPrefectClient, flow_run: FlowRun, plan: str, namespace: str) -> bool:
    """Whether a run's greater revisions are made by the replanning flow, for a continuation.

    Else its own process adopts them: under `athena run`, where a process of our own
    serves the plan, and where the two deployments are not there. Raises as `in_pool` does.
    """
    if flow_run.deployment_id is None:
        return False
    name = names.deployment_name(plan, namespace, names.CONTINUATION)
    replan = names.deployment_name(names.REPLAN_FLOW, namespace)
    return in_pool(client, f"{plan}/{name}") and in_pool(client, f"{names.REPLAN_FLOW}/{replan}")


def redeploy(client: SyncPrefectClient, wanted: Continuation) -> None:
    """Have the plan's continuation deployment say which run goes on, by which revision.

    Raises ObjectNotFound where the plan has none.
    """
    there = client.read_deployment_by_name(wanted.deployment)
    client.request(
        "PATCH",
        "/deployments/{id}",
        path_params={"id": str(there.id)},
        json={
            "version": wanted.version,
            "tags": wanted.tags(there.tags),
            "parameters": wanted.arguments,
        },
    ).raise_for_status()


def start(client: SyncPrefectClient, wanted: Continuation) -> FlowRun:
    """The flow run that goes on: made now, or made before. Raises ObjectNotFound."""
    there = client.read_deployment_by_name(wanted.deployment)
    return client.create_flow_run_from_deployment(
        there.id,
        parameters=wanted.arguments,
        tags=[f"plan:{wanted.plan}", f"revision:{wanted.revision}"],
        idempotency_key=wanted.key,
    )


def supersede(
    client: SyncPrefectClient, gone: UUID | None, wanted: Continuation, started: UUID
) -> None:
    """Say of a flow run whose process died, and that another goes on for, that it handed over.

    Else the list of runs showed a crash for a plan that was finished. One that still
    ends by itself says the same; one that waits for a worker is left to say it.
    """
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Completed

    if gone is None or gone == started:
        return
    try:
        state = client.read_flow_run(gone).state
    except ObjectNotFound:
        return
    if state is None or not (state.is_crashed() or state.is_running()):
        return
    why = f"by revision {wanted.revision}, which goes on: {link_to(started)}"
    over: Any = Completed(name=SUPERSEDED, message=why)
    client.set_flow_run_state(gone, over)


def start_replanning(
    client: SyncPrefectClient, plan_run: UUID, namespace: str, *, trigger: str, key: str
) -> FlowRun:
    """Have the replanning flow look at a run; once a key. Raises ObjectNotFound."""
    name = names.deployment_name(names.REPLAN_FLOW, namespace)
    there = client.read_deployment_by_name(f"{names.REPLAN_FLOW}/{name}")
    return client.create_flow_run_from_deployment(
        there.id,
        parameters={"plan_run": str(plan_run), "trigger": trigger},
        idempotency_key=key,
    )


def link_to(flow_run_id: UUID) -> str:
    """Where people see a flow run: its page in the UI, else its id."""
    from prefect.utilities.urls import url_for

    try:
        found = url_for("flow-run", obj_id=flow_run_id, url_type="ui")
    except (ValueError, AthenaError):
        found = None
    return found or f"flow run {flow_run_id}"
