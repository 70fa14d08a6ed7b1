"""What the monitor gives the dispatcher: priorities, and the baseline of a run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)


def latest_starts(plan: Plan) -> dict[str, float]:
    """Seconds from the start by which each task must start to keep the makespan."""
    import numpy as np

    from athena_prefect.plan.graph import Network
    from athena_prefect.schedule.critical_path import critical_path

    network = Network.of(plan)
    means = [plan.get_task(t).planned_duration for t in network.ids]
    seconds = np.array([0.0 if m is None else m.total_seconds() for m in means])
    return dict(
        zip(network.ids, critical_path(network, seconds).latest_start.tolist(), strict=True)
    )


@contextmanager
def baseline_beside(facts: RunFacts) -> Iterator[None]:
    """Make the run's baseline while its first tasks run; it is there when the block ends."""
    thread = threading.Thread(target=make_baseline, args=(facts,), name="athena-baseline")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def make_baseline(facts: RunFacts) -> None:
    """Make the run's baseline, where it has none; a monitor that cannot is no reason to stop."""
    from athena_prefect.monitor.monitor import ExecutionContext, ExecutionMonitor

    try:
        monitor = ExecutionMonitor(
            facts.plan,
            ExecutionContext(
                plan_run=facts.plan_run,
                clock=lambda: datetime.now(UTC),
                started_at=facts.started_at,
                journal=facts.recorder.journal,
            ),
        )
        facts.shared.put(monitor)
    except Exception as error:  # noqa: BLE001 - the boundary between the monitor and the pipeline
        logger.error("no baseline could be made, so there is no forecast: %r", error)
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=RunEventKind.GAP,
                at=datetime.now(UTC),
                source=facts.session,
                data={"what": f"no baseline: {error!r}"},
            )
        )
    finally:
        facts.shared.tried.set()
