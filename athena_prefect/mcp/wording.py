"""From what the service answers to what a client reads: fields by name, and a sentence or two."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from athena_prefect.learning.memory import MemoryPolicy
from athena_prefect.mcp import results
from athena_prefect.service.by_plan_id import Options, Standing, Validated
from athena_prefect.service.choosing import Executed
from athena_prefect.service.learned import Accuracy, Advice, Basis, Recurring
from athena_prefect.service.outside import Begun
from athena_prefect.service.recording import RecordedEvent
from athena_prefect.service.remembering import KnownLesson

if TYPE_CHECKING:
    from athena_prefect.replanning.options import ReplanningOption


def _run(standing: Standing) -> dict[str, Any]:
    status = standing.status
    return {
        "plan_id": standing.plan_id,
        "plan": status.plan.name,
        "plan_run": str(status.plan_run),
        "revision": status.state.revision,
        "status": status.word,
    }


def _figures(standing: Standing) -> dict[str, Any]:
    found = standing.status.deviation
    return {} if found is None else found.as_dict()


def monitoring(begun: Begun, standing: Standing) -> results.Monitoring:
    """A run that is monitored."""
    plan, figures = standing.status.plan, _figures(standing)
    tasks, more = results.cut(plan.task_ids)
    assumptions, others = results.cut(a.id for a in plan.assumptions)
    word = "begun" if begun.new else "monitored already"
    finish = figures.get("estimated_completion")
    return results.Monitoring(
        summary=(
            f"Run {str(begun.plan_run)[:8]} of {plan.name} is {word} ({len(plan.tasks)} tasks, "
            f"revision {begun.revision}); {_finish(finish, figures)}."
        ),
        truncated=more or others,
        **_run(standing),
        started=begun.started.isoformat(),
        new=begun.new,
        recorded_by="callers of record_task_event" if begun.outside else "prefect",
        baseline_finish=figures.get("baseline_finish"),
        accepted_finish=figures.get("accepted_finish"),
        estimated_completion=finish,
        confidence=figures.get("confidence"),
        tasks=tasks,
        total_tasks=len(plan.tasks),
        assumptions=assumptions,
        reason=figures.get("reason", "") if figures else _NO_BASELINE,
    )


_NO_BASELINE = "the run's own process has not made its baseline yet"


def _finish(finish: str | None, figures: dict[str, Any]) -> str:
    if finish is None:
        return f"no forecast: {figures.get('reason') or _NO_BASELINE}"
    return f"forecast finish {finish[:19]} UTC"


def task_event(told: RecordedEvent, standing: Standing) -> results.TaskEvent:
    """What was written down of a task."""
    figures, record = _figures(standing), told.record
    data = record.as_dict()
    risky, more = results.cut(figures.get("tasks_at_risk", ()))
    what = f"ended with {record.outcome}" if record.outcome is not None else "has started"
    end = f" The run is {told.ended}." if told.ended else ""
    again = " (told before)" if told.known else ""
    return results.TaskEvent(
        summary=f"{record.task_id} {what}{again}; "
        f"{_finish(figures.get('estimated_completion'), figures)}, "
        f"severity {figures.get('deviation_severity') or 'unknown'}.{end}",
        truncated=more,
        **_run(standing),
        recorded=not told.known,
        record=results.TaskRecord(**results.kept(results.TaskRecord, data)),
        notes=list(told.notes),
        estimated_completion=figures.get("estimated_completion"),
        time_deviation=figures.get("time_deviation"),
        deviation_severity=figures.get("deviation_severity"),
        tasks_at_risk=risky,
    )


def deviation(standing: Standing) -> results.Deviation:
    """How far a run is off."""
    figures, status = _figures(standing), standing.status
    if not figures:
        figures = {
            **dict.fromkeys(results.Deviation.model_fields),
            "resource_deviation": {}, "quantiles": {}, "samples": 0, "completed_tasks": 0,
            "total_tasks": len(status.plan.tasks), "tasks_at_risk": [], "critical_path": [],
            "reason": _NO_BASELINE,
        }  # fmt: skip
    own = {k: v for k, v in results.kept(results.Deviation, figures).items() if k != "revision"}
    off = figures["time_deviation"]
    late = "" if off is None else f" {_seconds(off)} against the baseline,"
    own["summary"] = (
        f"{status.plan.name} is {status.word}: {figures['completed_tasks']} of "
        f"{figures['total_tasks']} tasks done,{late} severity "
        f"{figures['deviation_severity'] or 'unknown'}; "
        f"{_finish(figures['estimated_completion'], figures)}."
    )
    return results.Deviation(**(own | _run(standing)))


def validation(found: Validated) -> results.Validation:
    """One validation, and what is violated after it."""
    result = found.result.as_dict()
    violations, more = results.several(results.Violation, [v.as_dict() for v in found.violations])
    words = {True: "holds", False: "is violated", None: "could not be seen"}[found.result.valid]
    needed = [v.assumption_id for v in found.violations if v.replanning_required]
    then = f" Replanning is called for by {', '.join(needed[:5])}." if needed else ""
    own = results.kept(results.Validation, result)
    own |= {
        "summary": f"{found.result.assumption_id} {words}: "
        f"{found.result.notes or found.result.error or 'no more is known'}.{then}",
        "truncated": more,
        "plan_id": found.plan_id, "plan": found.plan, "plan_run": str(found.plan_run),
        "revision": found.revision, "recorded": not found.known,
        "violations": violations,
    }  # fmt: skip
    return results.Validation(**own)


def _of(found: Options) -> dict[str, Any]:
    return {
        "plan_id": found.plan_id,
        "plan": found.found.plan.name,
        "plan_run": str(found.found.plan_run),
        "revision": found.revision,
    }


def evaluation(found: Options) -> results.Evaluation:
    """Whether the rest needs another plan."""
    data = found.found.as_dict()["evaluation"]
    what = found.found.evaluation
    word = f"calls for {what.strategy}" if what.replanning_needed else "needs no other plan"
    own = results.kept(results.Evaluation, data)
    own |= _of(found) | {"summary": f"The run {word}: {what.rationale}."}
    return results.Evaluation(**own)


def options(found: Options) -> results.Options:
    """The alternatives for the rest."""
    data, what = found.found.as_dict(), found.found
    there, more = results.several(results.Option, data["options"])
    strategy = str(what.strategy)
    best = next((o for o in what.options if o.option_id == what.recommended), None)
    advice = f"recommended is {best.option_id}, {best.title}" if best else "none is recommended"
    return results.Options(
        **_of(found),
        summary=f"{len(what.options)} options for revision {found.revision}; {advice}.",
        truncated=more,
        # With none called for, all that is left may be changed.
        strategy="full" if strategy == "none" else strategy,
        called_for=str(what.evaluation.strategy),
        recommended_option=what.recommended,
        rationale=what.evaluation.rationale,
        options=there,
    )


def question(option: ReplanningOption) -> str:
    """What a person is asked before a run is changed."""
    said = [f"Change the run: {option.title}?", option.description]
    if option.finish is not None:
        said.append(f"Forecast finish {option.finish:%Y-%m-%d %H:%M:%S} UTC.")
    said.append(
        f"Cost {option.cost_impact:+.2f}, probability of success {option.success_probability:.2f} "
        f"({option.samples} simulated runs)."
    )
    said += [f"Change: {c}." for c in option.changes[: results.MOST]]
    said += [f"Risk: {r}." for r in option.risks[:5]]
    return "\n".join(s for s in said if s)


def replanned(done: Executed, standing: Standing) -> results.Replanned:
    """An option that was chosen, and what became of it."""
    changes, more = results.cut(done.changes)
    if not done.answered:
        word = "was sent to the run's process, which has not answered yet"
    elif done.ended == "aborted":
        word = "was carried out: the run is aborted"
    else:
        word = f"is in force as revision {done.revision}"
    own = _run(standing) | {"plan_id": done.plan_id, "revision": done.revision}
    return results.Replanned(
        **own,
        summary=f"{done.option!r} {word}{' (told before)' if done.known else ''}; "
        f"{_finish(_figures(standing).get('estimated_completion'), _figures(standing))}.",
        truncated=more,
        executed=done.answered,
        repeated=done.known,
        option=done.option,
        strategy=done.strategy,
        author=done.author,
        changes=changes,
    )


def _basis(basis: Basis) -> dict[str, Any]:
    return {"plan": basis.plan, "runs": basis.runs, "attempts": basis.attempts}


def _nothing(basis: Basis) -> str:
    """Why nothing can be said at all; empty where there are finished runs."""
    if basis.runs:
        return ""
    of = "" if basis.plan is None else f" of {basis.plan}"
    return f"there is no finished run{of} yet, so that nothing is known"


def _over(basis: Basis) -> str:
    return f"{basis.runs} finished run{'' if basis.runs == 1 else 's'}"


def accuracy(found: Accuracy) -> results.Accuracy:
    """How accurate estimates were; the worst tasks first."""
    metrics, data = found.metrics, found.metrics.as_dict()
    worst = sorted(metrics.by_task.values(), key=lambda e: -abs(e.bias or 0.0))
    first, more = results.cut(worst)
    error = metrics.avg_duration_error
    if error is None:
        words = _nothing(found.basis) or metrics.reasons.get("avg_duration_error", "no figure")
    else:
        side = "longer" if error > 0 else "shorter"
        words = (
            f"tasks took {abs(error):.1%} {side} than planned over {_over(found.basis)} "
            f"({metrics.tasks_analyzed} tasks)"
        )
    own = results.kept(results.Accuracy, data) | _basis(found.basis)
    return results.Accuracy(
        **own
        | {
            "summary": f"{words[0].upper()}{words[1:]}.",
            "truncated": more,
            "reason": _nothing(found.basis) or "; ".join(metrics.reasons.values()),
            "worst_tasks": [
                results.TaskError(**{n: getattr(e, n) for n in results.TaskError.model_fields})
                for e in first
            ],
        }
    )


def patterns(found: Recurring) -> results.Patterns:
    """What recurs from run to run."""
    there, more = results.several(results.Pattern, [p.as_dict() for p in found.patterns])
    reason = _nothing(found.basis) or _few(found.basis, found.least_runs)
    if not reason and not there:
        reason = f"nothing in {_over(found.basis)} is told from chance"
    head = there[0].description if there else reason
    return results.Patterns(
        **_basis(found.basis),
        summary=f"{len(found.patterns)} patterns in {_over(found.basis)}: {head}.",
        truncated=more,
        reason=reason,
        patterns=there,
    )


def _few(basis: Basis, least: int) -> str:
    """What is said where there are runs, but too few to test anything."""
    if basis.runs >= least:
        return ""
    return (
        f"{_over(basis)}: from {least} on an effect is told from chance; what rests on fewer is "
        "an observation, its confidence is null"
    )


def recommendations(found: Advice) -> results.Recommendations:
    """What to change in the next plan, and what is remembered for it."""
    there, more = results.several(
        results.Recommendation, [r.as_dict() for r in found.recommendations]
    )
    reason = _nothing(found.basis) or _few(found.basis, found.least_runs)
    if not reason and not there:
        reason = f"nothing in {_over(found.basis)} calls for another plan"
    head = f"First: {there[0].suggestion}." if there else f"{reason[0].upper()}{reason[1:]}."
    learned, others = results.several(
        results.Lesson, [_lesson(k, found.now) for k in found.lessons]
    )
    count = len(found.lessons)
    told = f" {count} lesson{'' if count == 1 else 's'} remembered." if count else ""
    return results.Recommendations(
        **_basis(found.basis),
        summary=f"{len(found.recommendations)} recommendations from {_over(found.basis)}. "
        f"{head}{told}",
        truncated=more or others,
        reason=reason,
        recommendations=there,
        lessons=learned,
    )


def _lesson(known: KnownLesson, now: datetime) -> dict[str, Any]:
    """A lesson with its evidence as it counts at `now`, so that it fits the confidence."""
    support, against = known.lesson.evidence(now, MemoryPolicy())
    return known.lesson.as_dict() | {
        "confidence": known.confidence,
        "support": support,
        "against": against,
        "runs": list(known.lesson.runs[: -results.EVIDENCE - 1 : -1]),
        "tasks": list(known.tasks),
        "because": known.because,
    }


def _seconds(value: float) -> str:
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    return f"{sign}{abs(value):.0f} s"
