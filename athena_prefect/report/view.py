"""What a report shows of a plan and its run, in seconds from the run's start.

The charts draw this and nothing else, so that none of them knows about
journals, baselines or forecasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from athena_prefect.journal.state import Attempt, ExecutionState, Status
from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask

Span = tuple[float, float]
"""Start and finish in seconds from the run's start."""
Interval = tuple[float, float, float]
"""P10, P50, P90 of a moment, in seconds from the run's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One attempt (or all items of a mapped task together) on the time axis."""

    start: float
    finish: float
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One task: planned, actual and forecast."""

    task_id: str
    group: str
    description: str = ""
    status: Status = Status.WAITING
    planned: Span | None = None
    actual: tuple[Stretch, ...] = ()
    forecast: Interval | None = None
    """Of the finish; None once it has come to an end, or where nothing is known."""
    forecast_start: float | None = None
    critical: bool = False
    at_risk: bool = False
    optional: bool = False
    items: tuple[int, int] | None = None
    """Of a mapped task: items done, items in all."""
    attempts: int = 0
    detail: str = ""
    """Why it was skipped, blocked or failed."""

    @property
    def latest(self) -> Stretch | None:
        """The last attempt; of a mapped task all of its items together."""
        return self.actual[-1] if self.actual else None

    @property
    def first(self) -> float:
        """Where it begins on the axis: planned, else actual, else forecast."""
        known = [self.planned[0]] if self.planned else [s.start for s in self.actual]
        if self.forecast_start is not None:
            known.append(self.forecast_start)
        return min(known, default=0.0)

    @property
    def last(self) -> float:
        """The last moment at which it shows anything."""
        ends = [s.finish for s in self.actual]
        ends += [self.planned[1]] if self.planned else []
        ends += [self.forecast[2]] if self.forecast else []
        return max(ends, default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A plan and, where `started` is given, one run of it."""

    name: str
    rows: tuple[Row, ...]
    started: datetime | None = None
    now: float | None = None
    """Seconds; None for a plan that has not run, and for a run that is over."""
    deadline: float | None = None
    planned_finish: float | None = None
    finish: Interval | None = None
    """Forecast finish of the whole; None for a run that is over or cannot be forecast."""
    ended: float | None = None
    arcs: tuple[tuple[str, str, bool], ...] = ()
    """(from, to, hard)."""

    @property
    def horizon(self) -> float:
        """The end of the time axis in seconds; above 0."""
        moments = [r.last for r in self.rows]
        moments += [m for m in (self.now, self.planned_finish, self.ended) if m is not None]
        moments += [self.finish[2]] if self.finish else []
        # A deadline far beyond the work would squeeze it to the left edge.
        reach = max(moments, default=0.0)
        if self.deadline is not None and self.deadline <= 3 * reach:
            reach = max(reach, self.deadline)
        return reach if reach > 0 else 1.0


def build(
    plan: Plan,
    *,
    planned: Mapping[str, Span],
    state: ExecutionState | None = None,
    now: datetime | None = None,
    deadline: float | None = None,
    planned_finish: float | None = None,
    finish: Interval | None = None,
    forecasts: Mapping[str, Interval] | None = None,
    forecast_starts: Mapping[str, float] | None = None,
    critical: Iterable[str] = (),
    at_risk: Iterable[str] = (),
) -> RunView:
    """The view of `plan`; with `state` (of a started run) and `now`, of one run of it."""
    on_path, risky = frozenset(critical), frozenset(at_risk)
    start = state.started if state else None
    ended = (state.ended - start).total_seconds() if state and state.ended and start else None
    moment = (now - start).total_seconds() if now and start and ended is None else None
    until = ended if ended is not None else moment
    rows = [
        _row(
            task,
            state,
            until or 0.0,
            planned=planned.get(task.id),
            forecast=(forecasts or {}).get(task.id),
            forecast_start=(forecast_starts or {}).get(task.id),
            critical=task.id in on_path,
            at_risk=task.id in risky,
        )
        for task in plan.tasks
    ]
    place = {t: i for i, t in enumerate(plan.task_ids)}
    rows.sort(key=lambda r: (r.first, r.last, place[r.task_id]))
    return RunView(
        name=plan.name,
        rows=tuple(rows),
        started=start,
        now=moment,
        deadline=deadline,
        planned_finish=planned_finish,
        finish=finish,
        ended=ended,
        arcs=tuple((d.task, t.id, d.hard) for t in plan.tasks for d in t.upstream),
    )


def _row(
    task: PlanTask,
    state: ExecutionState | None,
    until: float,
    *,
    planned: Span | None,
    forecast: Interval | None,
    forecast_start: float | None,
    critical: bool,
    at_risk: bool,
) -> Row:
    status = state.status(task.id) if state else Status.WAITING
    own = state.task(task.id) if state else None
    attempts = own.attempts if own else ()
    mapped = state.items(task.id) if state else {}
    items = None
    if own is not None and own.items is not None:
        items = (sum(i.status.final for i in mapped.values()), own.items)
    elif task.map_over:
        items = (0, task.expected_items)
    stretches = _stretches(state, attempts, until)
    if mapped:
        tries = [a for i in mapped.values() for a in i.attempts]
        stretches = _together(_stretches(state, tries, until), status)
        attempts = tuple(tries)
    over = status.final
    return Row(
        task_id=task.id,
        group=task.group,
        description=task.description,
        status=status,
        planned=planned,
        actual=stretches,
        forecast=None if over else forecast,
        forecast_start=None if over or stretches else forecast_start,
        critical=critical,
        at_risk=at_risk,
        optional=task.optional,
        items=items,
        attempts=len(attempts),
        detail=_detail(own.skip_reason if own and own.skipped else "", attempts, status),
    )


def _stretches(
    state: ExecutionState | None, attempts: Iterable[Attempt], until: float
) -> tuple[Stretch, ...]:
    start = state.started if state else None
    if start is None:
        return ()
    found = []
    for attempt in attempts:
        if attempt.started is None:
            continue
        begin = (attempt.started - start).total_seconds()
        end = (attempt.ended - start).total_seconds() if attempt.ended else max(until, begin)
        note = " ".join(
            word
            for word, says in (
                (attempt.state_name or "", bool(attempt.state_name)),
                ("abandoned", attempt.abandoned),
                ("overdue", attempt.overdue),
            )
            if says
        )
        found.append(Stretch(start=begin, finish=end, status=_status(attempt), note=note))
    return tuple(found)


def _status(attempt: Attempt) -> Status:
    if attempt.outcome is not None:
        return Status(attempt.outcome.value)
    return Status.RUNNING if attempt.running else Status.FAILURE


def _together(stretches: tuple[Stretch, ...], status: Status) -> tuple[Stretch, ...]:
    if not stretches:
        return ()
    first, last = min(s.start for s in stretches), max(s.finish for s in stretches)
    shown = status if status.final or status is Status.RUNNING else Status.RUNNING
    return (Stretch(start=first, finish=last, status=shown, note=f"{len(stretches)} item runs"),)


def _detail(skipped: str, attempts: tuple[Attempt, ...], status: Status) -> str:
    if skipped:
        return skipped
    if status not in (Status.FAILURE, Status.BLOCKED, Status.PARTIAL):
        return ""
    for attempt in reversed(attempts):
        for name in ("error", "reason"):
            if attempt.data.get(name):
                return str(attempt.data[name])
    return ""


def profile(
    plan: Plan,
    spans: Mapping[str, Span],
    modes: Mapping[str, str] | None = None,
) -> dict[str, list[tuple[float, float]]]:
    """Demand of each resource over time: (moment, amount from then on), ends with 0.

    `spans` are the tasks' times in seconds. A mapped task demands, over its whole
    span, what its items demand on average.
    """
    deltas: dict[str, dict[float, float]] = {name: {} for name in plan.resources}
    for task_id, (start, finish) in spans.items():
        if finish <= start:
            continue
        task = plan.get_task(task_id)
        for name, amount in task.mode((modes or {}).get(task_id, DEFAULT_MODE)).resources.items():
            steps = deltas.setdefault(name, {})
            demand = amount * _at_once(task, finish - start)
            steps[start] = steps.get(start, 0.0) + demand
            steps[finish] = steps.get(finish, 0.0) - demand
    return {name: _running_sum(steps) for name, steps in deltas.items()}


def _at_once(task: PlanTask, span: float) -> float:
    """Mean number of items that run at once while the task lasts; 1 where it is not mapped."""
    if not task.map_over or task.planned_duration is None:
        return 1.0
    work = task.expected_items * task.planned_duration.total_seconds()
    return min(max(work / span, 1.0), float(task.expected_items))


def used_profile(state: ExecutionState, until: float) -> dict[str, list[tuple[float, float]]]:
    """What the attempts of a run had allocated over time, by resource."""
    if state.started is None:
        return {}
    deltas: dict[str, dict[float, float]] = {}
    for task in state.tasks.values():
        for attempt in task.attempts:
            if attempt.started is None:
                continue
            begin = (attempt.started - state.started).total_seconds()
            ended = attempt.ended
            end = (ended - state.started).total_seconds() if ended else until
            for name, amount in (attempt.data.get("allocated") or {}).items():
                steps = deltas.setdefault(name, {})
                steps[begin] = steps.get(begin, 0.0) + float(amount)
                steps[end] = steps.get(end, 0.0) - float(amount)
    return {name: _running_sum(steps) for name, steps in deltas.items()}


def _running_sum(steps: Mapping[float, float]) -> list[tuple[float, float]]:
    total = 0.0
    found: list[tuple[float, float]] = []
    for moment in sorted(steps):
        total += steps[moment]
        # Sums of floats that should be 0 are not quite.
        found.append((moment, 0.0 if abs(total) < 1e-9 else total))
    return found
