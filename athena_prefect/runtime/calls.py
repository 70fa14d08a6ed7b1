"""The callable behind a task's `call`: a function, an async function, or somebody's `@task`."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from athena_prefect.errors import ParameterError
from athena_prefect.plan.references import resolve


def target_of(reference: str, root: Path) -> Any:
    """What `reference` names: a function, or a Prefect task. Raises CallableError.

    Looked up once for each module that was imported: every attempt asks for it.
    """
    module = sys.modules.get(reference.partition(":")[0])
    return resolve(reference, root) if module is None else _target_in(module, reference, root)


@cache
def _target_in(module: ModuleType, reference: str, root: Path) -> Any:
    # The module is part of the key only: one that was imported anew has another.
    return resolve(reference, root)


def function_of(reference: str, root: Path) -> Callable[..., Any]:
    """The plain function behind `reference`: of a Prefect task, its own."""
    target = target_of(reference, root)
    # Duck-typed, so that a child that runs a plain function need not import Prefect.
    function = target.fn if is_task(target) else target
    assert callable(function)
    return function  # type: ignore[no-any-return]


def is_task(target: object) -> bool:
    """Whether `target` is one of Prefect's tasks."""
    return any(
        c.__module__ == "prefect.tasks" and c.__name__ == "Task" for c in type(target).__mro__
    )


def is_async(target: object) -> bool:
    """Whether calling it gives a coroutine."""
    function = getattr(target, "fn", target) if is_task(target) else target
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )


def secret(name: str) -> str:
    """The secret `name`: of the environment (``ATHENA_SECRET_…``), else a Prefect Secret block."""
    variable = "ATHENA_SECRET_" + name.upper().replace("-", "_").replace(".", "_")
    if variable in os.environ:
        return os.environ[variable]
    from prefect.blocks.system import Secret

    try:
        block: Any = Secret.load(name, _sync=True)  # type: ignore[call-arg, unused-ignore]
    except ValueError:
        raise ParameterError(
            f"no secret {name!r}: set the environment variable {variable}, or make a Prefect "
            f"Secret block of that name",
            name=name,
        ) from None
    return str(block.get())


def variable(name: str) -> Any:
    """Prefect's variable `name`. Raises ParameterError where there is none."""
    from prefect.variables import Variable

    missing = object()
    value = Variable.get(name, default=missing, _sync=True)  # type: ignore[call-overload, unused-ignore]
    if value is missing:
        raise ParameterError(
            f"no Prefect variable {name!r}: set it with `prefect variable set {name} VALUE`",
            name=name,
        )
    return value


def check_arguments(target: object, arguments: Mapping[str, Any], task_id: str) -> None:
    """Refuse arguments that the callable does not take. Raises ParameterError."""
    function = getattr(target, "fn", target) if is_task(target) else target
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return  # a built-in tells nobody what it takes
    taken = signature.parameters.values()
    names = {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    anything = any(p.kind is p.VAR_KEYWORD for p in taken)
    unknown = [] if anything else sorted(arguments.keys() - names)
    missing = [
        p.name
        for p in taken
        if p.name in names and p.default is p.empty and p.name not in arguments
    ]
    wrong = [f"it has no argument {n!r}" for n in unknown]
    wrong += [f"argument {n!r} is missing" for n in missing]
    if wrong:
        raise ParameterError(
            f"task {task_id!r}: {'; '.join(wrong)}; its call takes {signature}", task_id=task_id
        )
