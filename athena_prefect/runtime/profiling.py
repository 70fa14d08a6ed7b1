"""Where a task's time goes: a sampling profile of its body, in the body's own thread."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import StorageError
from athena_prefect.learning.memory import LessonKind, recall
from athena_prefect.learning.spots import Frame, Spot, hottest

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan
    from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)

SAMPLES = 2000
"""Samples of a task of the expected length: a share of 10 % is then known to 0.7 points."""
SHORTEST, LONGEST = 0.001, 0.1
"""Seconds between two samples: shorter ones are felt by the task, longer ones show no function."""


def interval(expected: float | None) -> float:
    """Seconds between two samples of a task that is expected to take so many."""
    return SHORTEST if expected is None else min(max(expected / SAMPLES, SHORTEST), LONGEST)


def tasks_to_profile(plan: Plan, settings: AthenaSettings, now: datetime) -> frozenset[str]:
    """The tasks of a run whose time is sampled, as `settings.profile` says.

    ``auto``: those of which runs before have taught that they take longer, or became
    slower, once: until a run has sampled them since. None where that cannot be read.
    """
    wanted = settings.profile
    if wanted == "off":
        return frozenset()
    known = frozenset(plan.task_ids)
    if wanted == "all":
        return known
    if wanted != "auto":
        return known & frozenset(wanted.split(","))
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.history import StoredHistory
    from athena_prefect.storage.lessons import StoredLessons

    try:
        database = Database.open(settings)
        memory = StoredLessons(database, namespace=settings.namespace)
        history = StoredHistory(database, namespace=settings.namespace)
        slow: dict[str, datetime] = {}
        for lesson in (r.lesson for r in recall(memory.lessons(), plan, now=now)):
            told = lesson.kind in (LessonKind.CODE, LessonKind.DURATION)
            if told and lesson.plan == plan.name and lesson.subject in known:
                # What was sampled for being long is sampled again once it became slower.
                since = slow.get(lesson.subject, lesson.first)
                slow[lesson.subject] = max(since, lesson.first)
        sampled = history.sampled_tasks(plan.name) if slow else {}
    except StorageError as error:
        logger.warning("no task is profiled: what was learned cannot be read: %s", error)
        return frozenset()
    return frozenset(t for t, found in slow.items() if t not in sampled or sampled[t][0] < found)


def available() -> bool:
    """Whether the profiler is installed."""
    return find_spec("pyinstrument") is not None


@contextmanager
def profiled(
    root: str | Path, *, expected: float | None = None, asynchronous: bool = False
) -> Iterator[list[Spot]]:
    """Profile what runs inside; afterwards the list has the project's functions, hottest first.

    `asynchronous`: what it awaits counts for the function that awaits it.
    It stays empty where the profiler is not installed or cannot run: a profile
    never fails the task.
    """
    found: list[Spot] = []
    profiler = _started(expected, asynchronous)
    try:
        yield found
    finally:
        if profiler is not None:
            try:
                profiler.stop()
                session = profiler.last_session
                frame = None if session is None else session.root_frame(trim_stem=False)
                if frame is not None:
                    found += hottest(_frame(frame), root)
            except Exception:  # the boundary: the task has its value already
                logger.warning("the profile could not be read", exc_info=True)


def _started(expected: float | None, asynchronous: bool) -> Any:
    if not available():
        logger.info("no profile: install athena-prefect[profile]")
        return None
    from pyinstrument import Profiler

    try:
        mode: Any = "enabled" if asynchronous else "disabled"
        profiler: Any = Profiler(interval=interval(expected), async_mode=mode)
        profiler.start()
    except Exception:  # another profiler of this thread, or none for this interpreter
        logger.warning("the profile could not be started", exc_info=True)
        return None
    return profiler


def _frame(frame: Any) -> Frame:
    """The tree of pyinstrument as ours, children first, without recursion."""
    made: dict[int, Frame] = {}
    stack = [(frame, False)]
    while stack:
        node, seen = stack.pop()
        if not seen:
            stack.append((node, True))
            stack += [(child, False) for child in node.children]
            continue
        children = tuple(made.pop(id(child)) for child in node.children)
        synthetic = node.function.startswith("[") and not node.children
        made[id(node)] = Frame(
            file="" if synthetic else (node.file_path or ""),
            line=int(node.line_no or 0),
            function=node.function,
            time=float(node.time),
            children=children,
        )
    return made[id(frame)]
