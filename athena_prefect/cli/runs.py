"""Commands on runs: run, status, runs, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter

from athena_prefect.cli.base import (
    Json,
    PlanFile,
    RunId,
    answer_of,
    app,
    emit,
    examples,
    messages,
    settings_here,
    terminal,
)
from athena_prefect.cli.streams import abandon_output
from athena_prefect.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from athena_prefect.service.results import RunStatus


@app.command(
    help_epilogue=examples(
        "athena run deployments/environment_audit/plan.yaml",
        "athena run plan.yaml --set folder=data --set limit=10",
        "athena run plan.yaml --resume 5f2c",
        "athena run plan.yaml --profile load,clean",
    ),
)
def run(
    plan: PlanFile,
    /,
    *,
    set: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            negative=(),
            help="A parameter of the plan, as name=value; again for more.",
        ),
    ] = (),
    resume: Annotated[
        str | None, Parameter(help="Go on with this plan run where it was left.")
    ] = None,
    logical_date: Annotated[
        datetime | None, Parameter(help="The moment the run is for, where that is not now.")
    ] = None,
    report: Annotated[
        Path | None, Parameter(help="Where to write the report; beside the database if not given.")
    ] = None,
    profile: Annotated[
        str | None,
        Parameter(
            help="Tasks whose time is sampled function by function: ids with commas, all, off, or "
            "auto (the default here): those found to be slow, once."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Run a plan as a Prefect flow and watch it: progress, forecast, deadline.

    Without a Prefect server (PREFECT_API_URL) one is started for the run. On a
    terminal the view is live, elsewhere it is plain lines; --json writes one JSON
    object a line. Ctrl-C cancels in order.
    """
    from athena_prefect.service import split_assignments

    with _sampled(plan, profile):
        return watched_run(
            plan,
            json=json,
            values=split_assignments(set),
            resume=resume,
            logical_date=_aware(logical_date),
            report=report,
        )


@contextmanager
def _sampled(plan: Path, profile: str | None) -> Iterator[None]:
    """Say to the run, and to its children, which tasks are sampled. Raises UnknownNameError."""
    name = "ATHENA_PROFILE"
    if profile not in (None, "all", "auto", "off"):
        from athena_prefect.plan.model import Plan

        known = Plan.load(plan).task_ids
        for task in profile.split(","):
            if task not in known:
                raise UnknownNameError("task to profile", task, known)
    before = os.environ.get(name)
    os.environ[name] = profile or before or "auto"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def watched_run(plan: Path, *, json: bool, **order: Any) -> int:
    """Run a plan and show it; the exit code."""
    from athena_prefect.cli import render
    from athena_prefect.cli.live import JsonLines, LiveView, PlainLines
    from athena_prefect.service import run_plan
    from athena_prefect.service.running import CANCELLED

    settings = settings_here()
    console = terminal()
    observer: JsonLines | LiveView | PlainLines
    with ExitStack() as stack:
        if json:
            observer = JsonLines(stack.enter_context(standard_output_kept()))
        else:
            observer = LiveView(console) if console.is_terminal else PlainLines(console)
        stack.enter_context(observer)
        try:
            outcome = run_plan(plan, settings=settings, observer=observer, **order)
        except KeyboardInterrupt:
            # Before the flow ran, or the second Ctrl-C: there is nothing to wait for.
            messages().print("stopped")
            return CANCELLED
        if isinstance(observer, JsonLines):
            observer.line("result", outcome.as_dict())
    if not json:
        try:
            render.say(console, render.ending(outcome))
        except BrokenPipeError:
            abandon_output()  # how the run ended is its exit code all the same
    return outcome.exit_code


@contextmanager
def standard_output_kept() -> Iterator[TextIO]:
    """Standard output for us alone; what tasks print, in children too, goes to standard error."""
    try:
        own = sys.stdout.fileno()
    except (OSError, ValueError):
        yield sys.stdout  # captured by a caller: there is nothing to keep apart
        return
    sys.stdout.flush()
    # A rest that nobody reads any more would be complained of when the stream is closed.
    with suppress(BrokenPipeError), os.fdopen(os.dup(own), "w", encoding="utf-8") as stream:
        before = os.dup(own)
        os.dup2(2, own)
        try:
            yield stream
        finally:
            sys.stdout.flush()
            os.dup2(before, own)
            os.close(before)


def _aware(moment: datetime | None) -> datetime | None:
    # On a command line a moment without an offset is one of the user's own clock.
    return None if moment is None else moment.astimezone()


@app.command(help_epilogue=examples("athena status", "athena status 5f2c --watch"))
def status(
    run: Annotated[
        str | None, Parameter(help="A plan run's id or its first letters; the newest if not given.")
    ] = None,
    /,
    *,
    watch: Annotated[
        bool, Parameter(negative=(), help="Keep showing it until the run is over.")
    ] = False,
    json: Json = False,
) -> int:
    """Say where a run stands, from the database alone; also while another process runs it.

    The exit code of a run that is over says how it ended.
    """
    from athena_prefect.service import open_run

    settings = settings_here()
    if watch:
        return _watch(open_run(run, settings=settings), json)

    def stands() -> RunStatus:
        return open_run(run, settings=settings).status()

    return int(answer_of("reading the run", stands, json, _stands).exit_code)


def _stands(found: RunStatus) -> RenderableType:
    from athena_prefect.cli import render

    return render.status_table(found)


def _watch(followed: Any, json: bool) -> int:
    from athena_prefect.cli import render
    from athena_prefect.cli.live import JsonLines, LiveView, PlainLines
    from athena_prefect.service import watch_run

    console = terminal()
    if json:
        observer: JsonLines | LiveView | PlainLines = JsonLines()
    elif console.is_terminal:
        observer = LiveView(console)
        observer.begin()
    else:
        observer = PlainLines(console)
    try:
        with observer:
            found = watch_run(followed, observer)
    except KeyboardInterrupt:
        # Who looks may look away; the run does not mind.
        return 0
    if not json:
        render.say(console, render.status_table(found))
    return found.exit_code


@app.command(help_epilogue=examples("athena runs --plan environment-audit --limit 5"))
def runs(
    *,
    plan: Annotated[str | None, Parameter(help="Only runs of the plan of this name.")] = None,
    limit: Annotated[int, Parameter(help="At most so many, newest first.")] = 20,
    json: Json = False,
) -> int:
    """List plan runs, newest first."""
    from athena_prefect.service import runs as use_case

    if limit < 1:
        raise InputError(f"--limit is {limit}; it is 1 or more")
    found = use_case(settings=settings_here(), plan=plan, limit=limit)
    if json:
        emit([r.as_dict() for r in found])
        return 0
    from athena_prefect.cli import render

    render.say(terminal(), render.runs_table(found))
    return 0


@app.command(help_epilogue=examples("athena report 5f2c -o report.html"))
def report(
    run: RunId,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(name=["--output", "-o"], help="The HTML file; athena-<run>.html if not given."),
    ] = None,
    json: Json = False,
) -> int:
    """Write a run's report: one HTML page that needs nothing else."""
    from athena_prefect.service import report as use_case

    settings, what = settings_here(), "writing the report"
    answer_of(what, lambda: use_case(run, output, settings=settings), json, lambda r: str(r.file))
    return 0
