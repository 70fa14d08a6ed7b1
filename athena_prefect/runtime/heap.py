"""The garbage collector during a run: what was there before the run is not looked through.

A process that has imported Prefect holds a quarter of a million objects, and a
full collection stops every thread for about 0.2 s to look through them: as long
as forty tasks' bookkeeping takes, in the middle of whatever runs. They are set
aside while plans run, and given back when the last run in the process has ended.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_runs = 0
_ours = False
"""Whether it was us who set the objects aside: somebody else's freeze is not ours to end."""


@contextmanager
def set_aside() -> Iterator[None]:
    """Keep the collector from the objects of before, until the last such block has ended."""
    global _runs, _ours
    with _lock:
        _runs += 1
        if _runs == 1 and gc.get_freeze_count() == 0:
            gc.freeze()
            _ours = True
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0 and _ours:
                gc.unfreeze()
                _ours = False
