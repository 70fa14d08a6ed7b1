"""Results of tasks, kept so that a later process can go on from them.

Prefect's own persistence does not fail a task whose result could not be
written and reads a damaged file back without an error, so results are written
here, inside the task, with a checksum that every read verifies.
"""

from __future__ import annotations

import hashlib
import os
import re
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import cloudpickle

from athena_prefect.errors import ResultNotSerializableError, ResultUnreadableError


class Store(Protocol):
    """Named bytes: a folder, or one of Prefect's storage blocks."""

    def write(self, key: str, content: bytes) -> None:
        """Write `content` under `key`; what is left of a write that failed is no result."""
        ...

    def read(self, key: str) -> bytes:
        """What stands under `key`. Raises OSError or ValueError."""
        ...


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_all(file: RawIOBase, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


class LocalStore:
    """A folder of this machine."""

    def __init__(self, folder: Path, *, sync: bool = False) -> None:
        self._folder = folder
        self._sync = sync
        self._made: set[Path] = set()

    def write(self, key: str, content: bytes) -> None:
        """Write the file where it belongs; one that a kill tore fails its checksum."""
        path = self._folder / key
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        # Each call into the system costs a running task milliseconds, since it has to
        # get the interpreter's lock back: no file beside it that is then moved. No
        # other attempt writes under this key, and no event names it before it is whole.
        try:
            with open(path, "wb", buffering=0, opener=_private) as file:
                _write_all(file, content)
                if self._sync:
                    os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def read(self, key: str) -> bytes:
        """The content of the file."""
        return (self._folder / key).read_bytes()


class BlockStore:
    """One of Prefect's writable storage blocks, by its reference ``type/name``."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._block: Any = None

    def _loaded(self) -> Any:
        if self._block is None:
            from prefect.blocks.core import Block

            self._block = Block.load(self._reference, _sync=True)  # type: ignore[call-arg]
        return self._block

    def write(self, key: str, content: bytes) -> None:
        """Write through the block."""
        self._loaded().write_path(key, content, _sync=True)

    def read(self, key: str) -> bytes:
        """Read through the block."""
        content = self._loaded().read_path(key, _sync=True)
        if not isinstance(content, bytes):
            raise ValueError(f"{self._reference} gave {type(content).__name__}, not bytes")
        return content


def result_key(
    plan_run: UUID, task_id: str, map_index: int | None, definition: str, input_revision: int
) -> str:
    """The key of a task's result: its run, task, item, definition and input revision."""
    item = "" if map_index is None else f".{map_index}"
    # A task id may hold what a file system reads as a path.
    name = re.sub(r"[^A-Za-z0-9_\-]", "_", task_id)
    short = hashlib.sha256(task_id.encode()).hexdigest()[:8]
    return f"athena/{plan_run}/{name}-{short}{item}-{definition[:12]}-{input_revision}.pickle"


def attempt_key(key: str, source: str) -> str:
    """`key` as one attempt writes it.

    A body that was taken back but not stopped, here or in a process that was
    fenced off, may still write: not over its successor's result.
    """
    return key.removesuffix(".pickle") + f"-{source.replace('-', '')[-12:]}.pickle"


class ResultVault:
    """Pickled results with their checksums in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, key: str, value: Any, *, task_id: str) -> str:
        """Keep `value` under `key`; the SHA-256 of what was written.

        Raises ResultNotSerializableError with the remedy, so that the task
        fails where the fault is and not where somebody reads.
        """
        try:
            content = cloudpickle.dumps(value)
        except Exception as error:  # pickling runs the value's own code: it may raise anything
            raise ResultNotSerializableError(
                f"task {task_id!r} returned a {type(value).__name__} that cannot be pickled "
                f"({error}); return plain data, or write it to a file and return the path",
                task_id=task_id,
            ) from error
        self._store.write(key, content)
        return hashlib.sha256(content).hexdigest()

    def raw(self, key: str) -> bytes | None:
        """The bytes under `key`; None where there are none."""
        try:
            return self._store.read(key)
        except (OSError, ValueError):
            return None

    def get(self, key: str, checksum: str | None, *, task_id: str) -> Any:
        """The value under `key`. Raises ResultUnreadableError."""
        try:
            content = self._store.read(key)
        except (OSError, ValueError) as error:
            raise ResultUnreadableError(
                f"the stored result of task {task_id!r} cannot be read ({error})",
                task_id=task_id,
                key=key,
            ) from error
        if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
            raise ResultUnreadableError(
                f"the stored result of task {task_id!r} is damaged: its checksum differs",
                task_id=task_id,
                key=key,
            )
        try:
            return cloudpickle.loads(content)
        except Exception as error:  # unpickling imports and runs the project's code
            raise ResultUnreadableError(
                f"the stored result of task {task_id!r} cannot be unpickled ({error!r})",
                task_id=task_id,
                key=key,
            ) from error


def open_vault(storage: str, folder: Path, *, sync: bool = False) -> ResultVault:
    """The vault of a plan's `results.storage`: `local` under `folder`, or a block."""
    if storage == "local":
        return ResultVault(LocalStore(folder, sync=sync))
    return ResultVault(BlockStore(storage))
