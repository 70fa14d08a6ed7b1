"""Starts that have not happened: told while there is time, or taken back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from athena_prefect.errors import UnknownNameError
from athena_prefect.journal.journal import Recorded
from athena_prefect.journal.state import fold_entries
from athena_prefect.monitor.breaches import changes, not_started
from athena_prefect.monitor.deadlines import start_outlook
from athena_prefect.plan.model import Criticality
from athena_prefect.service.watched import MOST_RUNS, Watch, WatchedRun

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.watching import LateStart

logger = logging.getLogger(__name__)


class LateStarts:
    """Scheduled starts that are late or were missed."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def look(self, plan: str | None) -> Iterator[WatchedRun]:
        """Tell of each start that has not happened, or take it back; of one plan or of all."""
        if self.watch.api is None:
            return
        names = [plan] if plan is not None else self._plans()
        try:
            late = list(
                self.watch.api.late_starts(names, self.watch.clock(), self.watch.settings.namespace)
            )
        except Exception as error:  # the boundary: live runs were looked at all the same
            logger.exception("late starts could not be looked for")
            self.watch.problems.append(f"late starts could not be looked for: {error!r}")
            return
        for start in late:
            try:
                found = self._start(start)
            except Exception as error:  # the boundary: one plan's failure stops no other
                logger.exception("the start of %s could not be looked at", start.plan)
                self.watch.problems.append(f"{start.plan}: {error!r}")
                continue
            if found is not None:
                yield found

    def _plans(self) -> list[str]:
        decisions = self.watch.store.decisions(
            namespace=self.watch.settings.namespace, limit=MOST_RUNS
        )
        return sorted({d.plan for d in decisions})

    def _needless(self, plan: Plan, start: LateStart) -> str:
        """Cancel the start where `overlap` says that it is never to run; why."""
        from athena_prefect.runtime.admission import take_back

        assert self.watch.api is not None
        client = self.watch.api.client
        flow_run = client.read_flow_run(start.subject)
        if flow_run.deployment_id is None or flow_run.state is None:
            return ""
        if not flow_run.state.is_scheduled():
            return ""  # a worker has it by now
        return take_back(
            plan, flow_run, client=client, settings=self.watch.settings, clock=self.watch.clock
        )

    def _start(self, start: LateStart) -> WatchedRun | None:
        from athena_prefect.runtime.telling import Telling

        try:
            plan = self.watch.store.plan(start.plan, namespace=self.watch.settings.namespace)
        except UnknownNameError:
            return None
        if not start.missed and (why := self._needless(plan, start)):
            return WatchedRun(plan_run=start.subject, plan=start.plan, status="skipped", remedy=why)
        now = self.watch.clock()
        outlook = start_outlook(plan, start.scheduled, now)
        what = f"the start of {start.scheduled:%Y-%m-%d %H:%M} UTC has not happened"
        if start.missed:
            last = f" to {start.last:%Y-%m-%d %H:%M} UTC" if start.missed > 1 else ""
            what = (
                f"{start.missed} scheduled start{'s' if start.missed > 1 else ''} missed: "
                f"{start.scheduled:%Y-%m-%d %H:%M} UTC{last}; no run was made"
            )
        finding = not_started(plan, outlook, now, what=what)
        if start.missed:
            # Nothing will start by itself, so it is told whatever time is left.
            finding = replace(finding, level=finding.level or Criticality.MEDIUM)
        if finding.level is None:
            return None
        state = fold_entries(self.watch.journal.read(start.subject))
        events = tuple(changes([finding], state, start.subject, now))
        recorded = self.watch.journal.append(*events)
        telling = Telling(
            plan=plan, plan_run=start.subject, journal=self.watch.journal,
            namespace=self.watch.settings.namespace, clock=self.watch.clock,
            client=None if self.watch.api is None else self.watch.api.client,
            sender=self.watch.sender,
        )  # fmt: skip
        if telling.tell():
            telling.mark()
        return WatchedRun(
            plan_run=start.subject,
            plan=start.plan,
            status="missed" if start.missed else "not started",
            breaches=(finding.reason,),
            raised=(finding.reason,) if Recorded.STORED in recorded else (),
        )
