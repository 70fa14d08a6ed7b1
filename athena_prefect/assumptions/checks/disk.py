"""disk_free: room on the file system that holds a path."""

from __future__ import annotations

import shutil
from typing import ClassVar

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.units import ByteUnit, in_unit
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense


class DiskFree(Check):
    """Room on the file system that holds `path`: `free`, `total`, and `share` free of all."""

    kind: ClassVar[str] = "disk_free"
    sense: ClassVar[Sense] = Sense.AT_LEAST
    counts: ClassVar[str | None] = "free"
    can_hang: ClassVar[bool] = True  # a network file system whose server is gone

    path: str = "."
    """A file or folder on the file system; relative to the project."""
    unit: ByteUnit = "GB"
    """Unit of `free` and `total`."""

    def observe(self, context: CheckContext) -> Observation:
        """The room there is for this user."""
        path = context.path(self.path)
        try:
            usage = shutil.disk_usage(path)
        except OSError as error:
            raise CheckError(f"{self.path}: {error.strerror or error}") from None
        free, total = in_unit(usage.free, self.unit), in_unit(usage.total, self.unit)
        return Observation(
            value={"free": free, "total": total, "share": usage.free / usage.total},
            unit=self.unit,
            details=f"{free:.3g} of {total:.3g} {self.unit} free at {self.path}",
        )
