"""Commands on what is left of a run, and on a plan before it runs: replan, revisions, why,
simulate.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from athena_prefect.cli.base import (
    Json,
    PlanFile,
    RunId,
    answer,
    answer_of,
    app,
    emit,
    examples,
    settings_here,
    terminal,
)
from athena_prefect.cli.fitting import Column, FittedTable
from athena_prefect.cli.progress import working
from athena_prefect.errors import InputError, StaleOptionError

if TYPE_CHECKING:
    from athena_prefect.replanning.options import ReplanningOption
    from athena_prefect.replanning.why import Why
    from athena_prefect.service.by_hand import ChangedByHand
    from athena_prefect.service.promoting import PromotedRevision
    from athena_prefect.service.replanning import Replanned
    from athena_prefect.service.revisions import KeptRevision
    from athena_prefect.service.simulating import SimulatedPlan

BAR = 48
"""Characters of the time axis of a chart on a terminal that is wide enough."""
LEAST_BAR = 12
"""Characters of it at least: with fewer nothing is seen."""
LEAST_HOURS = 1e-3
"""Unit-hours below which a difference is none: 3.6 seconds."""
MOST_BARS = 40
"""Tasks of a chart on a terminal."""
MOST_CRITICAL = 20
"""Tasks that a simulation lists, the most critical first."""


@app.command(
    help_epilogue=examples(
        "athena replan 5f2c --dry-run",
        "athena replan 5f2c --dry-run --strategy full",
        "athena replan 5f2c --option 0",
        "athena replan 5f2c --keep",
    ),
)
def replan(
    run: RunId,
    /,
    *,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Only say what could be done; nothing changes.")
    ] = False,
    strategy: Annotated[
        Literal["local", "segment", "full", "abort"] | None,
        Parameter(help="How much may be changed; what is called for if not given."),
    ] = None,
    option: Annotated[
        int | None, Parameter(help="Adopt this option: its number as it was shown to you.")
    ] = None,
    keep: Annotated[
        bool,
        Parameter(negative=(), help="Make the run's revision the plan's, for every new run."),
    ] = False,
    json: Json = False,
) -> int:
    """Say whether the rest of a run needs another plan, and what the alternatives are.

    Every option is a solved, verified and simulated revision, measured against
    carrying on. With --dry-run nothing is adopted; the list is kept, and --option has
    the run, which must be going on, adopt what the number meant there. Where the run has
    gone past that, nothing is adopted and the options that there are now are shown.
    --keep writes what the run's revision in force says into the plan's file; the file's
    former content stays beside it.
    """
    from athena_prefect.cli import render
    from athena_prefect.service.showing import choose, look

    settings = settings_here()
    if keep:
        if dry_run or option is not None or strategy is not None:
            raise InputError("--keep is about the revision in force: give no other option with it")
        from athena_prefect.service.promoting import keep as promote

        answer_of("keeping the revision", lambda: promote(run, settings=settings), json, _kept)
        return 0
    if option is not None and not dry_run:
        try:
            with working("telling the run", quiet=json):
                adopted = choose(run, option, settings=settings, strategy=strategy)
        except StaleOptionError as error:
            if not json:
                render.say(terminal(), _replanned(error.found))
            raise
        answer(adopted, json, _adopted)
        return 0
    if not dry_run:
        raise InputError(
            "say what to do: --dry-run shows the options, --option N has the run adopt one, "
            "--keep makes its revision the plan's"
        )
    what = "solving the alternatives"
    answer_of(what, lambda: look(run, settings=settings, strategy=strategy), json, _replanned)
    return 0


def _kept(found: PromotedRevision) -> str:
    lines = [f"revision {found.revision} of {found.plan}: {'; '.join(found.changes)}"]
    if found.file is not None:
        lines.append(f"{found.file} says it now; before: {found.former}")
    else:
        lines.append("the plan has no file here: deploy, or run, what was stored")
    return "\n".join(lines)


def _adopted(found: ChangedByHand) -> str:
    run = str(found.plan_run)[:8]
    if found.told is not None:
        how = "the flow that asked" if found.told else "the watching flow, at its next look,"
        return (
            f"{found.task_id}: answered for run {run}; {how} carries it out; `athena status {run}`"
        )
    if found.answered:
        return f"{found.task_id}: adopted, revision {found.revision} of run {run}"
    return f"{found.task_id}: sent to run {run}, which has not answered yet; `athena status {run}`"


@app.command(
    help_epilogue=examples("athena revisions environment-audit", "athena revisions 5f2c"),
)
def revisions(
    plan: Annotated[str, Parameter(help="A plan's name or document, or a plan run's id.")],
    /,
    *,
    limit: Annotated[int, Parameter(help="At most so many, newest first.")] = 50,
    json: Json = False,
) -> int:
    """List the revisions of a plan and of its runs: what changed, who chose it and why."""
    from athena_prefect.service.revisions import revisions as use_case

    if limit < 1:
        raise InputError(f"--limit is {limit}; it is 1 or more")
    settings, text = settings_here(), ""
    with working("reading the revisions", quiet=json):
        found = use_case(plan, settings=settings, limit=limit)
        if not json:
            from athena_prefect.cli import render

            text = render.laid_out(terminal(), _revisions(found))
    if json:
        emit([r.as_dict() for r in found])
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0


@app.command(help_epilogue=examples("athena why 5f2c"))
def why(run: RunId, /, *, json: Json = False) -> int:
    """Say why a run ends when it does: the chain that sets its finish, in shares of the slip."""
    from athena_prefect.service.replanning import why_late as use_case

    what = "looking for the reason"
    answer_of(what, lambda: use_case(run, settings=settings_here()), json, _why)
    return 0


@app.command(help_epilogue=examples("athena simulate deployments/environment_audit/plan.yaml"))
def simulate(
    plan: PlanFile,
    /,
    *,
    seed: Annotated[int, Parameter(help="Of the simulation: equal seeds, equal figures.")] = 0,
    json: Json = False,
) -> int:
    """Simulate a plan before a run: P(deadline), what is critical, what would hurt most."""
    from athena_prefect.service.simulating import simulate_plan as use_case

    if seed < 0:
        raise InputError(f"--seed is {seed}; it is 0 or more")
    settings, what = settings_here(), "simulating"
    answer_of(what, lambda: use_case(Path(plan), seed=seed, settings=settings), json, _simulated)
    return 0


def _seconds(value: float | None) -> str:
    from athena_prefect.cli.render import seconds

    return seconds(value)


def _signed(value: timedelta | None) -> str:
    if value is None:
        return "–"
    amount = value.total_seconds()
    sign = "+" if amount > 0 else "−" if amount < 0 else "±"
    return f"{sign}{_seconds(abs(amount))}"


def _replanned(found: Replanned) -> RenderableType:
    evaluation = found.evaluation
    parts: list[RenderableType] = [
        Text.assemble(
            (found.plan.name, "bold"),
            f" · run {str(found.plan_run)[:8]} · ",
            (evaluation.strategy.value.upper(), "bold"),
            f" · risk {evaluation.risk_level}",
        ),
        Text(evaluation.rationale),
        *([Text(found.hurried, style="yellow")] if found.hurried else []),
        *[Text(f"learned: {lesson}", style="dim") for lesson in found.lessons],
        "",
        _options(found),
    ]
    for option in found.options:
        parts.append(Text(f"{option.option_id}  {option.description}"))
        parts += [Text(f"   {line}", style="dim") for line in _takes(option)]
        parts += [Text(f"   + {b}", style="green") for b in option.benefits]
        parts += [Text(f"   − {r}", style="yellow") for r in option.risks]
    if found.after:
        parts += ["", *_charts(found)]
    return Group(*parts)


def _takes(option: ReplanningOption) -> list[str]:
    """What an option takes and loses, against carrying on, where it does."""
    said = [
        f"{name} {hours:+.3g} unit-hours"
        for name, hours in option.resource_impact.items()
        if abs(hours) > LEAST_HOURS
    ]
    lost = (("value", option.value_lost), ("quality", option.quality_lost))
    said += [f"{name} lost {amount:g}" for name, amount in lost if amount]
    if option.work_lost:
        said.append(f"work lost {_seconds(option.work_lost.total_seconds())}")
    return ["; ".join(said)] if said else []


OPTION_COLUMNS = (
    Column(name=""),
    Column(name="option", whole=False),
    Column(name="finish", right=True),
    Column(name="against carrying on", right=True, rank=3),
    Column(name="cost", right=True, rank=4),
    Column(name="P(success)", right=True),
    Column(name="promised", right=True, rank=2),
    Column(name="kept", right=True, rank=5),
    Column(name="effort", rank=6),
)


def _options(found: Replanned) -> FittedTable:
    return FittedTable(OPTION_COLUMNS, [_cells(found, option) for option in found.options])


def _cells(found: Replanned, option: ReplanningOption) -> tuple[str | Text, ...]:
    def at(moment: object) -> str:
        from datetime import datetime

        if not isinstance(moment, datetime):
            return "–"
        return _seconds((moment - found.started).total_seconds())

    recommended = option.option_id == found.recommended
    chance = "exact" if option.samples == 1 else f"{option.samples:,} runs"
    return (
        Text(f"{option.option_id}{'*' if recommended else ''}"),
        Text(option.title, style="bold" if recommended else ""),
        at(option.finish),
        _signed(option.timeline_impact),
        f"{round(option.cost_impact, 2) + 0.0:+.2f}",
        f"{option.success_probability:.2f} ({chance})" if option.samples else "0.00",
        at(option.accepted_finish),
        "–" if option.stability is None else f"{option.stability.value:.2f}",
        option.implementation_effort.value,
    )


def _charts(found: Replanned) -> list[RenderableType]:
    """Before and after, one line a task, on one time axis."""
    longest = max(len(t) for t in (*found.before, *found.after))
    width = min(max((terminal().width - longest - 4) // 2, LEAST_BAR), BAR)
    end = max(f for spans in (found.before, found.after) for _, f in spans.values())
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("task")
    sides = (("carrying on", found.before), (f"option {found.recommended}", found.after))
    for name, spans in sides:
        # Each by its own schedule, on one axis: which a forecast's P50 need not be.
        last = max(f for _, f in spans.values())
        table.add_column(f"{name}, to {_seconds(last)}", no_wrap=True)
    names = sorted(
        {*found.before, *found.after},
        key=lambda t: (found.after.get(t) or found.before[t], t),
    )
    for name in names[:MOST_BARS]:
        before, after = (_bar(s.get(name), end, width) for s in (found.before, found.after))
        table.add_row(name, before, after)
    left = len(names) - MOST_BARS
    note = [Text(f"and {left} more; --json has all", style="dim")] if left > 0 else []
    return [table, *note]


def _bar(span: tuple[float, float] | None, end: float, width: int) -> str:
    if span is None or end <= 0:
        return ""
    first = min(int(span[0] / end * width), width - 1)
    last = max(min(int(span[1] / end * width), width), first + 1)
    return " " * first + "█" * (last - first)


def _revisions(found: tuple[KeptRevision, ...]) -> RenderableType:
    if not found:
        return Text("no revisions yet; `athena register PLAN` or `athena run PLAN` makes the first")
    rows = [_revision_cells(one) for one in found]
    return Group(FittedTable(REVISION_COLUMNS, rows), *_accuracy(found))


REVISION_COLUMNS = (
    Column(name="id", right=True),
    Column(name="of"),
    Column(name="revision", right=True),
    Column(name="when", rank=3),
    Column(name="by", rank=2),
    Column(name="strategy", rank=1),
    Column(name="promised"),
    Column(name="what and why", whole=False),
)


def _revision_cells(one: KeptRevision) -> tuple[str | Text, ...]:
    what = "; ".join(one.changes) or one.reason
    return (
        str(one.plan_id),
        "plan" if one.plan_run is None else f"run {str(one.plan_run)[:8]}",
        str(one.revision),
        f"{one.created:%Y-%m-%d %H:%M:%S} UTC",
        Text(one.author or "–"),
        one.strategy or "–",
        _promise(one),
        Text(f"{what} ({one.reason})" if one.changes and one.reason else what),
    )


def _promise(one: KeptRevision) -> str:
    if one.promised is None:
        return "–"
    word = {True: ", kept", False: ", missed", None: ""}[one.kept]
    return f"{_seconds(one.promised.total_seconds())}{word}"


def _accuracy(found: tuple[KeptRevision, ...]) -> list[RenderableType]:
    """How good promises were, where any can be judged: of replanning, and at the start."""
    from athena_prefect.service.revisions import first_accuracy, replanning_accuracy

    sorts = (
        (replanning_accuracy(found), "runs replanned, and over"),
        (first_accuracy(found), "promised at the start of runs that are over by it"),
    )
    told = [
        Text(f"promised finishes that were kept: {kept} of {judged} ({which})", style="dim")
        for (kept, judged), which in sorts
        if judged
    ]
    return ["", *told] if told else []


_WORTH_A_ROW = 0.01
"""Share of the slip below which links are told together: a long chain has dozens of them."""


def _why(found: Why) -> RenderableType:
    if found.slip is None:
        return Group(*_whose(found), Text(f"no forecast: {found.reason}", style="yellow"))
    amount = found.slip.total_seconds()
    if abs(amount) < 1e-3:
        head = "on time: the forecast finish is what was accepted"
    else:
        side = "later" if amount > 0 else "earlier"
        head = f"{_seconds(abs(amount))} {side} than accepted"
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("share", justify="right")
    table.add_column("because")
    large = [s for s in found.shares if abs(s.amount) >= abs(found.slip) * _WORTH_A_ROW]
    for share in large:
        table.add_row(_signed(share.amount), escape(share.words))
    small = [s for s in found.shares if s not in large]
    if small:
        links = "1 more link" if len(small) == 1 else f"{len(small)} more links"
        table.add_row(
            _signed(sum((s.amount for s in small), timedelta())),
            f"{links} of less than {_WORTH_A_ROW:.0%} of it each",
        )
    parts: list[RenderableType] = [*_whose(found), Text(head, style="bold")]
    if found.shares:
        parts.append(table)
    if found.chain:
        parts.append(Text("set by " + " → ".join(found.chain), style="dim"))
    parts += [Text(v, style="yellow") for v in found.violations]
    return Group(*parts)


def _whose(found: Why) -> list[RenderableType]:
    """Plan, run and revision, and both finishes in the times of the other commands."""
    if found.plan_run is None:
        return []
    said = f" · run {str(found.plan_run)[:8]} · revision {found.revision}"
    for name, moment in (("finish", found.finish), ("accepted", found.accepted)):
        if moment is not None and found.started is not None:
            said += f" · {name} {_seconds((moment - found.started).total_seconds())}"
    return [Text.assemble((found.plan, "bold"), said)]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _simulated(found: SimulatedPlan) -> RenderableType:
    parts: list[RenderableType] = [
        Text.assemble(
            (found.name, "bold"),
            f" · {_many(found.tasks, 'task')} · {_many(found.samples, 'run')}",
        )
    ]
    if found.reason:
        return Group(*parts, Text(found.reason, style="yellow"))
    spread = "  ".join(f"{name.upper()} {_seconds(v)}" for name, v in found.quantiles.items())
    parts += [Text(spread), Text(found.basis, style="dim")]
    parts += [Text(f"learned: {lesson}", style="dim") for lesson in found.lessons]
    if found.deadline is not None and found.p_deadline is not None:
        chance = f"{found.p_deadline:.2f}"
        when = f"deadline {_seconds(found.deadline)}"
        if found.deadline_is:
            when = f"deadline {found.deadline_is}, {_seconds(found.deadline)} after a start now,"
        parts.append(Text(f"{when} met with probability {chance}"))
    scenarios = "  ".join(f"{name} {_seconds(v)}" for name, v in found.scenarios.items())
    parts.append(Text(scenarios, style="dim"))
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("task")
    table.add_column("critical in", justify="right")
    for name, share in list(found.criticality.items())[:MOST_CRITICAL]:
        table.add_row(escape(name), f"{share:.0%}")
    parts += ["", table]
    left = len(found.criticality) - MOST_CRITICAL
    if left > 0:
        parts.append(Text(f"and {left:,} more; --json has all", style="dim"))
    if found.assumptions:
        hurts = Table(box=None, header_style="dim", pad_edge=False)
        for column in ("assumption", "finish if it fails", "P(deadline)", ""):
            hurts.add_column(column)
        for hurt in found.assumptions:
            chance = "–" if hurt.p_deadline is None else f"{hurt.p_deadline:.2f}"
            hurts.add_row(
                hurt.assumption_id, _signed(hurt.finish), chance, Text(hurt.reason, style="dim")
            )
        parts += ["", *_worst(found), hurts]
    return Group(*parts)


def _worst(found: SimulatedPlan) -> list[RenderableType]:
    """Which assumption would hurt most; nothing where none would, as far as is known."""
    worst = found.assumptions[0]
    if worst.blocks:
        return [Text(f"would hurt most: {worst.assumption_id}, which {worst.reason}")]
    if worst.finish is None or worst.finish.total_seconds() <= 0:
        return []
    return [Text(f"would hurt most: {worst.assumption_id}, finish {_signed(worst.finish)}")]
