"""A run's revision becomes the plan's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedRevision(_Answer):
    """A run's revision that is the plan's from now on."""

    plan: str
    plan_run: UUID
    run_revision: int
    plan_id: int
    """The decision that keeps it."""
    revision: int
    """Of the plan."""
    file: Path | None
    """The plan's file, which says the same now; None where there is none."""
    former: Path | None
    """Where the file's former content is."""
    changes: tuple[str, ...]


def keep(run: str, *, settings: AthenaSettings) -> PromotedRevision:
    """Make a run's revision in force the plan's: every new run begins with it.

    Runs begin with the plan's file, so the file is written anew; its former content
    stays beside it. Raises UnknownRunError, StorageError, and InputError where there is
    nothing to keep, or the file has changed since the run began.
    """
    from athena_prefect.plan.document import as_dict, digest, dump
    from athena_prefect.plan.revision import changes_between, in_modes
    from athena_prefect.service.by_hand import author
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(Database.open(settings))
    row = store.run(run)
    short = str(row.plan_run)[:8]
    first, newest = store.revision(row.plan_run, 1), store.revision(row.plan_run)
    modes = (store.figures(row.plan_run, row.revision) or {}).get("modes") or {}
    kept = Plan.model_validate(as_dict(in_modes(newest, modes)))
    if digest(kept) == digest(first):
        raise InputError(f"run {short} goes by its plan as it is: there is nothing to keep")
    file, former = row.source, None
    if file is not None and file.exists():
        if digest(Plan.load(file)) != digest(first):
            raise InputError(
                f"{file} has changed since run {short} began; run its present content first, or "
                "put in by hand what `athena revisions " + short + "` says"
            )
        former = file.with_name(f"{file.stem}.before-{short}{file.suffix}")
        file.replace(former)
        dump(kept, file)
    stored = store.register(
        kept,
        author=author(),
        reason=f"kept from revision {row.revision} of run {short}",
        namespace=settings.namespace,
    )
    return PromotedRevision(
        plan=row.plan,
        plan_run=row.plan_run,
        run_revision=row.revision,
        plan_id=stored.id,
        revision=stored.revision,
        file=file if former is not None else None,
        former=former,
        changes=tuple(str(c) for c in changes_between(first, kept)),
    )
