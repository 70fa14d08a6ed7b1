"""Where the time of a task goes: functions of the project, out of a sampling profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from athena_prefect.learning.sources import line_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A function of the project, and how much of a task's time goes there.

    `own` is the time in the function and in libraries that it calls, up to the
    next function of the project; `total` that in all that it calls.
    """

    file: str
    """Below the project's root, with '/'."""
    line: int
    """Where the function begins."""
    function: str
    own: float
    """Seconds of the samples."""
    total: float
    share: float
    """`own` over the whole."""
    below: float
    """`total` over the whole."""

    def as_dict(self) -> dict[str, object]:
        """The spot as JSON-able data."""
        return {name: getattr(self, name) for name in self.__slots__}


_Key = tuple[str, int, str]
"""File, line and name of a function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A node of a sampling profile: a function and the time below it, in seconds."""

    file: str
    """Absolute path; empty for built-in functions."""
    line: int
    function: str
    time: float
    children: tuple[Frame, ...] = ()


def hottest(root: Frame, folder: str | Path, *, most: int = 10) -> tuple[Spot, ...]:
    """Where the time of a profile goes among the project's own functions, most of it first.

    What built-ins and installed packages take, and what comprehensions and lambdas
    do, counts for the function of the project around them. The `most` by their own
    time and by all below them. Empty where no sample fell into the project's code.
    """
    base = Path(folder).resolve()
    own: dict[_Key, float] = {}
    total: dict[_Key, float] = {}
    # An explicit stack: profiles of recursive code are deeper than Python's own stack.
    stack: list[tuple[Frame, _Key | None, frozenset[_Key]]] = [(root, None, frozenset())]
    while stack:
        frame, owner, above = stack.pop()
        inside = _below(frame.file, base)
        if inside is not None and (owner is None or not frame.function.startswith("<")):
            owner = (inside, frame.line, frame.function)
            if owner not in above:
                total[owner] = total.get(owner, 0.0) + frame.time
                above = above | {owner}
        if owner is not None:
            mine = frame.time - sum(c.time for c in frame.children)
            own[owner] = own.get(owner, 0.0) + max(mine, 0.0)
        stack += [(child, owner, above) for child in frame.children]
    whole = sum(own.values())
    if whole <= 0:
        return ()
    ranked = sorted(own, key=lambda key: -own[key])
    widest = sorted(own, key=lambda key: -total[key])[:most]
    return tuple(
        Spot(
            file=key[0], line=key[1], function=key[2],
            own=own[key], total=total[key],
            share=own[key] / whole, below=min(total[key] / whole, 1.0),
        )
        for place, key in enumerate(ranked) if place < most or key in widest
    )  # fmt: skip


INSTALLED = frozenset({"site-packages", "dist-packages", ".venv", "venv", ".tox", "node_modules"})
"""Folders below a project's root whose code is not the project's own."""


def _below(file: str, base: Path) -> str | None:
    if not file or file.startswith("<"):
        return None
    path = Path(file)
    if not path.is_relative_to(base):
        return None
    inside = path.relative_to(base)
    return None if INSTALLED & set(inside.parts) else inside.as_posix()


def with_lines_now(spots: Iterable[Spot], files: Mapping[str, str]) -> tuple[Spot, ...]:
    """The spots with the lines at which their functions begin in the files as they are now.

    A profile is of the code as it was; a function that is gone keeps the line it had.
    """
    return tuple(replace(s, line=line_now(s.line, s.function, files.get(s.file))) for s in spots)
