"""The use cases: all that flows, the command line and tools for agents call.

Each is a plain function that answers a frozen value. Its module is imported at
its first use, so that a command brings only what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from athena_prefect.service.by_hand import done, rerun, skip
    from athena_prefect.service.by_plan_id import (
        document_of,
        numbered_runs,
        replanning_options,
        report_of,
        revisions_of,
        standing,
        validate_assumption,
        why_it_is_late,
    )
    from athena_prefect.service.checking import check, checks
    from athena_prefect.service.choosing import Choice, execute, preview
    from athena_prefect.service.database import db_current, db_upgrade
    from athena_prefect.service.deploying import deploy, serve, undeploy
    from athena_prefect.service.inferring import infer
    from athena_prefect.service.kept import KeptRuns
    from athena_prefect.service.learned import accuracy_of, patterns_of, recommendations_of
    from athena_prefect.service.learning import learn
    from athena_prefect.service.outside import begin
    from athena_prefect.service.parameters import read_parameters, split_assignments
    from athena_prefect.service.plans import register, show, validate
    from athena_prefect.service.reading import open_run, report, runs, status, watch_run
    from athena_prefect.service.recording import record
    from athena_prefect.service.remembering import lessons
    from athena_prefect.service.running import run_plan
    from athena_prefect.service.showing import choose, look
    from athena_prefect.service.taught import accuracy, patterns
    from athena_prefect.service.watching import watch_every, watch_live

__all__ = [
    "Choice",
    "KeptRuns",
    "accuracy",
    "accuracy_of",
    "begin",
    "check",
    "checks",
    "choose",
    "db_current",
    "db_upgrade",
    "deploy",
    "document_of",
    "done",
    "execute",
    "infer",
    "learn",
    "lessons",
    "look",
    "numbered_runs",
    "open_run",
    "patterns",
    "patterns_of",
    "preview",
    "read_parameters",
    "recommendations_of",
    "record",
    "register",
    "replanning_options",
    "report",
    "report_of",
    "rerun",
    "revisions_of",
    "run_plan",
    "runs",
    "serve",
    "show",
    "skip",
    "split_assignments",
    "standing",
    "status",
    "undeploy",
    "validate",
    "validate_assumption",
    "watch_every",
    "watch_live",
    "watch_run",
    "why_it_is_late",
]

_MODULES = {
    "Choice": "choosing",
    "patterns_of": "learned",
    "recommendations_of": "learned",
    "accuracy_of": "learned",
    "report_of": "by_plan_id",
    "numbered_runs": "by_plan_id",
    "document_of": "by_plan_id",
    "why_it_is_late": "by_plan_id",
    "validate_assumption": "by_plan_id",
    "revisions_of": "by_plan_id",
    "replanning_options": "by_plan_id",
    "preview": "choosing",
    "choose": "showing",
    "look": "showing",
    "execute": "choosing",
    "begin": "outside",
    "record": "recording",
    "standing": "by_plan_id",
    "KeptRuns": "kept",
    "check": "checking",
    "checks": "checking",
    "done": "by_hand",
    "rerun": "by_hand",
    "skip": "by_hand",
    "db_current": "database",
    "db_upgrade": "database",
    "deploy": "deploying",
    "serve": "deploying",
    "undeploy": "deploying",
    "infer": "inferring",
    "accuracy": "taught",
    "learn": "learning",
    "lessons": "remembering",
    "patterns": "taught",
    "open_run": "reading",
    "read_parameters": "parameters",
    "register": "plans",
    "report": "reading",
    "run_plan": "running",
    "runs": "reading",
    "show": "plans",
    "split_assignments": "parameters",
    "status": "reading",
    "validate": "plans",
    "watch_run": "reading",
    "watch_live": "watching",
    "watch_every": "watching",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
