"""The use cases: all that flows, the command line and tools for agents call.

Each is a plain function that answers a frozen value. Its module is imported at
its first use, so that a command brings only what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from athena_prefect.service.by_hand import done, rerun, skip
    from athena_prefect.service.checking import check, checks
    from athena_prefect.service.database import db_current, db_upgrade
    from athena_prefect.service.deploying import deploy, serve, undeploy
    from athena_prefect.service.inferring import infer
    from athena_prefect.service.parameters import read_parameters, split_assignments
    from athena_prefect.service.plans import register, show, validate
    from athena_prefect.service.reading import open_run, report, runs, status, watch_run
    from athena_prefect.service.running import run_plan
    from athena_prefect.service.watching import watch_every, watch_live

__all__ = [
    "check",
    "checks",
    "db_current",
    "db_upgrade",
    "deploy",
    "done",
    "infer",
    "open_run",
    "read_parameters",
    "register",
    "report",
    "rerun",
    "run_plan",
    "runs",
    "serve",
    "show",
    "skip",
    "split_assignments",
    "status",
    "undeploy",
    "validate",
    "watch_every",
    "watch_live",
    "watch_run",
]

_MODULES = {
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
