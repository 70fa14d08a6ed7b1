"""What an address means: a `plan_id`, as tables and tools use it, or a plan's file or name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from athena_prefect.errors import UnknownNameError, UnknownRunError
from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import LIVE, PlanStore

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import Decision, RunRow

MOST_LISTED = 10
"""Runs that an error lists."""


def store_of(settings: AthenaSettings) -> PlanStore:
    """The plans of this process's database. Raises StorageError."""
    return PlanStore(Database.open(settings))


def decision_of(plan_id: int, settings: AthenaSettings) -> Decision:
    """The decision of that id. Raises UnknownNameError, also where it is another namespace's."""
    found = store_of(settings).decision(plan_id)
    if found.namespace != settings.namespace:
        raise UnknownNameError("planning decision", str(plan_id))
    return found


def run_of(plan_id: int | None, settings: AthenaSettings) -> RunRow:
    """The run that `plan_id` means; with None the one live run of the namespace.

    A decision of a run means that run, live or over; one of a plan the plan's one
    live run. Raises UnknownNameError, and UnknownRunError that lists the live runs
    where there is not just one.
    """
    store = store_of(settings)
    if plan_id is None:
        return _only(store.runs(settings.namespace, status=LIVE, limit=MOST_LISTED + 1), "")
    decision = decision_of(plan_id, settings)
    if decision.plan_run is not None:
        return store.run(decision.plan_run)
    live = store.live_runs(decision.plan, namespace=settings.namespace)
    return _only(live, f"plan {decision.plan!r} (plan_id {plan_id})")


def _only(live: Sequence[RunRow], of: str) -> RunRow:
    if len(live) == 1:
        return live[0]
    if not live:
        what = f"{of} has no live run" if of else "there is no live run"
        raise UnknownRunError(
            f"{what}; begin one, or give the plan_id of a run that is over", candidates=[]
        )
    names = "; ".join(
        f"plan_id {r.decision_id}: {r.plan}, run {str(r.plan_run)[:8]}, since "
        f"{r.started_at:%Y-%m-%d %H:%M} UTC"
        for r in live[:MOST_LISTED]
    )
    more = "; and more" if len(live) > MOST_LISTED else ""
    raise UnknownRunError(
        f"{of or 'the namespace'} has several live runs; give the plan_id of one: {names}{more}",
        candidates=[r.decision_id for r in live[:MOST_LISTED]],
    )


def plan_and_file(plan: str | Path, settings: AthenaSettings) -> tuple[Plan, Path | None]:
    """A plan document and its file; or the newest revision of a plan that is known by name.

    Raises PlanDocumentError, UnknownNameError, StorageError.
    """
    file = Path(plan)
    if file.is_file() or isinstance(plan, Path) or file.suffix in (".yaml", ".yml", ".json"):
        return Plan.load(file), file
    store = store_of(settings)
    stored = store.plan(str(plan), namespace=settings.namespace)
    # Where its newest run came from a file of it, that file is the plan.
    for row in store.runs(settings.namespace, plan=stored.name, limit=1):
        if row.source is not None and row.source.is_file():
            found = Plan.load(row.source)
            if found.name == stored.name:
                return found, row.source
    return stored, None
