"""The monitor of one plan run: records what happens, and says how far off the run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np

from athena_prefect.journal.events import (
    CheckEvent,
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskOutcome,
    utc,
)
from athena_prefect.journal.journal import Recorded
from athena_prefect.journal.state import ExecutionState, Item, Status, fold_entries
from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.conformal import Calibration
from athena_prefect.monitor.context import ExecutionContext, Remembering
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.deadlines import TaskLimit, next_deadline, task_limits
from athena_prefect.monitor.deviation import PlanDeviation, severity
from athena_prefect.monitor.earned_value import EarnedValue, earned_value
from athena_prefect.monitor.effects import Effects
from athena_prefect.monitor.forecast import QUANTILES, Forecast, quantile_of
from athena_prefect.monitor.forecaster import MICROSECOND, Forecaster
from athena_prefect.monitor.history import History
from athena_prefect.monitor.impact import Impact, impact
from athena_prefect.monitor.learned import ESTIMATES, Learned
from athena_prefect.monitor.learned import samples_for as learned_samples
from athena_prefect.monitor.progress import Progress
from athena_prefect.monitor.recorded import PastForecast, reached, source_of
from athena_prefect.monitor.recording import completion_event, start_event
from athena_prefect.monitor.records import TaskExecutionRecord, attempts_of, record_of
from athena_prefect.monitor.table import TaskRow, task_rows
from athena_prefect.monitor.work import unit_of, work_items
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Criticality, Plan, PlanTask
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.schedule.baseline import Baseline, make_baseline
from athena_prefect.schedule.problem import unknown_reason

__all__ = ["ExecutionContext", "ExecutionMonitor"]


CELLS = 4_000_000
"""Samples of all tasks together in one simulation: some 50 ms of work."""


def samples_for(tasks: int) -> int:
    """Scenarios for a plan of so many tasks, unless told otherwise: 500 to 10,000.

    The standard error of a probability is at most 2.2 points with 500, half a
    point with 10,000.
    """
    return min(max(CELLS // max(tasks, 1), 500), 10_000)


class ExecutionMonitor:
    """Tracks one plan run against its baseline.

    What happens is written to the context's journal, by `record_task_start` and
    `record_task_completion` or by anybody else; `refresh` takes in what others
    wrote. Without Prefect the journal may be a `MemoryJournal`, and the clock a
    `VirtualClock`. One monitor belongs to one thread.
    """

    def __init__(
        self,
        plan: Plan,
        context: ExecutionContext,
        *,
        baseline: Baseline | None = None,
        history: History | None = None,
        policy: ReplanningPolicy | None = None,
        seed: int = 0,
        samples: int | None = None,
    ) -> None:
        """Take up the run of `plan` where its journal stands.

        The baseline in the journal counts; where there is none, `baseline` or a
        new one (`samples` scenarios from `seed`, by default `samples_for` its tasks) is
        written there. `history` is what finished runs took, by default what the journal
        knows of them; a run whose baseline rests on estimates is forecast from estimates.
        """
        self.context = context
        self.policy = policy or plan.replanning.policy
        self._plan = plan
        known = fold_entries(context.journal.read(context.plan_run))
        self.started = known.started or context.started_at
        self._why_estimates = ""
        self._learned = None if baseline else self._taught(known, history)
        self.baseline = baseline = (
            Baseline.from_dict(known.baseline)
            if known.baseline
            else baseline or self._made(seed, samples or samples_for(len(plan.tasks)))
        )
        estimates = {} if self._learned is None else self._learned.estimates(plan)
        self._announce(known)
        self._progress = Progress(
            plan,
            self.started,
            Chain.of(
                plan,
                baseline,
                revision=known.revision,
                modes=known.acceptance.get("modes"),
                estimates=estimates,
            ),
        )
        self._forecaster = Forecaster(
            self._progress,
            seed=baseline.seed,
            samples=baseline.samples,
            span=baseline.p50 or 0.0,
            learned=self._learned,
        )
        self._promised = self._promise(known, estimates)
        self.deadline = next_deadline(plan.deadline, self.started, scheduled=known.scheduled)
        self.refresh()

    def _taught(self, known: ExecutionState, history: History | None) -> Learned | None:
        """What finished runs teach, where there are enough of the plan's own."""
        told = (known.baseline or {}).get("history") or {}
        least = self.policy.forecast_runs
        if least is None:
            self._why_estimates = "earlier runs are not used (forecast_runs: null)"
            return None
        if known.baseline is not None and "calibration" not in told:
            self._why_estimates = told.get("without", "")
            return None
        if not any(t.planned_duration is None or t.planned_duration for t in self._plan.tasks):
            # Ratios of nothing say nothing, and reading earlier runs costs a short run dear.
            self._why_estimates = "no task is planned to take time"
            return None
        journal = self.context.journal
        if history is None and isinstance(journal, Remembering):
            history = journal.finished_runs(self.context.plan_run)
        own = 0 if history is None else len(history.of_plan(self._plan.name))
        if history is None or own < least:
            runs = f"{own} finished run{'' if own == 1 else 's'}, {least} are needed"
            self._why_estimates = runs if own else "no finished run yet"
            return None
        if told:
            calibration = Calibration.from_dict(told["calibration"])
            return Learned(history=history, plan=self._plan.name, told=calibration)
        return Learned.of(history, self._plan.name)

    def _made(self, seed: int, samples: int) -> Baseline:
        if self._learned is None:
            made = make_baseline(self._plan, seed=seed, samples=samples)
            return replace(made, history={"without": self._why_estimates})
        return self._learned.baseline(self._plan, seed=seed, samples=samples)

    def _promise(
        self, known: ExecutionState, estimates: Mapping[str, Estimate]
    ) -> tuple[float, float] | None:
        """P50 and accepted finish (s) of a later revision, as history saw them at its adoption.

        What the planner promised comes from a schedule; slip compares like with like.
        """
        if self._learned is None or known.acceptance.get("p50") is None:
            return None
        entries = self.context.journal.read(self.context.plan_run)
        revised = [
            k
            for k, entry in enumerate(entries)
            if isinstance(entry.event, RunEvent) and entry.event.kind is RunEventKind.REVISED
        ]
        if not revised:
            return None
        at = entries[revised[-1]].event.at
        chain = Chain.of(
            self._plan,
            self.baseline,
            revision=known.revision,
            modes=known.acceptance.get("modes"),
            estimates=estimates,
        )
        progress = Progress(self._plan, self.started, chain)
        progress.fold(entries[: revised[-1] + 1])
        progress.rechain(at)
        if progress.unknown_open or progress.chain.infeasible:
            return None
        found = self._learned.simulated(
            progress.chain,
            progress.course,
            samples=learned_samples(len(progress.chain.problem)),
            rng=np.random.default_rng(self.baseline.seed),
        ).makespans
        return quantile_of(found, 0.5), quantile_of(found, self.baseline.accept_quantile)

    @property
    def basis(self) -> str:
        """What forecasts of this run rest on."""
        if self._learned is not None:
            return str(self._learned)
        return f"{ESTIMATES}; {self._why_estimates}" if self._why_estimates else ESTIMATES

    @property
    def learned(self) -> Learned | None:
        """What finished runs teach; None where forecasts rest on the plan's estimates."""
        return self._learned

    def learned_estimates(self) -> Mapping[str, Estimate]:
        """What finished runs and this one say of the durations of waiting tasks; else empty."""
        if self._learned is None or self._why_not():
            return {}
        progress = self._progress
        return self._learned.posterior_estimates(
            progress.chain, progress.course, seed=self.baseline.seed
        )

    def _announce(self, known: ExecutionState) -> None:
        run, at = self.context.plan_run, self.started
        events: list[Event] = []
        if known.started is None:
            events.append(
                RunEvent(
                    plan_run=run,
                    kind=RunEventKind.STARTED,
                    at=at,
                    reported_by=Reporter.CALLER,
                    data={"revision": 1, "plan": self._plan.name},
                )
            )
        if known.baseline is None:
            data = self.baseline.as_dict()
            events.append(RunEvent(plan_run=run, kind=RunEventKind.BASELINED, at=at, data=data))
        if events:
            self.context.journal.append(*events)

    @property
    def bound(self) -> float | None:
        """The deadline, or P50 at acceptance with the slip that is tolerated, in seconds."""
        if self.deadline is not None:
            return self._progress.seconds(self.deadline)
        p50 = self.accepted_p50
        return None if p50 is None else p50 * (1 + self.policy.tolerated_slip)

    @property
    def accepted_p50(self) -> float | None:
        """P50 finish when the revision in force was accepted, in seconds from the start."""
        if self._promised is not None:
            return self._promised[0]
        promised: float | None = self.state.acceptance.get("p50", self.baseline.p50)
        return promised

    def moment(self, seconds: float) -> datetime:
        """What is `seconds` after the start of the run."""
        return self._progress.moment(seconds)

    def brought_up(self, now: datetime | None = None) -> tuple[datetime, Progress]:
        """The moment that is asked about (the clock's), and where the run stands then."""
        return self._bring_up(now), self._progress

    # What the run is

    @property
    def state(self) -> ExecutionState:
        """What the events taken in so far add up to."""
        return self._progress.state

    @cached_property
    def plan(self) -> Plan:
        """The plan with the planned starts and the planned finish of this run."""
        finish = self.baseline.p50
        moment = None if finish is None else self._progress.moment(finish)
        starts = {t: self._progress.moment(s.start) for t, s in self.baseline.tasks.items()}
        return self._plan.planned(starts, moment)

    @property
    def touched(self) -> int:
        """Nodes of the network that were looked at since it was last chained."""
        return self._progress.course.touched

    @property
    def records(self) -> tuple[TaskExecutionRecord, ...]:
        """Every attempt at every task and item, in the order of the plan's tasks."""
        items = [
            (task.id, index, number)
            for task in self._plan.tasks
            for index, _, number in attempts_of(self.state, task.id)
        ]
        return tuple(self._record_of((task, index), number) for task, index, number in items)

    def refresh(self) -> int:
        """Take in what was written to the journal since; how many entries that were."""
        journal, run = self.context.journal, self.context.plan_run
        entries = journal.read(run, after=self.state.position)
        self._progress.fold(entries)
        self._forecaster.bind(self.bound)
        return len(entries)

    # Recording

    def record_task_start(
        self,
        task_id: str,
        actual_start_time: datetime,
        resources_allocated: Mapping[str, float],
        *,
        map_index: int | None = None,
        key: str | None = None,
        mode: str | None = None,
    ) -> TaskExecutionRecord:
        """Record that a task, or item `map_index` of a mapped one, has started.

        `key` makes telling it twice one fact. Raises, with nothing recorded:
        UnknownNameError (task, resource, mode), NaiveDatetimeError, and
        RecordingError where it runs already, has succeeded, or is allocated more
        than is free.
        """
        self.refresh()
        event = start_event(
            self._plan,
            self.state,
            self._progress.tally.running,
            task_id,
            actual_start_time,
            resources_allocated,
            started_at=self.started,
            map_index=map_index,
            key=key,
            mode=mode,
        )
        return self._record(event)

    def record_task_completion(
        self,
        task_id: str,
        actual_completion_time: datetime,
        actual_duration: timedelta | float | None,
        resources_used: Mapping[str, float],
        outcome: TaskOutcome | str,
        *,
        map_index: int | None = None,
        key: str | None = None,
        result_key: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> TaskExecutionRecord:
        """Record that a task has ended, and how.

        `actual_duration` is a timedelta or seconds, and must be completion −
        start but for rounding to a second; None takes it from the times. Raises,
        with nothing recorded: UnknownNameError, NaiveDatetimeError, and
        RecordingError where it has not started, has ended, or is contradicted.
        """
        self.refresh()
        event = completion_event(
            self._plan,
            self.state,
            task_id,
            actual_completion_time,
            actual_duration,
            resources_used,
            outcome,
            map_index=map_index,
            key=key,
            result_key=result_key,
            data=data,
        )
        return self._record(event)

    def _record(self, event: TaskEvent) -> TaskExecutionRecord:
        (recorded,) = self.context.journal.append(event)
        self.refresh()
        if recorded is Recorded.SPOOLED:
            self._progress.take(event)
        item = (event.task_id, event.map_index)
        attempts = self.state.task(*item).attempts
        number = next(
            i
            for i, a in enumerate(attempts, 1)
            if (a.source, a.run_count) == (event.source, event.run_count)
        )
        return self._record_of(item, number)

    def record_check(self, event: CheckEvent) -> Recorded:
        """Write that an assumption was checked, and know it at once."""
        (recorded,) = self.context.journal.append(event)
        self.refresh()
        if recorded is Recorded.SPOOLED:
            self._progress.take(event)
        return recorded

    @property
    def share_done(self) -> float | None:
        """Share of the work that is done: tasks, or items of mapped ones. None where there is none.

        What was skipped, and what will not run, is no work.
        """
        course, joins = self._progress.course, self._progress.chain.joins
        work = (course.stage != Stage.DEAD) & ~joins
        return float((course.stage[work] == Stage.DONE).mean()) if work.any() else None

    def record_forecast(self, *, now: datetime | None = None) -> Recorded | None:
        """Write the forecast at `now` down, once for each of `CHECKPOINTS` that is passed.

        None where there is nothing new to write: no further checkpoint, no forecast, or
        no work that is open.
        """
        share = self.share_done
        checkpoint = None if share is None or share >= 1 else reached(share)
        if share is None or checkpoint is None:
            return None
        source = source_of(checkpoint)
        if f"run|{source}|{RunEventKind.FORECAST}" in self.state.run_keys:
            return None
        moment = self._bring_up(now)
        found = self._quick(moment)
        seconds = {q: found.seconds(q) for q in QUANTILES.values()}
        known = {q: s for q, s in seconds.items() if s is not None}
        if not known:
            return None
        told = PastForecast(
            at=self._progress.seconds(moment),
            share_done=share,
            quantiles=known,
            from_history=self._learned is not None,
        )
        (recorded,) = self.context.journal.append(
            RunEvent(
                plan_run=self.context.plan_run,
                kind=RunEventKind.FORECAST,
                at=moment,
                source=source,
                reported_by=Reporter.CALLER,
                data={**told.as_dict(), "basis": self.basis},
            )
        )
        self.refresh()
        return recorded

    def _record_of(self, item: Item, number: int) -> TaskExecutionRecord:
        task_id, index = item
        state = self.state.task(*item)
        planned = self.baseline.tasks.get(task_id)
        return record_of(
            self._plan.get_task(task_id),
            state,
            number,
            map_index=index,
            planned_start=None if planned is None else self._progress.moment(planned.start),
            confidence=self._confidence(item) if state.attempts[number - 1].running else None,
        )

    def _confidence(self, item: Item) -> float | None:
        now = self._bring_up(None)
        node = self._progress.chain.node_of.get(item)
        if node is None or self._why_not() or self._forecaster.latest() is None:
            return None
        return 1.0 - float(self._forecaster.risks(now)[node])

    # How far off

    def _bring_up(self, now: datetime | None) -> datetime:
        """The moment that is asked about; the course is brought up to it."""
        moment = self.context.now() if now is None else utc(now, "now")
        latest = self.state.now
        if now is None and latest is not None:
            # Whoever wrote the newest event may have a clock that is ahead of ours.
            moment = max(moment, latest)
        self._forecaster.bring_up(moment)
        if self.finished:
            # What is over does not change by being read later.
            return min(moment, self._progress.moment(self._progress.course.end_of_all))
        return moment

    def _why_not(self) -> str:
        """Why there is no forecast; empty where there is one."""
        unknown = self._progress.unknown_open
        if unknown:
            return unknown_reason(unknown)
        infeasible = self._progress.chain.infeasible
        if infeasible:
            return infeasible
        blocked = self._progress.tally.blocked
        if blocked:
            return blocked
        state = self.state
        ended = state.ended is not None and state.end_status != "superseded"
        if ended and not self._progress.course.over:
            why = f": {state.end_reason}" if state.end_reason else ""
            return f"the run ended ({state.end_status}{why}) with work undone"
        return ""

    @property
    def finished(self) -> bool:
        """Whether all that could be done is done: what is left was skipped or is not required."""
        return self._progress.course.over and not self._progress.tally.blocked

    def forecast(self, *, now: datetime | None = None) -> Forecast:
        """When the run will finish, simulated from where it stands at `now` (the clock's)."""
        moment = self._bring_up(now)
        reason = self._why_not()
        if reason:
            return Forecast(
                as_of=moment, started=self.started, deadline=self.deadline, reason=reason
            )
        return self._forecaster.forecast(moment, self.deadline)

    def predict_completion_time(self) -> tuple[datetime | None, float | None]:
        """Forecast P50 finish, and P(finish ≤ deadline), without one P(finish ≤ accepted finish).

        Both None where there is no forecast; `forecast().reason` says why.
        """
        forecast = self._quick(self._bring_up(None))
        return forecast.p50, self._probability(forecast)

    def _quick(self, now: datetime) -> Forecast:
        """The finish alone, without the tasks."""
        reason = self._why_not()
        if reason:
            return Forecast(as_of=now, started=self.started, deadline=self.deadline, reason=reason)
        finishes, as_of = self._forecaster.finishes(now)
        return Forecast(
            as_of=as_of,
            started=self.started,
            deadline=self.deadline,
            seed=self.baseline.seed,
            finishes=finishes,
        )

    def _probability(self, forecast: Forecast) -> float | None:
        if self.deadline is not None:
            return forecast.p_deadline
        accepted = self.accepted_finish
        return None if accepted is None else forecast.probability(accepted)

    @property
    def accepted_finish(self) -> datetime | None:
        """The finish that was promised: its accept_quantile when the revision was accepted."""
        seconds = self.state.acceptance.get("accepted", self.baseline.accepted)
        if self._promised is not None:
            seconds = self._promised[1]
        return None if seconds is None else self._progress.moment(seconds)

    def get_plan_deviation(self, *, now: datetime | None = None) -> PlanDeviation:
        """How far the run is off its baseline, and what is at risk, at `now` (the clock's)."""
        moment = self._bring_up(now)
        forecast = self._quick(moment)
        tally, p50, base = self._progress.tally, forecast.seconds(0.5), self.baseline.p50
        deviation = share = slip = None
        if p50 is not None and base is not None:
            deviation = timedelta(seconds=p50 - base)
            share = (p50 - base) / base if base else None
            accepted = self.accepted_p50
            # A replan resets the slip; the deviation against the baseline stays visible.
            slip = (p50 - accepted) / accepted if accepted else None
        blocked = bool(tally.blocked)
        return PlanDeviation(
            time_deviation=deviation,
            time_deviation_percent=share,
            resource_deviation=tally.resource_deviation(),
            completion_rate=tally.completed / tally.total if tally.total else None,
            completed_tasks=tally.completed,
            total_tasks=tally.total,
            tasks_at_risk=self._at_risk(moment),
            critical_path=self._critical_ids(),
            estimated_completion=forecast.p50,
            confidence=self._probability(forecast),
            deviation_severity=(
                # It never finishes as it stands: beyond every threshold of lateness.
                Criticality.CRITICAL
                if blocked
                else severity(slip, forecast.p_deadline, self.policy)
            ),
            slip=slip,
            deadline_probability=forecast.p_deadline,
            deadline=self.deadline,
            baseline_finish=None if base is None else self._progress.moment(base),
            accepted_finish=self.accepted_finish,
            quantiles=forecast.quantiles,
            as_of=forecast.as_of,
            samples=forecast.samples,
            basis=self.basis,
            revision=self.state.revision,
            blocked=blocked,
            finished=self.finished,
            reason=forecast.reason,
        )

    def _at_risk(self, now: datetime) -> tuple[str, ...]:
        tally, chain = self._progress.tally, self._progress.chain
        risky = set(tally.stopped) | set(tally.with_status(Status.FAILURE, Status.BLOCKED))
        if not self._why_not():
            late = self._forecaster.risks(now) > self.policy.risk_probability
            risky.update(chain.items[n][0] for n in np.flatnonzero(late).tolist())
        return tuple(sorted(risky, key=chain.place.__getitem__))

    def _critical_ids(self) -> tuple[str, ...]:
        if self._why_not():
            return ()
        course, chain = self._progress.course, self._progress.chain
        critical = course.open & (course.floats() <= MICROSECOND)
        nodes = np.flatnonzero(critical)
        ordered = nodes[np.argsort(course.start[nodes], kind="stable")]
        return tuple(dict.fromkeys(chain.items[n][0] for n in ordered.tolist()))

    def get_critical_path(self) -> list[PlanTask]:
        """The unfinished tasks without float, in order of their start.

        Resource arcs are included, durations are P50; empty where there is no forecast.
        """
        self._bring_up(None)
        return [self.plan.get_task(t) for t in self._critical_ids()]

    def limits(self, *, now: datetime | None = None) -> tuple[TaskLimit, ...]:
        """Of each open task its latest start and finish, and how likely it misses it.

        Empty where there is no forecast, and where nothing says by when the run should be over.
        """
        moment = self._bring_up(now)
        latest = self._forecaster.latest()
        if latest is None or self._why_not():
            return ()
        return task_limits(self._progress, latest, self._forecaster.risks(moment))

    def impact(self, before: Effects, after: Effects, *, now: datetime | None = None) -> Impact:
        """What the effects `after` change against `before`, for the run as it stands at `now`."""
        moment = self._bring_up(now)
        return impact(self._progress, before, after, moment, self.baseline.p50)

    def earned_value(self, *, now: datetime | None = None) -> EarnedValue | None:
        """Earned value and earned schedule at `now`; None where there is no baseline."""
        moment = self._bring_up(now)
        if not self.baseline.known:
            return None
        at = self._progress.seconds(moment)
        if self.finished:
            at = self._progress.course.end_of_all
        items = work_items(self._plan, self.state, self._progress.tally, self.baseline)
        return earned_value(items, at, unit_of(self._plan))

    def task_table(self, *, now: datetime | None = None) -> tuple[TaskRow, ...]:
        """Every task as a row for displays, in the order of the plan."""
        moment = self._bring_up(now)
        return task_rows(
            self._plan,
            self._progress,
            self.baseline,
            forecast=not self._why_not(),
            at_risk=frozenset(self._at_risk(moment)),
            critical=frozenset(self._critical_ids()),
        )
