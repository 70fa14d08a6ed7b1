"""A proposal as a run's journal keeps it: options, what the best one moves, its partial order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.replanning.wishes import levers_data, pulled
from athena_prefect.schedule.proposal import Proposal, items_of
from athena_prefect.schedule.standing import Item, Span

MOST_DRAWN = 500
"""Tasks up to which times before and after are kept: more is no picture, and a large event."""
MOST_REPLAYED = 2_000
"""Activities up to which the partial order of a proposal is kept: some 200 kB."""


def account(
    options: Sequence[ReplanningOption], chosen: ReplanningOption | None, progress: Progress
) -> dict[str, Any]:
    """What is kept of a set of options, and of the one that is chosen or recommended of it."""
    data: dict[str, Any] = {"options": [told(o) for o in options]}
    proposal = None if chosen is None else chosen.proposal
    if chosen is not None:
        data["option"] = chosen.title
    if proposal is None:
        return data
    if len(progress.plan.tasks) <= MOST_DRAWN:
        data["before"] = {t: _rounded(s) for t, s in course_spans(progress).items()}
        data["after"] = {t: _rounded(s) for t, s in spans_by_task(proposal.spans).items()}
        data["now"] = round(proposal.standing.now, 3)
        if proposal.standing.deadline is not None:
            data["deadline"] = round(proposal.standing.deadline, 3)
    course = partial_order_of(proposal)
    if course is not None:
        data["course"] = course
    return data


def told(option: ReplanningOption) -> dict[str, Any]:
    """What is kept of an option: its trade-offs, and by what it is found again."""
    said = option.as_dict()
    names = ("option_id", "title", "kind", "finish", "accepted_finish", "timeline_impact",
             "cost_impact", "value_lost", "quality_lost", "success_probability", "samples",
             "implementation_effort", "changes", "risks", "benefits")  # fmt: skip
    return {n: said[n] for n in names} | {"levers": levers_data(pulled(option))}


def _rounded(span: Span) -> list[float]:
    return [round(span[0], 3), round(span[1], 3)]


def spans_by_task(spans: Mapping[Item, Span]) -> dict[str, Span]:
    """Each task from its first item's start to its last one's end."""
    found: dict[str, Span] = {}
    for (task, _), (start, finish) in spans.items():
        known = found.get(task, (start, finish))
        found[task] = (min(known[0], start), max(known[1], finish))
    return found


def course_spans(progress: Progress) -> dict[str, Span]:
    """When each task runs, or has run, if nothing is changed."""
    course, chain = progress.course, progress.chain
    return spans_by_task(
        {
            item: (float(course.start[n]), float(course.finish[n]))
            for n, item in enumerate(chain.items)
            if not chain.joins[n] and course.stage[n] != Stage.DEAD
        }
    )


def partial_order_of(proposal: Proposal) -> dict[str, Any] | None:
    """Every activity of a proposal with what it waits for, as `hindsight` replays it.

    None where there is no schedule, or more activities than are kept.
    """
    schedule, standing = proposal.answer.schedule, proposal.standing
    if schedule is None or len(schedule.problem) > MOST_REPLAYED:
        return None
    problem = schedule.problem
    network = problem.network.extended(*proposal.arcs)
    items = items_of(standing, proposal.answer)
    dropped = proposal.answer.left_out
    ptr = network.pred_ptr.tolist()
    preds, lags = network.pred.tolist(), network.pred_lag.tolist()
    joins = {int(end) for t, end in enumerate(problem.ends.tolist()) if end != problem.rows[t]}
    rows = []
    for i in network.order.tolist():
        if dropped[i]:
            continue
        task = items[i][0]
        rows.append(
            {
                "row": i,
                "task": task,
                "item": items[i][1],
                "join": i in joins and standing.plan.get_task(task).map_over is not None,
                "mode": proposal.modes.get(task, DEFAULT_MODE),
                "takes": round(float(problem.durations[i]), 3),
                "after": [
                    [preds[k], lags[k]] for k in range(ptr[i], ptr[i + 1]) if not dropped[preds[k]]
                ],
            }
        )
    robust = proposal.robustness
    return {
        "now": round(standing.now, 3),
        "p50": None if robust is None else round(robust.p50, 3),
        "accepted": None if robust is None else round(robust.accepted, 3),
        "rows": rows,
    }
