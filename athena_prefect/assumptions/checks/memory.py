"""memory: what the machine has left without swapping."""

from __future__ import annotations

from typing import ClassVar

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.units import ByteUnit, in_unit
from athena_prefect.plan.model import Sense


class Memory(Check):
    """Memory of the machine: `available` without swapping, `total`, and `share` available."""

    kind: ClassVar[str] = "memory"
    sense: ClassVar[Sense] = Sense.AT_LEAST
    counts: ClassVar[str | None] = "available"

    unit: ByteUnit = "GiB"
    """Unit of `available` and `total`."""

    def observe(self, context: CheckContext) -> Observation:
        """What the operating system says."""
        import psutil

        memory = psutil.virtual_memory()
        available, total = in_unit(memory.available, self.unit), in_unit(memory.total, self.unit)
        return Observation(
            value={
                "available": available,
                "total": total,
                "share": memory.available / memory.total,
            },
            unit=self.unit,
            details=f"{available:.3g} of {total:.3g} {self.unit} available",
        )
