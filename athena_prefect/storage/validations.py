"""Checks of assumptions as rows of `assumption_validations`: what the journal says, for SQL."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.errors import UnknownRunError
from athena_prefect.journal.events import CheckEvent
from athena_prefect.storage.db import Database
from athena_prefect.storage.decisions import select_runs
from athena_prefect.storage.tables import AssumptionValidationRow, PlanRunRow

_VALID = {"holds": True, "violated": False}


class Validations:
    """The validations in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, plan_run: UUID, checks: Iterable[CheckEvent]) -> int:
        """Keep the checks of a run, each once however often it is told; how many were told.

        Raises UnknownRunError, StorageUnavailableError.
        """
        events = list(checks)
        if not events:
            return 0
        insert = sqlite_insert if self._database.sqlite else postgres_insert
        with self._database.writing() as connection:
            found = connection.execute(select_runs().where(PlanRunRow.id == plan_run)).one_or_none()
            if found is None:
                raise UnknownRunError(f"no plan run {plan_run}", run=str(plan_run))
            statement = insert(AssumptionValidationRow).on_conflict_do_nothing(
                index_elements=("plan_run", "assumption_id", "check_id")
            )
            rows = [
                {
                    "plan_id": found.decision_id,
                    "plan_run": plan_run,
                    "check_id": event.check_id[:255],
                    "assumption_id": event.assumption_id,
                    "validation_time": event.at,
                    "verdict": event.verdict,
                    "valid": _VALID.get(event.verdict),
                    "confidence": event.data.get("confidence"),
                    "validation_data": dict(event.data),
                }
                for event in events
            ]
            connection.execute(statement, rows)
        return len(events)
