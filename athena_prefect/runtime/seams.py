"""Places between two steps of a change-over at which a test can end the process.

What is written in several steps has to hold wherever it is cut off; a place has a name,
and nothing happens there unless the environment names a function.
"""

from __future__ import annotations

import os
from importlib import import_module

VARIABLE = "ATHENA_SEAM"
"""``module:function``, called with the name of each place that is reached."""


def reached(place: str) -> None:
    """The process has come to this place."""
    named = os.environ.get(VARIABLE)
    if named:
        module, _, function = named.partition(":")
        getattr(import_module(module), function)(place)
