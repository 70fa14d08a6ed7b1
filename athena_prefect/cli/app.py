"""The commands of `athena`: each parses, calls one function of the service, and renders."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TextIO

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from athena_prefect.errors import AthenaError, InputError, PlanDocumentError

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

EXIT_CODES = """Exit codes: 0 done, 1 the plan (or athena) failed, 2 the input is wrong,
3 the deadline was missed, or the run was cancelled or aborted."""

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Write JSON to standard output.")]
PlanFile = Annotated[Path, Parameter(help="The plan document, YAML or JSON.")]
RunId = Annotated[str, Parameter(help="A plan run's id, or the first letters of one.")]


def _examples(*lines: str) -> str:
    word = "Example" if len(lines) == 1 else "Examples"
    return f"{word}:\n" + "\n".join(f"  {line}" for line in lines) + f"\n\n{EXIT_CODES}"


app = App(
    name="athena",
    help="Give a Prefect flow a plan: it watches itself run, says when it will finish and how "
    "sure it is.\n\nStart here: `athena init my-project`, then `athena run "
    "deployments/environment_audit/plan.yaml`.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
db = App(name="db", help="The database's schema.", help_format="plaintext")
app.command(db)  # sorted last, by name


class _Answer(Protocol):
    def as_dict(self) -> dict[str, Any]: ...


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:] if tokens is None else tokens))


def run_command(tokens: list[str]) -> int:
    """The exit code of a command line. Never raises, never shows a traceback."""
    as_json = "--json" in tokens
    try:
        code = app(
            tokens, exit_on_error=False, print_error=False, help_on_error=False, console=_console()
        )
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        command = " ".join(("athena", *(error.command_chain or ())))
        wrong = InputError(f"{_text_of(error)} See `{command} --help`.")
        return _refuse(wrong, as_json)
    except AthenaError as error:
        return _refuse(error, as_json)
    except KeyboardInterrupt:
        _errors().print("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read has enough; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost boundary: kept in a file, told in a line
        return _unexpected(error, as_json)


def _text_of(error: CycloptsError) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "?", "!")) else text + "."


def _refuse(error: AthenaError, as_json: bool) -> int:
    if as_json:
        _emit(error.as_dict() | {"message": error.message, "exit_code": error.exit_code})
        return error.exit_code
    if isinstance(error, PlanDocumentError):
        lines = error.message
        count = len(error.defects)
        text = f"{lines}\n{count} defect{'s' if count != 1 else ''} found"
    else:
        text = f"athena: {error.message}"
    _errors().print(text, markup=False, highlight=False, soft_wrap=True)
    return error.exit_code


def _unexpected(error: Exception, as_json: bool) -> int:
    import traceback

    text = f"unexpected {type(error).__name__}: {error}"
    file = _keep("".join(traceback.format_exception(error)))
    if as_json:
        _emit({"error": type(error).__name__, "message": text, "log": str(file), "exit_code": 1})
    else:
        told = f"athena: {text}\nThis is a defect of athena; the details are in {file}"
        _errors().print(told, markup=False, highlight=False, soft_wrap=True)
    return 1


def _keep(details: str) -> Path:
    import tempfile

    try:
        folder = _settings().log_folder
        folder.mkdir(parents=True, exist_ok=True)
    except (AthenaError, OSError):
        folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, prefix="athena-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(details)
    return Path(file.name)


def _settings() -> AthenaSettings:
    from athena_prefect.settings import AthenaSettings

    if os.environ.get("ATHENA_DATABASE_BLOCK"):
        # A block is read through Prefect, whose import takes seconds: only where it is asked for.
        from athena_prefect.runtime.blocks import current_settings

        return current_settings()
    return AthenaSettings()


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # Nobody's window: wide enough that a table keeps one line a row.
        console.width = 140
    return console


def _errors() -> Console:
    return Console(stderr=True, highlight=False)


def _emit(content: Any) -> None:
    sys.stdout.write(jsonlib.dumps(content, indent=2, default=str) + "\n")
    sys.stdout.flush()


def _answer(value: _Answer, as_json: bool, show: Callable[[Any], object]) -> None:
    if as_json:
        _emit(value.as_dict())
    else:
        from athena_prefect.cli import render

        render.say(_console(), show(value))  # type: ignore[arg-type]


# -- projects and plans -------------------------------------------------------------------------


@app.command(sort_key=1, help_epilogue=_examples("athena init my-project"))
def init(
    folder: Annotated[Path, Parameter(help="Where to put the project.")] = Path("."),
    /,
    *,
    json: Json = False,
) -> int:
    """Make a project that is yours: flows, tasks, a plan to start from.

    Nothing that exists is overwritten.
    """
    from athena_prefect.scaffold import init as use_case

    made = use_case(folder)
    if json:
        _emit({"folder": str(folder.resolve()), "files": [str(f) for f in made]})
        return 0
    lines = [f"{len(made)} files in {folder.resolve()}"]
    plans = sorted(f for f in made if f.name in ("plan.yaml", "plan.yml"))
    where = "" if folder == Path(".") else f"cd {folder} && "
    if plans:
        plan = plans[0]
        base = folder.resolve()
        plan = plan.relative_to(base) if plan.is_absolute() and plan.is_relative_to(base) else plan
        lines.append(f"next: {where}athena run {plan}")
    _console().print("\n".join(lines), markup=False, soft_wrap=True)
    return 0


@app.command(
    sort_key=2, help_epilogue=_examples("athena validate deployments/environment_audit/plan.yaml")
)
def validate(plan: PlanFile, /, *, json: Json = False) -> int:
    """Check a plan: every defect at once, each with file, line, field and what would be right.

    Functions that tasks call are imported to see that they are there.
    """
    from athena_prefect.service import validate as use_case

    found = use_case(plan)
    lines = f"{found.file}: plan {found.name!r} is sound: {found.tasks} tasks, " + (
        f"{found.resources} resources, {found.assumptions} assumptions"
    )
    if found.unknown_durations:
        lines += f"\nwithout a duration until it is learned: {', '.join(found.unknown_durations)}"
    if not found.runnable:
        lines += "\nsome tasks have nothing to call: it can be monitored, not run"
    _answer(found, json, lambda _: lines)
    return 0


@app.command(
    sort_key=3,
    help_epilogue=_examples(
        "athena show plan.yaml",
        "athena show plan.yaml --format svg -o network.svg",
        "athena show plan.yaml --format mermaid",
    ),
)
def show(
    plan: PlanFile,
    /,
    *,
    format: Annotated[
        Literal["table", "mermaid", "svg", "gantt", "json"],
        Parameter(help="table, mermaid or svg (the network), gantt (the baseline), or json."),
    ] = "table",
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Write to this file.")
    ] = None,
    json: Json = False,
) -> int:
    """Show a plan's network, floats, critical path and baseline; nothing runs."""
    from athena_prefect.service import show as use_case

    shown = use_case(plan)
    kind = "json" if json else format
    if kind == "table" and output is None:
        from athena_prefect.cli import render

        render.say(_console(), render.shown_plan(shown))
        return 0
    text = _picture(shown, kind)
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from None
    return 0


def _picture(shown: Any, kind: str) -> str:
    from athena_prefect.report.charts import mermaid, network
    from athena_prefect.report.gantt import gantt

    match kind:
        case "json":
            return jsonlib.dumps(shown.as_dict(), indent=2, default=str) + "\n"
        case "svg":
            return network(shown.view) + "\n"
        case "gantt":
            return gantt(shown.view) + "\n"
        case "mermaid":
            return mermaid(shown.view)
        case _:
            from athena_prefect.cli import render

            console = Console(width=160, color_system=None, highlight=False)
            with console.capture() as captured:
                console.print(render.shown_plan(shown))
            return captured.get()


@app.command(
    sort_key=8, help_epilogue=_examples("athena register deployments/environment_audit/plan.yaml")
)
def register(plan: PlanFile, /, *, json: Json = False) -> int:
    """Store a plan in the database and print the id of its revision."""
    from athena_prefect.service import register as use_case

    stored = use_case(plan, settings=_settings())
    word = "stored" if stored.new else "known already"
    _answer(stored, json, lambda r: f"{r.plan_id}\nplan {r.name!r}, revision {r.revision}, {word}")
    return 0


@app.command(sort_key=9, help_epilogue=_examples("athena schema > plan.schema.json"))
def schema(*, json: Json = False) -> int:
    """Print the JSON Schema of plan documents, for editors."""
    from athena_prefect.plan.document import json_schema

    _emit(json_schema())
    return 0


# -- runs ---------------------------------------------------------------------------------------


@app.command(
    sort_key=4,
    help_epilogue=_examples(
        "athena run deployments/environment_audit/plan.yaml",
        "athena run plan.yaml --set folder=data --set limit=10",
        "athena run plan.yaml --resume 5f2c",
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
    json: Json = False,
) -> int:
    """Run a plan as a Prefect flow and watch it: progress, forecast, deadline.

    Without a Prefect server (PREFECT_API_URL) one is started for the run. On a
    terminal the view is live, elsewhere it is plain lines; --json writes one JSON
    object a line. Ctrl-C cancels in order.
    """
    from athena_prefect.cli import render
    from athena_prefect.cli.live import JsonLines, LiveView, PlainLines
    from athena_prefect.service import run_plan, split_assignments
    from athena_prefect.service.running import CANCELLED

    settings = _settings()
    given = split_assignments(set)
    console = _console()
    observer: JsonLines | LiveView | PlainLines
    with ExitStack() as stack:
        if json:
            observer = JsonLines(stack.enter_context(_standard_output_kept()))
        else:
            observer = LiveView(console) if console.is_terminal else PlainLines(console)
        stack.enter_context(observer)
        try:
            outcome = run_plan(
                plan,
                settings=settings,
                values=given,
                resume=resume,
                logical_date=_aware(logical_date),
                report=report,
                observer=observer,
            )
        except KeyboardInterrupt:
            # Before the flow ran, or the second Ctrl-C: there is nothing to wait for.
            _errors().print("stopped")
            return CANCELLED
        if isinstance(observer, JsonLines):
            observer.line("result", outcome.as_dict())
    if not json:
        render.say(console, render.ending(outcome))
    return outcome.exit_code


@contextmanager
def _standard_output_kept() -> Iterator[TextIO]:
    """Standard output for us alone; what tasks print, in children too, goes to standard error."""
    try:
        own = sys.stdout.fileno()
    except (OSError, ValueError):
        yield sys.stdout  # captured by a caller: there is nothing to keep apart
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(own), "w", encoding="utf-8") as stream:
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


@app.command(sort_key=5, help_epilogue=_examples("athena status", "athena status 5f2c --watch"))
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

    followed = open_run(run, settings=_settings())
    if not watch:
        found = followed.status()
        if json:
            _emit(found.as_dict())
        else:
            from athena_prefect.cli import render

            render.say(_console(), render.status_table(found))
        return found.exit_code
    return _watch(followed, json)


def _watch(followed: Any, json: bool) -> int:
    from athena_prefect.cli import render
    from athena_prefect.cli.live import JsonLines, LiveView, PlainLines
    from athena_prefect.service import watch_run

    console = _console()
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


@app.command(sort_key=6, help_epilogue=_examples("athena runs --plan environment-audit --limit 5"))
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
    found = use_case(settings=_settings(), plan=plan, limit=limit)
    if json:
        _emit([r.as_dict() for r in found])
        return 0
    from athena_prefect.cli import render

    render.say(_console(), render.runs_table(found))
    return 0


@app.command(sort_key=7, help_epilogue=_examples("athena report 5f2c -o report.html"))
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

    written = use_case(run, output, settings=_settings())
    _answer(written, json, lambda r: str(r.file))
    return 0


# -- the database -------------------------------------------------------------------------------


@db.command(
    help_epilogue=_examples(
        "ATHENA_DATABASE_URL=postgresql+psycopg://me@host/athena athena db upgrade"
    )
)
def upgrade(*, json: Json = False) -> int:
    """Bring the database to the schema that this version needs."""
    from athena_prefect.service import db_upgrade

    version = db_upgrade(settings=_settings())
    _answer(version, json, lambda v: f"{v.database}: schema {v.found}")
    return 0


@db.command(help_epilogue=_examples("athena db current"))
def current(*, json: Json = False) -> int:
    """Say which schema the database has; exit code 1 where it is not the needed one."""
    from athena_prefect.service import db_current

    version = db_current(settings=_settings())
    word = "" if version.current else f", needed is {version.needed}: run `athena db upgrade`"
    _answer(version, json, lambda v: f"{v.database}: schema {v.found or 'none'}{word}")
    return 0 if version.current else 1


__all__ = ["app", "main", "run_command"]
