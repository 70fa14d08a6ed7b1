"""file_age, file_size, file_exists: a file or object, local or in any store that fsspec knows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from pydantic import Field

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.units import ByteUnit, in_unit
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense, ValidationMethod

_MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""Where the stores say when an object was written: S3, Azure, local and SFTP, GCS, others."""


class _File(Check):
    """A path or URL, e.g. ``data/in.csv``, ``s3://bucket/key``, ``gs://bucket/key``."""

    method: ClassVar[ValidationMethod] = ValidationMethod.SENSOR
    can_hang: ClassVar[bool] = True  # what a store's client waits for is its own affair

    path: str
    """A path relative to the project, or a URL that fsspec knows."""
    storage_options: Mapping[str, Any] = Field(default_factory=dict)
    """Options of the store, e.g. ``{anon: true}`` or a key as ``{{ secret.NAME }}``."""

    def info(self, context: CheckContext) -> tuple[Any, Mapping[str, Any] | None]:
        """The file system, and what it says of the path; None where there is nothing."""
        import fsspec

        url = context.path(self.path)
        try:
            system, path = fsspec.core.url_to_fs(url, **self.storage_options)
            system.invalidate_cache()
            return system, system.info(path)
        except FileNotFoundError:
            return None, None
        except (ImportError, ValueError) as error:
            raise CheckError(f"{self.path}: {error}") from None
        except OSError as error:
            raise CheckError(f"{self.path}: {error.strerror or error}") from None

    def found(self, context: CheckContext) -> Mapping[str, Any]:
        """What the store says of the path. Raises CheckError where there is nothing."""
        info = self.info(context)[1]
        if info is None:
            raise CheckError(f"there is no {self.path}")
        return info


class FileExists(_File):
    """Whether a file or object is there."""

    kind: ClassVar[str] = "file_exists"

    def observe(self, context: CheckContext) -> Observation:
        """True or false."""
        there = self.info(context)[1] is not None
        return Observation(
            value=there, details=f"{self.path} {'is there' if there else 'is not there'}"
        )


class FileSize(_File):
    """Size of a file or object; of a folder there is none."""

    kind: ClassVar[str] = "file_size"
    sense: ClassVar[Sense] = Sense.AT_LEAST

    unit: ByteUnit = "B"
    """Unit of the size."""

    def observe(self, context: CheckContext) -> Observation:
        """The size in `unit`."""
        info = self.found(context)
        size = info.get("size")
        if info.get("type") == "directory" or size is None:
            raise CheckError(f"{self.path} has no size: it is a {info.get('type', 'folder')}")
        return Observation(value=in_unit(float(size), self.unit), unit=self.unit)


class FileAge(_File):
    """Seconds since a file or object was last written."""

    kind: ClassVar[str] = "file_age"
    sense: ClassVar[Sense] = Sense.AT_MOST

    def observe(self, context: CheckContext) -> Observation:
        """The age at the moment of the check."""
        info = self.found(context)
        written = _moment(next((info[k] for k in _MODIFIED if info.get(k) is not None), None))
        if written is None:
            raise CheckError(f"the store does not say when {self.path} was written")
        age = (context.now - written).total_seconds()
        return Observation(
            value=age, unit="s", details=f"{self.path} was written {written.isoformat()}"
        )


def _moment(value: Any) -> datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        # Stores say UTC where they say no zone.
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return None
