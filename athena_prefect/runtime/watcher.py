"""A thread beside the dispatcher that looks at what comes from outside.

Commands are rows of the journal, written by any process; cancel and pause from
Prefect's UI are states of the flow run. Neither depends on an event arriving.
The thread also keeps the dispatcher's lease and its global slots alive and
drains the spool.
"""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Something to do again and again; a failure is logged once and tried again."""

    name: str
    every: float
    """Seconds between the end of one time and the start of the next."""
    do: Callable[[], object]
    once: bool = False
    """Whether it is done when it has succeeded once."""


class Watcher:
    """Runs chores in one daemon thread, in the context of whoever starts it."""

    def __init__(
        self, chores: tuple[Chore, ...], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._chores = chores
        self._clock = clock
        self._stop = threading.Event()
        self._failing: set[str] = set()
        # A plain thread has no run context: Prefect's client and logs need it.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name="athena-watcher", daemon=True
        )

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        due = {chore.name: self._clock() + chore.every for chore in self._chores}
        while not self._stop.is_set():
            for chore in self._chores:
                if self._clock() >= due[chore.name]:
                    done = self._do(chore) and chore.once
                    due[chore.name] = math.inf if done else self._clock() + chore.every
            pause = min(due.values()) - self._clock()
            self._stop.wait(min(max(0.01, pause), threading.TIMEOUT_MAX))
        for chore in self._chores:
            if chore.once and due[chore.name] < math.inf:
                self._do(chore)  # the run was over before it could be done

    def _do(self, chore: Chore) -> bool:
        try:
            chore.do()
        except Exception as error:  # noqa: BLE001 - the boundary: watching must never end the run
            if chore.name not in self._failing:
                self._failing.add(chore.name)
                logger.warning("%s fails (%r); it is tried again", chore.name, error)
            return False
        else:
            if chore.name in self._failing:
                self._failing.discard(chore.name)
                logger.info("%s works again", chore.name)
            return True
