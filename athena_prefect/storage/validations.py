"""Checks of assumptions as rows of `assumption_validations`: what the journal says, for SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import desc, insert, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.errors import UnknownRunError
from athena_prefect.journal.events import CheckEvent
from athena_prefect.storage.db import Database
from athena_prefect.storage.decisions import select_runs
from athena_prefect.storage.tables import AssumptionValidationRow, DecisionRow, PlanRow, PlanRunRow

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
        inserting = sqlite_insert if self._database.sqlite else postgres_insert
        with self._database.writing() as connection:
            found = connection.execute(select_runs().where(PlanRunRow.id == plan_run)).one_or_none()
            if found is None:
                raise UnknownRunError(f"no plan run {plan_run}", run=str(plan_run))
            statement = inserting(AssumptionValidationRow).on_conflict_do_nothing(
                index_elements=("plan_run", "assumption_id", "check_id")
            )
            rows = [_row(event, found.decision_id, plan_run) for event in events]
            connection.execute(statement, rows)
        return len(events)

    def write_without_run(self, decision_id: int, event: CheckEvent) -> None:
        """Keep a check that was made while no run lives, under a decision on the plan."""
        with self._database.writing() as connection:
            connection.execute(insert(AssumptionValidationRow), [_row(event, decision_id, None)])

    def newest_without_run(
        self, plan: str, assumption_id: str, *, namespace: str
    ) -> tuple[str, datetime] | None:
        """Verdict and moment of the newest such check of a plan's assumption."""
        row = AssumptionValidationRow
        query = (
            select(row.verdict, row.validation_time)
            .join(DecisionRow, DecisionRow.id == row.plan_id)
            .join(PlanRow, PlanRow.id == DecisionRow.plan_id)
            .where(
                row.plan_run.is_(None),
                row.assumption_id == assumption_id,
                PlanRow.name == plan,
                PlanRow.namespace == namespace,
            )
            .order_by(desc(row.id))
            .limit(1)
        )
        with self._database.reading() as connection:
            found = connection.execute(query).one_or_none()
        if found is None or found.validation_time is None:
            return None
        return str(found.verdict), found.validation_time


def _row(event: CheckEvent, decision_id: int, plan_run: UUID | None) -> dict[str, Any]:
    return {
        "plan_id": decision_id,
        "plan_run": plan_run,
        "check_id": event.check_id[:255],
        "assumption_id": event.assumption_id,
        "validation_time": event.at,
        "verdict": event.verdict,
        "valid": _VALID.get(event.verdict),
        "confidence": event.data.get("confidence"),
        "validation_data": dict(event.data),
    }
