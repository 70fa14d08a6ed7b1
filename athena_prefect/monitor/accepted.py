"""What a revision was accepted with: the schedule that the rest of the run is to go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, Item
from athena_prefect.plan.revision import ChangeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The order that was promised; seconds from the start of the run."""

    starts: Mapping[Item, float] = field(default_factory=dict)
    """Start of each task, or each item of a mapped one; empty where nobody wrote them down."""
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Resource → units that it was planned with, where those are not the plan's."""
    again: tuple[str, ...] = ()
    """Failed tasks that are done again."""

    @classmethod
    def of(cls, event: RunEvent) -> Accepted | None:
        """What an event brought into force; None of one that promises nothing."""
        data = event.data
        # What a person changes by hand promises nothing: what was promised stays.
        if event.kind is not RunEventKind.REVISED or data.get("by_hand"):
            return None
        starts: dict[Item, float] = {(t, None): float(s) for t, s in _in(data, "starts").items()}
        for task_id, items in _in(data, "item_starts").items():
            starts.pop((task_id, None), None)
            starts |= {(task_id, k): float(s) for k, s in enumerate(items) if s is not None}
        return cls(
            starts=starts,
            capacities={n: float(c) for n, c in _in(data, "planned_with").items()},
            again=tuple(
                str(c["subject"])
                for c in data.get("details") or ()
                if c.get("kind") == ChangeKind.AGAIN
            )
            or tuple(data.get("again") or ()),
        )


def still_to_redo(state: ExecutionState) -> frozenset[str]:
    """Failed tasks that a revision, not only the newest, does again and that wait for it still."""
    return frozenset(
        task_id
        for event in state.decisions
        if (accepted := Accepted.of(event)) is not None
        for task_id in accepted.again
        if not _begun_since(state, task_id, event.at)
    )


def _begun_since(state: ExecutionState, task_id: str, at: datetime) -> bool:
    own = (state.task(task_id), *state.items(task_id).values())
    return any(a.started is not None and a.started >= at for s in own for a in s.attempts)


def _in(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = data.get(name) or {}
    return found
