"""The monitor of one plan run: records what happens, and says how far off the run is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from athena_prefect.journal.events import (
    CheckEvent,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskOutcome,
    utc,
)
from athena_prefect.journal.journal import Recorded
from athena_prefect.journal.state import ExecutionState, Item, fold_entries
from athena_prefect.monitor.beginning import Grounds, announce, chain_of
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.deadlines import TaskLimit, next_deadline, task_limits
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.earned_value import EarnedValue, earned_value
from athena_prefect.monitor.effects import Effects
from athena_prefect.monitor.forecast import QUANTILES, Forecast
from athena_prefect.monitor.forecaster import Forecaster
from athena_prefect.monitor.history import History
from athena_prefect.monitor.impact import Impact, impact
from athena_prefect.monitor.learned import Learned
from athena_prefect.monitor.progress import Progress
from athena_prefect.monitor.pure import samples_for
from athena_prefect.monitor.recorded import PastForecast, reached, source_of
from athena_prefect.monitor.recording import completion_event, start_event
from athena_prefect.monitor.records import TaskExecutionRecord, attempts_of, record_of
from athena_prefect.monitor.standing import Standing
from athena_prefect.monitor.table import TaskRow, task_rows
from athena_prefect.monitor.work import unit_of, work_items
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.schedule.baseline import Baseline

__all__ = ["ExecutionContext", "ExecutionMonitor"]


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
        deadline = next_deadline(plan.deadline, self.started, scheduled=known.scheduled)
        grounds = Grounds() if baseline else Grounds.of(plan, context, self.policy, known, history)
        self.baseline = baseline = (
            Baseline.from_dict(known.baseline)
            if known.baseline
            else baseline
            or grounds.baseline(
                plan,
                seed=seed,
                samples=samples or samples_for(len(plan.tasks)),
                deadline=None if deadline is None else (deadline - self.started).total_seconds(),
            )
        )
        announce(plan, context, known, baseline, self.started)
        chain = chain_of(plan, known, baseline, grounds.estimates(plan))
        self._progress = Progress(plan, self.started, chain)
        self._standing = Standing(
            progress=self._progress,
            forecaster=Forecaster(
                self._progress,
                seed=baseline.seed,
                samples=baseline.samples,
                span=baseline.p50 or 0.0,
                learned=grounds.learned,
            ),
            baseline=baseline,
            policy=self.policy,
            deadline=deadline,
            promised=grounds.promised(plan, context, known, baseline, self.started),
            grounds=grounds,
        )
        self.refresh()

    @property
    def deadline(self) -> datetime | None:
        """By when the run should be over; None where the plan says nothing."""
        return self._standing.deadline

    def as_accepted(self) -> Progress:
        """The run as it stood when what is promised now was accepted, and went on from then."""
        grounds, known = self._standing.grounds, self.state
        return grounds.at_acceptance(self._plan, self.context, known, self.baseline, self.started)

    @property
    def basis(self) -> str:
        """What forecasts of this run rest on."""
        return str(self._standing.grounds)

    @property
    def learned(self) -> Learned | None:
        """What finished runs teach; None where forecasts rest on the plan's estimates."""
        return self._standing.grounds.learned

    def learned_estimates(self) -> Mapping[str, Estimate]:
        """What finished runs and this one say of the durations of waiting tasks; else empty."""
        if self.learned is None or self._standing.why_not:
            return {}
        progress = self._progress
        return self.learned.posterior_estimates(
            progress.chain, progress.course, seed=self.baseline.seed
        )

    @property
    def bound(self) -> float | None:
        """The deadline, or P50 at acceptance with the slip that is tolerated, in seconds."""
        return self._standing.bound

    @property
    def accepted_p50(self) -> float | None:
        """P50 finish when the revision in force was accepted, in seconds from the start."""
        return self._standing.accepted_p50

    @property
    def accepted_finish(self) -> datetime | None:
        """The finish that was promised: its accept_quantile when the revision was accepted."""
        return self._standing.accepted_finish

    @property
    def accepted_starts(self) -> Mapping[str, float]:
        """Task → start by the schedule of the revision in force, in seconds from the start."""
        return self.state.acceptance.get("starts") or self.baseline.p50_starts

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
        self._standing.forecaster.bind(self.bound)
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
        found = self._standing.quick(moment)
        seconds = {q: found.seconds(q) for q in QUANTILES.values()}
        known = {q: s for q, s in seconds.items() if s is not None}
        if not known:
            return None
        told = PastForecast(
            at=self._progress.seconds(moment),
            share_done=share,
            quantiles=known,
            from_history=self.learned is not None,
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
        running = state.attempts[number - 1].running
        confidence = self._standing.confidence(item, self._bring_up(None)) if running else None
        return record_of(
            self._plan.get_task(task_id),
            state,
            number,
            map_index=index,
            planned_start=None if planned is None else self._progress.moment(planned.start),
            confidence=confidence,
        )

    # How far off

    def _bring_up(self, now: datetime | None) -> datetime:
        """The moment that is asked about; the course is brought up to it."""
        moment = self.context.now() if now is None else utc(now, "now")
        latest = self.state.now
        if now is None and latest is not None:
            # Whoever wrote the newest event may have a clock that is ahead of ours.
            moment = max(moment, latest)
        self._standing.forecaster.bring_up(moment)
        if self.finished:
            # What is over does not change by being read later.
            return min(moment, self._progress.moment(self._progress.course.end_of_all))
        return moment

    @property
    def finished(self) -> bool:
        """Whether all that could be done is done: what is left was skipped or is not required."""
        return self._standing.finished

    def forecast(self, *, now: datetime | None = None) -> Forecast:
        """When the run will finish, simulated from where it stands at `now` (the clock's)."""
        return self._standing.forecast(self._bring_up(now))

    def finish_alone(self, *, now: datetime | None = None) -> Forecast:
        """`forecast` without the tasks, of which large plans have many."""
        return self._standing.quick(self._bring_up(now))

    def predict_completion_time(self) -> tuple[datetime | None, float | None]:
        """Forecast P50 finish, and P(finish ≤ deadline), without one P(finish ≤ accepted finish).

        Both None where there is no forecast; `forecast().reason` says why.
        """
        forecast = self._standing.quick(self._bring_up(None))
        return forecast.p50, self._standing.probability(forecast)

    def get_plan_deviation(self, *, now: datetime | None = None) -> PlanDeviation:
        """How far the run is off its baseline, and what is at risk, at `now` (the clock's)."""
        return self._standing.deviation(self._bring_up(now))

    def get_critical_path(self) -> list[PlanTask]:
        """The unfinished tasks without float, in order of their start.

        Resource arcs are included, durations are P50; empty where there is no forecast.
        """
        self._bring_up(None)
        return [self.plan.get_task(t) for t in self._standing.critical_ids]

    def limits(self, *, now: datetime | None = None) -> tuple[TaskLimit, ...]:
        """Of each open task its latest start and finish, and how likely it misses it.

        Empty where there is no forecast, and where nothing says by when the run should be over.
        """
        moment = self._bring_up(now)
        forecaster = self._standing.forecaster
        latest = forecaster.latest()
        if latest is None or self._standing.why_not:
            return ()
        return task_limits(self._progress, latest, forecaster.risks(moment))

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
            forecast=not self._standing.why_not,
            at_risk=frozenset(self._standing.at_risk(moment)),
            critical=frozenset(self._standing.critical_ids),
        )
