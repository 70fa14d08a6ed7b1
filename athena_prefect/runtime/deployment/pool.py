"""The work pool that runs the deployments, and what it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.plan.scalars import nearest

PROCESS = "process"
"""The type of pools whose workers run flows as processes beside them, on the same disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A work pool, as the server has it."""

    name: str
    type: str
    template: Mapping[str, Any] = field(default_factory=dict)
    """Its base job template: what job variables there are, with their defaults."""

    @property
    def local(self) -> bool:
        """Whether its runs see this machine's files."""
        return self.type == PROCESS

    @property
    def variables(self) -> Mapping[str, Any]:
        """The job variables that its template knows, by name."""
        known: Mapping[str, Any] = self.template.get("variables", {}).get("properties", {})
        return known


def check_pool(
    pool: Pool, plans: tuple[Plan, ...], job_variables: Mapping[str, Any], database: str
) -> None:
    """Refuse what cannot run in the pool. Raises InputError with every reason.

    `database` is the SQLAlchemy URL. Containers have neither this machine's folders
    nor its SQLite file: what they kept there would be gone with them.
    """
    wrong = [
        f"work pool {pool.name!r} ({pool.type}): {text}" for text in _unknown(pool, job_variables)
    ]
    if not pool.local:
        wrong += [
            f"plan {p.name!r} keeps its results in a local folder, which runs of the "
            f"{pool.type} pool {pool.name!r} do not share; name a storage block, e.g. "
            "results: {storage: s3-bucket/results}"
            for p in plans
            if p.results.storage == "local"
        ]
        if database.startswith("sqlite"):
            wrong.append(
                f"runs of the {pool.type} pool {pool.name!r} do not reach a SQLite file; set "
                "ATHENA_DATABASE_URL=postgresql+psycopg://… (or ATHENA_DATABASE_BLOCK)"
            )
        image = pool.variables.get("image")
        if image is not None and "image" not in job_variables and not image.get("default"):
            wrong.append(
                f"the {pool.type} pool {pool.name!r} has no image of its own; "
                "give one that has the project and athena_prefect in it with --image"
            )
    if wrong:
        raise InputError("\n".join(wrong), pool=pool.name, reasons=tuple(wrong))


def _unknown(pool: Pool, job_variables: Mapping[str, Any]) -> list[str]:
    if not pool.variables:
        return []  # a template that names none takes what it is given
    return [
        f"there is no job variable {name!r}"
        + (f"; did you mean {close!r}?" if (close := nearest(name, pool.variables)) else
           f"; there are {', '.join(sorted(pool.variables))}")
        for name in job_variables
        if name not in pool.variables
    ]  # fmt: skip
