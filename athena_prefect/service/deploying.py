"""Plans onto a Prefect server, and off it: what should be there is compared with what is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import InputError, ServerError, UnknownNameError
from athena_prefect.plan.model import Plan
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.runtime.deployment.changes import Change
    from athena_prefect.runtime.deployment.pool import Pool
    from athena_prefect.runtime.deployment.remote import Remote
    from athena_prefect.runtime.deployment.state import Deployment, FlowFile, ServerState
    from athena_prefect.runtime.deployment.wanted import ExtraDeployment, PlannedFlow, Target
    from athena_prefect.settings import AthenaSettings


NO_ROOM = (
    "the project's tasks.py leaves no room for tasks/replanning.py, so its runs adopt other plans "
    "in their own process, and nothing is learned by itself; make tasks.py a folder to have them "
    "change over to a continuation"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed(_Answer):
    """What was changed on the server, or with `dry_run` what would be."""

    plans: tuple[str, ...]
    namespace: str
    pool: str | None
    dry_run: bool
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    """What was seen and left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """How plans are deployed, beside what stands in them."""

    pool: str | None
    queue: str | None = None
    image: str | None = None
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    directory: str | None = None
    """Where the project is when a flow runs; None: where it is now, or below
    /opt/prefect in a container, where Prefect's own images have it."""
    watch_every: timedelta | None = None
    block: str | None = None
    """The block with the database, where somebody has made one; None: ours."""


def deploy(
    files: Sequence[Path],
    options: DeployOptions,
    *,
    settings: AthenaSettings,
    dry_run: bool = False,
    extras: Iterable[ExtraDeployment] = (),
) -> Deployed:
    """Bring the server to what the plans of `files` say; with `dry_run` only say what that takes.

    Raises PlanDocumentError, InputError for what cannot be deployed, ServerError where
    the server refuses. Nothing is written before all is known to be sound.
    """
    return _deploy(files, options, settings=settings, dry_run=dry_run, extras=extras)


def _deploy(
    files: Sequence[Path],
    options: DeployOptions,
    *,
    settings: AthenaSettings,
    dry_run: bool = False,
    extras: Iterable[ExtraDeployment] = (),
    but: Sequence[str] = (),
) -> Deployed:
    """Deploy everything but the kinds of things that `but` names."""
    from athena_prefect.runtime.deployment.neighbours import check_one_project, shared_in_pool
    from athena_prefect.runtime.deployment.remote import Remote

    plans = _load(files)
    _api_configured()
    with _server() as client:
        remote = Remote(client)
        pool = None if options.pool is None else remote.pool(options.pool)
        root = _root(plans)
        target = _target(options, pool, root, settings)
        _check(pool, plans, target)
        names = [p.name for p in plans]
        there = remote.deployments(settings.namespace)
        check_one_project(target, there, names)
        made = [_planned(p) for p in plans]
        room = _room_for_steps(root)
        desired = _desired(
            [f for f, _ in made], [w for _, w in made], target, remote, extras, room=room
        )
        if pool is None:
            desired = shared_in_pool(desired, there, names)
        desired, notes = _without_foreign(desired, remote)
        notes += () if room else (NO_ROOM,)
        actual = _actual(names, target.block, root, desired, there, remote, settings)
        changes = tuple(c for c in _compare(desired, actual) if c.kind not in but)
        if not dry_run:
            for change in changes:
                _apply(change, remote, root, plans, settings)
    _last_events()
    return Deployed(
        plans=tuple(names),
        namespace=settings.namespace,
        pool=options.pool,
        dry_run=dry_run,
        changes=changes,
        notes=notes,
    )


def serve(
    files: Sequence[Path],
    options: DeployOptions,
    *,
    settings: AthenaSettings,
    told: Callable[[Deployed], object],
    limit: int | None = None,
) -> None:
    """Deploy the plans without a work pool and run what is scheduled, until interrupted.

    `told` hears what was changed on the server, before the first run. Raises as `deploy` does.
    """
    from athena_prefect.runtime.deployment.desired import process_environment
    from athena_prefect.runtime.deployment.remote import Remote, plans_of
    from athena_prefect.runtime.deployment.serving import serve_deployments

    options = replace(options, pool=None)
    found = deploy(files, options, settings=settings)
    told(found)
    with _server() as client:
        there = Remote(client).deployments(settings.namespace)
    served = [d for d in there if d.pool is None]
    chosen = [d.name for d in served if not (of := plans_of([d])) or of & set(found.plans)]
    root = _root(_load(files))
    target = _target(options, None, root, settings)
    serve_deployments(chosen, root, process_environment(target), limit)


def prefect_yaml(files: Sequence[Path], options: DeployOptions, *, settings: AthenaSettings) -> str:
    """The `prefect.yaml` with which `prefect deploy --all` deploys the same; no server is asked.

    For pools whose workers run where the project is.
    """
    from athena_prefect.runtime.deployment.checks import check_deployments
    from athena_prefect.runtime.deployment.desired import desired_state
    from athena_prefect.runtime.deployment.flows import document_of
    from athena_prefect.runtime.deployment.pool import PROCESS, Pool
    from athena_prefect.runtime.deployment.project_file import prefect_yaml as text_of
    from athena_prefect.runtime.deployment.triggered import plan_or_all, replan_parameters

    plans = _load(files)
    pool = None if options.pool is None else Pool(name=options.pool, type=PROCESS)
    # The file is for every machine: folders that are set on this one are no part of it.
    target = replace(_target(options, pool, _root(plans), settings), environment={})
    flows = [_planned(p)[0] for p in plans]
    state = desired_state(
        flows, target,
        watch=plan_or_all(), replan=replan_parameters(), learn=plan_or_all(),
        extras=check_deployments(flows, served=pool is None),
    )  # fmt: skip
    return text_of(state, [document_of(p) for p in plans], settings.namespace)


def shared(plans: list[str], namespace: str = "default") -> dict[str, Any]:
    """A build step for `prefect deploy`: what a `prefect.yaml` cannot say, for plans below here.

    Makes the database block, the global concurrency limits and the automation, and
    registers the plans; the deployments are Prefect's to make.
    """
    from athena_prefect.runtime.blocks import BLOCK_VARIABLE, current_settings

    block = os.environ.get(BLOCK_VARIABLE) or None
    options = DeployOptions(pool=None, block=block and block.rpartition("/")[2])
    settings = current_settings(namespace=namespace)
    found = _deploy([Path(p) for p in plans], options, settings=settings, but=("deployment",))
    return {"changes": [f"{c.action.value} {c.kind} {c.name}" for c in found.changes]}


def undeploy(
    names: Sequence[str],
    *,
    settings: AthenaSettings,
    dry_run: bool = False,
    everything: bool = False,
) -> Deployed:
    """Take the plans off the server, and with the namespace's last plan what it has once.

    A run that is under way goes on to its end. Plans, runs and flow files stay: they
    are no part of the server. Raises UnknownNameError for a plan that is not deployed.
    """
    from athena_prefect.runtime.deployment.names import block_name
    from athena_prefect.runtime.deployment.remote import Remote, plans_of
    from athena_prefect.runtime.deployment.state import ServerState

    _api_configured()
    namespace = settings.namespace
    with _server() as client:
        remote = Remote(client)
        there = remote.deployments(namespace)
        known = plans_of(there)
        chosen = sorted(known) if everything else [_plan_name(n) for n in names]
        for name in chosen:
            if name not in known:
                raise UnknownNameError(f"deployed plan in namespace {namespace!r}", name, known)
        last = known <= set(chosen)
        gone = tuple(d for d in there if last or plans_of([d]) & set(chosen))
        actual = ServerState(
            deployments=gone,
            limits=remote.limits(),
            automations=remote.automations(namespace) if last else (),
            blocks=remote.blocks(block_name(namespace)) if last else (),
        )
        desired = ServerState(limits=_limits_without(chosen, namespace, actual))
        changes = _compare(desired, actual)
        if not dry_run:
            for change in changes:
                remote.apply(change)
    _last_events()
    return Deployed(
        plans=tuple(chosen), namespace=namespace, pool=None, dry_run=dry_run, changes=changes
    )


# -- what should be -------------------------------------------------------------------------


def _load(files: Sequence[Path]) -> list[Plan]:
    from athena_prefect.assumptions.rules import check_findings
    from athena_prefect.plan.document import load
    from athena_prefect.service.plans import without_call

    if not files:
        raise InputError("no plan is given; name at least one plan document")
    plans = [load(file, resolve=True, rules=(check_findings,)) for file in files]
    for plan in plans:
        if idle := without_call(plan):
            raise InputError(
                f"plan {plan.name!r} cannot be deployed: {', '.join(idle)} has nothing to call; "
                "it can be monitored, not run"
            )
    return plans


def _root(plans: Sequence[Plan]) -> Path:
    from athena_prefect.runtime.deployment.flows import root_of

    roots = {root_of(p): p for p in plans}
    if len(roots) > 1:
        told = ", ".join(f"{p.name!r} in {root}" for root, p in roots.items())
        raise InputError(f"the plans are of several projects ({told}); deploy each by itself")
    return next(iter(roots))


def _planned(plan: Plan) -> tuple[PlannedFlow, FlowFile]:
    from athena_prefect.runtime.deployment.flows import planned_flow

    return planned_flow(plan)


def _target(
    options: DeployOptions, pool: Pool | None, root: Path, settings: AthenaSettings
) -> Target:
    from athena_prefect.runtime.deployment.names import block_name
    from athena_prefect.runtime.deployment.state import Masked
    from athena_prefect.runtime.deployment.wanted import WATCH_EVERY, Target

    local = pool is None or pool.local
    job_variables = dict(options.job_variables)
    if options.image is not None:
        job_variables["image"] = options.image
    directory = options.directory or (str(root) if local else f"/opt/prefect/{root.name}")
    return Target(
        pool=pool,
        queue=options.queue,
        directory=directory,
        namespace=settings.namespace,
        database=Masked(settings.database_url),
        durable=settings.durable,
        block=options.block or block_name(settings.namespace),
        own_block=options.block is None,
        environment=_folders(settings) if local else {},
        job_variables=job_variables,
        watch_every=options.watch_every or WATCH_EVERY,
    )


def _folders(settings: AthenaSettings) -> dict[str, str]:
    """The folders that somebody has set: a worker of this machine is to use the same."""
    names = ("home", "spool_folder", "results_folder", "log_folder")
    return {
        f"ATHENA_{name.upper()}": str(getattr(settings, name))
        for name in names
        if name in settings.model_fields_set
    }


def _check(pool: Pool | None, plans: Sequence[Plan], target: Target) -> None:
    from athena_prefect.runtime.deployment.pool import check_pool

    if pool is not None:
        check_pool(pool, tuple(plans), target.job_variables, target.database.url)


def _desired(
    flows: Sequence[PlannedFlow],
    files: Sequence[FlowFile],
    target: Target,
    remote: Remote,
    extras: Iterable[ExtraDeployment],
    *,
    room: bool,
) -> ServerState:
    from athena_prefect.runtime.deployment.checks import check_deployments, check_files
    from athena_prefect.runtime.deployment.desired import desired_state
    from athena_prefect.runtime.deployment.files import replan_files, watch_file
    from athena_prefect.runtime.deployment.learning import learn_files
    from athena_prefect.runtime.deployment.triggered import plan_or_all, replan_parameters

    checks = tuple(check_deployments(flows, served=target.pool is None))
    more = [*(check_files() if checks else ())]
    if room:
        more += [*replan_files(), *learn_files()]
    return desired_state(
        flows,
        target,
        watch=plan_or_all(),
        replan=replan_parameters() if room else None,
        learn=plan_or_all() if room else None,
        extras=[*extras, *checks],
        limits=remote.limits(),
        files=[*files, watch_file(), *more],
    )


def _room_for_steps(root: Path) -> bool:
    """Whether the project's `tasks` is, or can be, a folder."""
    return not (root / "tasks.py").exists()


def _without_foreign(desired: ServerState, remote: Remote) -> tuple[ServerState, tuple[str, ...]]:
    """Limits that somebody else made are theirs: left out, and said where they are too small."""
    ours = {limit.name for limit in remote.limits()}
    kept, notes = [], []
    for limit in desired.limits:
        there = remote.slots(limit.name)
        if limit.name in ours or there is None:
            kept.append(limit)
        elif there != limit.slots:
            notes.append(
                f"concurrency limit {limit.name!r} was made by somebody else and has {there} "
                f"slots, the plan says {limit.slots}; it is left as it is"
            )
    return replace(desired, limits=tuple(kept)), tuple(notes)


# -- what is --------------------------------------------------------------------------------


def _actual(
    plans: Sequence[str],
    block: str,
    root: Path,
    desired: ServerState,
    there: Sequence[Deployment],
    remote: Remote,
    settings: AthenaSettings,
) -> ServerState:
    """What is there of these plans and of what the namespace has once; others' plans are not."""
    from athena_prefect.runtime.deployment.remote import plans_of
    from athena_prefect.runtime.deployment.state import ServerState

    chosen = set(plans)
    ours = tuple(d for d in there if not (of := plans_of([d])) or of & chosen)
    return ServerState(
        files=tuple(f for f in desired.files if (root / f.path).exists()),
        plans=_registered(plans, settings),
        blocks=remote.blocks(block) if desired.blocks else (),
        limits=remote.limits(),
        deployments=ours,
        automations=remote.automations(settings.namespace),
    )


def _registered(plans: Sequence[str], settings: AthenaSettings) -> tuple[Any, ...]:
    from athena_prefect.runtime.deployment.state import Registration
    from athena_prefect.storage.db import database_for
    from athena_prefect.storage.plans import PlanStore

    database = database_for(settings.database_url, durable=settings.durable)
    if database.sqlite and database.url.database and not Path(database.url.database).exists():
        return ()  # looking would make it
    if database.current() is None:
        return ()
    database.check_schema()
    store = PlanStore(database)
    found = []
    for name in plans:
        for decision in store.decisions(name, namespace=settings.namespace, limit=1):
            found.append(Registration(plan=name, digest=decision.document))
    return tuple(found)


def _limits_without(chosen: Sequence[str], namespace: str, actual: ServerState) -> tuple[Any, ...]:
    gone = {f"{namespace}/{name}" for name in chosen}
    left = [
        replace(
            limit, slots=limit.agreed, needed_by=tuple(n for n in limit.needed_by if n not in gone)
        )
        for limit in actual.limits
    ]
    return tuple(limit for limit in left if limit.needed_by)


# -- bringing it there ----------------------------------------------------------------------


def _compare(desired: ServerState, actual: ServerState) -> tuple[Change, ...]:
    from athena_prefect.runtime.deployment.changes import compare

    return compare(desired, actual)


def _apply(
    change: Change, remote: Remote, root: Path, plans: Sequence[Plan], settings: AthenaSettings
) -> None:
    from athena_prefect.runtime.deployment.files import write
    from athena_prefect.runtime.deployment.state import FlowFile, Registration

    match change.wanted:
        case FlowFile() as file:
            write(file, root)
        case Registration() as wanted:
            _register(next(p for p in plans if p.name == wanted.plan), settings)
        case _:
            remote.apply(change)


def _register(plan: Plan, settings: AthenaSettings) -> None:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(Database.open(settings))
    store.register(plan, namespace=settings.namespace, reason="athena deploy")


def _last_events() -> None:
    """Prefect's client tells of a saved block behind our back; at exit it would complain."""
    from athena_prefect.runtime.server import FLUSH_SECONDS, drain_events

    drain_events(FLUSH_SECONDS)


def _plan_name(given: str) -> str:
    """The plan that a name or the path of its document stands for."""
    if given.endswith((".yaml", ".yml", ".json")) or os.sep in given:
        return Plan.load(given).name
    return given


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """A client of the Prefect server. Raises ServerError where none answers."""
    import httpx
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        try:
            yield client
        except httpx.TransportError as error:
            raise ServerError(
                f"no Prefect server answers at {client.api_url}: {error}; is it up, and is "
                "PREFECT_API_URL right?"
            ) from None


def _api_configured() -> None:
    from athena_prefect.runtime.connection import configured_api_url

    if configured_api_url() is None:
        raise InputError(
            "no Prefect server is configured: start one with `prefect server start` and set "
            "PREFECT_API_URL, e.g. `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
