"""What a run begins with: what finished runs teach of it, its baseline, what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from athena_prefect.journal.events import Event, Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.conformal import Calibration
from athena_prefect.monitor.context import ExecutionContext, Remembering
from athena_prefect.monitor.forecast import quantile_of
from athena_prefect.monitor.history import History
from athena_prefect.monitor.learned import ESTIMATES, Learned, samples_for
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Plan
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.schedule.baseline import Baseline, make_baseline


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What forecasts of a run rest on: finished runs, or why they do not."""

    learned: Learned | None = None
    why_estimates: str = ""
    """Why there are no finished runs behind them; empty where nobody said."""

    def __str__(self) -> str:
        if self.learned is not None:
            return str(self.learned)
        return f"{ESTIMATES}; {self.why_estimates}" if self.why_estimates else ESTIMATES

    @classmethod
    def of(
        cls,
        plan: Plan,
        context: ExecutionContext,
        policy: ReplanningPolicy,
        known: ExecutionState,
        history: History | None,
    ) -> Grounds:
        """Finished runs where there are enough of the plan's own.

        `history`: by default what the journal knows of them. A run whose baseline rests on
        estimates stays with estimates.
        """
        told = (known.baseline or {}).get("history") or {}
        least = policy.forecast_runs
        if least is None:
            return cls(why_estimates="earlier runs are not used (forecast_runs: null)")
        if known.baseline is not None and "calibration" not in told:
            return cls(why_estimates=told.get("without", ""))
        if not any(t.planned_duration is None or t.planned_duration for t in plan.tasks):
            # Ratios of nothing say nothing, and reading earlier runs costs a short run dear.
            return cls(why_estimates="no task is planned to take time")
        if history is None and isinstance(context.journal, Remembering):
            history = context.journal.finished_runs(context.plan_run)
        own = 0 if history is None else len(history.of_plan(plan.name))
        if history is None or own < least:
            runs = f"{own} finished run{'' if own == 1 else 's'}, {least} are needed"
            return cls(why_estimates=runs if own else "no finished run yet")
        if told:
            calibration = Calibration.from_dict(told["calibration"])
            return cls(learned=Learned(history=history, plan=plan.name, told=calibration))
        return cls(learned=Learned.of(history, plan.name))

    def baseline(self, plan: Plan, *, seed: int, samples: int, deadline: float | None) -> Baseline:
        """The baseline of a run that begins; `deadline` in seconds from its start."""
        if self.learned is None:
            made = make_baseline(plan, seed=seed, samples=samples, deadline=deadline)
            return replace(made, history={"without": self.why_estimates})
        return self.learned.baseline(plan, seed=seed, samples=samples, deadline=deadline)

    def estimates(self, plan: Plan) -> Mapping[str, Estimate]:
        """What was learned of the tasks that leave their estimates to that."""
        return {} if self.learned is None else self.learned.estimates(plan)

    def promised(
        self,
        plan: Plan,
        context: ExecutionContext,
        known: ExecutionState,
        baseline: Baseline,
        started: datetime,
    ) -> tuple[float, float] | None:
        """P50 and accepted finish (s) of a later revision, as history saw them at its adoption.

        Only of a revision that came into force before forecasts were kept with revisions: its
        planner's figures come from a schedule, and slip compares like with like.
        """
        if self.learned is None or known.acceptance.get("p50") is None or not known.replans:
            return None
        if "forecast" in known.acceptance:
            return None  # it was forecast then, and kept
        progress = self.at_acceptance(plan, context, known, baseline, started)
        if progress.unknown_open or progress.chain.infeasible:
            return None
        found = self.learned.simulated(
            progress.chain,
            progress.course,
            samples=samples_for(len(progress.chain.problem)),
            rng=np.random.default_rng(baseline.seed),
        ).makespans
        return quantile_of(found, 0.5), quantile_of(found, baseline.accept_quantile)

    def at_acceptance(
        self,
        plan: Plan,
        context: ExecutionContext,
        known: ExecutionState,
        baseline: Baseline,
        started: datetime,
    ) -> Progress:
        """The run as it stood when what is promised now was accepted."""
        progress = Progress(plan, started, chain_of(plan, known, baseline, self.estimates(plan)))
        entries = context.journal.read(context.plan_run)
        revised = [
            k
            for k, entry in enumerate(entries)
            if isinstance(entry.event, RunEvent)
            and entry.event.kind is RunEventKind.REVISED
            # What a person changes by hand promises nothing: what was promised stays.
            and not entry.event.data.get("by_hand")
        ]
        at = started
        if revised:
            at = entries[revised[-1]].event.at
            progress.fold(entries[: revised[-1] + 1])
        progress.advance(at)
        return progress


def chain_of(
    plan: Plan, known: ExecutionState, baseline: Baseline, estimates: Mapping[str, Estimate]
) -> Chain:
    """The network of the revision in force, before anything has happened on it."""
    return Chain.of(
        plan,
        baseline,
        revision=known.revision,
        modes=known.acceptance.get("modes"),
        estimates=estimates,
    )


def announce(
    plan: Plan,
    context: ExecutionContext,
    known: ExecutionState,
    baseline: Baseline,
    started: datetime,
) -> None:
    """Write that the run has begun, and its baseline, where the journal does not know yet."""
    run = context.plan_run
    events: list[Event] = []
    if known.started is None:
        events.append(
            RunEvent(
                plan_run=run,
                kind=RunEventKind.STARTED,
                at=started,
                reported_by=Reporter.CALLER,
                data={"revision": 1, "plan": plan.name},
            )
        )
    if known.baseline is None:
        data = baseline.as_dict()
        events.append(RunEvent(plan_run=run, kind=RunEventKind.BASELINED, at=started, data=data))
    if events:
        context.journal.append(*events)
