"""What a watcher asks of Prefect's API and does there: flow runs, late starts, starting again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID, uuid5

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled
from prefect.types._datetime import create_datetime_instance

from athena_prefect.monitor.deadlines import missed_starts
from athena_prefect.plan.clock import cron_times, interval_times, rrule_times
from athena_prefect.runtime.admission import LIMIT_REACHED
from athena_prefect.runtime.deployment.names import DEFAULT, in_namespace
from athena_prefect.runtime.events import IDS

LOOK_BACK = timedelta(days=1)
"""How far back a missed start is looked for."""
SCHEDULER_GRACE = timedelta(minutes=2)
"""How late Prefect's scheduler, which looks once a minute, may make a run of its schedule."""
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRunState:
    """A flow run as the API knows it."""

    flow_run_id: UUID
    type: str
    name: str
    since: datetime
    deployed: bool
    """Whether a worker can start it again."""
    message: str = ""

    @property
    def refused(self) -> bool:
        """Whether Prefect cancelled it because another run had the deployment's slot."""
        return self.type == "CANCELLED" and self.message == LIMIT_REACHED


@dataclass(frozen=True, slots=True, kw_only=True)
class LateStart:
    """A start of a plan that is due and has not happened."""

    plan: str
    subject: UUID
    """The flow run that waits, or a name of the missed start: breaches are kept under it."""
    scheduled: datetime
    missed: int = 0
    """How many starts have no run at all; 0 where one waits for a worker."""
    last: datetime | None = None


class Api:
    """Prefect's API, for a watcher."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client

    def flow_run(self, flow_run_id: UUID) -> FlowRunState | None:
        """The flow run's state; None where the API does not know it."""
        try:
            run = self.client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            return None
        state = run.state
        if state is None:
            return None
        return FlowRunState(
            flow_run_id=flow_run_id,
            type=state.type.value,
            name=state.name or "",
            since=_plain(state.timestamp),
            deployed=run.deployment_id is not None,
            message=state.message or "",
        )

    def start_again(self, flow_run_id: UUID, why: str) -> None:
        """Have a worker take the flow run again, from the top of its body."""
        again: Any = Scheduled(name="AwaitingRetry", message=why)
        self.client.set_flow_run_state(flow_run_id, again, force=True)

    def late_starts(
        self, plans: Sequence[str], now: datetime, namespace: str = DEFAULT
    ) -> Iterator[LateStart]:
        """Starts of the plans' scheduled deployments that are due at `now` and have not happened.

        Of the deployments of a plan's flow those count that are of the namespace by their
        tag; one without such a tag, made by hand, is of the default one. Deployments
        whose schedule is paused start nothing, so they miss nothing.
        """
        if not plans:
            return
        offset = 0
        while True:
            page = self.client.read_deployments(
                flow_filter=FlowFilter(name=FlowFilterName(any_=list(plans))),
                limit=_PAGE,
                offset=offset,
            )
            for deployment in page:
                if not deployment.paused and in_namespace(deployment.tags, namespace):
                    flow = self.client.read_flow(deployment.flow_id)
                    yield from self._late(flow.name, deployment, now)
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _late(self, plan: str, deployment: Any, now: datetime) -> Iterator[LateStart]:
        for run in self._runs(deployment.id, now - LOOK_BACK, now, waiting=True):
            # One that was started before waits for its retry: its start was not missed.
            if not run.run_count and run.expected_start_time is not None:
                yield LateStart(
                    plan=plan, subject=run.id, scheduled=_plain(run.expected_start_time)
                )
        schedules = [s for s in deployment.schedules if s.active]
        if not schedules:
            return
        until = now - SCHEDULER_GRACE
        since = max(
            [now - LOOK_BACK, _plain(deployment.created)]
            + [_plain(s.updated or s.created) for s in schedules if s.updated or s.created]
        )
        if since >= until:
            return
        times = sorted({t for s in schedules for t in _times(s.schedule, since, until)})
        if not times:
            return
        made = self._runs(deployment.id, times[0] - timedelta(seconds=1), now)
        started = tuple(_plain(r.expected_start_time) for r in made if r.expected_start_time)
        missed = missed_starts(tuple(times), started)
        if missed:
            yield LateStart(
                plan=plan,
                subject=uuid5(IDS, f"missed|{deployment.id}|{missed[0].isoformat()}"),
                scheduled=missed[0],
                missed=len(missed),
                last=missed[-1],
            )

    def _runs(
        self, deployment: UUID, since: datetime, until: datetime, *, waiting: bool = False
    ) -> list[Any]:
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        chosen = FlowRunFilter(
            expected_start_time=FlowRunFilterExpectedStartTime(
                after_=create_datetime_instance(since), before_=create_datetime_instance(until)
            ),
            state=state if waiting else None,
        )
        found: list[Any] = []
        while True:
            page = self.client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
                flow_run_filter=chosen,
                limit=_PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < _PAGE:
                return found


@contextmanager
def connected() -> Iterator[Api | None]:
    """The configured API; None where there is none: a watcher starts no server of its own."""
    from prefect.settings import get_current_settings

    if get_current_settings().api.url is None:
        yield None
        return
    with get_client(sync_client=True) as client:
        yield Api(client)


def _times(schedule: Any, since: datetime, until: datetime) -> list[datetime]:
    zone = schedule.timezone or "UTC"
    if isinstance(schedule, CronSchedule):
        found = cron_times(schedule.cron, zone, since)
    elif isinstance(schedule, RRuleSchedule):
        found = rrule_times(schedule.rrule, zone, since)
    elif isinstance(schedule, IntervalSchedule):
        if schedule.interval >= timedelta(days=1) and zone != "UTC":
            # Prefect keeps such intervals on the clock; what it makes is not foreseen here.
            return []
        found = interval_times(schedule.interval, _plain(schedule.anchor_date), since)
    else:
        return []
    return list(takewhile(lambda t: t <= until, found))


def _plain(moment: Any) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)
