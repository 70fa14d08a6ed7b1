"""A plan's run goes on where Prefect has lost the deployment's slot that it held.

A deployment with a concurrency limit gives each of its runs a slot, and Prefect's
engine cancels a run that cannot renew its slot within some four seconds. Slots are
lost without anything being wrong with the run: the server keeps them in memory and
was restarted, or was away at the moment of the renewal, or a worker reported the
crash of the run's earlier process while the next one was starting. Who may run is
decided by the lease of the plan run (`storage.lease`) and by `runtime.admission`;
the slot only saves processes, and its loss ends no work.

Prefect has no setting for this: the flow engine asks for the strict form by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any

from prefect import flow_engine
from prefect.context import FlowRunContext

MARK = "__athena_plan__"
"""Attribute of the body of a plan's flow: the plan's name."""
_ENGINES = "maintain_concurrency_lease"
"""What the engine calls the context manager that renews a run's slot."""


def outlive_slots() -> None:
    """Have this process's runs of plans outlive their slots; other flows stay as they are.

    Once is enough, and twice changes nothing. Where Prefect's engine has no such
    function any more, its runs end as Prefect sees fit, and resume.
    """
    strict = getattr(flow_engine, _ENGINES, None)
    if strict is not None and not hasattr(strict, MARK):
        setattr(flow_engine, _ENGINES, _lenient(strict))


def _lenient(
    strict: Callable[..., AbstractContextManager[None]],
) -> Callable[..., AbstractContextManager[None]]:
    @wraps(strict)
    def maintain(*arguments: Any, **more: Any) -> AbstractContextManager[None]:
        context = FlowRunContext.get()
        if context is not None and hasattr(getattr(context.flow, "fn", None), MARK):
            more["raise_on_lease_renewal_failure"] = False
        return strict(*arguments, **more)

    setattr(maintain, MARK, "")
    return maintain
