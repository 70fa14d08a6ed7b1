"""What the generation of a schedule answers, and what it may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from athena_prefect.plan.graph import Bools
from athena_prefect.schedule.partial_order import ResourceArcs, partial_order
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest
from athena_prefect.schedule.schedule import Schedule


class Outcome(StrEnum):
    """What is known of an answer."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


class Objective(StrEnum):
    """What a schedule should be good at; the least change comes after it."""

    MAKESPAN = "makespan"
    """Over as early as possible."""
    TARDINESS = "tardiness"
    """As little after the deadlines as possible."""
    COST = "cost"
    """As cheap as possible, with no more lateness than cannot be helped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """One step to the answer: after so many seconds, this value by that."""

    seconds: float
    value: float
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A schedule and what is known of it; seconds from the start of the run."""

    rest: Rest
    status: Outcome
    schedule: Schedule | None = None
    """Of all activities; those that are left out stand at the present with no duration."""
    choice: Choice = AS_IT_STANDS
    bound: float | None = None
    """No schedule is better than this: a lower bound of the objective, where one is known."""
    seconds: float = 0.0
    history: tuple[Progressed, ...] = ()
    conflict: str = ""
    """Why there is no schedule."""
    lessons: tuple[str, ...] = ()
    """What was learned from earlier runs and changed the estimates it rests on."""

    @property
    def makespan(self) -> float | None:
        """Finish of all that is not dropped; None where there is no schedule."""
        if self.schedule is None:
            return None
        return self.rest.makespan(self.schedule.starts, self.choice)

    @property
    def left_out(self) -> Bools:
        """The activities of dropped tasks."""
        return self.rest.left_out(self.choice)

    @cached_property
    def arcs(self) -> ResourceArcs:
        """The partial order of its schedule; none without one."""
        return ResourceArcs.none() if self.schedule is None else partial_order(self.schedule)

    @cached_property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the tasks that are left out."""
        ids = self.rest.problem.task_ids
        return tuple(ids[t] for t in sorted(self.choice.dropped))
