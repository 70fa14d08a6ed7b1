"""Followed runs that are kept from one look to the next, for processes that are asked again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from athena_prefect.service.following import FollowedRun

MOST_KEPT = 16
"""Runs whose monitors are kept, those asked for last: one of 10,000 tasks holds some 50 MB."""


@dataclass(slots=True)
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    run: FollowedRun | None = None


class KeptRuns:
    """The runs that were asked for last, each with its monitor, for many threads.

    A kept run reads its journal on from where it stood, so that what it says is as new
    as that of a run opened anew; what it saves is reading the plan and all events again.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[UUID, _Kept] = OrderedDict()

    @contextmanager
    def following(self, plan_run: UUID, opened: Callable[[], FollowedRun]) -> Iterator[FollowedRun]:
        """The run, for this thread alone, opened where it is not kept.

        One that fails while it is looked at is opened anew the next time.
        """
        with self._lock:
            kept = self._kept.setdefault(plan_run, _Kept())
            self._kept.move_to_end(plan_run)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with kept.lock:
            run, kept.run = kept.run or opened(), None
            yield run
            kept.run = run
