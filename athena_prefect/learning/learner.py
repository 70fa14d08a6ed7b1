"""`ExecutionLearner`: what finished runs teach, from records in memory or from a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from athena_prefect.errors import InputError
from athena_prefect.learning.accuracy import estimation_accuracy
from athena_prefect.learning.frame import History, HistorySource
from athena_prefect.learning.memory import (
    Consolidation,
    ConsolidationEngine,
    Evidence,
    MemoryLayer,
)
from athena_prefect.learning.past import with_tasks
from athena_prefect.learning.patterns import execution_patterns
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord, into_runs
from athena_prefect.learning.results import (
    Bottleneck,
    EstimationMetrics,
    ExecutionPattern,
    Recommendation,
)
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.model import Plan

Records = History | Sequence[TaskExecutionRecord]
"""Columns, or records: `TaskRecord`s know their runs, see `records.into_runs` for plain ones."""


class ExecutionLearner:
    """Extracts patterns and insights from execution.

    `memory_layer` keeps lessons and `consolidation_engine` brings them together;
    without them nothing is kept. `source` gives the history where a method is
    not given one, e.g. `storage.history.StoredHistory`; `plan` says the
    categories of records that do not know them.
    """

    def __init__(
        self,
        memory_layer: MemoryLayer | None = None,
        consolidation_engine: ConsolidationEngine | None = None,
        *,
        source: HistorySource | None = None,
        plan: Plan | None = None,
        policy: LearningPolicy | None = None,
    ) -> None:
        self.memory_layer = memory_layer
        self.consolidation_engine = consolidation_engine
        self.policy = policy or LearningPolicy()
        self._source = source
        self._plan = plan
        self._seen: History | None = None
        self._runs: tuple[RunRecord, ...] | None = None

    def history(self, execution_history: Records | None = None) -> History:
        """What is learned from: as given, else as given last, else from the source."""
        if execution_history is not None:
            self._seen = (
                execution_history
                if isinstance(execution_history, History)
                else History.of_records(execution_history, plan=self._plan)
            )
        if self._seen is None:
            name = None if self._plan is None else self._plan.name
            found = None if self._source is None else self._source.history(name)
            self._seen = History.of(()) if found is None else found
        return self._seen

    def extract_execution_patterns(
        self, execution_history: Records | None = None
    ) -> list[ExecutionPattern]:
        """Extract patterns from execution history.

        Over `execution_history`, else over the one that was given last, else over the
        source's.
        """
        return execution_patterns(self.history(execution_history), self.policy)

    def compute_estimation_accuracy(
        self, execution_history: Records | None = None
    ) -> EstimationMetrics:
        """Compute how accurate our estimates were.

        Over `execution_history`, else over the one that was given last, else over the
        source's.
        """
        return estimation_accuracy(self.history(execution_history), policy=self.policy)

    def identify_bottlenecks(self, execution_history: Records | None = None) -> list[Bottleneck]:
        """Identify what slowed the plan, the most of it first.

        The shares of the runs' delay add up to 1. Over `execution_history`, else over
        what was given last, else over the source's newest runs.
        """
        from athena_prefect.learning.bottlenecks import bottlenecks

        return list(bottlenecks(self.runs(execution_history)))

    def generate_recommendations(
        self,
        execution_history: Records | None = None,
        project_context: Mapping[str, Any] | None = None,
    ) -> list[Recommendation]:
        """Generate recommendations for future plans, what gains most first.

        `project_context`: `fixed`, resources whose capacity cannot be changed; `areas`,
        those that are asked for.
        """
        from athena_prefect.learning.recommendations import recommendations

        found = recommendations(self.runs(execution_history), project_context, policy=self.policy)
        return list(found)

    def runs(self, execution_history: Records | None = None) -> tuple[RunRecord, ...]:
        """The runs with their attempts, as replays need them: given, else given last, else kept."""
        if execution_history is not None:
            self.history(execution_history)
            self._runs = (
                with_tasks(execution_history)
                if isinstance(execution_history, History)
                else into_runs(execution_history, plan=self._plan)
            )
        if self._runs is None:
            name = None if self._plan is None else self._plan.name
            recent = getattr(self._source, "recent", None)
            self._runs = with_tasks(self.history()) if recent is None else tuple(recent(name))
        return self._runs

    def store_execution_outcome(
        self,
        plan_id: int,
        execution_history: Records,
        patterns: Sequence[ExecutionPattern] = (),
        lessons: Sequence[str | Evidence] = (),
        *,
        held: bool | None = None,
    ) -> int:
        """Store execution outcome in the memory layer; the outcome's id.

        `plan_id` is the planning decision that was carried out, `held` whether it kept
        its promise. What the runs themselves say is learned beside `lessons`, each
        run once, however often it is stored. Raises InputError without a memory.
        """
        from athena_prefect.learning.remembering import remember

        if self.memory_layer is None:
            raise InputError(
                "there is no memory: give ExecutionLearner a memory_layer, e.g. Memory() or "
                "StoredLessons(database)"
            )
        return remember(
            self.memory_layer,
            self.consolidation_engine or Consolidation(),
            plan_id=plan_id,
            runs=self.runs(execution_history),
            patterns=patterns,
            lessons=lessons,
            held=held,
            policy=self.policy,
        )
