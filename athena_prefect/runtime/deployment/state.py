"""What is on a Prefect server for our plans, or should be: frozen values, compared by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from athena_prefect.settings import masked

Collision = Literal["ENQUEUE", "CANCEL_NEW"]


class Item(Protocol):
    """Something on the server, known by its kind and name."""

    @property
    def kind(self) -> str:
        """What it is, for people."""
        ...

    @property
    def name(self) -> str:
        """Which one."""
        ...

    def facets(self) -> Mapping[str, Any]:
        """What makes two of the same name differ, a field each."""
        ...


@dataclass(frozen=True, slots=True)
class Masked:
    """A database URL that compares whole and shows itself without its password."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return masked(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment; `pool` None is one that a process of our own serves."""

    flow: str
    deployment: str
    entrypoint: str
    """``flows/orders.py:orders``, below the project's root."""
    tags: tuple[str, ...]
    """Sorted; its runs get them too."""
    pool: str | None
    queue: str | None = None
    directory: str
    """The project's root where the flow runs."""
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Slug → schedule as Prefect's API has it."""
    active: bool = True
    """Whether schedules are, when they are made: no facet, since later it is not ours to change."""
    limit: int | None = None
    """Runs at once, as far as Prefect sees to it."""
    collision: Collision | None = None
    """What Prefect does with a run beyond the limit."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    parameter_schema: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    version: str | None = None
    kept: tuple[str, ...] = ()
    """Facets that are somebody else's once the deployment is there."""

    @property
    def kind(self) -> str:
        return "deployment"

    @property
    def name(self) -> str:
        return f"{self.flow}/{self.deployment}"

    @property
    def pull_steps(self) -> list[dict[str, Any]] | None:
        """How a worker comes to the project."""
        if self.pool is None:
            return None
        step = "prefect.deployments.steps.set_working_directory"
        return [{step: {"directory": self.directory}}]

    def facets(self) -> Mapping[str, Any]:
        return {
            "entrypoint": self.entrypoint,
            "tags": list(self.tags),
            "pool": self.pool,
            "queue": self.queue,
            "directory": self.directory,
            "schedules": {k: dict(v) for k, v in self.schedules.items()},
            "limit": self.limit,
            "collision": self.collision,
            "parameters": dict(self.parameters),
            "job_variables": dict(self.job_variables),
            "parameter_schema": dict(self.parameter_schema),
            "description": self.description,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """An automation, its trigger and actions as Prefect's API has them."""

    name: str
    description: str
    tags: tuple[str, ...]
    trigger: Mapping[str, Any]
    actions: tuple[Mapping[str, Any], ...]

    @property
    def kind(self) -> str:
        return "automation"

    def facets(self) -> Mapping[str, Any]:
        return {
            "description": self.description,
            "tags": list(self.tags),
            "trigger": dict(self.trigger),
            "actions": [dict(a) for a in self.actions],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A global concurrency limit that we made, and who needs it."""

    name: str
    slots: int | None
    """None where the server's own has gone."""
    agreed: int
    """What the plans that need it say; the server's may have been changed by hand."""
    needed_by: tuple[str, ...]
    """``namespace/plan``, sorted."""

    @property
    def kind(self) -> str:
        return "concurrency limit"

    def facets(self) -> Mapping[str, Any]:
        return {"slots": self.slots, "agreed": self.agreed, "needed_by": list(self.needed_by)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseBlock:
    """The block with the database of a namespace."""

    name: str
    url: Masked
    durable: str

    @property
    def kind(self) -> str:
        return "block"

    def facets(self) -> Mapping[str, Any]:
        return {"url": self.url, "durable": self.durable}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFile:
    """A flow's file in the project; only whether it is there is ours to see to."""

    path: str
    text: str = field(repr=False)

    @property
    def kind(self) -> str:
        return "flow file"

    @property
    def name(self) -> str:
        return self.path

    def facets(self) -> Mapping[str, Any]:
        return {}  # what stands in it is its owner's


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A plan in Athena's own database, by the digest of its newest document."""

    plan: str
    digest: str

    @property
    def kind(self) -> str:
        return "plan"

    @property
    def name(self) -> str:
        return self.plan

    def facets(self) -> Mapping[str, Any]:
        return {"digest": self.digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """All of it, as it should be or as it is."""

    files: tuple[FlowFile, ...] = ()
    plans: tuple[Registration, ...] = ()
    blocks: tuple[DatabaseBlock, ...] = ()
    limits: tuple[Limit, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    automations: tuple[Automation, ...] = ()

    def items(self) -> Iterator[Item]:
        """Everything, in the order in which it has to be made."""
        yield from self.files
        yield from self.plans
        yield from self.blocks
        yield from self.limits
        yield from self.deployments
        yield from self.automations
