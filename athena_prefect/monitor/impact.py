"""What a change of the circumstances does to the dates of a run: computed on its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.monitor.effects import Effects
from athena_prefect.monitor.progress import Progress

_DUST = 1e-3
"""Seconds by which two schedules of the same work may differ through rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What some effects change, against the same run without them; P50 durations."""

    finish: timedelta | None
    """By how much the end of the run moves; None where it has none with or without them."""
    share: float | None
    """That over the duration that was planned (the baseline's P50)."""
    moved: Mapping[str, timedelta] = field(default_factory=dict)
    """Open tasks whose end moves, and by how much, in the order of the plan."""
    floats: Mapping[str, timedelta] = field(default_factory=dict)
    """Float of each open task without the effects."""
    reason: str = ""
    """Why there is no figure."""

    def absorbs(self) -> bool:
        """Whether what moves has so much float that the end of the run stays where it is."""
        return self.finish is not None and self.finish <= timedelta(seconds=_DUST)

    def critical(self, task_id: str) -> bool:
        """Whether the task had no float."""
        own = self.floats.get(task_id)
        return own is not None and own <= timedelta(seconds=_DUST)


def impact(
    progress: Progress, before: Effects, after: Effects, now: datetime, planned: float | None
) -> Impact:
    """What `after` changes against `before` for the run as it stands at `now`.

    `planned`: seconds of the baseline, of which `share` is one.
    """
    calm = progress.supposing(before, now)
    reason = _why_not(calm)
    if reason:
        return Impact(finish=None, share=None, reason=reason)
    floats = _floats(calm)
    struck = progress.supposing(after, now)
    reason = _why_not(struck)
    if reason:
        return Impact(finish=None, share=None, floats=floats, reason=reason)
    shift = struck.course.end_of_all - calm.course.end_of_all
    ends, new = _ends(calm), _ends(struck)
    moved = {
        task: timedelta(seconds=new[task] - end)
        for task, end in ends.items()
        if task in new and abs(new[task] - end) > _DUST
    }
    return Impact(
        finish=timedelta(seconds=shift) if abs(shift) > _DUST else timedelta(0),
        share=shift / planned if planned else None,
        moved=moved,
        floats=floats,
    )


def _why_not(progress: Progress) -> str:
    if progress.unknown_open:
        return f"no duration is known of {', '.join(progress.unknown_open[:5])}"
    return progress.chain.infeasible or progress.tally.blocked


def _ends(progress: Progress) -> dict[str, float]:
    """Finish of each open task in seconds, in the order of the plan."""
    course, found = progress.course, {}
    for task_id, nodes in progress.chain.nodes_of.items():
        open_ = [n for n in nodes if course.open[n]]
        if open_:
            found[task_id] = max(float(course.finish[n]) for n in open_)
    return found


def _floats(progress: Progress) -> dict[str, timedelta]:
    """Least float of each open task's nodes."""
    course = progress.course
    spare, open_ = course.floats(), course.open
    found: dict[str, timedelta] = {}
    for node in np.flatnonzero(open_).tolist():
        task_id = progress.chain.items[node][0]
        own = timedelta(seconds=max(float(spare[node]), 0.0))
        found[task_id] = min(own, found.get(task_id, own))
    return found
