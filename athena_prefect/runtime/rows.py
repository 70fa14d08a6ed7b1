"""A plan run's rows: the list of runs, its revisions, decisions and leases.

The journal is the truth; these are for those who ask in SQL and for the commands that
list runs. What cannot be written is said and left: a run does not fail by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import (
    AthenaError,
    InputError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.settings import AthenaSettings

if TYPE_CHECKING:
    from athena_prefect.learning.memory import Recalled
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.lease import Leases
    from athena_prefect.storage.plans import PlanStore

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Rows:
    """What one plan run has in the database beside its journal."""

    settings: AthenaSettings
    plan_run: UUID
    clock: Callable[[], datetime]
    listed: bool = False
    """Whether the run is in the list of runs."""

    @property
    def database(self) -> Database:
        """The run's database."""
        from athena_prefect.storage.db import database_for

        return database_for(self.settings.database_url, durable=self.settings.durable)

    def recalled(self, plan: Plan) -> tuple[Recalled, ...]:
        """What earlier runs taught that concerns a plan; nothing where that cannot be read."""
        from athena_prefect.learning.memory import recall
        from athena_prefect.storage.lessons import StoredLessons

        try:
            kept = StoredLessons(self.database, namespace=self.settings.namespace).lessons()
        except AthenaError as error:
            logger.warning("lessons cannot be read, revisions are made without: %s", error)
            return ()
        return recall(kept, plan, now=self.clock())

    @property
    def store(self) -> PlanStore:
        """Plans, runs and revisions in it."""
        from athena_prefect.storage.plans import PlanStore

        return PlanStore(self.database)

    @property
    def leases(self) -> Leases:
        """The leases in it."""
        from athena_prefect.storage.lease import Leases

        return Leases(self.database)

    def prepare(self) -> None:
        """A new SQLite database gets its schema. Raises SchemaError for any other without ours."""
        with suppress(StorageUnavailableError):  # said when the journal is read
            self.database.prepare()

    def open(self, facts: RunFacts) -> None:
        """Put the run into the list of runs."""
        try:
            self.store.open_run(
                facts.plan_run,
                facts.plan,
                flow_run_id=str(facts.flow_run_id),
                namespace=self.settings.namespace,
                parameters=jsonable(facts.parameters),
                logical_date=facts.logical_date,
                started=facts.started_at,
            )
            self.listed = True
        except StorageError as error:
            logger.error("the run is not in the list of runs yet: %s", error)

    def end(self, facts: RunFacts, end: RunEnd) -> None:
        """Write how it ended into the list of runs."""
        try:
            if not self.listed:  # the database was away when the run began
                self.open(facts)
            self.store.set_run_status(
                facts.plan_run, end.status, reason=end.reason, ended=self.clock()
            )
        except AthenaError as error:
            logger.error("the list of runs does not show the end yet: %s", error)

    def number(self) -> int | None:
        """Which of its plan's runs it is; None until it is in the list of runs."""
        try:
            return self.store.number(self.plan_run)
        except AthenaError:
            return None  # it is in the list of runs later, or never: no number is made up

    def plan(self, number: int | None = None) -> Plan | None:
        """The plan of a revision, the newest one's unless said; None where it is not stored."""
        try:
            return self.store.revision(self.plan_run, number)
        except (InputError, StorageUnavailableError):
            return None

    def starts(self, revision: int) -> Mapping[str, float] | None:
        """Task → second of its start by a revision's schedule; None where it has none."""
        with suppress(AthenaError):
            return (self.store.figures(self.plan_run, revision) or {}).get("starts") or None
        return None

    def keep_revision(
        self,
        facts: RunFacts,
        number: int,
        author: str,
        reason: str,
        figures: Mapping[str, Any] | None,
    ) -> None:
        """Store the revision that is in force from now on."""
        from athena_prefect.replanning.results import OF_ONE_REVISION

        store = self.store
        if not figures:  # by hand: what was promised stays, what was changed does not
            before = store.figures(facts.plan_run, number - 1) or {}
            figures = {k: v for k, v in before.items() if k not in OF_ONE_REVISION}
        store.save_run_revision(
            facts.plan_run,
            number,
            facts.plan,
            author=author,
            reason=reason,
            figures=figures or None,
        )

    def keep_decision(
        self, facts: RunFacts, outcome: str, strategy: str, reason: str, number: int | None
    ) -> None:
        """Store what was decided about replanning."""
        from athena_prefect.storage.replans import add_replanning_event

        try:
            made = {d.revision: d.id for d in self.store.decisions(plan_run=facts.plan_run)}
            before = facts.revision if number is None else number - 1
            add_replanning_event(
                self.database,
                original_plan_id=made[before],
                new_plan_id=None if number is None else made[number],
                trigger_reason=reason,
                strategy=strategy,
                outcome=outcome,
            )
        except (AthenaError, KeyError) as error:
            # The journal has it; the table is for those who ask in SQL.
            logger.error("a replanning decision is not in its table: %r", error)


def jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they are written down; what JSON has no form for as its text."""
    from pydantic_core import to_jsonable_python

    return {k: to_jsonable_python(v, fallback=str) for k, v in values.items()}


def project(database: Database, facts: RunFacts, state: ExecutionState) -> None:
    """Bring the execution records in the tables up to what the journal says."""
    from athena_prefect.runtime.projection import write_records

    try:
        write_records(database, facts.plan, facts.plan_run, state)
    except AthenaError as error:
        logger.error("the execution records are behind the journal: %s", error)
