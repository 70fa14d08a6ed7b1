"""A run's dashboards: four or five Prefect artifacts that are kept current while it runs.

The artifacts of a flow run are made once and then updated: the versions under
one key are the plan's runs, not the thousands of looks at each. Everything here
runs beside the work, at a bounded rate; a server that does not answer is said
once and makes nothing fail.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from athena_prefect.journal.journal import Journal
from athena_prefect.monitor.shared import SharedMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.report.assumptions import assumption_table
from athena_prefect.report.dashboard import (
    gantt_markdown,
    headline,
    progress_of,
    status_markdown,
    task_table,
)
from athena_prefect.report.figures import FigureReader, Figures
from athena_prefect.report.replanning import replanning_markdown
from athena_prefect.runtime.watcher import Chore

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 5.0
"""How often dashboards are brought up to date, at most: as often as a person looks again."""
BUSY_SHARE = 0.05
"""Share of the time that it may take; on a slow server, or for a large plan, it is done less
often. One look at 500 tasks and four updates take about 0.3 s."""
FIRST_SECONDS = 3.0
"""From the start of a run to its first dashboard; a shorter run gets only its last one."""

KINDS = {
    "status": "markdown",
    "gantt": "markdown",
    "tasks": "table",
    "assumptions": "table",
    "progress": "progress",
    "replanning": "markdown",
}
"""The artifacts of a run and their types; those of assumptions only where the plan has any, that
of replanning once there is something to tell."""
TITLES = {
    "status": "Status",
    "gantt": "Gantt chart",
    "tasks": "Task table",
    "assumptions": "Assumptions",
    "progress": "Progress",
    "replanning": "Replanning",
}


def kinds(figures: Figures) -> tuple[str, ...]:
    """The artifacts of this run."""
    without = set() if figures.plan.assumptions else {"assumptions"}
    without |= set() if figures.state.decisions else {"replanning"}
    return tuple(k for k in KINDS if k not in without)


def artifact_key(plan: str, kind: str, namespace: str = "default") -> str:
    """The key of a plan's artifact: lowercase letters, digits and dashes."""
    words = [plan, *([namespace] if namespace != "default" else []), kind]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def ui_base() -> str:
    """Where links of the UI begin: the configured UI, else the one that shows the page."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    url = settings.ui_url or ""
    if "ui_url" in settings.model_fields_set or "prefect.cloud" in url:
        return url.rstrip("/")
    # The API's address is often not the one that a browser reaches the server under.
    return "/v2"


@dataclass(slots=True)
class Board:
    """The artifacts of one flow run. For one thread."""

    client: SyncPrefectClient
    flow_run: UUID
    namespace: str = "default"
    ids: dict[str, UUID] = field(default_factory=dict)
    _shown: dict[str, str] = field(default_factory=dict)

    def publish(self, figures: Figures) -> int:
        """Bring the artifacts up to `figures`; how many were written.

        Raises what Prefect's client raises.
        """
        if not set(kinds(figures)) <= self.ids.keys():
            self._find_or_make(figures)
        return sum(self._update(k, self._content(k, figures), figures) for k in kinds(figures))

    def _content(self, kind: str, figures: Figures) -> Any:
        match kind:
            case "status":
                return status_markdown(figures, self._links("status"))
            case "gantt":
                return gantt_markdown(figures, self._links("gantt"))
            case "tasks":
                return task_table(figures)
            case "assumptions":
                return assumption_table(figures)
            case "replanning":
                return replanning_markdown(figures.plan, figures.state)
            case _:
                return progress_of(figures)

    def _links(self, own: str) -> dict[str, str]:
        base = ui_base()
        found = {"Flow run": f"{base}/runs/flow-run/{self.flow_run}"}
        for kind, title in TITLES.items():
            if kind != own and kind in self.ids:
                found[title] = f"{base}/artifacts/artifact/{self.ids[kind]}"
        return found

    def _find_or_make(self, figures: Figures) -> None:
        from prefect.client.schemas.filters import (
            ArtifactFilter,
            ArtifactFilterFlowRunId,
        )

        keys = {artifact_key(figures.plan.name, k, self.namespace): k for k in kinds(figures)}
        # Another process may have made them: the one that is resumed, or a watching flow.
        known = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[self.flow_run])
            )
        )
        for artifact in known:
            if artifact.key in keys and artifact.id is not None:
                self.ids.setdefault(keys[artifact.key], artifact.id)
        for key, kind in keys.items():
            if kind in self.ids:
                continue
            empty: Any = {"table": [], "progress": 0.0}.get(KINDS[kind], "…")
            # Not by the client's own methods: each tells it as an event, too, with the whole
            # picture in it, and with an error in the log where the process is about to end.
            made = self.client.request(
                "POST",
                "/artifacts/",
                json={
                    "key": key,
                    "type": KINDS[kind],
                    # The API keeps a table as text, as Prefect's own functions give it.
                    "data": _stored(empty),
                    "description": self._description(kind, figures),
                    "flow_run_id": str(self.flow_run),
                },
            )
            self.ids[kind] = UUID(made.json()["id"])

    def _description(self, kind: str, figures: Figures) -> str:
        if kind == "progress":
            return f"**{figures.plan.name}**: {headline(figures)}"
        said = f"{TITLES[kind]} of **{figures.plan.name}**: {headline(figures)}"
        # Its cells are times of day, which the UI shows as they are, whatever zone it is set to.
        return f"{said}. Times are in UTC." if kind == "tasks" else said

    def _update(self, kind: str, content: Any, figures: Figures) -> bool:
        data = _stored(content)
        description = self._description(kind, figures)
        digest = sha256(f"{description}\0{data}".encode()).hexdigest()
        if self._shown.get(kind) == digest:
            return False
        self.client.request(
            "PATCH",
            "/artifacts/{id}",
            path_params={"id": str(self.ids[kind])},
            json={"data": data, "description": description},
        )
        self._shown[kind] = digest
        return True


def _stored(content: Any) -> Any:
    import json

    return json.dumps(content) if isinstance(content, list) else content


def publish(
    figures: Figures,
    *,
    client: SyncPrefectClient,
    flow_run: UUID | None = None,
    namespace: str = "default",
) -> Mapping[str, UUID]:
    """Bring the dashboards of a run that another process runs up to `figures`.

    The artifacts' ids by kind; empty for a run without a flow run of Prefect's, or where
    the server did not answer, which is logged.
    """
    run = flow_run or _flow_run_of(figures)
    if run is None:
        return {}
    board = Board(client=client, flow_run=run, namespace=namespace)
    try:
        board.publish(figures)
    except Exception as error:  # noqa: BLE001 - the boundary: a dashboard fails nobody
        logger.warning("the dashboards of %s are not up to date: %r", figures.plan.name, error)
        return {}
    return board.ids


def _flow_run_of(figures: Figures) -> UUID | None:
    try:
        return UUID(str(figures.state.run_data.get("flow_run_id")))
    except ValueError:
        return None


class Shown(Protocol):
    """A run of which this process keeps the dashboards."""

    @property
    def plan(self) -> Plan:
        """The revision in force."""
        ...

    @property
    def plan_run(self) -> UUID:
        """The run."""
        ...

    @property
    def flow_run_id(self) -> UUID:
        """The flow run that does it."""
        ...

    @property
    def shared(self) -> SharedMonitor:
        """Its monitor in this process."""
        ...


@dataclass(slots=True)
class Boards:
    """Keeps the dashboards of one run current, in a thread of its own."""

    run: Shown
    journal: Journal
    client: SyncPrefectClient
    namespace: str = "default"
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _board: Board | None = None
    _reader: FigureReader | None = None
    _next: float = field(default_factory=lambda: time.monotonic() + FIRST_SECONDS)
    _said: bool = False

    @property
    def chore(self) -> Chore:
        """What is to be done again and again while the run lives."""
        return Chore(name="publishing the dashboards", every=1.0, do=self.publish_if_due)

    def publish(self) -> None:
        """Publish now. A server, or a database, that does not answer is logged once."""
        with self._lock:
            begun = time.monotonic()
            try:
                self._publish()
            except Exception as error:  # noqa: BLE001 - the boundary: a dashboard fails nobody
                if not self._said:
                    self._said = True
                    logger.warning("the dashboards are not up to date (%r); tried again", error)
            else:
                if self._said:
                    logger.info("the dashboards are up to date again")
                self._said = False
            took = time.monotonic() - begun
            self._next = time.monotonic() + max(PUBLISH_SECONDS, took / BUSY_SHARE)

    def publish_if_due(self) -> None:
        """Publish where the last time is long enough ago."""
        if time.monotonic() >= self._next:
            self.publish()

    def _publish(self) -> None:
        if self._reader is None or self._reader.plan is not self.run.plan:
            self._reader = FigureReader(
                self.run.plan, self.run.plan_run, self.journal, self.run.shared
            )
        figures = self._reader.read(self.clock())
        if self._board is None:
            self._board = Board(self.client, self.run.flow_run_id, self.namespace)
        self._board.client = self.client
        self._board.publish(figures)
