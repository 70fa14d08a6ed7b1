"""Running a plan in this process: the plan shown, a server found, the flow watched, a report."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

from athena_prefect.assumptions.rules import check_findings
from athena_prefect.errors import (
    AthenaError,
    InputError,
    ParameterError,
    PlanDocumentError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.journal.events import Command, CommandKind, TaskEvent, TaskEventKind
from athena_prefect.journal.state import fold_entries
from athena_prefect.plan.document import load
from athena_prefect.plan.model import Plan
from athena_prefect.service.following import FollowedRun, utc_now
from athena_prefect.service.parameters import read_parameters
from athena_prefect.service.plans import show, without_call
from athena_prefect.service.reading import open_run, pause_after, write_report
from athena_prefect.service.results import Observer, RunOutcome, RunStatus, Unwatched

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)

CANCELLED = 3
"""Exit code of a run that was ended by hand."""


class Result(Protocol):
    """What the runtime says of a run that has ended."""

    @property
    def flow_run_id(self) -> str | None:
        """Prefect's id of the flow run."""
        ...

    @property
    def status(self) -> str:
        """completed, failed, cancelled."""
        ...

    @property
    def reason(self) -> str:
        """Why, in words."""
        ...

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        ...

    @property
    def error(self) -> AthenaError | None:
        """What stopped it, where that is an error of ours."""
        ...


class Execute(Protocol):
    """Runs a plan's flow in this thread until it has ended."""

    def __call__(
        self,
        plan: Plan,
        *,
        settings: AthenaSettings,
        plan_run: UUID,
        parameters: Mapping[str, Any],
        logical_date: datetime | None = None,
        source: Path | None = None,
    ) -> Result:
        """How it ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A run that is ready to be started or gone on with."""

    plan: Plan
    plan_run: UUID
    parameters: Mapping[str, Any]
    logical_date: datetime | None
    source: Path
    report: Path
    logs: Path

    @property
    def log(self) -> Path:
        """Where everything that must not reach the terminal is."""
        return self.logs / "run.log"


def run_plan(
    file: Path,
    *,
    settings: AthenaSettings,
    values: Mapping[str, str] | None = None,
    resume: str | None = None,
    logical_date: datetime | None = None,
    report: Path | None = None,
    observer: Observer | None = None,
    execute: Execute | None = None,
) -> RunOutcome:
    """Run the plan of `file` as a Prefect flow in this process, and say how that ended.

    `values` are parameters as text. `resume` names a run to go on with, from its
    stored revision. `execute` stands for the runtime in tests. Raises InputError
    and its kinds before anything has started; ServerError; StorageError.
    """
    watcher = observer or Unwatched()
    order = _ordered(file, settings, values or {}, resume, logical_date, report)
    if resume is not None:
        known = open_run(str(order.plan_run), settings=settings).status()
        if known.state.end_status == "completed" and not known.state.commands:
            return _done_already(order, known, settings)
    with _log_kept(order.log):
        _tell_plan(order.plan, watcher)
        if execute is not None:
            return _finish(order, settings, watcher, execute, _no_flush)
        return _with_server(order, settings, watcher)


def _tell_plan(plan: Plan, observer: Observer) -> None:
    try:
        shown = show(plan, now=utc_now())
    except Exception:  # the boundary between the monitor and the pipeline
        logger.exception("the plan cannot be shown; it is run all the same")
        observer.waiting(f"plan {plan.name}")
        return
    observer.planned(shown)


def _ordered(
    file: Path,
    settings: AthenaSettings,
    values: Mapping[str, str],
    resume: str | None,
    logical_date: datetime | None,
    report: Path | None,
) -> Order:
    plan_run, parameters = uuid4(), {}
    if resume is None:
        plan = load(file, rules=(check_findings,))
        parameters = read_parameters(plan, values)
        _open_database(settings)
    else:
        followed = open_run(resume, settings=settings)
        if values or logical_date is not None:
            raise ParameterError(
                "a run that is gone on with keeps its parameters and its date; "
                "leave out --set and --logical-date, or start a new run"
            )
        plan, plan_run = followed.plan, followed.plan_run
        _same_plan(file, plan, plan_run)
        _refuse_recorded(followed)
    lacking = without_call(plan)
    if lacking:
        raise InputError(
            f"plan {plan.name!r} cannot be run, only monitored: nothing to call in "
            f"{', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}; "
            "give each task a `call` or a `deployment`, or monitor a flow of your own against it: "
            "attach(flow, plan)"
        )
    logs = settings.log_folder / str(plan_run)
    target = report or settings.home / "reports" / f"{plan.name}-{str(plan_run)[:8]}.html"
    return Order(
        plan=plan,
        plan_run=plan_run,
        parameters=parameters,
        logical_date=logical_date,
        source=file,
        report=target,
        logs=logs,
    )


def _refuse_recorded(followed: FollowedRun) -> None:
    """Refuse to start the tasks of a run whose tasks others start and record."""
    from athena_prefect.service.outside import is_outside

    if is_outside(fold_entries(followed.journal.read(followed.plan_run))):
        raise InputError(
            f"run {followed.plan_run} is recorded by those who do its work (record_task_event); "
            "nothing here starts its tasks. Leave out --resume to start a run of the plan"
        )


def _same_plan(file: Path, plan: Plan, plan_run: UUID) -> None:
    """Refuse to go on with a run under the name of another plan."""
    try:
        named = Plan.load(file).name
    except PlanDocumentError:
        if not file.exists():
            raise  # the project is looked for where the file is
        return  # edited since, and not sound now: the stored revision counts
    if named != plan.name:
        raise InputError(
            f"run {plan_run} is one of plan {plan.name!r}, and {file} is plan {named!r}"
        )


def _open_database(settings: AthenaSettings) -> None:
    from athena_prefect.storage.db import Database

    try:
        Database.open(settings)
    except StorageUnavailableError as error:
        # The run is recorded in the spool and drains when the database is back.
        logger.warning("the database cannot be reached now: %s", error)


def _done_already(order: Order, known: RunStatus, settings: AthenaSettings) -> RunOutcome:
    return RunOutcome(
        plan_run=order.plan_run,
        plan=order.plan.name,
        status="completed",
        reason="the run was completed already; nothing was started",
        exit_code=known.exit_code,
        flow_run_id=None,
        report=None,
        database=_location(settings),
        log=order.log,
        final=known,
    )


# -- the server ---------------------------------------------------------------------------------

Flush = Callable[[UUID, list[str]], bool]


def _no_flush(flow_run: UUID, tasks: list[str]) -> bool:
    return True


def _with_server(order: Order, settings: AthenaSettings, observer: Observer) -> RunOutcome:
    from athena_prefect.runtime.server import environment, log_to_file, prefect_server

    with (
        environment(log_to_file(order.log, order.logs)),
        prefect_server(
            order.logs / "server.log",
            observer.waiting,
            meanwhile=lambda: _load_callables(order, observer),
        ) as api,
    ):
        from athena_prefect.runtime.execute import execute

        observer.waiting("starting the flow")
        return _finish(order, settings, observer, execute, api.flush)


def _load_callables(order: Order, observer: Observer) -> None:
    """Import what the tasks call while the server comes up; what is missing is told now."""
    from athena_prefect.plan.references import project_root, resolve

    root = project_root(order.source)
    for task in order.plan.tasks:
        for call in {task.call, *(m.call for m in task.modes)} - {None}:
            assert call is not None
            resolve(call, root)


@contextmanager
def _log_kept(file: Path) -> Iterator[None]:
    """What is logged or warned of goes to `file`, also where no logger of Prefect's takes it.

    Prefect leaves a root logger alone that has a handler with a format.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8", delay=True)
    handler.setFormatter(
        logging.Formatter("%(asctime)s | %(levelname)-7s | %(name)s - %(message)s")
    )
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


# -- the run ------------------------------------------------------------------------------------


def _finish(
    order: Order,
    settings: AthenaSettings,
    observer: Observer,
    execute: Execute,
    flush: Flush,
) -> RunOutcome:
    followed = _followed(order, settings)
    known = _already_known(followed)
    with _Watch(followed, observer) as watch, _interrupts(watch.cancel):
        result = execute(
            order.plan,
            settings=settings,
            plan_run=order.plan_run,
            parameters=order.parameters,
            logical_date=order.logical_date,
            source=order.source,
        )
    observer.waiting("recording the end")
    recorded = True
    if result.flow_run_id is not None:
        # A task that waits for capacity has no task run yet: its event names the dispatcher.
        sources = [
            e.source
            for e in followed.events[known:]
            if isinstance(e, TaskEvent) and e.kind is TaskEventKind.STARTED
        ]
        recorded = flush(UUID(result.flow_run_id), _task_runs(sources))
    final = watch.last
    if final is None or final.state.started is None:
        if result.error is not None:
            raise result.error
        final = None
    outcome = RunOutcome(
        plan_run=order.plan_run,
        plan=order.plan.name,
        status=result.status,
        reason=result.reason,
        exit_code=result.exit_code,
        flow_run_id=result.flow_run_id,
        report=None,
        database=_location(settings),
        log=order.log,
        recorded=recorded,
        error=result.error,
        final=final,
    )
    return replace(outcome, report=_report(order, followed, settings) if final else None)


def _already_known(followed: FollowedRun) -> int:
    """How many events an earlier process of this run has written."""
    try:
        return len(followed.poll())
    except StorageUnavailableError:
        return 0


def _task_runs(sources: list[str]) -> list[str]:
    """Those of `sources` that are ids of Prefect's."""
    found = []
    for source in dict.fromkeys(sources):
        try:
            found.append(str(UUID(source)))
        except ValueError:
            continue  # written by the dispatcher: no task run stands behind it
    return found


def _report(order: Order, followed: FollowedRun, settings: AthenaSettings) -> Path | None:
    from athena_prefect.service.taught import taught

    try:
        known = taught(followed.plan, settings=settings)
        return write_report(followed, order.report, known).file
    except (StorageError, InputError) as error:
        # How the run ended does not depend on its report.
        logger.error("no report was written: %s", error)
        return None


def _followed(order: Order, settings: AthenaSettings) -> FollowedRun:
    from athena_prefect.storage.db import database_for
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

    database = database_for(settings.database_url, durable=settings.durable)
    return FollowedRun(
        plan=order.plan,
        plan_run=order.plan_run,
        journal=SqlJournal(database),
        revised=lambda: PlanStore(database).revision(order.plan_run),
    )


def _location(settings: AthenaSettings) -> str:
    from athena_prefect.storage.db import database_for

    database = database_for(settings.database_url, durable=settings.durable)
    return str(database.url.database) if database.sqlite else database.location


class _Watch:
    """A thread that looks at the journal for an observer, and passes on a wish to cancel."""

    def __init__(self, followed: FollowedRun, observer: Observer) -> None:
        self._followed = followed
        self._observer = observer
        self._stop = threading.Event()
        self._cancel = threading.Event()
        self._asked = False
        self.last: RunStatus | None = None
        self._thread = threading.Thread(target=self._loop, name="athena-view", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def cancel(self) -> None:
        """Ask the run's dispatcher to end. Safe in a signal handler: nothing is written here."""
        self._cancel.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            begun = time.thread_time()
            self._pass_on()
            self._look()
            pause = pause_after(time.thread_time() - begun)
            end = time.monotonic() + pause
            while time.monotonic() < end and not self._stop.wait(0.05):
                if self._cancel.is_set() and not self._asked:
                    break

    def _pass_on(self) -> None:
        if not self._cancel.is_set() or self._asked:
            return
        self._asked = True
        self._observer.cancelling()
        command = Command(
            plan_run=self._followed.plan_run,
            command_id=str(uuid4()),
            kind=CommandKind.CANCEL,
            at=utc_now(),
            author=os.environ.get("USER", ""),
            data={"reason": "cancelled from the keyboard"},
        )
        try:
            self._followed.journal.append(command)
        except StorageError as error:
            logger.error("the run could not be told to end: %s", error)
            self._asked = False

    def _look(self) -> None:
        try:
            new = self._followed.poll()
            if new:
                self._observer.happened(new)
            self.last = self._followed.status()
        except StorageError as error:
            logger.warning("the view is behind: %s", error)
            return
        except Exception:
            # Looking must never end a run; what went wrong is in the log.
            logger.exception("the view failed")
            return
        self._observer.stands(self.last)


@contextmanager
def _interrupts(cancel: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C asks for a cancel; a second one ends the process's work at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cancel()

    signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
