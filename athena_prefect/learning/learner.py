"""`ExecutionLearner`: what finished runs teach, from records in memory or from a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import InputError
from athena_prefect.learning.accuracy import estimation_accuracy
from athena_prefect.learning.frame import History, HistorySource
from athena_prefect.learning.memory import (
    Consolidation,
    ConsolidationEngine,
    Evidence,
    MemoryLayer,
)
from athena_prefect.learning.patterns import execution_patterns
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord, into_runs
from athena_prefect.learning.results import (
    Bottleneck,
    EstimationMetrics,
    ExecutionPattern,
    Recommendation,
)
from athena_prefect.learning.rows import with_tasks
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.model import Plan

if TYPE_CHECKING:
    from athena_prefect.learning.blame import Blame

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
        self._given: Records | None = None
        self._seen: History | None = None
        self._runs: tuple[RunRecord, ...] | None = None
        self._blames: tuple[Blame, ...] | None = None

    def history(self, execution_history: Records | None = None) -> History:
        """What is learned from: as given, else as given last, else from the source."""
        self._take(execution_history)
        if self._seen is None:
            if isinstance(self._given, History):
                self._seen = self._given
            elif self._given is not None:
                self._seen = History.of(self.runs())
            else:
                found = None if self._source is None else self._source.history(self._name)
                self._seen = History.of(()) if found is None else found
        return self._seen

    def _take(self, given: Records | None) -> None:
        """What is learned from until something else is given; the same again changes nothing."""
        if given is not None and given is not self._given:
            self._given = given
            self._seen = self._runs = self._blames = None

    @property
    def _name(self) -> str | None:
        return None if self._plan is None else self._plan.name

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
        from athena_prefect.learning.bottlenecks import of_blames

        return list(of_blames(self.blames(execution_history)))

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

        blames = self.blames(execution_history)
        # Of fewer runs nothing recurs; then columns, which cost, are not needed.
        several = len(self.runs()) >= self.policy.least_runs
        found = recommendations(
            self.runs(), project_context, policy=self.policy, blames=blames,
            patterns=self.extract_execution_patterns() if several else (),
        )  # fmt: skip
        return list(found)

    def runs(self, execution_history: Records | None = None) -> tuple[RunRecord, ...]:
        """The runs with their attempts, as replays need them: given, else given last, else kept."""
        self._take(execution_history)
        if self._runs is None:
            recent = getattr(self._source, "recent", None)
            if isinstance(self._given, History):
                self._runs = with_tasks(self._given)
            elif self._given is not None:
                self._runs = into_runs(self._given, plan=self._plan)
            elif recent is not None:
                self._runs = tuple(recent(self._name))
            else:
                self._runs = with_tasks(self.history())
        return self._runs

    def blames(self, execution_history: Records | None = None) -> tuple[Blame, ...]:
        """Whose the delays of the runs were: reckoned once for all that is asked about them."""
        from athena_prefect.learning.blame import blame
        from athena_prefect.learning.past import past

        self._take(execution_history)
        if self._blames is None:
            self._blames = tuple(blame(p) for r in self.runs() if (p := past(r)) is not None)
        return self._blames

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
