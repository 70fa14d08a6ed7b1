"""A Prefect plugin that turns a pipeline with a plan into a flow that watches itself run.

Every public name is here. A name's module is imported at its first use, so that
`import athena_prefect` takes milliseconds and brings neither Prefect nor a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from athena_prefect.assumptions.checks.base import CheckContext, Observation, check
    from athena_prefect.assumptions.results import (
        AssumptionValidationResult,
        AssumptionViolation,
    )
    from athena_prefect.assumptions.validator import AssumptionValidator
    from athena_prefect.errors import AthenaError, PlanDocumentError
    from athena_prefect.journal.events import TaskOutcome
    from athena_prefect.journal.journal import MemoryJournal
    from athena_prefect.learning.learner import ExecutionLearner
    from athena_prefect.learning.policy import LearningPolicy
    from athena_prefect.learning.results import (
        Bottleneck,
        EstimationMetrics,
        ExecutionPattern,
        Recommendation,
    )
    from athena_prefect.monitor.context import ExecutionContext, VirtualClock
    from athena_prefect.monitor.deviation import PlanDeviation
    from athena_prefect.monitor.forecast import Forecast
    from athena_prefect.monitor.history import History, PastRun, PastTask
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.monitor.pure import forecast
    from athena_prefect.monitor.records import TaskExecutionRecord
    from athena_prefect.orchestrator import Phase6Orchestrator, PlanOrchestrator
    from athena_prefect.plan.assumption import Assumption
    from athena_prefect.plan.estimate import Estimate
    from athena_prefect.plan.model import Plan
    from athena_prefect.plan.policy import ReplanningPolicy
    from athena_prefect.plan.task import Dependency, Mode, PlanTask
    from athena_prefect.plan.terms import Resource
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.replanning.evaluation import AdaptiveReplanning
    from athena_prefect.runtime.attach import attach
    from athena_prefect.runtime.compiler import compile_plan
    from athena_prefect.runtime.context import Partial, idempotency_token, report_usage
    from athena_prefect.service.running import run_plan
    from athena_prefect.service.waiting import wait_for_plan_run
    from athena_prefect.settings import AthenaSettings

__version__ = "0.1.0"

__all__ = [
    "AdaptiveReplanning",
    "AdaptiveReplanningEngine",
    "Assumption",
    "AssumptionValidationResult",
    "AssumptionValidator",
    "AssumptionViolation",
    "AthenaError",
    "AthenaSettings",
    "Bottleneck",
    "CheckContext",
    "Dependency",
    "Estimate",
    "EstimationMetrics",
    "ExecutionContext",
    "ExecutionLearner",
    "ExecutionMonitor",
    "ExecutionPattern",
    "Forecast",
    "History",
    "LearningPolicy",
    "MemoryJournal",
    "Mode",
    "Observation",
    "Partial",
    "PastRun",
    "PastTask",
    "Phase6Orchestrator",
    "Plan",
    "PlanDeviation",
    "PlanDocumentError",
    "PlanOrchestrator",
    "PlanTask",
    "Recommendation",
    "ReplanningPolicy",
    "Resource",
    "TaskExecutionRecord",
    "TaskOutcome",
    "VirtualClock",
    "__version__",
    "attach",
    "check",
    "compile_plan",
    "forecast",
    "idempotency_token",
    "report_usage",
    "run_plan",
    "wait_for_plan_run",
]

_MODULES = {
    "AdaptiveReplanning": "replanning.evaluation",
    "AdaptiveReplanningEngine": "replanning.engine",
    "Assumption": "plan.assumption",
    "AssumptionValidationResult": "assumptions.results",
    "AssumptionValidator": "assumptions.validator",
    "AssumptionViolation": "assumptions.results",
    "AthenaError": "errors",
    "AthenaSettings": "settings",
    "attach": "runtime.attach",
    "Bottleneck": "learning.results",
    "check": "assumptions.checks.base",
    "CheckContext": "assumptions.checks.base",
    "compile_plan": "runtime.compiler",
    "Dependency": "plan.task",
    "Estimate": "plan.estimate",
    "EstimationMetrics": "learning.results",
    "ExecutionContext": "monitor.context",
    "ExecutionLearner": "learning.learner",
    "ExecutionMonitor": "monitor.monitor",
    "ExecutionPattern": "learning.results",
    "Forecast": "monitor.forecast",
    "forecast": "monitor.pure",
    "History": "monitor.history",
    "idempotency_token": "runtime.context",
    "LearningPolicy": "learning.policy",
    "MemoryJournal": "journal.journal",
    "Mode": "plan.task",
    "Observation": "assumptions.checks.base",
    "Partial": "runtime.context",
    "PastRun": "monitor.history",
    "PastTask": "monitor.history",
    "Phase6Orchestrator": "orchestrator",
    "Plan": "plan.model",
    "PlanDeviation": "monitor.deviation",
    "PlanDocumentError": "errors",
    "PlanOrchestrator": "orchestrator",
    "PlanTask": "plan.task",
    "Recommendation": "learning.results",
    "ReplanningPolicy": "plan.policy",
    "report_usage": "runtime.context",
    "Resource": "plan.terms",
    "run_plan": "service.running",
    "wait_for_plan_run": "service.waiting",
    "TaskExecutionRecord": "monitor.records",
    "TaskOutcome": "journal.events",
    "VirtualClock": "monitor.context",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
