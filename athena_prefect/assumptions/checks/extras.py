"""Libraries that only some kinds need, and what is said where they are not there."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from athena_prefect.errors import CheckError

EXTRA = "checks"
"""The extra that brings them all."""


def needed(module: str, kind: str) -> Any:
    """The module. Raises CheckError with the remedy where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise CheckError(
            f"checks of kind {kind!r} need {missing.partition('.')[0]}, which is not installed; "
            f"pip install 'athena-prefect[{EXTRA}]'"
        ) from None
