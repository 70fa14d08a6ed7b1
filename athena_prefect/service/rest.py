"""What is left of a run, as a replanning flow finds it: journal, engine, evaluation, question."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.replanning.asked import Question, open_question
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.step_answers import Called

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.journal.journal import Entry
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.plan.model import Plan
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal


class RestOfRun:
    """What is left of a plan run, and what is known and thought of it."""

    def __init__(
        self, plan_run: UUID | str, *, settings: AthenaSettings, client: SyncPrefectClient,
        clock: Clock = utc_now, flow_run: UUID | None = None,
    ) -> None:  # fmt: skip
        from athena_prefect.storage.db import Database
        from athena_prefect.storage.plans import PlanStore
        from athena_prefect.storage.sql_journal import SqlJournal

        self.settings, self.client, self.clock = settings, client, clock
        self.database: Database = Database.open(settings)
        self.store: PlanStore = PlanStore(self.database)
        self.journal: SqlJournal = SqlJournal(self.database)
        self.plan_run: UUID = self.store.run(plan_run).plan_run
        self.evaluation: ReplanningEvaluation | None = None
        self.recommended: int | None = None
        self.flow_run = flow_run
        """That is in hand; None outside one."""
        self.question: Question | None = None
        self.refused = ""
        """Why what was chosen cannot be done any more."""
        self.read()

    def read(self) -> None:
        """Read the journal anew; what was thought of it before is gone."""
        self.entries: Sequence[Entry] = self.journal.read(self.plan_run)
        self.state: ExecutionState = fold_entries(self.entries)
        self.engine: AdaptiveReplanningEngine | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the revision in force."""
        return self.store.revision(self.plan_run, self.state.revision)

    def _monitor(self) -> ExecutionMonitor | None:
        from athena_prefect.monitor.context import ExecutionContext
        from athena_prefect.monitor.monitor import ExecutionMonitor
        from athena_prefect.service.following import ReadOnly

        if self.state.started is None or self.state.baseline is None:
            return None
        context = ExecutionContext(
            plan_run=self.plan_run, clock=self.clock, started_at=self.state.started,
            journal=ReadOnly(self.journal),
        )  # fmt: skip
        return ExecutionMonitor(self.plan, context)

    def _engine(self, monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
        from athena_prefect.orchestrator import engine_of
        from athena_prefect.runtime.continuing import changeovers, last_revised
        from athena_prefect.service.replanning import recalled_for

        return engine_of(
            monitor,
            clock=time.perf_counter,
            lessons=recalled_for(monitor, self.settings),
            changeovers=changeovers(self.entries),
            replanned_at=last_revised(self.entries),
        )

    def evaluated(self) -> ReplanningEvaluation | None:
        """What the rest calls for; None before the run has its baseline."""
        monitor = self._monitor()
        if monitor is None:
            return None
        self.engine = self._engine(monitor)
        now = self.clock()
        self.evaluation = self.engine.evaluate_replanning_need(
            monitor.get_plan_deviation(now=now),
            self.engine.validator.get_violated_assumptions(),
            now=now,
        )
        return self.evaluation

    @property
    def strategy(self) -> AdaptiveReplanning:
        """What is carried out: as it was asked, else as it is called for."""
        if self.question is not None and self.question.answer is not None:
            asked = AdaptiveReplanning(self.question.strategy)
            none = asked is AdaptiveReplanning.NONE
            return AdaptiveReplanning.FULL if none else asked
        return self.in_hand()[2].strategy

    def options(self) -> tuple[ReplanningOption, ...]:
        """The real alternatives, each solved, checked and simulated; the abort last."""
        monitor, engine, _ = self.in_hand()
        now = self.clock()
        options = engine.get_replanning_options(
            monitor.get_plan_deviation(now=now),
            engine.validator.get_violated_assumptions(),
            now=now,
            strategy=self.strategy,
        )
        self.recommended = engine.recommended_option(self.strategy)
        return tuple(options)

    def in_hand(self) -> tuple[ExecutionMonitor, AdaptiveReplanningEngine, ReplanningEvaluation]:
        """What was evaluated, and by what."""
        assert self.engine is not None and self.evaluation is not None, "evaluate first"
        return self.engine.monitor, self.engine, self.evaluation

    def hands_over_now(self) -> bool:
        """Whether greater revisions of the run are for a continuation."""
        from athena_prefect.runtime.continuing import hands_over, newest_flow_run

        newest = newest_flow_run(self.entries)
        if newest is None:
            return False  # recorded by hand
        flow_run = self.client.read_flow_run(newest)
        return hands_over(self.client, flow_run, self.plan.name, self.settings.namespace)

    # -- what is answered ---------------------------------------------------------------------

    def called_for(self, strategy: str, why: str, **more: Any) -> Called:
        """The answer of an evaluation that something follows from."""
        return Called(
            plan_run=self.plan_run, plan=self.plan.name, revision=self.state.revision,
            strategy=strategy, reason=why, **{"replans": False, **more},
        )  # fmt: skip

    def nothing(self, state: str, why: str, strategy: str) -> Called:
        """The answer of an evaluation that nothing follows from; whoever waits for it is told."""
        self.decline(why, strategy)
        return self.called_for(strategy, why, state=state)

    def decline(self, why: str, strategy: str) -> None:
        """Tell the run's own process, where it waits for an answer, that it need not."""
        from athena_prefect.runtime.continuing import unanswered

        asked, question = unanswered(self.entries), open_question(self.entries)
        if asked is None and question is None:
            return
        about = question.key if question is not None else str(asked and asked[0])
        data = {"reason": why, "strategy": strategy, "position": self.state.position}
        if question is not None:
            data["outcome"] = "declined"
        (recorded,) = self.journal.append(
            RunEvent(
                plan_run=self.plan_run, kind=RunEventKind.NOT_REPLANNED, at=self.clock(),
                source=f"answer to {about}", reported_by=Reporter.CALLER, data=data,
            )
        )  # fmt: skip
        if question is not None and recorded is Recorded.STORED:
            self._keep_declined(why, strategy)

    def _keep_declined(self, why: str, strategy: str) -> None:
        from athena_prefect.storage.replans import add_replanning_event

        add_replanning_event(
            self.database, original_plan_id=self.store.run(self.plan_run).decision_id,
            new_plan_id=None, trigger_reason=why, strategy=strategy, outcome="declined",
        )  # fmt: skip
