"""A sign of life on standard error while a command works, where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer

from athena_prefect.cli.base import messages

PATIENCE = 0.5
"""Seconds after which there is a sign; what is over sooner would only flicker."""


class Working:
    """What is being done, said again and again until it `ended`."""

    def __init__(self, what: str) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._shown = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=messages(),
            transient=True,
            # What a plan's modules print would run into the sign; a file gets it as it is.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._shown.add_task(what, total=None)
        self._lock = Lock()
        self._over = False
        self._timer = Timer(PATIENCE, self._begin)
        self._timer.daemon = True

    def begin(self) -> None:
        """Show the sign when patience is over."""
        if PATIENCE > 0:
            self._timer.start()
        else:
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            if not self._over:
                self._shown.start()

    def say(self, what: str) -> None:
        """Say what is being done from now on."""
        self._shown.update(self._task, description=what)

    def ended(self) -> None:
        """Take the sign away; more than once does no harm."""
        self._timer.cancel()
        with self._lock:
            self._over = True
            self._shown.stop()


class Silent(Working):
    """Where nobody watches."""

    def __init__(self) -> None:
        """Nothing is kept."""

    def begin(self) -> None:
        """Nothing is shown."""

    def say(self, what: str) -> None:
        """Nothing is said."""

    def ended(self) -> None:
        """Nothing is there."""


@contextmanager
def working(what: str, *, quiet: bool) -> Iterator[Working]:
    """Within, a spinner with `what` and the time that it takes; none where `quiet`.

    Nor where standard error is no terminal, or one that cannot redraw a line.
    """
    console = messages()
    silent = quiet or not console.is_terminal or console.is_dumb_terminal
    sign = Silent() if silent else Working(what)
    sign.begin()
    try:
        yield sign
    finally:
        sign.ended()
