"""A plan as an ordinary Prefect flow: its name, its typed parameters, its task runner."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Optional
from uuid import UUID

from prefect import Flow
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from athena_prefect.assumptions.rules import check_findings
from athena_prefect.errors import ParameterError, SettingsError
from athena_prefect.plan.document import digest, load
from athena_prefect.plan.model import Parameter, Plan, RunnerKind
from athena_prefect.plan.references import project_root, put_first
from athena_prefect.runtime.flow_body import run_session
from athena_prefect.runtime.parameters import TYPES, parameter_value
from athena_prefect.runtime.run_hold import Asked, Compiled
from athena_prefect.runtime.slots import MARK, outlive_slots

RESERVED = {
    "plan_run": Optional[str],  # noqa: UP045 - a value
    "logical_date": Optional[datetime],  # noqa: UP045 - a value
    "revision": Optional[int],  # noqa: UP045 - a value
}
"""Parameters that every plan's flow has: the plan run to go on with, the date it is for, and the
revision by which a continuation goes on."""


def compile_plan(plan: Plan | str | Path, *, root: Path | None = None) -> Flow[..., Any]:
    """The Prefect flow that runs `plan`, or the plan document at that path.

    A relative path starts at the project root (the nearest folder with
    ``prefect.yaml`` or ``pyproject.toml``) of the file that calls this. The
    plan's callables are looked for in `root` first: by default the plan
    document's project root, or the working folder for a plan made in Python.
    Raises PlanDocumentError for a plan that is not sound.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    if not isinstance(plan, Plan):
        path = _find(Path(plan), Path(caller) if caller else None)
        plan = load(path, rules=(check_findings,))
    if root is None:
        root = project_root(plan.source) if plan.source else Path.cwd()
    return _flow(plan, root.resolve())


def _find(path: Path, caller: Path | None) -> Path:
    if path.is_absolute() or caller is None:
        return path
    beside = project_root(caller.resolve()) / path
    return beside if beside.exists() else path


def _flow(plan: Plan, root: Path) -> Flow[..., Any]:
    reserved = sorted(RESERVED.keys() & plan.parameters.keys())
    if reserved:
        raise ParameterError(
            f"plan {plan.name!r}: parameter {reserved[0]!r} is one that every plan has; rename it"
        )
    outlive_slots()
    body = _body(Compiled(plan=plan, root=root), plan)
    return Flow(
        body,
        name=plan.name,
        description=plan.description or None,
        # Prefect would take that of this file, which says nothing about the plan.
        version=digest(plan)[:12],
        task_runner=task_runner(plan),
        persist_result=False,
        validate_parameters=True,
    )


def _body(compiled: Compiled, plan: Plan) -> Callable[..., Any]:
    def body(**arguments: Any) -> Any:
        put_first(compiled.root)
        own = {n: v for n, v in arguments.items() if n not in RESERVED}
        run = arguments.get("plan_run")
        return run_session(
            compiled,
            Asked(
                parameters=own,
                plan_run=_run_id(run) if run else None,
                logical_date=arguments.get("logical_date"),
                revision=arguments.get("revision"),
            ),
        )

    types = {name: _type(p) for name, p in plan.parameters.items()} | RESERVED
    body.__name__ = body.__qualname__ = plan.name.replace("-", "_").replace(".", "_")
    body.__doc__ = plan.description or None
    setattr(body, MARK, plan.name)
    body.__annotations__ = dict(types)
    body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(name, plan.parameters.get(name)),
                annotation=kind,
            )
            for name, kind in types.items()
        ]
    )
    return body


def _run_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ParameterError(f"plan_run is {text!r}; it is the UUID of a plan run") from None


def _type(parameter: Parameter) -> Any:
    kind = TYPES[parameter.type]
    if parameter.required or parameter.default is not None:
        return kind
    return Optional[kind]  # noqa: UP045 - a value, made from one


def _default(name: str, parameter: Parameter | None) -> Any:
    if parameter is None:
        return None
    if parameter.required and parameter.default is None:
        return inspect.Parameter.empty
    if parameter.default is None:
        return None
    return parameter_value(name, parameter, parameter.default)


def task_runner(plan: Plan) -> TaskRunner[Any]:
    """The task runner of the plan. Raises SettingsError where its extra is not installed."""
    workers = plan.runner.max_workers
    match plan.runner.kind:
        case RunnerKind.THREADS:
            return ThreadPoolTaskRunner(max_workers=workers)
        case RunnerKind.PROCESSES:
            from prefect.task_runners import ProcessPoolTaskRunner

            return ProcessPoolTaskRunner(max_workers=workers)
        case RunnerKind.DASK | RunnerKind.RAY as kind:
            return _remote(kind, workers)


def _remote(kind: RunnerKind, workers: int) -> TaskRunner[Any]:
    try:
        if kind is RunnerKind.DASK:
            from prefect_dask import DaskTaskRunner  # type: ignore[import-not-found,unused-ignore]

            made: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs={"n_workers": workers})
        else:
            from prefect_ray import RayTaskRunner  # type: ignore[import-not-found,unused-ignore]

            made = RayTaskRunner(init_kwargs={"num_cpus": workers})
    except ImportError:
        raise SettingsError(
            f"runner {kind.value!r} is not installed: pip install 'athena-prefect[{kind.value}]'"
        ) from None
    return made
