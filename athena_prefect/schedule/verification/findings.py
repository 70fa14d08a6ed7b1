"""What is found against a revision, and how it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from athena_prefect.schedule.verification.claim import Item

NAMED = 5
"""Tasks that a sentence names before it says how many more there are."""


class Flaw(StrEnum):
    """What a revision breaks."""

    CYCLE = "cycle"
    REFERENCE = "reference"
    DEADLOCK = "deadlock"
    """Plan and resource order together wait in a circle."""
    PRECEDENCE = "precedence"
    CAPACITY = "capacity"
    DURATION = "duration"
    MODE = "mode"
    PAST = "past"
    """A start before now."""
    UNPLANNED = "unplanned"
    """A task of the revision has no place in the schedule, or one that is no task of it has."""
    GOAL = "goal"
    INPUT = "input"
    FINISHED = "finished"
    """Work that has begun was changed."""
    EDITED = "edited"
    """Something of the plan was changed that no revision of a run may change."""
    BLOCKED = "blocked"
    TIME_OUT = "time-out"
    """A time-out was changed, and the schedule still runs past it."""
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """One thing that speaks against a revision, in words."""

    flaw: Flaw
    tasks: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found against a revision; being late is told apart, since lateness is allowed."""

    objections: tuple[Objection, ...] = ()
    late: Objection | None = None
    """The chain that ends after the plan's deadline."""
    overdue: tuple[Objection, ...] = ()
    """Tasks that end after their own deadlines."""

    @property
    def passed(self) -> bool:
        """Whether the revision can be carried out, in time or not."""
        return not self.objections

    @property
    def in_time(self) -> bool:
        """Whether it can, and all deadlines hold by the schedule's durations."""
        return self.passed and self.late is None and not self.overdue

    def __str__(self) -> str:
        found = [*self.objections, *([self.late] if self.late else []), *self.overdue]
        return "; ".join(map(str, found)) or "no objection"


def against(flaw: Flaw, message: str, *tasks: str) -> Objection:
    """What speaks against a revision."""
    return Objection(flaw=flaw, tasks=tuple(dict.fromkeys(tasks)), message=message)


def seconds(value: float) -> str:
    """A moment or a length of time as sentences give it: to the microsecond, whatever its size."""
    return f"{units(value)} s"


def units(value: float) -> str:
    """An amount as sentences give it, without what adding up floats leaves behind."""
    return f"{round(value, 6):.15g}"


def name_of(item: Item) -> str:
    """A task, or an item of one, as sentences name it."""
    return item[0] if item[1] is None else f"{item[0]}[{item[1]}]"


def listed(names: Sequence[str]) -> str:
    """The first of several, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
