"""Which process holds something, and whether it is certainly gone.

A process id says nothing on another host, after a reboot, in another container,
or once it was given to somebody else. So the identity names the host, the boot,
the process-id namespace and the process's start; only a process of the same
place, whose id is free or belongs to a later start, is certainly gone.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process: `place` is where its id means something, `start` tells it from a later one."""

    place: str
    pid: int
    start: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        pid = os.getpid()
        start = _start(pid)
        assert start is not None
        return cls(_place(), pid, start)

    @classmethod
    def parse(cls, text: str | None) -> Process | None:
        """The process that `str` wrote; None where it is none."""
        parts = (text or "").split("|")
        if len(parts) != 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    def __str__(self) -> str:
        return f"{self.place}|{self.pid}|{self.start}"

    def surely_gone(self) -> bool:
        """Whether it certainly does not run any more; False where that cannot be known."""
        return self.place == _place() and _start(self.pid) != self.start


def _place() -> str:
    parts = [socket.gethostname()]
    try:
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink(_PROC / "self/ns/pid"))
    except OSError:
        # Not Linux: a boot is told by its time, and there are no namespaces.
        parts.append(f"boot {psutil.boot_time():.0f}")
    return " ".join(parts).replace("|", "_")


def _start(pid: int) -> str | None:
    """When the process started; None where it does not run (a zombie does not)."""
    try:
        # Ticks since boot: unlike a time of day, no change of the clock moves them.
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        if _PROC.is_dir() and (_PROC / "self").exists():
            return None
        return _portable_start(pid)
    state, *rest = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else rest[18]


def _portable_start(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
