"""tcp: whether somebody listens at a port, and how long it takes to reach them."""

from __future__ import annotations

import socket
from typing import Annotated, ClassVar

from pydantic import Field

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.plan.scalars import Number


class Tcp(Check):
    """Whether a TCP connection can be made: `reachable`, and `seconds` it took.

    No answer within the time-out is an observation too: not reachable.
    """

    kind: ClassVar[str] = "tcp"
    counts: ClassVar[str | None] = "reachable"
    can_hang: ClassVar[bool] = True  # looking a name up has no time-out of its own

    host: str = "127.0.0.1"
    """Name or address; this machine by default."""
    port: Annotated[int, Field(ge=1, le=65535), Number]
    """The port."""
    attempts: Annotated[int, Field(ge=1, le=100), Number] = 1
    """Connections made, one after the other; their times are the samples of `seconds`."""

    def observe(self, context: CheckContext) -> Observation:
        """Connect, and hang up."""
        took: list[float] = []
        for _ in range(self.attempts):
            begun = context.ticks()
            try:
                with socket.create_connection(
                    (self.host, self.port), timeout=self.patience / self.attempts
                ):
                    took.append(context.ticks() - begun)
            except OSError as error:
                return Observation(
                    value={"reachable": False, "seconds": None},
                    details=f"{self.host}:{self.port}: {error.strerror or error}",
                )
        return Observation(
            value={"reachable": True, "seconds": sum(took) / len(took)},
            samples=tuple(took),
            details=f"{self.host}:{self.port} answered in {sum(took) / len(took) * 1000:.1f} ms",
        )
