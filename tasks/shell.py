"""A step for plans: run a command, wait for it, keep the end of what it said."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

TAIL_BYTES = 64 * 1024
"""Of the output that is read back: enough for the lines that say what went wrong."""


class CommandResult(TypedDict):
    """How a command ended. `tail`: the last lines of its output and errors, in order."""

    exit_code: int
    seconds: float
    tail: str


class CommandError(RuntimeError):
    """A command that could not be started, failed, or ran past its time-out."""

    def __init__(self, message: str, exit_code: int | None = None, tail: str = "") -> None:
        super().__init__(message, exit_code, tail)
        self.message = message
        self.exit_code = exit_code
        self.tail = tail

    def __str__(self) -> str:
        return f"{self.message}\n{self.tail}" if self.tail else self.message


def run_command(
    command: str | Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    shell: bool = False,
    lines: int = 40,
    output: str | Path | None = None,
    accept: Sequence[int] = (0,),
) -> CommandResult:
    """Run `command` and return when it has ended.

    A string is split as a shell would, but no shell sees it, unless `shell`
    says so. `env` is added to the environment. Past `timeout` seconds the
    command and what it started are killed. `output`: a file that keeps all it
    says. Raises CommandError for an exit code that is not in `accept`.
    """
    shown = command if isinstance(command, str) else shlex.join(command)
    name = _name(shown)
    began = time.monotonic()
    with _log(output) as log:
        process = _start(command, name, cwd=cwd, env=env, shell=shell, log=log)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise CommandError(
                f"{name} was killed after {timeout:g} s, its time-out", None, _tail(log, lines)
            ) from None
        except BaseException:
            # The task was cancelled: what it started must not outlive it.
            _kill(process)
            raise
        tail = _tail(log, lines)
    if code not in accept:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise CommandError(f"{name} {how}", code, tail)
    return CommandResult(exit_code=code, seconds=time.monotonic() - began, tail=tail)


def _name(shown: str) -> str:
    """The command without its arguments, which may hold secrets."""
    return shown.split(maxsplit=1)[0] if shown.strip() else "an empty command"


def _log(output: str | Path | None) -> IO[bytes]:
    if output is None:
        return tempfile.TemporaryFile()
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    return Path(output).open("w+b")


def _start(
    command: str | Sequence[str],
    name: str,
    *,
    cwd: str | Path | None,
    env: Mapping[str, str] | None,
    shell: bool,
    log: IO[bytes],
) -> subprocess.Popen[bytes]:
    arguments: str | list[str]
    if shell:
        arguments = command if isinstance(command, str) else shlex.join(command)
    else:
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
    if not arguments:
        raise CommandError("the command is empty")
    try:
        return subprocess.Popen(
            arguments,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            shell=shell,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{name} cannot be started: {error.strerror or error}") from None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the command and all that it started in its session, and wait for its end."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):  # it may just have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _tail(log: IO[bytes], lines: int) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - TAIL_BYTES))
    text = log.read().decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""
