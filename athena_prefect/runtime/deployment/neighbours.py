"""What other plans of the namespace mean for a deploy: one project, and one place that watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from athena_prefect.errors import InputError
from athena_prefect.runtime.deployment.remote import plans_of
from athena_prefect.runtime.deployment.state import Deployment, ServerState
from athena_prefect.runtime.deployment.wanted import Target


def of_others(there: Sequence[Deployment], plans: Sequence[str]) -> tuple[Deployment, ...]:
    """The deployments of the namespace that are of plans other than `plans`."""
    return tuple(d for d in there if (of := plans_of([d])) and not of & set(plans))


def check_one_project(target: Target, there: Sequence[Deployment], plans: Sequence[str]) -> None:
    """Refuse plans of another project than the namespace's other plans are of.

    What a namespace has once (the flows that watch, replan and learn) runs in one
    project's folder: of two projects the one deployed last would take it from the
    other. Raises InputError, which names the remedies.
    """
    elsewhere: dict[str, set[str]] = {}
    for found in of_others(there, plans):
        if PurePath(found.directory).is_absolute() and found.directory != target.directory:
            elsewhere.setdefault(found.directory, set()).update(plans_of([found]))
    if not elsewhere:
        return
    told = "; ".join(f"{', '.join(sorted(of))} in {d}" for d, of in sorted(elsewhere.items()))
    raise InputError(
        f"namespace {target.namespace!r} has plans of another project ({told}), and these are in "
        f"{target.directory}; the flow that watches a namespace runs in one project. Give these a "
        "namespace of their own (ATHENA_NAMESPACE=NAME), or deploy the others from here, too, "
        "where the project has moved, or take them off with `athena undeploy`",
        namespace=target.namespace, directory=target.directory,
    )  # fmt: skip


def shared_in_pool(
    desired: ServerState, there: Sequence[Deployment], plans: Sequence[str]
) -> ServerState:
    """Leave what the namespace has once in its pool, where other plans run there, too.

    A process that serves some plans ends, and theirs would be watched by nobody.
    """
    if not any(d.pool is not None for d in of_others(there, plans)):
        return desired
    kept = {d.name: d for d in there if not plans_of([d]) and d.pool is not None}
    return replace(desired, deployments=tuple(kept.get(d.name, d) for d in desired.deployments))
