"""How far off a run is: its finish, its deviation, and what of it is at risk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.journal.state import ExecutionState, Item, Status
from athena_prefect.monitor.beginning import Grounds
from athena_prefect.monitor.deviation import PlanDeviation, severity
from athena_prefect.monitor.forecast import Forecast
from athena_prefect.monitor.forecaster import MICROSECOND, Forecaster
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.model import Criticality
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.schedule.baseline import Baseline
from athena_prefect.schedule.problem import unknown_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one run stands against its baseline.

    Every `now` is a moment to which `forecaster` has been brought up.
    """

    progress: Progress
    forecaster: Forecaster
    baseline: Baseline
    policy: ReplanningPolicy
    deadline: datetime | None
    promised: tuple[float, float] | None
    """P50 and accepted finish (s) of a later revision, where history says other than its
    planner did."""
    grounds: Grounds

    @property
    def state(self) -> ExecutionState:
        """What the events taken in so far add up to."""
        return self.progress.state

    # What was promised

    @property
    def bound(self) -> float | None:
        """The deadline, or P50 at acceptance with the slip that is tolerated, in seconds."""
        if self.deadline is not None:
            return self.progress.seconds(self.deadline)
        p50 = self.accepted_p50
        return None if p50 is None else p50 * (1 + self.policy.tolerated_slip)

    @property
    def accepted_p50(self) -> float | None:
        """P50 finish when the revision in force was accepted, in seconds from the start."""
        if self.promised is not None:
            return self.promised[0]
        promised: float | None = self.state.acceptance.get("p50", self.baseline.p50)
        return promised

    @property
    def accepted_finish(self) -> datetime | None:
        """The finish that was promised: its accept_quantile when the revision was accepted."""
        seconds = self.state.acceptance.get("accepted", self.baseline.accepted)
        if self.promised is not None:
            seconds = self.promised[1]
        return None if seconds is None else self.progress.moment(seconds)

    # When it is over

    @property
    def why_not(self) -> str:
        """Why there is no forecast; empty where there is one."""
        unknown = self.progress.unknown_open
        if unknown:
            return unknown_reason(unknown)
        infeasible = self.progress.chain.infeasible
        if infeasible:
            return infeasible
        blocked = self.progress.tally.blocked
        if blocked:
            return blocked
        state = self.state
        ended = state.ended is not None and state.end_status != "superseded"
        if ended and not self.progress.course.over:
            why = f": {state.end_reason}" if state.end_reason else ""
            return f"the run ended ({state.end_status}{why}) with work undone"
        return ""

    @property
    def finished(self) -> bool:
        """Whether all that could be done is done: what is left was skipped or is not required."""
        return self.progress.course.over and not self.progress.tally.blocked

    def forecast(self, now: datetime) -> Forecast:
        """When the run will finish, and each of its tasks."""
        return self._none(now) or self.forecaster.forecast(now, self.deadline)

    def quick(self, now: datetime) -> Forecast:
        """The finish alone, without the tasks."""
        none = self._none(now)
        if none is not None:
            return none
        finishes, as_of = self.forecaster.finishes(now)
        return Forecast(
            as_of=as_of,
            started=self.progress.started,
            deadline=self.deadline,
            seed=self.baseline.seed,
            finishes=finishes,
        )

    def _none(self, now: datetime) -> Forecast | None:
        """What stands for a forecast that cannot be made; None where one can."""
        reason = self.why_not
        if not reason:
            return None
        started = self.progress.started
        return Forecast(as_of=now, started=started, deadline=self.deadline, reason=reason)

    def probability(self, forecast: Forecast) -> float | None:
        """P(finish ≤ deadline), without one P(finish ≤ accepted finish)."""
        if self.deadline is not None:
            return forecast.p_deadline
        accepted = self.accepted_finish
        return None if accepted is None else forecast.probability(accepted)

    # How far off that is

    def deviation(self, now: datetime) -> PlanDeviation:
        """How far the run is off its baseline, and what is at risk."""
        forecast = self.quick(now)
        tally, p50, base = self.progress.tally, forecast.seconds(0.5), self.baseline.p50
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
            tasks_at_risk=self.at_risk(now),
            critical_path=self.critical_ids,
            estimated_completion=forecast.p50,
            confidence=self.probability(forecast),
            deviation_severity=(
                # It never finishes as it stands: beyond every threshold of lateness.
                Criticality.CRITICAL
                if blocked
                else severity(slip, forecast.p_deadline, self.policy)
            ),
            slip=slip,
            deadline_probability=forecast.p_deadline,
            deadline=self.deadline,
            baseline_finish=None if base is None else self.progress.moment(base),
            accepted_finish=self.accepted_finish,
            quantiles=forecast.quantiles,
            as_of=forecast.as_of,
            samples=forecast.samples,
            basis=str(self.grounds),
            revision=self.state.revision,
            blocked=blocked,
            finished=self.finished,
            reason=forecast.reason,
        )

    def at_risk(self, now: datetime) -> tuple[str, ...]:
        """Tasks that will probably end too late, have failed, or cannot start any more."""
        tally, chain = self.progress.tally, self.progress.chain
        risky = set(tally.stopped) | set(tally.with_status(Status.FAILURE, Status.BLOCKED))
        if not self.why_not:
            late = self.forecaster.risks(now) > self.policy.risk_probability
            risky.update(chain.items[n][0] for n in np.flatnonzero(late).tolist())
        return tuple(sorted(risky, key=chain.place.__getitem__))

    @property
    def critical_ids(self) -> tuple[str, ...]:
        """Unfinished tasks without float, in order of their start; none without a forecast."""
        if self.why_not:
            return ()
        course, chain = self.progress.course, self.progress.chain
        critical = course.open & (course.floats() <= MICROSECOND)
        nodes = np.flatnonzero(critical)
        ordered = nodes[np.argsort(course.start[nodes], kind="stable")]
        return tuple(dict.fromkeys(chain.items[n][0] for n in ordered.tolist()))

    def confidence(self, item: Item, now: datetime) -> float | None:
        """P(finish ≤ latest finish) of a task or item; None where there is no such thing."""
        node = self.progress.chain.node_of.get(item)
        if node is None or self.why_not or self.forecaster.latest() is None:
            return None
        return 1.0 - float(self.forecaster.risks(now)[node])
