"""Commands about assumptions: checks, check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from athena_prefect.cli.base import Json, PlanFile, answer_of, app, examples, settings_here
from athena_prefect.cli.fitting import Column, FittedTable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from athena_prefect.service.checking import CheckedNow, KnownAssumption, KnownAssumptions

OfRun = Annotated[
    str | None, Parameter(name="--run", help="A run of the plan; else its live, or newest, one.")
]
COLUMNS = (
    Column(name="assumption", whole=False),
    Column(name="check", rank=5),
    Column(name="every", rank=4),
    Column(name="verdict"),
    Column(name="last", rank=2),
    Column(name="next", rank=3),
    Column(name="may fail", rank=1),
    Column(name="", whole=False, rank=6),
)
STYLES = {"holds": "green", "violated": "red", "unknown": "yellow"}


@app.command(help_epilogue=examples("athena checks deployments/environment_audit/plan.yaml"))
def checks(plan: PlanFile, /, *, run: OfRun = None, json: Json = False) -> int:
    """Show a plan's assumptions: when each was checked, what was found, what is next.

    The chance to fail is that of not holding when it is next needed.
    """
    from athena_prefect.service import checks as use_case

    settings, what = settings_here(), "reading the checks"
    answer_of(what, lambda: use_case(plan, run=run, settings=settings), json, _table)
    return 0


@app.command(
    help_epilogue=examples(
        "athena check plan.yaml disk_free --dry-run",
        "athena check plan.yaml reviewers_available --value 0.8",
    ),
)
def check(
    plan: PlanFile,
    assumption: Annotated[str, Parameter(help="The assumption's id.")],
    /,
    *,
    value: Annotated[
        str | None, Parameter(help="What you have seen: JSON (true, 3, {...}), else text.")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Only show what was found; write nothing.")] = False,
    run: OfRun = None,
    json: Json = False,
) -> int:
    """Check an assumption now, or answer it.

    What is found is written to the plan's live run, where its effect acts at once.
    Exit code 0 where the assumption holds, 1 where it does not or could not be seen.
    """
    from athena_prefect.service import check as use_case

    settings = settings_here()

    def found() -> CheckedNow:
        return use_case(plan, assumption, value=value, dry_run=dry_run, run=run, settings=settings)

    return int(answer_of(f"checking {assumption}", found, json, _told).exit_code)


def _told(found: CheckedNow) -> RenderableType:
    from rich.text import Text

    result = found.result
    line = Text.assemble(
        (result.assumption_id, "bold"), " ", (str(result.verdict), STYLES[str(result.verdict)]),
        ": ", result.notes,
    )  # fmt: skip
    if found.details:
        line.append(f"\n{found.details}", style="dim")
    where = (
        f"written to run {str(found.plan_run)[:8]}" if found.plan_run else "not written to any run"
    )
    line.append(f"\n{where}", style="dim")
    return line


def _verdict(row: KnownAssumption) -> str:
    if row.unknown_in_a_row > 1:
        return f"unknown, {row.unknown_in_a_row} times in a row"
    return row.verdict or "not checked"


def _table(found: KnownAssumptions) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    if not found.assumptions:
        return Text(f"{found.plan} has no assumptions")
    rows = [
        (
            Text(row.assumption_id),
            Text(row.kind or "a person"),
            row.frequency,
            Text(_verdict(row), style=STYLES.get(row.verdict or "", "dim")),
            f"{row.last:%H:%M:%S}" if row.last else "",
            f"{row.next:%H:%M:%S}" if row.next else "",
            f"{row.probability:.0%}".replace("%", " %") if row.probability is not None else "",
            Text(row.impact or row.reason or row.description, style="dim"),
        )
        for row in found.assumptions
    ]
    told = (
        "no run yet"
        if found.plan_run is None
        else f"run {str(found.plan_run)[:8]}, {'live' if found.live else 'over'}"
    )
    heading = Text.assemble((found.plan, "bold"), f"  {told}")
    return Group(heading, FittedTable(COLUMNS, rows))
