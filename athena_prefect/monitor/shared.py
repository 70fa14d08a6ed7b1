"""One monitor of a run for all of its process: made once, used in turns.

Whoever makes the baseline has a monitor already; finding what is late and
drawing dashboards ask it too, from threads of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from athena_prefect.monitor.monitor import ExecutionMonitor


@dataclass(slots=True)
class SharedMonitor:
    """A place for a monitor that one thread makes and others use, one at a time."""

    tried: threading.Event = field(default_factory=threading.Event)
    """Set when whoever makes it has made it, or has failed to: until then it may still come."""
    _monitor: ExecutionMonitor | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, monitor: ExecutionMonitor) -> None:
        """Give the monitor to all; whoever made it uses it like the others from now on."""
        with self._lock:
            self._monitor = monitor

    @contextmanager
    def using(self) -> Iterator[ExecutionMonitor | None]:
        """The monitor, for one thread until the block ends; None before it is made."""
        with self._lock:
            yield self._monitor
