"""work_pool: whether a work pool has workers, runs that are late, and slots that are free."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.plan.model import Sense
from athena_prefect.plan.units import Duration
from athena_prefect.runtime.checks.asking import PrefectCheck, count_runs

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PAGE = 100
"""Workers that are asked for at once."""
_TAKES_A_SLOT = ("PENDING", "RUNNING", "CANCELLING")
"""Types of states of a run that takes one of its pool's slots."""


class WorkPool(PrefectCheck):
    """A work pool, or one of its queues: `workers` online, runs that are `late`, `paused`,
    and `free` slots, which is null where the number of runs is not limited.
    """

    kind: ClassVar[str] = "work_pool"
    sense: ClassVar[Sense] = Sense.AT_LEAST
    counts: ClassVar[str | None] = "workers"

    pool: str
    """The work pool."""
    queue: str | None = None
    """One of its queues; all by default. Workers are the pool's in any case."""
    late_after: Duration = timedelta(seconds=15)
    """A run that should have started longer ago is late; 15s as Prefect itself has it."""

    def _what(self) -> str:
        return f"work pool {self.pool!r}" + (f" with queue {self.queue!r}" if self.queue else "")

    def observe(self, context: CheckContext) -> Observation:
        """Ask for the pool, its workers and its runs."""
        with self.asking(context) as client:
            pool: Any = client.read_work_pool(self.pool)
            if self.queue is not None:
                pool = client.read_work_queue_by_name(self.queue, work_pool_name=self.pool)
            before = (context.now - self.late_after).isoformat()
            late = self._runs(
                client, state={"type": {"any_": ["SCHEDULED"]}},
                expected_start_time={"before_": before},
            )  # fmt: skip
            free = None
            if pool.concurrency_limit is not None:
                taken = self._runs(client, state={"type": {"any_": _TAKES_A_SLOT}})
                free = max(pool.concurrency_limit - taken, 0)
            workers = self._online(client)
        value = {"workers": workers, "late": late, "free": free, "paused": bool(pool.is_paused)}
        slots = "not limited" if free is None else f"{free} slots free"
        details = f"{self._what()}: {workers} workers online, {late} runs late, {slots}"
        return Observation(value=value, details=details + (", paused" if pool.is_paused else ""))

    def _runs(self, client: SyncPrefectClient, **runs: Mapping[str, Any]) -> int:
        filters: dict[str, Any] = {"work_pools": {"name": {"any_": [self.pool]}}}
        if self.queue is not None:
            filters["work_pool_queues"] = {"name": {"any_": [self.queue]}}
        return count_runs(client, flow_runs=runs, **filters)

    def _online(self, client: SyncPrefectClient) -> int:
        online = offset = 0
        while True:
            workers = client.read_workers_for_work_pool(self.pool, offset=offset, limit=PAGE)
            online += sum(str(worker.status.value) == "ONLINE" for worker in workers)
            if len(workers) < PAGE:
                return online
            offset += PAGE
