"""The command that watches: one look at every live run, or one again and again."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from athena_prefect.cli.base import Json, app, emit, examples, settings_here, terminal
from athena_prefect.errors import InputError


@app.command(
    help_epilogue=examples("athena watch", "athena watch environment-audit --every 30s"),
)
def watch(
    plan: Annotated[str | None, Parameter(help="Only runs of the plan of this name.")] = None,
    /,
    *,
    every: Annotated[
        str | None, Parameter(help="Look again and again, so often, e.g. 30s; once if not given.")
    ] = None,
    json: Json = False,
) -> int:
    """Look at every live run: what is late, what was missed, what has to be started again.

    Deployed runs whose process vanished are started again; each breach is raised
    once. The same as the watching flow, which `athena deploy` schedules. With
    --json one object a look.
    """
    from athena_prefect.plan.units import parse_duration
    from athena_prefect.service import watch_every, watch_live

    def told(found: Any) -> None:
        if json:
            emit(found.as_dict())
        else:
            terminal().print(table(found))

    settings = settings_here()
    if every is None:
        told(watch_live(plan, settings=settings))
        return 0
    try:
        pause = parse_duration(every)
    except ValueError as error:
        raise InputError(f"--every is {every!r}: {error}; write e.g. 30s") from None
    if not pause:
        raise InputError("--every is zero; write e.g. 30s")
    try:
        watch_every(pause, plan, settings=settings, told=told)
    except KeyboardInterrupt:
        return 0
    return 0


def table(found: Any) -> RenderableType:
    """A pass of the watcher for people."""
    parts: list[RenderableType] = []
    if not found.api:
        parts.append("no Prefect API is configured: runs are only assessed")
    if found.runs:
        rows = Table("run", "plan", "status", "late or about to be", box=None, pad_edge=False)
        for run in found.runs:
            told = [*run.breaches, run.remedy, run.problem]
            rows.add_row(
                str(run.plan_run)[:8], run.plan, run.status, escape("\n".join(filter(None, told)))
            )
        parts.append(rows)
    elif not found.problems:
        parts.append("nothing is live")
    parts += [escape(p) for p in found.problems]
    return Group(*parts)
