"""Where events wait while the database cannot be reached: durable lines in a file.

One file a machine (its name says which), appended to under a lock that the
system releases when a process dies: so the lines of all processes of a run stand
in the order in which they were acknowledged. A line is a checksum, the plan run
and JSON; it is acknowledged when it is written with its newline (and synced,
where writes shall survive a power cut). A last line without one is what a killed
process had not acknowledged, and is dropped.

The folder belongs to one database and should be local: a spool on the file
server that is away too helps nobody.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from json import loads
from pathlib import Path
from uuid import UUID

from athena_prefect.errors import AthenaError, LeaseLostError
from athena_prefect.journal.codec import decode, encode
from athena_prefect.journal.events import Event, Reporter, RunEvent, RunEventKind
from athena_prefect.storage.engine import Durability, dump_json
from athena_prefect.storage.file_lock import file_lock
from athena_prefect.storage.network_fs import network_file_system
from athena_prefect.storage.rows import run_of, to_record

logger = logging.getLogger(__name__)

Write = Callable[[tuple[Event, ...], int | None], object]
"""Writes events of one plan run with a fencing token into the database."""

LARGEST_BATCH = 200
"""Lines that are drained in one transaction."""

ROUNDS = 3
"""Times that a drain follows those who append meanwhile before it makes them wait."""

_RUN = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a drain did: events written, gaps found, and whether anything is left."""

    events: int = 0
    gaps: tuple[str, ...] = ()
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    offset: int
    raw: bytes
    events: tuple[Event, ...] | None
    """None: the line is damaged."""
    token: int | None = None


class Spool:
    """The spool in `folder`; may be used by threads and processes at once, and pickled."""

    def __init__(self, folder: Path | str, *, durable: Durability = "process") -> None:
        self.folder = Path(folder)
        self.durable: Durability = durable
        self._pending = self.folder / "pending"
        self._file = self._pending / f"{_safe(socket.gethostname())}.jsonl"
        self._append_lock = self.folder / "append.lock"
        self._drain_lock = self.folder / "drain.lock"

    def __reduce__(self) -> tuple[object, ...]:
        return _make, (self.folder, self.durable)

    def within(self, name: str) -> Spool:
        """The spool in this one's folder `name`."""
        return Spool(self.folder / name, durable=self.durable)

    @property
    def pending(self) -> bool:
        """Whether events wait here, of any process."""
        try:
            with os.scandir(self._pending) as files:
                return any(True for _ in files)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def append(self, *events: Event, token: int | None = None) -> None:
        """Write `events` of one plan run as one line; durable on return.

        Raises RecordingError on data that is no JSON, OSError where it cannot be written.
        """
        line = _to_line(events, token)
        with file_lock(self._append_lock):
            if not self._pending.is_dir():
                self._pending.mkdir(parents=True, exist_ok=True)
                kind = network_file_system(self.folder)
                if kind:
                    logger.warning(
                        "the spool %s is on a network file system (%s)", self.folder, kind
                    )
            _append(self._file, line, sync=self.durable == "power")

    def drain(self, write: Write, *, wait: bool = False) -> Drained:
        """Hand all that waits to `write`, in order, and forget it.

        What was written before an interruption is written again, which changes
        nothing. Damaged lines and those of a dispatcher that was fenced off are
        kept in ``aside/`` and reported as gaps. Of several drainers one works; the
        others wait for it or, without `wait`, are told that something is left.
        Raises what `write` raises but LeaseLostError.
        """
        if not self.pending:
            return Drained()
        with file_lock(self._drain_lock, wait=wait) as mine:
            if not mine:
                return Drained(left=True)
            total, gaps = 0, list[str]()
            for file in sorted(self._pending.glob("*.jsonl")):
                total += self._drain_file(file, write, gaps)
        return Drained(events=total, gaps=tuple(gaps), left=self.pending)

    def _drain_file(self, file: Path, write: Write, gaps: list[str]) -> int:
        offset, total = 0, 0
        for _ in range(ROUNDS):
            size, count = self._drain_lines(file, offset, write, gaps)
            if size == 0:
                break
            offset, total = offset + size, total + count
        with file_lock(self._append_lock):
            # Whoever appends waits now, so that the end is reached however much they write.
            _, count = self._drain_lines(file, offset, write, gaps)
            # What may follow still is a line that nobody was told was safe.
            file.unlink(missing_ok=True)
        return total + count

    def _drain_lines(
        self, file: Path, offset: int, write: Write, gaps: list[str]
    ) -> tuple[int, int]:
        """Bytes read from `offset` on, and events written."""
        lines = _read(file, offset)
        count = sum(self._drain_batch(file, b, write, gaps) for b in _batches(lines))
        return sum(len(line.raw) for line in lines), count

    def _drain_batch(self, file: Path, batch: list[_Line], write: Write, gaps: list[str]) -> int:
        first = batch[0]
        if first.events is None:
            self._gap(file, first, "a damaged line", write, gaps)
            return 0
        events = tuple(e for line in batch for e in line.events or ())
        try:
            write(events, first.token)
        except LeaseLostError:
            for line in batch:
                self._gap(file, line, "events of a dispatcher that was fenced off", write, gaps)
            return 0
        return len(events)

    def _gap(self, file: Path, line: _Line, what: str, write: Write, gaps: list[str]) -> None:
        aside = self.folder / "aside"
        aside.mkdir(exist_ok=True)
        kept = aside / f"{file.stem}-{zlib.crc32(line.raw):08x}.txt"
        kept.write_bytes(line.raw)
        message = f"the spool held {what}; kept in {kept}"
        logger.error("%s", message)
        gaps.append(message)
        named = _RUN.search(line.raw)
        if named is None:
            return
        at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        gap = RunEvent(
            plan_run=UUID(named[0].decode()),
            kind=RunEventKind.GAP,
            at=at,
            source=f"spool:{kept.stem}",
            reported_by=Reporter.DISPATCHER,
            data={"what": message},
        )
        write((gap,), None)


def _make(folder: Path, durable: Durability) -> Spool:
    return Spool(folder, durable=durable)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", name) or "host"


def _to_line(events: tuple[Event, ...], token: int | None) -> bytes:
    plan_run = run_of(events)
    for event in events:
        # What the database would refuse must be refused now, while the caller is there.
        to_record(event)
    body = dump_json({"token": token, "events": [encode(e) for e in events]})
    payload = f"{plan_run} {body}".encode()
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _append(path: Path, line: bytes, *, sync: bool) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    new = not path.exists()
    file = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)
    try:
        size = _whole(path, file)
        try:
            written = 0
            while written < len(line):
                written += os.write(file, line[written:])
            if sync:
                os.fsync(file)
        except OSError:
            # A half line must not have a whole one behind it.
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
    finally:
        os.close(file)
    if new and sync:
        _sync_folder(path.parent)


def _whole(path: Path, file: int) -> int:
    """Size of the file's whole lines; what a killed process left half written is cut off."""
    size = os.fstat(file).st_size
    if size == 0:
        return 0
    os.lseek(file, size - 1, os.SEEK_SET)
    if os.read(file, 1) == b"\n":
        return size
    whole = path.read_bytes().rfind(b"\n") + 1
    os.ftruncate(file, whole)
    return whole


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path, offset: int) -> list[_Line]:
    """The whole lines of the file from `offset` on."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return []
    lines = []
    for raw in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
        lines.append(_parse(offset, raw))
        offset += len(raw)
    return lines


def _parse(offset: int, raw: bytes) -> _Line:
    checksum, _, payload = raw.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(payload):
        return _Line(offset, raw, None)
    try:
        body = loads(payload.partition(b" ")[2])
        events = tuple(decode(e) for e in body["events"])
        return _Line(offset, raw, events, body["token"])
    except (KeyError, TypeError, ValueError, AthenaError):
        # Whole, but of a version that says things differently: no less a gap.
        return _Line(offset, raw, None)


def _batches(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Neighbours of the same plan run and token together; damaged ones alone."""
    batch: list[_Line] = []
    for line in lines:
        if batch and not _together(batch, line):
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch


def _together(batch: list[_Line], line: _Line) -> bool:
    first = batch[0]
    return bool(
        first.events
        and line.events
        and len(batch) < LARGEST_BATCH
        and first.token == line.token
        and first.events[0].plan_run == line.events[0].plan_run
    )
