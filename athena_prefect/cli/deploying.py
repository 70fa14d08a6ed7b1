"""Commands that put plans on a Prefect server and take them off it: deploy, undeploy."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from athena_prefect.cli.base import Json, answer, answer_of, app, examples, settings_here
from athena_prefect.errors import InputError

DryRun = Annotated[
    bool, Parameter(negative=(), help="Only say what would change; nothing is written.")
]
WatchEvery = Annotated[
    str | None,
    Parameter(help="How often the watching flow looks at live runs, e.g. 30s; 60s if not given."),
]


@app.command(
    help_epilogue=examples(
        "athena deploy deployments/environment_audit/plan.yaml --pool default --dry-run",
        "athena deploy deployments/*/plan.yaml --pool default",
        "athena deploy deployments/*/plan.yaml --pool default --prefect-yaml > prefect.yaml",
        "athena deploy plan.yaml --pool cluster --image registry.example.org/audit:3",
    ),
)
def deploy(
    *plans: Annotated[Path, Parameter(help="Plan documents of one project.")],
    pool: Annotated[str, Parameter(help="The work pool whose workers run the plans.")],
    queue: Annotated[str | None, Parameter(help="A work queue of the pool.")] = None,
    image: Annotated[
        str | None, Parameter(help="The container image with the project, for such pools.")
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        Parameter(negative=(), help="A job variable of the pool, NAME=VALUE (JSON or text)."),
    ] = None,
    directory: Annotated[
        str | None,
        Parameter(
            help="Where the project is when a flow runs; where it is now, or for containers "
            "/opt/prefect/PROJECT, if not given."
        ),
    ] = None,
    watch_every: WatchEvery = None,
    prefect_yaml: Annotated[
        bool,
        Parameter(negative=(), help="Only write the prefect.yaml that deploys the same."),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Bring a Prefect server to what the plans say: schedules, limits, watching, all of it.

    Deployed twice, nothing changes; what a plan no longer has is removed. Names carry the
    namespace (ATHENA_NAMESPACE) where it is not the default one.
    """
    from athena_prefect.service import deploy as use_case
    from athena_prefect.service.deploying import DeployOptions

    options = DeployOptions(
        pool=pool,
        queue=queue,
        image=image,
        job_variables=dict(_assignment(text) for text in job_variable or ()),
        directory=directory,
        watch_every=_interval(watch_every),
        block=_block(),
    )
    if prefect_yaml:
        from athena_prefect.service.deploying import prefect_yaml as text_of

        sys.stdout.write(text_of(plans, options, settings=settings_here()))
        return 0
    settings, what = settings_here(), "comparing with the server" if dry_run else "deploying"
    answer_of(
        what, lambda: use_case(plans, options, settings=settings, dry_run=dry_run), json, table
    )
    return 0


@app.command(
    help_epilogue=examples("athena serve deployments/environment_audit/plan.yaml --limit 2"),
)
def serve(
    *plans: Annotated[Path, Parameter(help="Plan documents of one project.")],
    limit: Annotated[int | None, Parameter(help="Runs at once, the watching flow's too.")] = None,
    watch_every: WatchEvery = None,
    json: Json = False,
) -> int:
    """Deploy plans without a work pool, and run what is scheduled from here until interrupted.

    The same as `athena deploy`, with this process in the place of a worker. `athena undeploy`
    takes the plans off the server again.
    """
    from athena_prefect.service import serve as use_case
    from athena_prefect.service.deploying import DeployOptions

    if limit is not None and limit < 1:
        raise InputError(f"--limit is {limit}; write at least 1")
    options = DeployOptions(pool=None, watch_every=_interval(watch_every), block=_block())
    serving = False

    def told(found: Any) -> None:
        nonlocal serving
        serving = True
        answer(found, json, table)

    try:
        use_case(plans, options, settings=settings_here(), told=told, limit=limit)
    except KeyboardInterrupt:
        if not serving:  # from then on it is how serving ends
            raise
    return 0


@app.command(
    help_epilogue=examples("athena undeploy environment-audit", "athena undeploy --all --dry-run"),
)
def undeploy(
    *plans: Annotated[str, Parameter(help="Names of plans, or their documents.")],
    all: Annotated[
        bool, Parameter(name="--all", negative=(), help="Every plan of the namespace.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Take plans off the Prefect server; with the last one what the namespace has once.

    Runs that are under way go on to their end. What was recorded stays.
    """
    from athena_prefect.service import undeploy as use_case

    if all == bool(plans):
        raise InputError("name the plans to take off the server, or --all")
    settings, what = settings_here(), "comparing with the server" if dry_run else "undeploying"
    answer_of(
        what,
        lambda: use_case(plans, settings=settings, dry_run=dry_run, everything=all),
        json,
        table,
    )
    return 0


def table(found: Any) -> RenderableType:
    """Changes for people."""
    parts: list[RenderableType] = []
    if found.changes:
        rows = Table("change", "what", "name", "differs", box=None, pad_edge=False)
        for change in found.changes:
            told = "\n".join(_told(d.as_dict()) for d in change.differences)
            rows.add_row(change.action.value, change.kind, escape(change.name), escape(told))
        parts.append(rows)
        count = len(found.changes)
        would = "would be made" if found.dry_run else "made"
        parts.append(f"{count} change{'s' if count != 1 else ''} {would}")
    else:
        parts.append("nothing to change")
    parts += [escape(note) for note in found.notes]
    return Group(*parts)


def _told(difference: dict[str, Any]) -> str:
    return (
        f"{difference['field']}: {_short(difference['is_now'])} → {_short(difference['should_be'])}"
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else jsonlib.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _assignment(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not (sign and name.strip()):
        raise InputError(f"--job-variable {text!r} is not NAME=VALUE; write e.g. cpu=2")
    try:
        return name.strip(), jsonlib.loads(value)
    except ValueError:
        return name.strip(), value


def _interval(text: str | None) -> Any:
    from athena_prefect.plan.units import parse_duration

    if text is None:
        return None
    try:
        every = parse_duration(text)
    except ValueError as error:
        raise InputError(f"--watch-every is {text!r}: {error}; write e.g. 60s") from None
    if not every:
        raise InputError("--watch-every is zero; write e.g. 60s")
    return every


def _block() -> str | None:
    """The block that this process was told to take its database from, by name."""
    reference = os.environ.get("ATHENA_DATABASE_BLOCK") or None
    return None if reference is None else reference.rpartition("/")[2]
