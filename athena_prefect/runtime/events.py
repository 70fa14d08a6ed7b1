"""Prefect events of ours: what happened to a plan, told to whoever listens.

Nothing depends on them. Each is made from a fact that is written down already,
its id is made from that fact, so telling it twice is one event, and a server that
is away costs nothing but the event's being late.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from athena_prefect.journal.events import utc

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

PREFIX = "athena.plan."
"""A plan's resource id is this and its name."""
IDS = UUID("b8a6f6d0-6c1e-5d0c-9f3c-1d3a6c1f5b7e")
"""Namespace of our event ids."""
PATIENCE_SECONDS = 3.0
"""How long a server may take to accept events before it counts as away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEvent:
    """One event. Of two with the same subject (plan run, or plan), name and `key` there is one."""

    event: str
    """Its name, e.g. ``athena.plan.at-risk``."""
    plan: str
    key: str
    """Which fact it tells, within its plan run: a journal key, a check's id, an option's."""
    at: datetime
    plan_run: UUID | None = None
    revision: int | None = None
    flow_run_id: UUID | str | None = None
    """The flow run on whose page it shows."""
    namespace: str = "default"
    figures: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able; what is not known is None, and never a secret."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", utc(self.at, "at"))

    @property
    def id(self) -> UUID:
        """The same for the same fact, whoever tells it and how often."""
        subject = self.plan_run or f"{self.namespace}/{self.plan}"
        return uuid5(IDS, f"{subject}|{self.event}|{self.key}")

    def as_prefect(self) -> dict[str, Any]:
        """The event as Prefect's API takes it."""
        related = []
        if self.flow_run_id is not None:
            related.append(
                {
                    "prefect.resource.id": f"prefect.flow-run.{self.flow_run_id}",
                    "prefect.resource.role": "flow-run",
                }
            )
        return {
            "id": str(self.id),
            "event": self.event,
            "occurred": self.at.isoformat(),
            "resource": {
                "prefect.resource.id": PREFIX + self.plan,
                "prefect.resource.name": self.plan,
                "athena.namespace": self.namespace,
            },
            "related": related,
            "payload": {
                "plan": self.plan,
                "namespace": self.namespace,
                "plan_run": None if self.plan_run is None else str(self.plan_run),
                "revision": self.revision,
                **self.figures,
            },
        }


class Sender:
    """Hands events to Prefect's API; that it cannot is said once, until it can again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._away = False

    def send(self, events: Sequence[PlanEvent], client: SyncPrefectClient | None = None) -> bool:
        """Whether the API took them. Never raises: who tells must not be failed by who listens."""
        if not events:
            return True
        try:
            self._post([e.as_prefect() for e in events], client)
        except Exception as error:  # noqa: BLE001 - the boundary: an event that is not heard fails nobody
            self._say(error)
            return False
        self._say(None)
        return True

    def _post(self, events: list[dict[str, Any]], client: SyncPrefectClient | None) -> None:
        from prefect.client.orchestration import get_client
        from prefect.settings import get_current_settings

        if client is None:
            if get_current_settings().api.url is None:
                # Without an address Prefect would start a server of its own to hear it.
                raise ConnectionError("no Prefect API is configured (PREFECT_API_URL)")
            with get_client(sync_client=True) as own:
                self._post(events, own)
            return
        client.request("POST", "/events", json=events, timeout=PATIENCE_SECONDS).raise_for_status()

    def _say(self, error: Exception | None) -> None:
        with self._lock:
            was, self._away = self._away, error is not None
        if error is not None and not was:
            logger.warning("Prefect takes no events now (%s); nothing depends on them", error)
        elif error is None and was:
            logger.info("Prefect takes events again")


SENDER = Sender()
"""This process's; it only remembers whether it has complained."""


def emit(
    event: str,
    plan: str,
    *,
    key: str,
    at: datetime,
    plan_run: UUID | None = None,
    revision: int | None = None,
    flow_run_id: UUID | str | None = None,
    namespace: str = "default",
    figures: Mapping[str, Any] | None = None,
    sender: Sender = SENDER,
) -> bool:
    """Tell Prefect one thing about a plan, now; whether it was heard.

    `event` is e.g. ``athena.assumption.violated``. `key` says which fact this is within
    the plan run: the same key again is the same event, so telling twice is harmless.
    Waits at most some seconds, so it belongs beside the loop, never into a task's
    way. Never raises for a server that is away.
    """
    return sender.send(
        [
            PlanEvent(
                event=event,
                plan=plan,
                key=key,
                at=at,
                plan_run=plan_run,
                revision=revision,
                flow_run_id=flow_run_id,
                namespace=namespace,
                figures=dict(figures or {}),
            )
        ]
    )
