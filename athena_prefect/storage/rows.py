"""Events as rows of the `events` table and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from athena_prefect.errors import RecordingError
from athena_prefect.journal.codec import decode, encode
from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Entry
from athena_prefect.storage.engine import dump_json

LONGEST_KEY = 2000
"""Characters of a key. PostgreSQL indexes at most 2,704 bytes a row."""

_ESCAPED = re.compile(r"\\u(?:0000|d[89a-f])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event ready to be written; made outside of any lock."""

    plan_run: UUID
    key: str
    content_hash: str
    at: datetime
    document: str
    altered: bool = False
    """Whether it says less than the event did: what no database keeps was replaced."""


def to_record(event: Event) -> EventRecord:
    """`event` as it is written. Raises RecordingError on data that is no JSON."""
    key = event.key
    if len(key) > LONGEST_KEY or "\0" in key:
        raise RecordingError(
            f"the event's key {key[:80]!r}… cannot be stored: at most {LONGEST_KEY} characters, "
            "and none of them NUL",
            key=key,
        )
    try:
        document = dump_json(encode(event))
    except (TypeError, ValueError) as error:
        raise RecordingError(
            f"the data of {key!r} is not plain data ({error}); "
            "use numbers, strings, lists and mappings, and None for what is not known",
            key=key,
        ) from error
    altered = _ESCAPED.search(document) is not None
    if altered:
        document = dump_json(_printable(json.loads(document)))
    content = dump_json(event.content)
    digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    return EventRecord(event.plan_run, key, digest, event.at, document, altered)


def to_entry(position: int, conflict: bool, document: str | Mapping[str, Any]) -> Entry:
    """The journal's entry of a row."""
    plain = json.loads(document) if isinstance(document, str) else document
    return Entry(position=position, event=decode(plain), conflict=bool(conflict))


def run_of(events: Sequence[Event]) -> UUID:
    """The one plan run of `events`. Raises RecordingError where there are several."""
    plan_run = events[0].plan_run
    for event in events:
        if event.plan_run != plan_run:
            raise RecordingError(
                f"one append is of one plan run; got {plan_run} and {event.plan_run}"
            )
    return plan_run


def _printable(value: Any) -> Any:
    """`value` without NUL and lone surrogates (of undecodable file names): JSONB has neither."""
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_printable(v) for v in value]
    if isinstance(value, dict):
        return {_printable(k): _printable(v) for k, v in value.items()}
    return value
