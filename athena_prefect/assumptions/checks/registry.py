"""Kinds of checks by name: ours, and everybody's through the entry-point group.

A kind's module is imported when a plan names it, never before: a plan that
checks the disk needs neither a database nor a calendar.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from athena_prefect.assumptions.checks.base import Check
from athena_prefect.errors import CheckError, UnknownNameError
from athena_prefect.plan.scalars import nearest

GROUP = "athena_prefect.checks"
"""Entry-point group: kind = module:Check."""

_HERE = "athena_prefect.assumptions.checks"
_RUNTIME = "athena_prefect.runtime.checks"
_STORAGE = "athena_prefect.storage.checks"
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "calendar": f"{_HERE}.calendar:Calendar",
        "concurrency_limit": f"{_RUNTIME}.concurrency_limit:ConcurrencyLimit",
        "cpu_load": f"{_HERE}.cpu:CpuLoad",
        "dbt_freshness": f"{_HERE}.dbt_freshness:DbtFreshness",
        "deployment_success": f"{_RUNTIME}.deployment_success:DeploymentSuccess",
        "disk_free": f"{_HERE}.disk:DiskFree",
        "file_age": f"{_HERE}.files:FileAge",
        "file_exists": f"{_HERE}.files:FileExists",
        "file_size": f"{_HERE}.files:FileSize",
        "function": f"{_HERE}.function:FunctionCheck",
        "git_changes": f"{_HERE}.git_changes:GitChanges",
        "http": f"{_HERE}.http:Http",
        "http_json": f"{_HERE}.http_json:HttpJson",
        "issues": f"{_HERE}.issues:Issues",
        "memory": f"{_HERE}.memory:Memory",
        "newest": f"{_STORAGE}.newest:Newest",
        "null_share": f"{_STORAGE}.null_share:NullShare",
        "pandera": f"{_HERE}.pandera:Pandera",
        "process": f"{_HERE}.process:Process",
        "row_count": f"{_STORAGE}.row_count:RowCount",
        "schema_drift": f"{_STORAGE}.schema_drift:SchemaDrift",
        "sql": f"{_STORAGE}.sql:Sql",
        "tcp": f"{_HERE}.tcp:Tcp",
        "variable": f"{_RUNTIME}.variable:PrefectVariable",
        "work_pool": f"{_RUNTIME}.work_pool:WorkPool",
    }
)
"""Ours, also declared as entry points; here so that no installed metadata is read for them,
which takes longer than most checks."""


@cache
def _installed() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def kinds() -> tuple[str, ...]:
    """The names of all kinds that are installed, in order."""
    return tuple(sorted({*BUILT_IN, *_installed()}))


def kind_named(name: str) -> type[Check]:
    """The kind of that name.

    Raises UnknownNameError with the nearest known one, and CheckError where a
    kind of somebody else's cannot be imported or is none.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: Any = getattr(import_module(module), attribute)
    elif name in _installed():
        found = _load(_installed()[name])
    else:
        raise UnknownNameError("kind of check", name, kinds())
    if not (isinstance(found, type) and issubclass(found, Check)):
        raise CheckError(
            f"kind {name!r}: its entry point names a {type(found).__name__}; "
            "it has to name a Check, as @check makes one of a function"
        )
    return found


def _load(point: EntryPoint) -> Any:
    # Somebody else's module may raise anything while it is imported; it is reported.
    try:
        return point.load()
    except Exception as error:
        raise CheckError(
            f"kind {point.name!r} ({point.value}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def nearest_kind(name: str) -> str | None:
    """The installed kind whose name is most like `name`."""
    return nearest(name, kinds())
