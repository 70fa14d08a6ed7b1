"""SQLite files that may be read and not written to: another's, or on a disk that is read-only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from athena_prefect.errors import StorageUnavailableError


def only_readable(file: Path) -> bool:
    """Whether `file` is there and cannot be written to, itself or what SQLite keeps beside it."""
    if not file.is_file():
        return False
    if not _writable(file):
        return True
    beside = _beside(file)
    return not _writable(file.parent) and not all(f.exists() and _writable(f) for f in beside)


def _beside(file: Path) -> tuple[Path, Path]:
    """The write-ahead log and its index, which are there while somebody has the file open."""
    return Path(f"{file}-wal"), Path(f"{file}-shm")


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def connect(file: Path, timeout: float) -> sqlite3.Connection:
    """A connection that only reads. Raises StorageUnavailableError where that cannot be either.

    A file that nobody has open has all there is to read in itself; SQLite would want
    to make a write-ahead log all the same, unless told that nobody writes. So that this
    stays true a connection is for one look, and the next one asks again.
    """
    log, index = _beside(file)
    alone = not index.exists() and not (log.exists() and log.stat().st_size)
    uri = f"{file.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if alone or not isinstance(error, sqlite3.OperationalError):
            raise
        raise StorageUnavailableError(
            f"{file} can only be read, and its newest entries are in {log}, which cannot be read "
            f"so ({error}): copy both to a folder that can be written to, and set "
            "ATHENA_DATABASE_URL to the copy"
        ) from None
    return connection
