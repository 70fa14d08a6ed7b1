"""cpu_load: how many wait for a processor."""

from __future__ import annotations

from typing import ClassVar, Literal

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.plan.model import Sense


class CpuLoad(Check):
    """Load average of the machine: `per_core` (1 is busy and nobody waits), and `load`."""

    kind: ClassVar[str] = "cpu_load"
    sense: ClassVar[Sense] = Sense.AT_MOST
    counts: ClassVar[str | None] = "per_core"

    over: Literal["1m", "5m", "15m"] = "1m"
    """Time that the average is taken over."""

    def observe(self, context: CheckContext) -> Observation:
        """The operating system's load average."""
        import psutil

        load = psutil.getloadavg()[("1m", "5m", "15m").index(self.over)]
        cores = psutil.cpu_count() or 1
        return Observation(
            value={"per_core": load / cores, "load": load, "cores": cores},
            details=f"load {load:.2f} on {cores} cores over {self.over}",
        )
