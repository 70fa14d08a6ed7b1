"""What is asked about plan runs; all of it from the database."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from athena_prefect.errors import InputError, UnknownRunError
from athena_prefect.report.page import Profile, page
from athena_prefect.report.view import RunView, profile, used_profile
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.plans import show
from athena_prefect.service.results import ListedRun, Observer, RunStatus, WrittenReport

if TYPE_CHECKING:
    from athena_prefect.learning.results import Bottleneck
    from athena_prefect.service.taught import Taught
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

WATCH_SECONDS = 0.5
"""How often a watched run is looked at, at most."""
BUSY_SHARE = 0.05
"""Share of the time that looking may take; a large plan is looked at less often."""


def runs(
    *, settings: AthenaSettings, plan: str | None = None, limit: int = 20
) -> tuple[ListedRun, ...]:
    """The plan runs of the namespace, newest first. Raises StorageError, UnknownNameError."""
    store = _store(settings)
    found = store.runs(settings.namespace, plan=plan, limit=limit)
    if plan is not None and not found:
        store.plan(plan, namespace=settings.namespace)  # raises where there is no such plan
    return tuple(
        ListedRun(
            plan_run=r.plan_run,
            plan=r.plan,
            status=r.status,
            started=r.started_at,
            ended=r.ended_at,
            revision=r.revision,
        )
        for r in found
    )


def open_run(run: str | None, *, settings: AthenaSettings, clock: Clock = utc_now) -> FollowedRun:
    """The run of that id, or of an id that begins so; the newest where none is named.

    Raises UnknownRunError, StorageError.
    """
    from athena_prefect.storage.lease import Leases
    from athena_prefect.storage.sql_journal import SqlJournal

    database = _database(settings)
    store = _store(settings)
    if run is None:
        newest = store.runs(settings.namespace, limit=1)
        if not newest:
            raise UnknownRunError("there is no plan run yet; start one with `athena run PLAN`")
        plan_run = newest[0].plan_run
    else:
        plan_run = store.run(run).plan_run
    journal = SqlJournal(database)

    def dispatched() -> bool:
        if Leases(database).current(plan_run) is not None:
            return True
        from athena_prefect.runtime.continuing import waiting_revision

        # Between two flow runs of a change-over nobody holds the lease.
        return waiting_revision(journal.read(plan_run)) is not None

    return FollowedRun(
        plan=store.revision(plan_run),
        plan_run=plan_run,
        journal=journal,
        clock=clock,
        dispatched=dispatched,
        revised=lambda: store.revision(plan_run),
    )


def status(run: str | None, *, settings: AthenaSettings, clock: Clock = utc_now) -> RunStatus:
    """Where a run stands, from its journal alone. Raises UnknownRunError, StorageError."""
    return open_run(run, settings=settings, clock=clock).status()


def watch_run(followed: FollowedRun, observer: Observer) -> RunStatus:
    """Tell `observer` of everything until the run is over; how it ended."""
    observer.waiting(f"plan run {str(followed.plan_run)[:8]}")
    while True:
        begun = time.thread_time()
        new = followed.poll()
        if new:
            observer.happened(new)
        found = followed.status()
        observer.stands(found)
        if found.over:
            return found
        time.sleep(pause_after(time.thread_time() - begun))


def pause_after(took: float) -> float:
    """Seconds to wait after a look that took `took` seconds of work."""
    return max(WATCH_SECONDS, took / BUSY_SHARE)


def report(
    run: str | None,
    output: Path | None = None,
    *,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> WrittenReport:
    """Write the report of a run to `output` (``athena-<run>.html`` here if not given).

    Raises UnknownRunError, StorageError, and InputError where the file cannot be written.
    """
    from athena_prefect.service.taught import taught

    followed = open_run(run, settings=settings, clock=clock)
    file = output or Path(f"athena-{str(followed.plan_run)[:8]}.html")
    return write_report(followed, file, taught(followed.plan, settings=settings))


def write_report(followed: FollowedRun, file: Path, taught: Taught | None = None) -> WrittenReport:
    """Write the report of `followed` to `file`. Raises InputError where it cannot be written.

    `taught`: what the runs of its plan taught, which needs the database.
    """
    followed.poll()
    found = followed.status()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(report_page(followed, found, taught), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write the report to {file}: {error.strerror}; name another file with -o",
            file=str(file),
        ) from None
    return WrittenReport(plan_run=followed.plan_run, file=file.resolve(), status=found.word)


def report_page(followed: FollowedRun, found: RunStatus, taught: Taught | None = None) -> str:
    """The HTML page about a run."""
    plan, view = found.plan, _with_path(found)
    planned = profile(plan, {r.task_id: r.planned for r in view.rows if r.planned})
    until = view.ended if view.ended is not None else view.now or 0.0
    used = used_profile(found.state, until)
    return page(
        plan,
        view,
        found.state,
        found.deviation,
        as_of=found.as_of,
        profiles=[
            Profile(
                name=name,
                capacity=resource.capacity,
                planned=planned.get(name, ()),
                used=used.get(name, ()),
            )
            for name, resource in plan.resources.items()
        ],
        events=followed.events,
        learned=_learned(followed, found, taught),
    )


def _learned(followed: FollowedRun, found: RunStatus, taught: Taught | None) -> str:
    """What delayed a run that is over, and what the runs of its plan taught."""
    from athena_prefect.learning.bottlenecks import bottlenecks
    from athena_prefect.learning.records import run_record
    from athena_prefect.report.learning import learned_section
    from athena_prefect.service.slowdowns import sampled_in

    monitor = followed._monitored()
    delays: tuple[Bottleneck, ...] = ()
    if monitor is not None and found.over:
        run = run_record(
            found.plan, monitor.records, run=str(followed.plan_run),
            started=found.state.started, ended=found.state.ended,
        )  # fmt: skip
        delays = bottlenecks([run])
    # Where this run was not sampled, what the newest one that was says.
    sampled = tuple(str(s) for s in sampled_in(found.plan, found.state))
    if taught is None:
        return learned_section(delays, sampled=sampled)
    return learned_section(
        delays, taught.accuracy, taught.errors, taught.lessons, sampled or taught.sampled
    )


def _with_path(found: RunStatus) -> RunView:
    """The view with the critical path of what is left, of a run that is over the plan's own."""
    view = found.view
    if not found.over or any(row.critical for row in view.rows):
        return view
    path = frozenset(show(found.plan, now=found.state.started).baseline_critical_path)
    return replace(
        view, rows=tuple(replace(row, critical=row.task_id in path) for row in view.rows)
    )


def _database(settings: AthenaSettings) -> Database:
    from athena_prefect.storage.db import Database

    return Database.open(settings)


def _store(settings: AthenaSettings) -> PlanStore:
    from athena_prefect.storage.plans import PlanStore

    return PlanStore(_database(settings))
