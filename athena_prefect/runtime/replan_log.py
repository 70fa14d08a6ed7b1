"""What replanning finds, as a run's own process keeps it: in the journal, and in the table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import Command, CommandKind, RunEvent, RunEventKind
from athena_prefect.replanning.hindsight import hindsight
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.runtime.replan_finding import Proposed

if TYPE_CHECKING:
    from athena_prefect.journal.journal import Entry
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

_FAILED = frozenset({RunEventKind.NOT_REPLANNED})


@dataclass(slots=True)
class ReplanLog:
    """Writes down what was proposed, chosen and declined; each proposal once."""

    dispatcher: Dispatcher
    clock: Callable[[], datetime]
    said: set[str] = field(default_factory=set)
    """Keys of the proposals that were told."""
    declined: set[str] = field(default_factory=set)
    """The grounds on which people, or the plan in their place, have declined a change."""

    @property
    def decide(self) -> str:
        """Who decides: auto, ask, advise, off."""
        return self.dispatcher.facts.plan.replanning.decide

    def entries(self, after: int = 0) -> Sequence[Entry]:
        """The run's journal after a place in it. Raises StorageError."""
        facts = self.dispatcher.facts
        return facts.recorder.journal.read(facts.plan_run, after)

    def is_declined(self, found: Proposed) -> bool:
        """Whether people have declined it, and nothing new has happened since."""
        return bool(found.about) and self.declined.issuperset(found.about)

    def chosen(self, found: Proposed, option: ReplanningOption, author: str) -> None:
        """An option was chosen."""
        # What a proposal has told already is not told again.
        told = {} if found.key in self.said else found.account
        self.record(
            RunEventKind.CHOSEN, f"{found.key}:{found.position}",
            **{**told, "option": option.title, "author": author or "policy",
               "strategy": str(found.evaluation.strategy)},
        )  # fmt: skip

    def once(self, kind: RunEventKind, found: Proposed, *, once: bool = False, **data: Any) -> None:
        """What came of a proposal; with `once`, for the same reasons a single time."""
        source = found.key if once else f"{found.key}:{found.position}"
        if once and found.key in self.said:
            return
        self.said.add(found.key)
        strategy = str(found.evaluation.strategy)
        self.record(kind, source, strategy=strategy, about=list(found.about), **data)
        keep = self.dispatcher.facts.keep_decision
        if keep is not None:
            outcome = str(data.pop("outcome", "failed" if kind in _FAILED else "proposed"))
            keep(outcome, strategy, str(data.get("reason", "")), None)

    def escalation(self, found: Proposed) -> None:
        """That a person is needed, where the evaluation says so."""
        if found.evaluation.escalate and found.key not in self.said:
            logger.error("%s", found.evaluation.rationale)
            self.once(
                RunEventKind.PROPOSED, found, decide=self.decide, options=[], recommended=None,
                escalate=True, reason=found.evaluation.rationale, once=True,
            )  # fmt: skip

    def command(self, data: Mapping[str, Any], author: str, command_id: str) -> str:
        """Ask the dispatcher to adopt what was chosen; the command's id."""
        facts = self.dispatcher.facts
        command = Command(
            plan_run=facts.plan_run,
            command_id=command_id,
            kind=CommandKind.ADOPT,
            at=self.clock(),
            author=author,
            data=data,
        )
        facts.recorder.record(command)
        return command_id

    def look_back(self) -> None:
        """Of what was only proposed: whether it would have been right, into its table."""
        facts = self.dispatcher.facts
        keep = facts.keep_decision
        if keep is None or self.decide != "advise":
            return
        self.dispatcher.take_in(fresh=True)
        state = self.dispatcher.state
        # The run's last event is written after this: its end is now.
        over = replace(state, ended=state.ended or self.clock())
        for event in [e for e in state.decisions if e.kind is RunEventKind.PROPOSED]:
            course = event.data.get("course")
            found = None if course is None else hindsight(course, facts.plan, over)
            if found is not None:
                said = f"{event.data.get('option')}: {found}"
                outcome = "would have helped" if found.right else "would not have helped"
                keep(outcome, str(event.data["strategy"]), said, None)

    def record(self, kind: RunEventKind, source: str, **data: Any) -> None:
        """Write one event; what cannot be written is logged."""
        event = RunEvent(
            plan_run=self.dispatcher.facts.plan_run,
            kind=kind,
            at=self.clock(),
            source=source,
            data=data,
        )
        try:
            self.dispatcher.facts.recorder.record(event)
        except AthenaError as error:
            logger.warning("what replanning found is not written down: %s", error)
