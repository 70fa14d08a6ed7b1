"""What can be read by its address: runs, and of each plan_id the plan, forecast, report, revisions.

Tools answer briefly and name what they cut; here is all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
from fastmcp.exceptions import ResourceError

from athena_prefect import service
from athena_prefect.errors import AthenaError
from athena_prefect.mcp.answering import described
from athena_prefect.mcp.arguments import PlanId
from athena_prefect.service.kept import KeptRuns
from athena_prefect.settings import AthenaSettings

T = TypeVar("T")


async def _read(work: Callable[[], T]) -> T:
    def told() -> T:
        try:
            return work()
        except AthenaError as error:
            text = json.dumps(described(error), ensure_ascii=False)
            raise ResourceError(text) from None

    return await anyio.to_thread.run_sync(told)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=str)


class Resources:
    """The resources over one database and namespace."""

    def __init__(self, settings: AthenaSettings, kept: KeptRuns) -> None:
        self.settings = settings
        self.kept = kept

    async def runs(self) -> str:
        """The newest plan runs, each with the plan_id that tools take."""

        def work() -> str:
            return _json([r.as_dict() for r in service.numbered_runs(settings=self.settings)])

        return await _read(work)

    async def plan(self, plan_id: PlanId) -> str:
        """The plan document: tasks, durations, resources, assumptions; of a run as revised."""
        return await _read(lambda: _json(service.document_of(plan_id, settings=self.settings)))

    async def forecast(self, plan_id: PlanId) -> str:
        """Where the run stands: every task's status, the forecast and all its figures."""
        return await _read(
            lambda: _json(
                service.standing(plan_id, settings=self.settings, kept=self.kept).status.as_dict()
            )
        )

    async def report(self, plan_id: PlanId) -> str:
        """The run's report: one self-contained page with its Gantt chart."""
        return await _read(lambda: service.report_of(plan_id, settings=self.settings))

    async def revisions(self, plan_id: PlanId) -> str:
        """The run's revisions, the newest first: what changed, who chose it and why."""

        def work() -> str:
            found = service.revisions_of(plan_id, settings=self.settings)
            return _json([r.as_dict() for r in found])

        return await _read(work)


ADDRESSES = (
    ("athena://runs", "runs", "Plan runs", "application/json"),
    ("athena://plans/{plan_id}", "plan", "A plan", "application/json"),
    ("athena://plans/{plan_id}/forecast", "forecast", "A run's forecast", "application/json"),
    ("athena://plans/{plan_id}/report", "report", "A run's report", "text/html"),
    ("athena://plans/{plan_id}/revisions", "revisions", "A run's revisions", "application/json"),
)
"""Address, method, title, type."""


def add_resources(server: Any, settings: AthenaSettings, kept: KeptRuns) -> None:
    """Give `server` every resource; `kept` is what the tools keep of runs, too."""
    resources = Resources(settings, kept)
    for address, name, title, mime in ADDRESSES:
        server.resource(address, name=name, title=title, mime_type=mime)(getattr(resources, name))
