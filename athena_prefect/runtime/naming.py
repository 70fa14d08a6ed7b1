"""Names and tags that make the list of runs readable."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

NAME_SECONDS = 0.2
"""From a run's start to its name: behind what the first tasks wait for."""
_GENERATED = re.compile(r"[a-z]+-[a-z]+")
"""Prefect's own names of flow runs, such as ``merry-otter``."""


def run_name(plan: str, date: datetime, number: int, revision: int = 1) -> str:
    """``environment-audit 2026-11-24 #3``: the plan, the day that it is for, its third run.

    A flow run that goes on by a later revision says so: ``…, revision 2``.
    """
    name = f"{plan} {date:%Y-%m-%d} #{number}"
    return name if revision == 1 else f"{name}, revision {revision}"


def service_run_name() -> str:
    """What the current run of one of the project's own flows is about, for its name.

    ``learn orders``, ``replan 0d0a6f45``, ``check disk_free of orders``; of a look at
    everything, when: ``watch-plan 2026-11-24 04:00:00``.
    """
    from prefect.runtime import flow_run

    given = {k: str(v) for k, v in (flow_run.parameters or {}).items() if v}
    flow, at = flow_run.flow_name, flow_run.scheduled_start_time
    if "assumption" in given:
        return f"check {given['assumption']} of {_plan_of(given.get('plan', ''))}"
    if "plan_run" in given:
        return f"{flow} {given['plan_run'][:8]}"
    about = given.get("plan") or f"{at:%Y-%m-%d %H:%M:%S}"
    return f"{flow} {about}"


def _plan_of(document: str) -> str:
    """The folder of a plan document, which is named as its plan."""
    return PurePath(document).parent.name or document


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
        name = run_name(plan, date, number, revision)
        client.update_flow_run(flow_run.id, tags=tags, name=name)
