"""process: whether a process lives, by its name, its command line or its pid file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.errors import CheckError


class Process(Check):
    """Whether a process of this machine lives: `alive`, and the `count` of those found."""

    kind: ClassVar[str] = "process"
    counts: ClassVar[str | None] = "alive"

    name: str | None = None
    """Name of the program, e.g. ``postgres``."""
    command: str | None = None
    """Text that stands in the command line."""
    pid_file: str | None = None
    """A file with the process id; relative to the project."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if sum(v is not None for v in (self.name, self.command, self.pid_file)) != 1:
            raise ValueError("give exactly one of name, command, pid_file")
        return self

    def observe(self, context: CheckContext) -> Observation:
        """Look through the processes that this user may see; zombies do not live."""
        count = self._by_file(context) if self.pid_file is not None else self._listed()
        return Observation(value={"alive": count > 0, "count": count})

    def _listed(self) -> int:
        import os

        import psutil

        count = 0
        for process in psutil.process_iter(["pid", "name", "cmdline", "status"]):
            info = process.info
            if info["status"] == psutil.STATUS_ZOMBIE or info["pid"] == os.getpid():
                continue
            if self.name is not None:
                count += info["name"] == self.name
            else:
                count += str(self.command) in " ".join(info["cmdline"] or ())
        return count

    def _by_file(self, context: CheckContext) -> int:
        import psutil

        assert self.pid_file is not None
        try:
            text = Path(context.path(self.pid_file)).read_text(encoding="ascii")
            pid = int(text.split()[0])
        except FileNotFoundError:
            return 0  # a service that was stopped in order takes its pid file along
        except (OSError, ValueError, IndexError) as error:
            raise CheckError(f"{self.pid_file}: no process id can be read: {error}") from None
        try:
            return int(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return 0
