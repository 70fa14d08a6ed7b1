"""What the steps of the replanning flow answer, and how flows end that make no revision."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from athena_prefect.service.results import _Answer

NOTHING_TO_DO, ALREADY, ADVISED = "NothingToDo", "AlreadyReplanned", "Advised"
DECLINED, PASSED_ON, ASKS = "Declined", "PassedOn", "Asks"
"""Names of the final states of replanning flows that make no revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called(_Answer):
    """What an evaluation calls for, and whether this flow is to see to it."""

    plan_run: UUID | None
    plan: str
    revision: int
    strategy: str
    reason: str
    replans: bool
    """Whether the steps that make a revision follow."""
    state: str = ""
    """Name of the flow's final state, where they do not."""
    waiting: bool = False
    """Whether `revision` is in force already and its continuation is not known to go on."""
    asks: bool = False
    """Whether people are to be asked, by a form."""
    answered: bool = False
    """Whether they have answered, and what they chose is to be carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(_Answer):
    """What became of a revision that was ready."""

    plan_run: UUID
    revision: int
    stored: bool
    again: bool = False
    """Whether the run has gone past it, so that all is to be evaluated anew."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeployed(_Answer):
    """A continuation that is ready to go on, or does."""

    plan_run: UUID
    revision: int
    deployment: str
    flow_run_id: UUID | None = None
    """Of the continuation, where nobody runs the plan now; else its dispatcher starts it."""
