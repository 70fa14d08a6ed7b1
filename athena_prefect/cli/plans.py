"""Commands on projects and plans: init, validate, show, register, schema."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from athena_prefect.cli.base import (
    Json,
    PlanFile,
    answer,
    answer_of,
    app,
    emit,
    examples,
    settings_here,
    terminal,
)
from athena_prefect.cli.progress import working
from athena_prefect.errors import InputError

if TYPE_CHECKING:
    from athena_prefect.service.results import ValidPlan


@app.command(help_epilogue=examples("athena init my-project"))
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
        emit({"folder": str(folder.resolve()), "files": [str(f) for f in made]})
        return 0
    lines = [f"{len(made)} files in {folder.resolve()}"]
    plans = sorted(f for f in made if f.name in ("plan.yaml", "plan.yml"))
    where = "" if folder == Path(".") else f"cd {folder} && "
    if plans:
        plan = plans[0]
        base = folder.resolve()
        plan = plan.relative_to(base) if plan.is_absolute() and plan.is_relative_to(base) else plan
        lines.append(f"next: {where}athena run {plan}")
    terminal().print("\n".join(lines), markup=False, soft_wrap=True)
    return 0


@app.command(help_epilogue=examples("athena validate deployments/environment_audit/plan.yaml"))
def validate(plan: PlanFile, /, *, json: Json = False) -> int:
    """Check a plan: every defect at once, each with file, line, field and what would be right.

    Functions that tasks call are imported to see that they are there.
    """
    from athena_prefect.plan.document import nothing_collected
    from athena_prefect.service import validate as use_case

    with nothing_collected():
        answer_of("checking the plan", lambda: use_case(plan), json, _sound)
    return 0


def _sound(found: ValidPlan) -> str:
    counts = (
        (found.tasks, "task"), (found.resources, "resource"), (found.assumptions, "assumption")
    )  # fmt: skip
    told = ", ".join(f"{n:,} {what}{'s' if n != 1 else ''}" for n, what in counts)
    lines = f"{found.file}: plan {found.name!r} is sound: {told}"
    if found.unknown_durations:
        lines += f"\nwithout a duration until it is learned: {', '.join(found.unknown_durations)}"
    if not found.runnable:
        lines += "\nsome tasks have nothing to call: it can be monitored, not run"
    return lines


@app.command(
    help_epilogue=examples(
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
    from athena_prefect.plan.document import nothing_collected
    from athena_prefect.service import show as use_case

    kind = "json" if json else format
    quiet = kind == "json" and output is None
    with working("planning", quiet=quiet), nothing_collected():
        shown = use_case(plan)
        if kind == "table" and output is None:
            from athena_prefect.cli import render

            text = render.laid_out(terminal(), render.shown_plan(shown))
        else:
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


@app.command(help_epilogue=examples("athena register deployments/environment_audit/plan.yaml"))
def register(plan: PlanFile, /, *, json: Json = False) -> int:
    """Store a plan in the database and print the id of its revision."""
    from athena_prefect.service import register as use_case

    stored = use_case(plan, settings=settings_here())
    word = "stored" if stored.new else "known already"
    answer(stored, json, lambda r: f"{r.plan_id}\nplan {r.name!r}, revision {r.revision}, {word}")
    return 0


@app.command(help_epilogue=examples("athena schema > plan.schema.json"))
def schema(*, json: Json = False) -> int:
    """Print the JSON Schema of plan documents, for editors."""
    from athena_prefect.plan.document import json_schema

    emit(json_schema())
    return 0
