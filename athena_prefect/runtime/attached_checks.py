"""Assumptions beside a hand-written flow: checked and told, and nothing is held back for them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.journal.state import ExecutionState, Status, fold_entries
from athena_prefect.runtime.watcher import Chore

if TYPE_CHECKING:
    from athena_prefect.runtime.facts import RunFacts
    from athena_prefect.runtime.gate import Gate

LOOK_SECONDS = 1.0
"""How late a milestone is seen: nobody waits for its check."""
_BEGUN = (Status.READY, Status.RUNNING)


class _Nothing:
    """Stands where a dispatcher has what it can change."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@dataclass(slots=True)
class Onlooker:
    """In a dispatcher's place: knows the run's state and asks the gate, and obeys in nothing."""

    facts: RunFacts
    state: ExecutionState
    gate: Gate | None = None
    capacity: Any = field(default_factory=_Nothing)
    submitter: Any = field(default_factory=_Nothing)
    news: Any = field(default_factory=_Nothing)

    def take_in(self, *, fresh: bool = False) -> None:
        """Read what was written since the last time; an absent database is asked again."""
        with suppress(StorageUnavailableError):
            journal = self.facts.recorder.journal
            entries = journal.read(self.facts.plan_run, self.state.position)
            self.state = fold_entries(entries, self.state)

    def take_back(self) -> None:
        """Nothing was submitted that could be taken back."""

    def chores(self) -> tuple[Chore, ...]:
        """What is done again and again while the flow runs; nothing without assumptions."""
        if not self.facts.plan.assumptions:
            return ()
        return (Chore(name="looking for milestones", every=LOOK_SECONDS, do=self.look),)

    def look(self) -> None:
        """See which milestones were reached; `before` a task is when it could begin, or has."""
        self.take_in()
        if self.gate is None:
            return
        self.gate.look(self)  # type: ignore[arg-type]  # in a dispatcher's place
        for task in self.facts.plan.tasks:
            if self.state.status(task.id) in _BEGUN:
                for name in self.gate.milestones.before(task.id):
                    self.gate.reach(name, task.id, 1 + len(self.state.task(task.id).invalidated))
