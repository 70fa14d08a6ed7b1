"""Names and tags that make the list of runs readable."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_GENERATED = re.compile(r"[a-z]+-[a-z]+")
"""Prefect's own names of flow runs, such as ``merry-otter``."""


def run_name(plan: str, date: datetime, number: int) -> str:
    """``environment-audit 2026-11-24 #3``: the plan, the day that it is for, its third run."""
    return f"{plan} {date:%Y-%m-%d} #{number}"


def run_tags(plan: str, revision: int) -> list[str]:
    """The tags of a plan's flow run."""
    return [f"plan:{plan}", f"revision:{revision}"]


def name_flow_run(
    client: SyncPrefectClient,
    flow_run: FlowRun,
    *,
    plan: str,
    revision: int,
    date: datetime,
    number: int | None,
) -> None:
    """Tag a flow run, and name it where nobody has. Raises what Prefect's client raises."""
    tags = [
        *(t for t in flow_run.tags if not t.startswith("revision:") and t != f"plan:{plan}"),
        *run_tags(plan, revision),
    ]
    given = not _GENERATED.fullmatch(flow_run.name or "")
    if given or number is None:
        client.update_flow_run(flow_run.id, tags=tags)
    else:
        client.update_flow_run(flow_run.id, tags=tags, name=run_name(plan, date, number))
