"""concurrency_limit: how many slots of a global concurrency limit are free."""

from __future__ import annotations

from typing import ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense
from athena_prefect.runtime.checks.asking import PrefectCheck


class ConcurrencyLimit(PrefectCheck):
    """Slots of a global concurrency limit: `free`, `taken`, and its `limit`."""

    kind: ClassVar[str] = "concurrency_limit"
    sense: ClassVar[Sense] = Sense.AT_LEAST
    counts: ClassVar[str | None] = "free"

    name: str
    """The global concurrency limit."""

    def _what(self) -> str:
        return f"global concurrency limit {self.name!r}"

    def observe(self, context: CheckContext) -> Observation:
        """Ask for it. One that is switched off limits nothing: no number is free."""
        with self.asking(context) as client:
            found = client.read_global_concurrency_limit_by_name(self.name)
        if not found.active:
            raise CheckError(f"{self._what()} is switched off, and limits nothing")
        free = max(found.limit - found.active_slots, 0)
        return Observation(
            value={"free": free, "taken": found.active_slots, "limit": found.limit},
            details=f"{free} of {found.limit} slots of {self.name} are free",
        )
