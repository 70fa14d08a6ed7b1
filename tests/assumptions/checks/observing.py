"""Make a check as a plan says it, and give what it saw or why it saw nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.making import Made, make, prepare
from athena_prefect.plan.assumption import CheckSpec
from athena_prefect.plan.templates import Template

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
SECRET = "hunter2-secret"


def seen(
    kind: str, root: Path = Path(), *, context: dict[str, Any] | None = None, **options: Any
) -> Made:
    """What became of the check; ``{{ secret.… }}`` is SECRET."""

    def resolve(template: Template) -> Any:
        return SECRET

    check, secrets = prepare(CheckSpec(kind=kind, **options), resolve)
    given = {"now": NOW, "root": root, "secrets": secrets, **(context or {})}
    return make(check, CheckContext(**given))


def value(kind: str, root: Path = Path(), **options: Any) -> Any:
    """What was observed."""
    made = seen(kind, root, **options)
    assert made.observation is not None, made.error
    return made.observation.value


def error(kind: str, root: Path = Path(), **options: Any) -> str:
    """Why nothing was observed; never with the secret in it."""
    made = seen(kind, root, **options)
    assert made.observation is None, made.observation
    assert made.error and SECRET not in made.error
    return made.error


def gone(pid: int) -> bool:
    """Whether a process has ended; one that was killed takes a moment to."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
