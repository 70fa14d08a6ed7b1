"""What the dispatcher asks before it starts a task: whether its assumptions let it begin.

`Gate` finds the milestones that a run has reached, holds back what rests on them
until they are checked, and tells the dispatcher which modes and how much of a
resource the violations in force leave.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from athena_prefect.assumptions.schedule import Milestones
from athena_prefect.monitor.effects import NO_EFFECTS, Effects, effects_in_force
from athena_prefect.plan.model import Assumption

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher
    from athena_prefect.runtime.facts import RunFacts
    from athena_prefect.runtime.limits import Capacity

logger = logging.getLogger(__name__)

MARK = "milestone|"
"""What the ids of milestones' checks begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A check that is to be made; `key` is its id, None for a timed one."""

    assumption: Assumption
    key: str | None = None


@dataclass(slots=True)
class Gate:
    """What the dispatcher asks before it starts a task. In the dispatcher's thread."""

    facts: RunFacts
    milestones: Milestones
    effects: Effects = NO_EFFECTS
    pending: dict[tuple[str, str], Due] = field(default_factory=dict)
    """Milestones that were reached and are not checked yet, by assumption and key."""
    queue: deque[Due] = field(default_factory=deque)
    """What the loop has still to begin, of these."""
    wake: Callable[[], object] = lambda: None
    """Tells the loop that there is news."""
    held: dict[str, str] = field(default_factory=dict)
    """Tasks that were said to be held back, and why."""
    _seen: tuple[Any, Any] | None = None
    _capacity: Capacity | None = None
    _done: dict[str, frozenset[str]] = field(default_factory=dict)

    def look(self, dispatcher: Dispatcher) -> None:
        """Take in what the journal says by now: milestones reached, effects in force."""
        state, seen = dispatcher.state, self._seen
        if dispatcher.capacity is not self._capacity:
            # A revision was adopted, which counts anew.
            self._capacity = dispatcher.capacity
            self._capacity.limit(self.effects.capacities)
        if seen is not None and seen[0] is state.tasks and seen[1] is state.checks:
            return
        checked = self._seen is None or self._seen[1] is not state.checks
        self._seen = (state.tasks, state.checks)
        if checked:
            self._done = {
                name: frozenset(c.check_id.removeprefix(MARK) for c in known)
                for name, known in state.checks.items()
            }
            for name, key in [p for p in self.pending if p[1] in self._done.get(p[0], ())]:
                del self.pending[name, key]
            self._reckon_with(effects_in_force(self.facts.plan, state), dispatcher)
        if self.milestones:
            for moment in self.milestones.reached(state, self._done):
                self._add(moment.assumption_id, moment.key)
        if checked:
            self.wake()

    def _add(self, name: str, key: str) -> None:
        if (name, key) not in self.pending:
            due = Due(assumption=self.facts.plan.get_assumption(name), key=key)
            self.pending[name, key] = due
            self.queue.append(due)
            self.wake()

    def _reckon_with(self, effects: Effects, dispatcher: Dispatcher) -> None:
        if effects == self.effects:
            return
        changed = effects.modes != self.effects.modes
        self.effects = effects
        dispatcher.capacity.limit(effects.capacities)
        if changed:
            # What waits in the pool's queue goes back: it may be another mode's by now.
            dispatcher.take_back()
            self.facts.only_modes(effects.modes)
            dispatcher.submitter.modes_changed()
        for task_id in [t for t in self.held if t not in effects.blocked]:
            del self.held[task_id]
            logger.info("task %s is no longer held back", task_id)

    def reach(self, name: str, task_id: str, round_: int) -> bool:
        """The milestone before a task is reached; whether its check is still to be made."""
        key = f"before:{task_id}" + (f":{round_}" if round_ > 1 else "")
        if key in self._done.get(name, ()):
            return False
        self._add(name, key)
        return True

    def holds_back(self, task_id: str, round_: int) -> bool:
        """Whether a task that could start has to wait: for a check, or for a violation's end."""
        for name in self.milestones.before(task_id):
            if self.reach(name, task_id, round_):
                return True
        if any(task_id in due.assumption.affects for due in self.pending.values()):
            return True
        why = self.effects.blocked.get(task_id)
        if why is not None and task_id not in self.held:
            self.held[task_id] = why
            logger.warning("task %s is held back: %s", task_id, why)
        return why is not None
