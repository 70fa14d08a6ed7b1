"""What a database driver raises, as this library's errors; never with a password in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import URL
from sqlalchemy import exc as sa

from athena_prefect.errors import AthenaError, SchemaError, StorageError, StorageUnavailableError
from athena_prefect.settings import masked

UPGRADE = "run `athena db upgrade`"
"""The remedy for a database of another version."""

_AWAY = (sqlite3.OperationalError, psycopg.OperationalError, psycopg.InterfaceError)
_NO_TABLE = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)
_TRANSLATED = (sa.TimeoutError, sqlite3.Error, psycopg.Error)


def unavailable(error: BaseException) -> bool:
    """Whether `error` says that the database cannot be reached now."""
    if isinstance(error, sa.TimeoutError):
        return True
    if isinstance(error, sa.DBAPIError):
        if error.connection_invalidated:
            return True
        return error.orig is not None and unavailable(error.orig)
    return isinstance(error, _AWAY) and not lacks_tables(error)


def lacks_tables(error: BaseException) -> bool:
    """Whether `error` says that the schema is not the one that was expected."""
    if isinstance(error, sa.DBAPIError):
        return error.orig is not None and lacks_tables(error.orig)
    if isinstance(error, sqlite3.OperationalError):
        return any(s in str(error) for s in ("no such table", "no such column", "has no column"))
    return isinstance(error, _NO_TABLE)


def _refused(error: BaseException) -> bool:
    """Whether `error` is SQLite's about a file that can only be read."""
    source = error.orig if isinstance(error, sa.DBAPIError) and error.orig else error
    return isinstance(source, sqlite3.OperationalError) and "readonly database" in str(source)


def translate(error: BaseException, url: URL) -> StorageError:
    """`error` of a driver as the error to raise; says which database, without its password."""
    where = location(url)
    text = _words(error, url)
    if lacks_tables(error):
        return SchemaError(f"{where} lacks tables or columns ({text}); {UPGRADE}", url=where)
    if _refused(error):
        return StorageUnavailableError(
            f"{where} can only be read here; what writes needs a file and a folder that can be "
            "written to: see to their owner and mode, or set ATHENA_DATABASE_URL to another",
            url=where,
        )
    if unavailable(error):
        return StorageUnavailableError(f"{where} cannot be reached: {text}", url=where)
    return StorageError(f"{where}: {text}", url=where)


def location(url: URL) -> str:
    """`url` without its password, wherever it stands."""
    return masked(url.render_as_string(hide_password=True))


def _words(error: BaseException, url: URL) -> str:
    source = error.orig if isinstance(error, sa.StatementError) and error.orig else error
    text = " ".join(str(source).split()) or type(source).__name__
    for secret in (url.password, *_secrets(url)):
        text = text.replace(secret, "***") if secret else text
    return text


def _secrets(url: URL) -> tuple[str, ...]:
    found = (url.query.get(name) for name in ("password", "sslpassword"))
    return tuple(value for value in found if isinstance(value, str))


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Within, drivers' errors become this library's. An IntegrityError rises as it is."""
    try:
        yield
    except sa.IntegrityError:
        raise
    except sa.StatementError as error:
        if isinstance(error.orig, AthenaError):
            # A value that we refused ourselves while it was bound.
            raise error.orig from None
        raise translate(error, url) from error
    except _TRANSLATED as error:
        raise translate(error, url) from error
