"""Where checks are made beside a run: a few at once, as task runs of the flow run or without.

They have a task runner of their own, so that no task loses its slot to one.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from athena_prefect.runtime.gate import Due
from athena_prefect.runtime.questions import asks_a_person

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Checks made at once: enough that a slow one keeps no other waiting, few beside the work."""
TAG = "athena-check"

Make = Callable[[Due], tuple[str, str]]
"""Makes a check; its verdict and the reason."""


class Places:
    """The places of one run's checks. `free` one when its check is made."""

    def __init__(self, make: Make, *, shown: bool) -> None:
        """`shown`: whether each check is a task run of the flow run."""
        self.taken: dict[str, Due] = {}
        """By assumption: each is checked once at a time."""
        self._make = make
        self._shown = shown
        self._lock = threading.Lock()
        self._runner: Any = None
        self._unseen: ThreadPoolExecutor | None = None
        self._futures: set[Any] = set()

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return len(self.taken) >= MOST_AT_ONCE

    def open(self) -> None:
        """Have task runs made from now on. In the flow's own thread."""
        if self._shown:
            from prefect.task_runners import ThreadPoolTaskRunner

            self._runner = ThreadPoolTaskRunner(max_workers=MOST_AT_ONCE).__enter__()

    def close(self, until: float) -> None:
        """Wait for what is being made, by the monotonic clock at most, and take nothing more.

        Cancelled, a task run would count as crashed.
        """
        for future in tuple(self._futures):
            left = max(until - time.monotonic(), 0.0)
            if isinstance(future, Future):
                wait((future,), left)
            else:
                future.wait(timeout=left)
        if self._runner is not None:
            self._runner.__exit__(None, None, None)
        if self._unseen is not None:
            self._unseen.shutdown(wait=False)

    def begin(self, due: Due) -> bool:
        """Begin a check; False where no place is free, or it is being made already."""
        if not self._shown and not asks_a_person(due.assumption):
            return self.begin_unseen(due)
        if not self._take(due):
            return False
        if not asks_a_person(due.assumption):
            try:
                self._keep(self._runner.submit(self._task(due), parameters={}))
            except Exception as error:  # noqa: BLE001 - Prefect is not needed for a check
                logger.warning("no task run for the check of %s (%r)", due.assumption.id, error)
            else:
                return True
        self._make(due)
        return True

    def begin_unseen(self, due: Due) -> bool:
        """The same without a task run."""
        if not self._take(due):
            return False
        if self._unseen is None:
            self._unseen = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="athena-checks")
        self._keep(self._unseen.submit(contextvars.copy_context().run, self._make, due))
        return True

    def free(self, due: Due) -> None:
        """Its check is made."""
        with self._lock:
            del self.taken[due.assumption.id]

    def _take(self, due: Due) -> bool:
        name = due.assumption.id
        with self._lock:
            if name in self.taken or self.full:
                return False
            self.taken[name] = due
            return True

    def _keep(self, future: Any) -> None:
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)

    def _task(self, due: Due) -> Any:
        from prefect import Task
        from prefect.states import Completed

        def check() -> Any:
            verdict, reason = self._make(due)
            return Completed(name=verdict.capitalize(), message=reason)

        name = f"check {due.assumption.id}"
        return Task(check, name=name, task_run_name=name, tags=[TAG], persist_result=False)
