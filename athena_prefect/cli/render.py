"""Values of the service as tables and lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from athena_prefect.cli.fitting import Column, FittedTable
from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.report.svg import elapsed
from athena_prefect.report.view import Row
from athena_prefect.service.results import ListedRun, RunOutcome, RunStatus, ShownPlan

STYLE = {
    Status.SUCCESS: "green",
    Status.PARTIAL: "magenta",
    Status.RUNNING: "yellow",
    Status.FAILURE: "red",
    Status.BLOCKED: "red",
    Status.SKIPPED: "dim",
    Status.WAITING: "dim",
    Status.READY: "dim",
}
RUN_STYLE = {"completed": "green", "running": "yellow", "not started": "dim", "paused": "magenta"}
MOST_ROWS = 60
"""Tasks that a table lists before and after a run; `athena show` and `status` list all."""
MOST_WORDS = 160
"""Characters of a reason that are told in a line."""


def seconds(value: float | None) -> str:
    """`value` seconds in words; a dash where it is not known."""
    return "–" if value is None else elapsed(value)


def heading(shown: ShownPlan) -> Text:
    """The plan in one line: name, tasks, expected finish, deadline."""
    parts = [f"{len(shown.tasks)} task{'s' if len(shown.tasks) != 1 else ''}"]
    if "p50" in shown.baseline:
        low, high = shown.baseline.get("p10"), shown.baseline.get("p90")
        spread = ""
        if low is not None and high is not None and high - low > 0.005 * max(high, 1):
            spread = f" ({seconds(low)} to {seconds(high)}, 8 times in 10)"
        parts.append(f"expected to take {seconds(shown.baseline['p50'])}{spread}")
    if shown.view.deadline is not None:
        parts.append(_deadline(shown))
    return Text.assemble((shown.plan.name, "bold"), " · ", " · ".join(parts))


def _deadline(shown: ShownPlan) -> str:
    """The deadline in words; one of the clock also by the clock."""
    deadline, left = shown.plan.deadline, seconds(shown.view.deadline)
    if deadline is None or deadline.at is None:
        return f"deadline after {left}"
    days = " on working days" if deadline.days == "working" else ""
    return f"deadline {deadline.at:%H:%M} {deadline.timezone}{days}, {left} after a start now"


PLAN_COLUMNS = (
    Column(name="task", whole=False),
    Column(name="duration", right=True),
    Column(name="start", right=True, rank=1),
    Column(name="finish", right=True),
    Column(name="float", right=True, rank=2),
    # One line a task, whatever the width; JSON has it all.
    Column(name="resources", whole=False, cut=True, rank=4),
    Column(name="after", whole=False, cut=True, rank=3),
)


def plan_table(shown: ShownPlan, limit: int | None = None) -> FittedTable:
    """The network with durations, floats and the baseline's times."""
    return FittedTable(
        PLAN_COLUMNS,
        [
            (
                Text(f"◆ {task.task_id}", style="bold") if task.critical else f"  {task.task_id}",
                seconds(task.duration),
                seconds(task.planned_start),
                seconds(task.planned_finish),
                seconds(task.total_float),
                ", ".join(f"{n} {a:g}" for n, a in task.resources.items()),
                Text(", ".join(task.after), style="dim"),
            )
            for task in shown.tasks[:limit]
        ],
    )


def shown_plan(shown: ShownPlan, limit: int | None = None) -> RenderableType:
    """The plan as a table, with what the signs mean."""
    parts: list[RenderableType] = [heading(shown)]
    if shown.plan.description:
        parts.append(Text(shown.plan.description, style="dim"))
    parts += ["", plan_table(shown, limit)]
    left = len(shown.tasks) - limit if limit is not None else 0
    if left > 0:
        parts.append(Text(f"  and {left} more; `athena show` lists them all", style="dim"))
    if shown.critical_path:
        length = f", {seconds(shown.makespan)}" if shown.makespan is not None else ""
        parts.append(Text(f"◆ critical path{length}", style="dim"))
    if shown.reason:
        parts.append(Text(shown.reason, style="yellow"))
    return Group(*parts)


def forecast_line(status: RunStatus) -> str:
    """The forecast finish with its interval and the probability of the deadline."""
    view = status.view
    if view.ended is not None:
        return f"took {seconds(view.ended)}"
    if view.finish is None:
        why = status.deviation.reason if status.deviation else ""
        return "no forecast" + (f": {brief(why)}" if why else "")
    low, middle, high = view.finish
    now = view.now or 0.0
    text = f"finishes in {seconds(max(middle - now, 0))}"
    if high - low > 0.005 * max(high, 1):
        text += f" ({seconds(max(low - now, 0))} to {seconds(max(high - now, 0))})"
    found = status.deviation
    if view.deadline is not None and found and found.deadline_probability is not None:
        chance = percent(found.deadline_probability, found.samples)
        text += f" · deadline {seconds(view.deadline)} met with {chance}"
    return text


def basis_line(status: RunStatus) -> str:
    """What the forecast rests on; empty where there is none, and of a run that is over."""
    found = status.deviation
    there = status.view.finish is not None and status.view.ended is None
    return f"forecast {found.basis}" if there and found and found.basis else ""


def brief(text: str) -> str:
    """The beginning of `text`, at most 160 characters; the report has all of it."""
    return text if len(text) <= MOST_WORDS else text[: MOST_WORDS - 1] + "…"


def percent(chance: float, samples: int) -> str:
    """A probability for people; 0 % and 100 % only where nothing was left to chance."""
    if samples > 1 and chance < 0.01:
        return "<1 %"
    if samples > 1 and chance > 0.99:
        return ">99 %"
    return f"{chance:.0%}".replace("%", " %")


STATUS_COLUMNS = (
    Column(name="task", whole=False),
    Column(name="status"),
    Column(name="start", right=True, rank=1),
    Column(name="took", right=True),
    Column(name="planned", right=True, rank=2),
    Column(name="finish", right=True, rank=3),
    Column(name="", whole=False),
)


def status_table(status: RunStatus, limit: int | None = None) -> RenderableType:
    """A run: its heading, forecast, and one line a task; of more than `limit` what went wrong."""
    rows = status.view.rows
    if limit is not None and len(rows) > limit:
        rows = tuple(r for r in rows if not r.status.good and r.status is not Status.SKIPPED)
        rows = tuple(sorted(rows, key=lambda r: r.status is not Status.FAILURE))[:limit]
    table = FittedTable(STATUS_COLUMNS, [task_cells(row) for row in rows])
    note, left = "", len(status.view.rows) - len(rows)
    if left:
        listed = f"athena status {str(status.plan_run)[:8]}"
        note = f"{left} more tasks; `{listed}` lists them all"
    parts: list[RenderableType] = [run_heading(status), Text(forecast_line(status))]
    parts += [Text(basis, style="dim") for basis in [basis_line(status)] if basis]
    if status.state.end_reason:
        why = status.state.end_reason if limit is None else brief(status.state.end_reason)
        parts.append(Text(why, style="red" if status.exit_code else ""))
    if status.interrupted:
        parts.append(Text(status.gone, style="red"))
    if status.state.unplanned:
        names = ", ".join(status.state.unplanned)
        parts.append(Text(f"not in the plan, so not counted: {names}", style="yellow"))
    return Group(*parts, "", *([table] if rows else []), *([Text(note, "dim")] if note else []))


def run_heading(status: RunStatus) -> Text:
    """Plan, run, where it stands and how many tasks are done."""
    done = status.count(Status.SUCCESS, Status.PARTIAL)
    total = len(status.view.rows) - status.count(Status.SKIPPED)
    return Text.assemble(
        (status.plan.name, "bold"),
        f" · run {str(status.plan_run)[:8]} · ",
        (status.word, RUN_STYLE.get(status.word, "red")),
        f" · {done} of {total} tasks done",
    )


def task_cells(row: Row) -> tuple[str | Text, ...]:
    """The cells of one task of a run."""
    last = row.latest
    start, end = (last.start, last.finish) if last else (None, None)
    took = end - start if start is not None and end is not None else None
    planned = row.planned[1] - row.planned[0] if row.planned else None
    finish = seconds(end) if end is not None and row.status.final else ""
    if row.forecast:
        finish = f"≈{seconds(row.forecast[1])}"
    name = row.task_id + (f" {row.items[0]}/{row.items[1]}" if row.items else "")
    again = f"{row.attempts} tries" if row.attempts > 1 and not row.items else ""
    return (
        Text(name, style="bold" if row.critical else ""),
        Text(row.status.value, style=STYLE[row.status]),
        seconds(start) if start is not None else "",
        seconds(took) if took is not None else "",
        seconds(planned),
        finish,
        Text("; ".join(n for n in (again, row.detail) if n), style="dim"),
    )


RUN_COLUMNS = (
    Column(name="run"),
    Column(name="plan", whole=False),
    Column(name="status"),
    Column(name="started", rank=2),
    Column(name="took", rank=1),
)


def runs_table(runs: Sequence[ListedRun]) -> RenderableType:
    """The list of runs, newest first."""
    if not runs:
        return Text("no runs yet; start one with `athena run PLAN`")
    return FittedTable(
        RUN_COLUMNS,
        [
            (
                str(run.plan_run)[:8],
                Text(run.plan),
                Text(run.status, style=RUN_STYLE.get(run.status, "red")),
                f"{run.started:%Y-%m-%d %H:%M:%S} UTC",
                seconds((run.ended - run.started).total_seconds()) if run.ended else "",
            )
            for run in runs
        ],
    )


def ending(outcome: RunOutcome) -> RenderableType:
    """How the run ended: what matters, then where everything is."""
    parts: list[RenderableType] = [""]
    if outcome.final is not None:
        status = outcome.final
        parts.append(status_table(status, MOST_ROWS))
        parts.append("")
        if status.view.deadline is not None and status.view.ended is not None:
            spare = status.view.deadline - status.view.ended
            word = f"{seconds(abs(spare))} {'to spare' if spare >= 0 else 'too late'}"
            met = "deadline met" if spare >= 0 else "deadline missed"
            parts.append(Text(f"{met}, {word}", style="green" if spare >= 0 else "red"))
    elif outcome.reason:
        parts.append(Text(outcome.reason, style="red"))
    if not outcome.recorded:
        parts.append(Text("Prefect's API did not confirm the last states in time", style="yellow"))
    where = [("report", outcome.report), ("database", outcome.database)]
    if outcome.exit_code:
        where.append(("log", outcome.log))
        if outcome.status in ("failed", "cancelled"):
            where.append(("go on", f"athena run … --resume {str(outcome.plan_run)[:8]}"))
    for name, place in where:
        if place is not None:
            # Never folded: a path is there to be copied.
            line = Text.assemble(
                (f"{name:<10}", "dim"), str(place), no_wrap=True, overflow="ignore"
            )
            parts.append(line)
    return Group(*parts)


def say(console: Console, what: RenderableType) -> None:
    """Print without wrapping paths and ids where nobody sees columns; text is no markup."""
    what = Text(what) if isinstance(what, str) else what
    console.print(what, soft_wrap=not console.is_terminal, highlight=False)


def laid_out(console: Console, what: RenderableType) -> str:
    """What `say` would print, colours included."""
    with console.capture() as captured:
        say(console, what)
    return captured.get()


def news_of(event: Event) -> str | None:
    """What is said of a decision about the plan; None of all that other lines tell."""
    if not isinstance(event, RunEvent):
        return None
    data = event.data
    match event.kind:
        case RunEventKind.REVISED:
            what = "; ".join(data.get("changes") or ()) or "only times change"
            if data.get("by_hand"):
                return f"revision {data['revision']} by {data.get('author')}: {data.get('reason')}"
            return f"replanned, revision {data['revision']} ({data.get('strategy')}): {what}"
        case RunEventKind.PROPOSED:
            return f"{str(data.get('strategy')).upper()}: {data.get('reason')}"
        case RunEventKind.NOT_REPLANNED:
            return f"not replanned: {data.get('reason')}"
        case _:
            return None
