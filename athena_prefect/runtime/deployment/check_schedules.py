"""The schedules of checks: active while a run of their plan lives, paused when none does.

A run hands the checks that have a deployment over to their schedules when it
starts; the last one to end pauses them. Where a process vanished in between, the
watching flow does what it left undone. Whatever somebody paused by hand (the whole
deployment) stays so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.checks import FLOW, WHILE_RUNNING, scheduled

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.storage.db import Database

logger = logging.getLogger(__name__)

SCHEDULED_CHECKS = "scheduled_checks"
"""What a run says when it starts or is resumed: the assumptions that schedules check for it."""
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSchedule:
    """The schedule of one assumption's deployment."""

    deployment: UUID
    schedule: UUID
    plan: str
    assumption: str
    active: bool
    while_running: bool
    """Whether it is active only while a run lives; else always."""
    works: bool
    """Whether a worker would take its runs: it has a pool, and nobody paused it."""


def read_schedules(
    client: SyncPrefectClient, namespace: str, plan: str | None = None
) -> list[CheckSchedule]:
    """Those of the namespace, or of one plan. Raises what Prefect's client raises."""
    from prefect.client.schemas import filters

    tags = [names.OURS, names.namespace_tag(namespace)]
    if plan is not None:
        tags.append(names.plan_tag(plan))
    found: list[CheckSchedule] = []
    offset = 0
    while True:
        page = client.read_deployments(
            flow_filter=filters.FlowFilter(name=filters.FlowFilterName(any_=[FLOW])),
            deployment_filter=filters.DeploymentFilter(
                tags=filters.DeploymentFilterTags(all_=tags)
            ),
            limit=_PAGE,
            offset=offset,
        )
        found += [s for d in page if (s := _schedule_of(d)) is not None]
        if len(page) < _PAGE:
            return found
        offset += _PAGE


def _schedule_of(deployment: Any) -> CheckSchedule | None:
    assumption = deployment.parameters.get("assumption")
    prefix = names.plan_tag("")
    plan = next((t.removeprefix(prefix) for t in deployment.tags if t.startswith(prefix)), None)
    if assumption is None or plan is None or not deployment.schedules:
        return None
    schedule = deployment.schedules[0]
    return CheckSchedule(
        deployment=deployment.id,
        schedule=schedule.id,
        plan=plan,
        assumption=str(assumption),
        active=schedule.active,
        while_running=WHILE_RUNNING in deployment.tags,
        works=deployment.work_pool_name is not None and not deployment.paused,
    )


def leave_to_schedules(client: SyncPrefectClient, plan: Plan, namespace: str) -> tuple[str, ...]:
    """Have schedules make the checks that have one; which assumptions these are.

    Nobody's run fails for it: where the server does not answer, the run makes them itself.
    """
    mine = {a.id for a in plan.assumptions if scheduled(a)}
    if not mine:
        return ()
    try:
        found = [s for s in read_schedules(client, namespace, plan.name) if s.assumption in mine]
        ready = [s for s in found if s.works and (s.active or s.while_running)]
        for schedule in ready:
            _set(client, schedule, active=True)
    except Exception as error:  # noqa: BLE001 - the boundary: the run makes its checks itself
        logger.warning("checks are made beside the run, not by their schedules: %r", error)
        return ()
    return tuple(sorted(s.assumption for s in ready))


def needed(database: Database, plan: str, namespace: str) -> set[tuple[str, str]]:
    """Plan and assumption of each check that a live run of the plan leaves to its schedule.

    Raises StorageError.
    """
    from athena_prefect.journal.state import fold_entries
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

    journal = SqlJournal(database)
    found: set[tuple[str, str]] = set()
    for row in PlanStore(database).live_runs(plan, namespace=namespace):
        state = fold_entries(journal.read(row.plan_run))
        if state.end_status is None:
            found |= {(plan, name) for name in state.run_data.get(SCHEDULED_CHECKS) or ()}
    return found


def settle(
    client: SyncPrefectClient,
    namespace: str,
    wanted: Callable[[], Collection[tuple[str, str]]],
    plan: str | None = None,
) -> int:
    """Have those schedules active that `wanted` says, as plan and assumption; how many changed.

    `wanted` is asked again after one was paused: a run that has begun meanwhile found it
    active. Raises what Prefect's client and `wanted` raise.
    """
    schedules = [s for s in read_schedules(client, namespace, plan) if s.while_running]
    if not schedules:
        return 0
    now, changed = wanted(), 0
    for schedule in schedules:
        changed += _set(client, schedule, active=(schedule.plan, schedule.assumption) in now)
    paused = [s for s in schedules if s.active and (s.plan, s.assumption) not in now]
    if paused:
        again = wanted()
        for schedule in paused:
            if (schedule.plan, schedule.assumption) in again:
                client.update_deployment_schedule(
                    schedule.deployment, schedule.schedule, active=True
                )
    return changed


def _set(client: SyncPrefectClient, schedule: CheckSchedule, *, active: bool) -> bool:
    """Only where it is not so already: a change takes back the runs that were planned."""
    if schedule.active == active:
        return False
    client.update_deployment_schedule(schedule.deployment, schedule.schedule, active=active)
    return True
