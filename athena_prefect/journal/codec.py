"""Events as plain JSON-able data and back, for the database, the spool and `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from athena_prefect.journal.events import (
    CheckEvent,
    Command,
    CommandAnswer,
    CommandKind,
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)

_TYPES: dict[str, type[Event]] = {
    "task": TaskEvent,
    "run": RunEvent,
    "check": CheckEvent,
    "command": Command,
    "answer": CommandAnswer,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_KINDS: dict[str, type[StrEnum]] = {
    "task": TaskEventKind,
    "run": RunEventKind,
    "command": CommandKind,
}


def encode(event: Event) -> dict[str, Any]:
    """`event` as JSON-able data; `decode` gives it back equal."""
    row: dict[str, Any] = {"type": _NAMES[type(event)]}
    for f in fields(event):
        value = getattr(event, f.name)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, UUID | StrEnum):
            value = str(value)
        elif isinstance(value, Mapping):
            value = dict(value)
        row[f.name] = value
    return row


def decode(row: Mapping[str, Any]) -> Event:
    """The event that `encode` wrote. Raises KeyError or ValueError on what is none."""
    name = row["type"]
    kind = _TYPES[name]
    values: dict[str, Any] = {k: v for k, v in row.items() if k != "type"}
    values["plan_run"] = UUID(values["plan_run"])
    values["at"] = datetime.fromisoformat(values["at"])
    if name in _KINDS:
        values["kind"] = _KINDS[name](values["kind"])
    if values.get("outcome") is not None:
        values["outcome"] = TaskOutcome(values["outcome"])
    if values.get("reported_by") is not None:
        values["reported_by"] = Reporter(values["reported_by"])
    return kind(**values)
