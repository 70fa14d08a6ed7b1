"""One check of an assumption made beside a run: what is observed, judged, and seen coming.

What can hang is made in a child process and killed when its time is up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.children import Children
from athena_prefect.assumptions.checks.making import Made, make, prepare
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.assumptions.prediction import FEWEST
from athena_prefect.assumptions.unseen import NOBODY
from athena_prefect.assumptions.validator import (
    LIKELY,
    AssumptionValidator,
    check_event,
    data_of,
    method_of,
)
from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import CheckEvent, Reporter
from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Assumption
from athena_prefect.plan.templates import Template
from athena_prefect.runtime.calls import secret
from athena_prefect.runtime.gate import MARK, Due
from athena_prefect.runtime.questions import asks_a_person, standing_answer

if TYPE_CHECKING:
    from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)

BUSY_SHARE = 0.02
"""Share of the time that predicting may take."""


class Maker:
    """Makes the checks of one run, from any thread."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.children = Children(_environment())
        self._validator: AssumptionValidator | None = None
        self._predict_after = 0.0

    def found(self, due: Due, began: datetime, state: ExecutionState) -> CheckEvent | None:
        """What the check finds, as an event; None where it is nothing new. Raises nothing."""
        assumption = due.assumption
        try:
            return self._event(due, self._observed(assumption, state, began), began, state)
        except Exception as error:  # noqa: BLE001 - the boundary: a check fails nobody's run
            logger.warning("assumption %s could not be checked: %r", assumption.id, error)
            # A milestone is over with this, too: what waits for it must not wait for ever.
            return self.unmade(due, began, f"{type(error).__name__} while it was checked")

    def unmade(self, due: Due, at: datetime, why: str) -> CheckEvent:
        """The event of a check that could not be made, and why."""
        return CheckEvent(
            plan_run=self.facts.plan_run,
            assumption_id=due.assumption.id,
            check_id=_id_of(due, at),
            at=at,
            verdict="unknown",
            reported_by=Reporter.DISPATCHER,
            data={"reason": why, "error": why, "method": str(method_of(due.assumption))},
        )

    def _event(
        self, due: Due, made: Made, began: datetime, state: ExecutionState
    ) -> CheckEvent | None:
        assumption = due.assumption
        if asks_a_person(assumption):
            answer = standing_answer(assumption, state, began)
            if answer is not None and due.key is None:
                return None
            if answer is not None:
                made = Made(observation=data_of(answer))
        event = check_event(
            assumption,
            made,
            plan_run=self.facts.plan_run,
            now=began,
            check_id=_id_of(due, began),
            reported_by=Reporter.DISPATCHER,
        )
        # With few checks there is nothing to predict from, and no reason to wait for the monitor.
        enough = len(state.checks.get(assumption.id, ())) >= FEWEST
        predicted = self._prediction(assumption) if enough and event.verdict == "holds" else None
        return replace(event, data={**event.data, "predicted": predicted}) if predicted else event

    def _prediction(self, assumption: Assumption) -> dict[str, Any] | None:
        """What speaks for a failure before it is needed, from the checks so far."""
        if time.monotonic() < self._predict_after:
            return None
        begun = time.thread_time()
        try:
            with self.facts.shared.using() as monitor:
                if monitor is None:
                    return None
                if self._validator is None or self._validator.monitor is not monitor:
                    self._validator = AssumptionValidator(self.facts.plan, monitor)
                found = self._validator.prediction(assumption.id)
        except AthenaError:
            return None
        finally:
            took = time.thread_time() - begun
            self._predict_after = time.monotonic() + took / BUSY_SHARE
        if found.probability is None or found.probability <= LIKELY:
            return None
        return {"probability": found.probability, "reason": found.reason}

    def _observed(self, assumption: Assumption, state: ExecutionState, now: datetime) -> Made:
        if asks_a_person(assumption):
            return Made(error=NOBODY)
        return checked(
            assumption,
            self.facts.look_up,
            CheckContext(
                now=now,
                root=self.facts.root,
                plan=self.facts.plan,
                plan_run=self.facts.plan_run,
                started=self.facts.started_at,
                state=state,
                environment=_database(self.facts),
            ),
            self.children,
        )


def checked(
    assumption: Assumption,
    look_up: Callable[[Template], Any],
    context: CheckContext,
    children: Children,
) -> Made:
    """Make an assumption's own check: in a child where it can hang, else here."""
    assert assumption.check is not None

    def resolve(template: Template) -> Any:
        return secret(template.name) if template.namespace == "secret" else look_up(template)

    try:
        check, secrets = prepare(assumption.check, resolve)
    except AthenaError as error:
        return Made(error=str(error))
    context = replace(context, secrets=secrets)
    return children.make(check, context) if check.can_hang else make(check, context)


def can_hang(assumption: Assumption) -> bool:
    """Whether its check needs a child; False for one that cannot be made at all."""
    if assumption.check is None or asks_a_person(assumption):
        return False
    with suppress(AthenaError):
        return kind_named(assumption.check.kind).can_hang
    return False


def _id_of(due: Due, began: datetime) -> str:
    return f"{MARK}{due.key}" if due.key else f"timed|{began.isoformat()}"


def _database(facts: RunFacts) -> Mapping[str, str]:
    return {"ATHENA_DATABASE_URL": facts.recording.database_url}


def _environment() -> dict[str, str]:
    """What a child needs to reach the same Prefect server."""
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    return {"PREFECT_API_URL": url} if url else {}
