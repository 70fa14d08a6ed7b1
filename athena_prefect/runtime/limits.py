"""Capacity: of the plan's own resources, and of Prefect's global concurrency limits.

The plan's resources are counted here, in the dispatcher, which is the only one
that starts tasks of a plan run. A resource that names a global limit is shared
with other flows, so its slots are asked of the server: in name order, all or
nothing, without waiting, each under a lease that is renewed while the task runs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.plan.model import Plan

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a slot stays taken after its holder has vanished: Prefect's own least."""
RENEW_SECONDS = 20.0
"""Three tries at renewing before a lease runs out."""
_TOLERANCE = 1e-9
"""Sums of amounts such as 0.1 + 0.2 may exceed a capacity by rounding alone."""


class Capacity:
    """What of each resource, and of the runner's workers, is free in this plan run."""

    def __init__(self, plan: Plan) -> None:
        self._planned = {name: r.capacity for name, r in plan.resources.items()}
        self._capacity: Mapping[str, float] = self._planned
        self._used: dict[str, float] = dict.fromkeys(self._capacity, 0.0)
        self.workers = plan.runner.max_workers
        self.busy = 0

    @property
    def full(self) -> bool:
        """Whether every worker is busy."""
        return self.busy >= self.workers

    def limit(self, capacities: Mapping[str, float]) -> None:
        """Count with these amounts of some resources instead of the plan's; what runs goes on."""
        self._capacity = {**self._planned, **capacities}

    def lacking(self, demand: Mapping[str, float]) -> str | None:
        """The first resource that has too little left for `demand`; None where all fits."""
        for name, amount in demand.items():
            if self._used[name] + amount > self._capacity[name] * (1 + _TOLERANCE):
                return name
        return None

    def take(self, demand: Mapping[str, float]) -> None:
        """Count `demand` and one worker as used."""
        self.busy += 1
        for name, amount in demand.items():
            self._used[name] += amount

    def give_back(self, demand: Mapping[str, float]) -> None:
        """Count them as free again."""
        self.busy -= 1
        for name, amount in demand.items():
            self._used[name] = max(0.0, self._used[name] - amount)


@dataclass(slots=True)
class GlobalLimits:
    """Slots of Prefect's global concurrency limits, each held under a lease."""

    client: SyncPrefectClient
    holder: UUID
    limits: Mapping[str, str]
    """Resource → name of its global limit."""
    held: set[UUID] = field(default_factory=set)
    _checked: dict[tuple[str, int], str | None] = field(default_factory=dict)

    def demand(self, resources: Mapping[str, float]) -> dict[str, int]:
        """Slots of each limit that `resources` take; a fraction takes a whole slot."""
        slots: dict[str, int] = {}
        for name, amount in resources.items():
            limit = self.limits.get(name)
            if limit is not None and amount > 0:
                slots[limit] = slots.get(limit, 0) + math.ceil(amount)
        return slots

    def take(self, slots: Mapping[str, int]) -> tuple[UUID, ...] | None:
        """Take all of `slots`; their leases, or None where one is not free now."""
        taken: list[UUID] = []
        for name in sorted(slots):
            lease = self._take_one(name, slots[name])
            if lease is None:
                self.give_back(tuple(taken))
                return None
            taken.append(lease)
        self.held.update(taken)
        return tuple(taken)

    def _take_one(self, name: str, slots: int) -> UUID | None:
        import httpx
        from prefect.client.schemas.objects import ConcurrencyLeaseHolder

        try:
            answer = self.client.increment_concurrency_slots_with_lease(
                names=[name],
                slots=slots,
                mode="concurrency",
                lease_duration=LEASE_SECONDS,
                holder=ConcurrencyLeaseHolder(type="flow_run", id=self.holder),
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                return None
            raise
        data: dict[str, Any] = answer.json()
        return UUID(data["lease_id"])

    def impossible(self, slots: Mapping[str, int]) -> str | None:
        """Why `slots` can never be had; None where they can. Asked of the server once.

        The server grants slots of a limit that does not exist, so this comes first.
        """
        for wanted in slots.items():
            if wanted not in self._checked:
                self._checked[wanted] = self._impossible(*wanted)
            if self._checked[wanted] is not None:
                return self._checked[wanted]
        return None

    def _impossible(self, name: str, wanted: int) -> str | None:
        from prefect.exceptions import ObjectNotFound

        try:
            limit = self.client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return (
                f"there is no global concurrency limit {name!r}: create it with "
                f"`prefect gcl create {name} --limit {wanted}`"
            )
        if limit.limit < wanted:
            return f"global concurrency limit {name!r} is {limit.limit}, {wanted} are needed"
        return None

    def give_back(self, leases: tuple[UUID, ...]) -> None:
        """Release slots by their leases; what cannot be released runs out by itself."""
        import httpx

        for lease in leases:
            self.held.discard(lease)
            try:
                self.client.release_concurrency_slots_with_lease(lease_id=lease)
            except httpx.HTTPError as error:
                logger.warning("a concurrency slot is freed only when its lease ends: %s", error)

    def renew(self) -> None:
        """Keep what is held."""
        import httpx

        for lease in tuple(self.held):
            try:
                self.client.renew_concurrency_lease(lease_id=lease, lease_duration=LEASE_SECONDS)
            except httpx.HTTPError as error:
                logger.warning("the lease of a concurrency slot was not renewed: %s", error)
