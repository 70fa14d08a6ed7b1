"""dbt_freshness: what dbt's last look at its sources said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import ValidationMethod
from athena_prefect.plan.units import Duration, format_duration


class DbtFreshness(Check):
    """Whether the sources in dbt's ``sources.json`` are fresh: `fresh`, `stale` (their names),
    and `oldest`, the seconds since the one longest without new rows got some.
    """

    kind: ClassVar[str] = "dbt_freshness"
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    counts: ClassVar[str | None] = "fresh"

    path: str = "target/sources.json"
    """The file that ``dbt source freshness`` writes; relative to the project."""
    select: tuple[str, ...] = ("*",)
    """Which sources count, as ``source.table``; ``*`` stands for anything."""
    warnings: bool = False
    """Whether a source for which dbt warns counts as stale."""
    valid_for: Duration = timedelta(days=1)
    """A file that is older says nothing of today."""

    def observe(self, context: CheckContext) -> Observation:
        """Read the file. One that is too old, or whose sources dbt could not look at: unknown."""
        document = self._document(context)
        at = _moment(_inside(document, "metadata").get("generated_at"))
        if at is None:
            raise CheckError(f"{self.path} does not say when it was written (generated_at)")
        age = context.now - at
        if age > self.valid_for:
            told = format_duration(timedelta(seconds=round(age.total_seconds())))
            raise CheckError(f"{self.path} was written {told} ago; run `dbt source freshness`")
        found = self._selected(document.get("results"))
        stale, loaded = [], []
        for name, result in found.items():
            status = result.get("status")
            if status not in ("pass", "warn", "error"):
                raise CheckError(f"dbt could not look at {name}: {result.get('error') or status}")
            if status == "error" or (status == "warn" and self.warnings):
                stale.append(name)
            moment = _moment(result.get("max_loaded_at"))
            if moment is None:
                raise CheckError(f"{self.path} does not say when {name} got its last rows")
            loaded.append(moment)
        oldest = (context.now - min(loaded)).total_seconds()
        return Observation(
            value={"fresh": not stale, "stale": stale, "oldest": oldest},
            at=at,
            details=f"{len(found)} sources; stale: {', '.join(stale) or 'none'}",
        )

    def _document(self, context: CheckContext) -> Mapping[str, Any]:
        try:
            document = json.loads(Path(context.path(self.path)).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckError(f"there is no {self.path}; run `dbt source freshness`") from None
        except OSError as error:
            raise CheckError(f"{self.path}: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            raise CheckError(f"{self.path} is not JSON") from None
        if not isinstance(document, Mapping):
            raise CheckError(f"{self.path} is none of dbt's files")
        return document

    def _selected(self, results: Any) -> Mapping[str, Mapping[str, Any]]:
        if not isinstance(results, list):
            raise CheckError(f"{self.path} has no results: it is none of dbt's source files")
        found = {}
        for result in results:
            identity = result.get("unique_id") if isinstance(result, Mapping) else None
            # source.PROJECT.SOURCE.TABLE
            name = ".".join(str(identity).split(".")[2:])
            if name and any(fnmatchcase(name, pattern) for pattern in self.select):
                found[name] = result
        if not found:
            raise CheckError(f"no source in {self.path} is called {', '.join(self.select)}")
        return found


def _inside(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    # dbt writes UTC, with or without saying so.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
