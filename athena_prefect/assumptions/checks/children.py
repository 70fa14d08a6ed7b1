"""Checks in child processes that can be killed: what hangs is ended, not waited for.

A child serves many checks, one after the other, so that starting Python is paid
once. It leads a session of its own: what it started ends with it. It ends by
itself when the pipe to its parent is closed, however the parent died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

import cloudpickle

from athena_prefect.assumptions.checks.base import Check, CheckContext
from athena_prefect.assumptions.checks.making import Made, make
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.plan.units import format_duration

START_SECONDS = 60.0
"""For a child to be there, on a machine that is busy with the run's own work."""
LAST_WORDS_SECONDS = 1.0
"""Beyond its time-out, for a check to say itself that it was late and what it waited for.

Kinds keep their own time-out; only what hangs in spite of it is ended from here, and
both at the same moment would leave it to chance which of the two is heard.
"""
READY = b"ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A check as its kind and options: a class that somebody's decorator made has no address."""

    kind: str
    options: Mapping[str, Any]
    context: CheckContext


class _Child:
    """One child process and the pipe to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._here, there = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(there.fileno())],
            pass_fds=(there.fileno(),),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )
        there.close()

    def wait(self) -> None:
        """Wait until it is there. Raises EOFError, TimeoutError."""
        if not self._here.poll(START_SECONDS):
            raise TimeoutError
        self._here.recv_bytes()

    def ask(self, job: _Job, seconds: float) -> Made:
        """Have the check made. Raises EOFError where the child ended, TimeoutError where it
        gave no answer in time.
        """
        self._here.send_bytes(cloudpickle.dumps(job))
        if not self._here.poll(seconds):
            raise TimeoutError
        made = cloudpickle.loads(self._here.recv_bytes())
        assert isinstance(made, Made)
        return made

    def end(self) -> int:
        """Kill it with all that it started; its exit code."""
        self._here.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


class Children:
    """Makes checks in children, as many at once as there are callers. For any thread."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: variables of the children beside this process's own."""
        self._environment = dict(environment or {})
        self._changed = threading.Condition()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._coming = False
        """Whether one comes up: one at a time, for while Python does, the one that is
        there already has mostly done its check."""
        self._failed: list[str] = []
        """Why those that did not come up did not."""
        self._closed = False

    def expect(self) -> None:
        """Have one come up, before there is a check that waits for it."""
        with self._changed:
            self._bring()

    def make(self, check: Check, context: CheckContext) -> Made:
        """Make the check in a child; one that gives no answer in time, and does not say
        so itself, is killed.
        """
        options = check.model_dump(by_alias=True, exclude_unset=True)
        job = _Job(
            kind=check.kind,
            options=options,
            # What the run's state is belongs to its own process.
            context=replace(context, state=None, plan=None),
        )
        try:
            child = self._borrowed()
        except OSError as error:
            return Made(error=str(error))
        if child is None:
            return Made(error="checks are not made any more: the run is over")
        kept = False
        try:
            made = child.ask(job, check.seconds + LAST_WORDS_SECONDS)
            kept = True
        except TimeoutError:
            limit = format_duration(check.timeout)
            return Made(error=f"gave no answer within {limit}; it was ended")
        except (EOFError, OSError):
            return Made(error="its process ended without an answer")
        finally:
            self._give_back(child, kept)
        return made

    def _borrowed(self) -> _Child | None:
        """The first that is free or has come up; None after the end. Raises OSError, with
        words, where the one that was waited for did not come up.
        """
        with self._changed:
            failures = len(self._failed)
            while not self._closed:
                if self._idle:
                    child = self._idle.pop()
                    self._busy.add(child)
                    return child
                if len(self._failed) > failures:
                    raise OSError(self._failed[-1])
                self._bring()
                self._changed.wait()
            return None

    def _bring(self) -> None:
        """Have one come up, unless one does already. The lock is held."""
        if not (self._coming or self._closed or self._idle):
            self._coming = True
            threading.Thread(target=self._come, name="athena-check-child", daemon=True).start()

    def _come(self) -> None:
        child, why = None, ""
        try:
            child = _Child(self._environment)
            if self._took_in(child):
                child.wait()
        except Exception as error:  # noqa: BLE001 - the boundary: who waits for it hears of it
            why = f"no process came up for it ({type(error).__name__})"
        if child is not None:
            self._give_back(child, kept=not why)
        with self._changed:
            self._coming = False
            if why:
                self._failed.append(why)
            self._changed.notify_all()

    def _took_in(self, child: _Child) -> bool:
        """Whether a new child is one of these; after the end nobody would end it any more."""
        with self._changed:
            if not self._closed:
                self._busy.add(child)
                return True
        child.end()
        return False

    def _give_back(self, child: _Child, kept: bool) -> None:
        with self._changed:
            mine = child in self._busy
            self._busy.discard(child)
            free = mine and kept and not self._closed
            if free:
                self._idle.append(child)
                self._changed.notify()
        if mine and not free:
            child.end()

    def close(self) -> None:
        """End all of them, whatever they do."""
        with self._changed:
            self._closed = True
            children = [*self._idle, *self._busy]
            self._idle.clear()
            self._busy.clear()
            self._changed.notify_all()
        for child in children:
            child.end()


def serve(descriptor: int) -> None:
    """The child: make what is asked for until the pipe is closed."""
    pipe = Connection(descriptor)
    pipe.send_bytes(READY)
    while True:
        try:
            job: _Job = cloudpickle.loads(pipe.recv_bytes())
        except EOFError:
            return
        pipe.send_bytes(cloudpickle.dumps(_made(job)))


def _made(job: _Job) -> Made:
    from athena_prefect.plan.references import put_first

    put_first(job.context.root)
    try:
        check = kind_named(job.kind).model_validate(dict(job.options))
    except Exception as error:  # noqa: BLE001 - a kind of somebody else's, in another process
        return Made(error=job.context.hide(f"{type(error).__name__}: {error}"))
    return make(check, job.context)


if __name__ == "__main__":
    # Under its own name, so that what it pickles is what the parent knows.
    from athena_prefect.assumptions.checks import children

    children.serve(int(sys.argv[1]))
