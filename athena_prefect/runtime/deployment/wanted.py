"""What is to be deployed, and where: the values that the desired state is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from athena_prefect.plan.model import Plan, Schedule
from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.pool import Pool
from athena_prefect.runtime.deployment.state import Masked

WATCH_EVERY = timedelta(seconds=60)
"""From one look of the watching flow to the next. A look is a process that starts (some
seconds of one processor); a run whose process vanished waits a minute for its grace anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFlow:
    """A plan with the flow that it compiles to."""

    plan: Plan
    file: str
    """Its flow file, below the project's root."""
    variable: str
    """The flow's name in that file."""
    version: str
    """Digest of the plan's document; the flow's version is its beginning."""
    parameter_schema: Mapping[str, Any]
    document: str
    """The plan document, below the project's root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraDeployment:
    """A scheduled deployment beside a plan's own, named ``<plan>.<part>``, e.g. a check's."""

    plan: str
    part: str
    """E.g. ``check.disk_free``."""
    flow: str
    entrypoint: str
    schedule: Schedule | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parameter_schema: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    active: bool = True
    """Whether its schedule is, when it is made; later it is changed by whom it concerns."""
    tags: tuple[str, ...] = ()
    limit: int | None = None
    """Runs at once; more are cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the deployments go and what their runs are given."""

    pool: Pool | None
    """None: served by a process of our own."""
    queue: str | None = None
    directory: str
    """The project's root where the flows run."""
    namespace: str = names.DEFAULT
    database: Masked
    durable: str = "process"
    block: str
    """The block with the database: in the place of the URL, which is a secret."""
    own_block: bool = True
    """Whether we make it; else somebody has."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of a run's process beside ours, none of them a secret."""
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    watch_every: timedelta = WATCH_EVERY
