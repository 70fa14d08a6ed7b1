"""The small types of a plan document: identifiers, amounts, references, plain values, enums."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

DEEPEST = 64
"""Levels of nesting that a value may have: far beyond what a plan needs, far below the stack."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, whatever its case; None where none is like it."""
    names = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(names), n=1)
    return names[close[0]] if close else None


def _no_truth_value(value: Any) -> Any:
    # Python counts with True; a plan that says `cpu: true` has lost its number.
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


Number = BeforeValidator(_no_truth_value)
"""Refuses true and false where a number is wanted."""

_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$"
Identifier = Annotated[str, Field(pattern=_ID, max_length=255)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Number]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), Number]


def _reference(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        raise ValueError(f"{text!r} is not module:function; write e.g. tasks.audit:extract")
    return text


def _two_parts(text: str) -> str:
    flow, slash, deployment = text.partition("/")
    if not (slash and flow.strip() and deployment.strip()) or "/" in deployment:
        raise ValueError(f"{text!r} is not flow/deployment; write e.g. load-sales/nightly")
    return text


def _storage(text: str) -> str:
    if text != "local" and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*/[a-z0-9][a-z0-9_-]*", text):
        raise ValueError(
            f"{text!r} is no storage; write local, or a storage block as type/name, "
            "e.g. s3-bucket/results"
        )
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        close = nearest(name, available_timezones())
        hint = f"did you mean {close}?" if close else "write e.g. Europe/Berlin or UTC"
        raise ValueError(f"no time zone {name!r}; {hint}") from None
    return name


CallReference = Annotated[str, AfterValidator(_reference)]
"""``module:function``."""
DeploymentName = Annotated[str, AfterValidator(_two_parts)]
"""``flow/deployment``."""
StorageName = Annotated[str, AfterValidator(_storage)]
"""``local``, or a Prefect storage block ``type/name``."""
ZoneName = Annotated[str, AfterValidator(_zone)]
"""An IANA time zone."""


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON has it: text, numbers, true, false, null, lists and mappings of them.

    A plan is stored and sent as JSON, so what JSON cannot say has no place in it.
    Tuples become lists. Raises ValueError.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _printable(str(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that a plan can hold; write null or text")
        return value
    if isinstance(value, Mapping):
        return {_key(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, depth + 1) for v in value]
    hint = "; write it as text" if isinstance(value, date | datetime | time) else ""
    raise ValueError(f"a {type(value).__name__} cannot stand in a plan document{hint}")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"key {key!r} is not text; quote it")
    return _printable(key)


def _printable(text: str) -> str:
    if bad := unstorable(text):
        raise ValueError(f"text with the character {bad}, which no database keeps")
    return text


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def unstorable(text: str) -> str | None:
    """The first character of `text` that databases refuse, as U+XXXX: NUL or half a pair."""
    found = _UNSTORABLE.search(text)
    return f"U+{ord(found[0]):04X}" if found else None


Plain = Annotated[Any, AfterValidator(plain)]
"""Any value that JSON has."""


class Criticality(StrEnum):
    """How much depends on an assumption; also the scale of severities."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class DependencyKind(StrEnum):
    """Whether a dependency always holds or may be dropped to run in parallel."""

    HARD = "hard"
    SOFT = "soft"


class Sense(StrEnum):
    """How an observed value is held against the expected one."""

    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    EQUAL = "equal"


class ValidationMethod(StrEnum):
    """Where an assumption's observation comes from."""

    AUTO = "auto"
    MANUAL = "manual"
    SENSOR = "sensor"
    EXTERNAL = "external"


class RunnerKind(StrEnum):
    """What runs the tasks of a plan run."""

    THREADS = "threads"
    PROCESSES = "processes"
    DASK = "dask"
    RAY = "ray"


class Isolation(StrEnum):
    """Whether a task's body runs in the runner or in a child that can be killed."""

    THREAD = "thread"
    PROCESS = "process"


class DocumentPart(BaseModel):
    """A part of the plan document: frozen, and strict about what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )
