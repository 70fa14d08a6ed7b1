"""Commands on what finished runs teach: learn, lessons, accuracy, patterns."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from athena_prefect.cli.base import (
    Json,
    answer,
    answer_of,
    app,
    examples,
    settings_here,
    terminal,
)
from athena_prefect.cli.progress import working

if TYPE_CHECKING:
    from rich.console import RenderableType

    from athena_prefect.learning.results import EstimationMetrics, ExecutionPattern
    from athena_prefect.service.learning import Learned
    from athena_prefect.service.remembering import KnownLessons
    from athena_prefect.service.taught import KnownPatterns, PlanAccuracy

Known = Annotated[str, Parameter(help="A plan document, or the name of a plan that has run.")]
OfPlan = Annotated[
    str | None, Parameter(help="A plan document, or a plan's name; every plan if not given.")
]
MOST = 10
"""Findings of a kind on a terminal; --json has all."""
BAR = 20
"""Characters of a bottleneck's bar."""


@app.command(
    help_epilogue=examples(
        "athena learn deployments/environment_audit/plan.yaml",
        "athena learn nightly --apply",
        "athena learn plan.yaml --apply --only buffer:load",
    ),
)
def learn(
    plan: Known,
    /,
    *,
    apply: Annotated[
        bool, Parameter(negative=(), help="Write what is sure enough into the plan document.")
    ] = False,
    only: Annotated[
        tuple[str, ...], Parameter(help="Take this recommendation, and no other; may be repeated.")
    ] = (),
    json: Json = False,
) -> int:
    """Say why a plan's runs were slow, what would have helped, and remember what they teach.

    What a change would have gained is measured by replaying the runs with it. The
    change to the plan document is shown as a diff; --apply writes it, in one step,
    and stores it as the plan's newest revision. Without --only that is what has a
    confidence of 0.7 and more and needs nothing from outside.
    """
    from athena_prefect.service import learn as use_case

    with working("learning", quiet=json) as sign:

        def shown_before(diff: str) -> None:
            sign.ended()
            if not json:
                _diff(diff)

        found = use_case(plan, settings=settings_here(), apply=apply, only=only, told=sign.say,
                         before=shown_before)  # fmt: skip
    answer(found, json, _learned)
    return 0


@app.command(help_epilogue=examples("athena lessons", "athena lessons deployments/x/plan.yaml"))
def lessons(
    plan: OfPlan = None,
    /,
    *,
    every: Annotated[
        bool, Parameter(name="--all", negative=(), help="Those that have faded too.")
    ] = False,
    json: Json = False,
) -> int:
    """List what runs have taught, with the evidence; for a plan what concerns it.

    The confidence is the chance that the next run bears a lesson out. It needs two
    runs, and what is older than a quarter counts for half.
    """
    from athena_prefect.service import lessons as use_case

    settings, what = settings_here(), "reading the lessons"
    answer_of(what, lambda: use_case(plan, settings=settings, every=every), json, _lessons)
    return 0


@app.command(help_epilogue=examples("athena accuracy", "athena accuracy nightly"))
def accuracy(plan: OfPlan = None, /, *, json: Json = False) -> int:
    """Say how good estimates were, and our own forecasts: bias, error, trend, calibration."""
    from athena_prefect.service import accuracy as use_case

    what = "measuring estimates"
    answer_of(what, lambda: use_case(plan, settings=settings_here()), json, _accuracy)
    return 0


@app.command(help_epilogue=examples("athena patterns", "athena patterns nightly"))
def patterns(plan: OfPlan = None, /, *, json: Json = False) -> int:
    """List what recurs from run to run, tested and corrected for the number of tests."""
    from athena_prefect.service import patterns as use_case

    what = "looking for patterns"
    answer_of(what, lambda: use_case(plan, settings=settings_here()), json, _patterns)
    return 0


def _diff(text: str) -> None:
    from rich.syntax import Syntax

    terminal().print(Syntax(text, "diff", background_color="default"))


def _learned(found: Learned) -> RenderableType:
    from rich.console import Group
    from rich.syntax import Syntax
    from rich.text import Text

    if not found.runs:
        return Text(f"{found.plan}: {found.reason}")
    parts: list[RenderableType] = [
        Text.assemble(
            (found.plan, "bold"), f"  {found.runs} run{'s' if found.runs != 1 else ''}, "
            f"{found.tasks:,} attempts; ", _short(found.accuracy),
        )
    ]  # fmt: skip
    if found.bottlenecks:
        parts += [Text("\nWhat delayed the runs", style="bold"), _waterfall(found)]
    if found.slowdowns:
        parts.append(Text("\nSlower than before", style="bold"))
        for slow in found.slowdowns[:MOST]:
            parts.append(Text.assemble(f"  {slow}  ", (slow.suggestion, "dim")))
    if found.sampled:
        parts.append(Text("\nWhere the time goes", style="bold"))
        parts += [Text(f"  {s}") for s in found.sampled[:MOST]]
    if found.patterns:
        parts += [Text("\nWhat recurs", style="bold"), *_pattern_lines(found.patterns)]
    if found.recommendations:
        parts += [Text("\nWhat to change", style="bold"), _changes(found)]
    if found.diff and not found.applied:
        parts += [
            Text("\nIn the plan (--apply writes it)", style="bold"),
            Syntax(found.diff, "diff", background_color="default"),
        ]
    if found.applied:
        parts.append(Text(f"\nwritten, and stored as planning decision {found.plan_id}"))
    elif found.reason:
        parts.append(Text(f"\n{found.reason}", style="dim"))
    return Group(*parts)


def _short(metrics: EstimationMetrics) -> str:
    error = metrics.avg_duration_error
    if error is None:
        return "estimates could not be judged"
    trend = f", {metrics.trend}" if metrics.trend else ""
    return f"estimates are {_signed(error)} off{trend}"


def _waterfall(found: Learned) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    widest = max((abs(b.impact_duration) for b in found.bottlenecks), default=timedelta(0))
    for one in found.bottlenecks[:MOST]:
        length = round(BAR * (abs(one.impact_duration) / widest)) if widest else 0
        style = "red" if one.impact_duration > timedelta(0) else "green"
        share = "" if one.share is None else _percent(one.share)
        table.add_row(
            f"  {one.type}", share, Text("█" * max(length, 1), style=style),
            Text(one.description), Text(one.mitigation, style="dim"),
        )  # fmt: skip
    return table


def _changes(found: Learned) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("  change", "gain", "confidence", "effort", "because", "id"):
        table.add_column(name)
    for one in found.recommendations[:MOST]:
        chosen = one.recommendation_id in found.proposed
        table.add_row(
            Text(f"{'✓' if chosen else ' '} {one.suggestion}"),
            one.potential_benefit,
            "seen once" if one.confidence is None else f"{one.confidence:.2f}",
            one.implementation_effort,
            Text(one.rationale, style="dim"),
            Text(one.recommendation_id, style="dim"),
        )
    return table


def _pattern_lines(found: tuple[ExecutionPattern, ...]) -> list[RenderableType]:
    from rich.text import Text

    lines: list[RenderableType] = []
    for one in found[:MOST]:
        sure = f"{one.frequency} times" if one.frequency != 1 else ""
        if one.confidence is not None:
            sure = f"{sure or 'once'}, confidence {one.confidence:.2f}"
        lines.append(Text.assemble(f"  {one.description}  ", (sure, "dim")))
    if len(found) > MOST:
        lines.append(Text(f"  and {len(found) - MOST} more: athena patterns --json", style="dim"))
    return lines


def _patterns(found: KnownPatterns) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    runs = f"{found.runs} run{'s' if found.runs != 1 else ''}"
    if not found.patterns:
        return Text(f"nothing recurs in {runs} beyond chance")
    return Group(Text(f"{found.plan or 'all plans'}  {runs}"), *_pattern_lines(found.patterns))


def _lessons(found: KnownLessons) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if not found.lessons:
        what = f" that concern {found.plan}" if found.plan else ""
        return Text(f"no lessons{what} yet: athena learn PLAN learns from finished runs")
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("lesson", "plan", "confidence", "for", "against", "last", ""):
        table.add_column(name)
    for one in found.lessons:
        lesson = one.lesson
        sure = "seen once" if one.confidence is None else f"{one.confidence:.2f}"
        table.add_row(
            Text(lesson.statement, style="dim" if one.faded else ""),
            lesson.plan,
            "faded" if one.faded else sure,
            f"{lesson.support:.1f}",
            f"{lesson.against:.1f}",
            f"{lesson.last:%Y-%m-%d}",
            Text(one.because or ", ".join(r[:8] for r in lesson.runs[-3:]), style="dim"),
        )
    return table


def _accuracy(found: PlanAccuracy) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    metrics = found.accuracy
    runs = f"{found.runs} run{'s' if found.runs != 1 else ''}"
    parts: list[RenderableType] = [
        Text.assemble((found.plan or "all plans", "bold"), f"  {runs}; ", _short(metrics))
    ]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("", "samples", "bias", "typical", "mean error", "spread"):
        table.add_column(name)
    groups = [metrics.overall, *metrics.by_category.values()]
    worst = sorted(metrics.by_task.values(), key=lambda e: -(e.mape or 0.0))
    for error in [e for e in (*groups, *worst[:MOST]) if e is not None]:
        table.add_row(
            error.name or "all", str(error.samples),
            *(_signed(v) for v in (error.bias, error.typical)),
            *(_percent(v) for v in (error.mape, error.spread)),
        )  # fmt: skip
    parts.append(table)
    lines = [f"{name}: {_percent(v)}" for name, v in metrics.resource_usage_accuracy.items()]
    if lines:
        parts.append(Text(f"resources as planned  {', '.join(lines)}"))
    # What is not known is said below, with its reason.
    if metrics.dependency_accuracy is not None:
        told = _percent(metrics.dependency_accuracy)
        parts.append(Text(f"the plan's dependencies explain {told} of the starts"))
    if metrics.assumption_validity_rate is not None:
        told = _percent(metrics.assumption_validity_rate)
        parts.append(Text(f"assumptions held in {told} of their checks"))
    calibration = metrics.calibration
    if calibration is not None and calibration.coverage is not None:
        parts.append(
            Text(
                f"forecasts: {_percent(calibration.coverage)} of {calibration.forecasts} finishes "
                "inside the 80 % interval, pinball loss "
                f"{_percent(calibration.pinball)} of the run"
            )
        )
        shares = [
            f"{_percent(covered)} at {_percent(float(share))}"
            for share, covered in calibration.coverage_by_share.items()
        ]
        if len(shares) > 1:
            parts.append(Text(f"inside it by work done: {', '.join(shares)}"))
    parts += [Text(f"{name}: {why}", style="dim") for name, why in metrics.reasons.items()]
    return Group(*parts)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}".replace("%", " %")


def _signed(share: float | None) -> str:
    return "–" if share is None else f"{share:+.0%}".replace("%", " %")
