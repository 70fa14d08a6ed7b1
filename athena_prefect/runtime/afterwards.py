"""What a run leaves to be said when it has ended: its flow does not wait for it, its process does.

The last events and dashboards take a few tenths of a second of a busy server's
time, and nothing depends on them.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

QUIET_SECONDS = 0.3
"""How long a flow that has ended is left alone to tell Prefect its final state: what is
done afterwards would only compete with that for the interpreter."""

_threads: set[threading.Thread] = set()
_hurry: set[threading.Event] = set()
_lock = threading.Lock()


def afterwards(name: str, do: Callable[[], object]) -> None:
    """Do it in a thread of its own, in this context, a moment later or when somebody waits.

    A failure is logged, and nobody's. The thread is no daemon: a process that ends
    waits for it.
    """
    context = contextvars.copy_context()
    waited_for = threading.Event()

    def body() -> None:
        try:
            waited_for.wait(QUIET_SECONDS)
            context.run(do)
        except Exception as error:  # noqa: BLE001 - the boundary: the run has ended as it has
            logger.warning("%s failed: %r", name, error)
        finally:
            with _lock:
                _threads.discard(threading.current_thread())
                _hurry.discard(waited_for)

    thread = threading.Thread(target=body, name=f"athena-{name.replace(' ', '-')}")
    with _lock:
        _threads.add(thread)
        _hurry.add(waited_for)
    thread.start()


def wait_for_afterwards(timeout: float | None = None) -> bool:
    """Wait until all of it is done, each at most `timeout` seconds; whether it is."""
    with _lock:
        waiting = [t for t in _threads if t is not threading.current_thread()]
        for waited_for in _hurry:
            waited_for.set()
    for thread in waiting:
        thread.join(timeout)
    return not any(t.is_alive() for t in waiting)
