"""Which commit made a task slow, and in which function its time goes.

Pure: what git and the profiler know is handed in. Where the durations do not show
a change, no commit came with it, or several could be it, nothing more is said than
is known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np

from athena_prefect.learning.change_points import ALPHA, Change, slower_since

MODULES = 200
"""Files of a project that are read to see what a callable imports: an answer within a second."""
SURE = 0.5
"""P(commit) above which it is named as the one: likelier than all others together."""
HOT = 0.1
"""Share of the time from which a function is worth a look: what replanning tolerates as slip."""
WHOLE = 0.95
"""Share of the time from which a function holds all there is: where within it is the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One successful run of a task: when, how long, and the code that it ran."""

    at: datetime
    seconds: float
    version: str | None = None
    """The last commit to the task's sources before it ran; None where that is not known."""
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A function whose lines a commit changed."""

    file: str
    function: str
    line: int
    """Where it begins, in the commit's version of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit to the sources of a task."""

    sha: str
    at: datetime
    subject: str = ""
    author: str = ""
    touched: tuple[Touched, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A commit with which a task may have become slow."""

    commit: Commit
    probability: float
    """Given that a commit to the task's sources did it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """A task that is slower than it was, and what is known of why."""

    task_id: str
    change: Change
    since: datetime
    """Start of the first slow run."""
    suspects: tuple[Suspect, ...] = ()
    """The likeliest first; empty where no commit came with the change."""
    spots: tuple[Spot, ...] = ()
    """Where the time goes now, the most of it first; empty where nothing was profiled."""
    reason: str = ""
    """Why no commit is named."""
    calls: str = ""
    """``module:function`` of the task."""

    @property
    def commit(self) -> Commit | None:
        """The commit, where one is likelier than all others together."""
        if self.suspects and self.suspects[0].probability > SURE:
            return self.suspects[0].commit
        return None

    @property
    def place(self) -> Spot | Touched | None:
        """The function that the commit changed and where time goes, else where most of it goes.

        Where nothing was profiled, the only function that the commit changed.
        """
        changed = () if self.commit is None else self.commit.touched
        names = {(t.file, t.function) for t in changed}
        guilty = [s for s in self.spots if (s.file, s.function) in names and s.below >= HOT]
        # One that holds everything, such as the task's own function, says least of where.
        inner = [s for s in guilty if s.below < WHOLE or s.share >= HOT]
        if guilty:
            return max(inner or guilty, key=lambda s: (s.share if s.share >= HOT else 0, s.total))
        if self.spots and self.spots[0].share >= HOT:
            return self.spots[0]
        return changed[0] if len(changed) == 1 else None

    def __str__(self) -> str:
        change = self.change
        text = (
            f"{self.task_id} takes {change.ratio:.3g} times as long since "
            f"{self.since:%Y-%m-%d %H:%M} UTC (median {change.after:.3g} s, before "
            f"{change.before:.3g} s)"
        )
        if self.commit is not None:
            text += f", with commit {self.commit.sha[:10]}"
            if self.commit.subject:
                text += f" “{self.commit.subject}”"
        elif self.reason:
            text += f"; {self.reason}"
        place = self.place
        if isinstance(place, Spot):
            text += (
                f"; {max(place.share, place.below):.0%}".replace("%", " %")
                + f" of its time is spent in {place.function} ({place.file}:{place.line})"
            )
        elif place is not None:
            text += f", which changed {place.function} ({place.file}:{place.line})"
        return text

    def as_dict(self) -> dict[str, object]:
        """The finding as JSON-able data; durations in seconds."""
        commit, place = self.commit, self.place
        return {
            "task_id": self.task_id,
            "since": self.since.isoformat(),
            "ratio": self.change.ratio,
            "before": self.change.before,
            "after": self.change.after,
            "p_value": self.change.p_value,
            "commit": None if commit is None else commit.sha,
            "subject": None if commit is None else commit.subject,
            "file": None if place is None else place.file,
            "line": None if place is None else place.line,
            "function": None if place is None else place.function,
            "suspects": [
                {"commit": s.commit.sha, "subject": s.commit.subject, "probability": s.probability}
                for s in self.suspects
            ],
            "spots": [s.as_dict() for s in self.spots],
            "reason": self.reason,
            "words": str(self),
        }


def slowdown(
    task_id: str,
    timings: Sequence[Timing],
    commits: Sequence[Commit] = (),
    *,
    rng: np.random.Generator,
    spots: Iterable[Spot] = (),
    among: int = 1,
    alpha: float = ALPHA,
    unknown: str = "",
    calls: str = "",
) -> Slowdown | None:
    """Whether a task is slower than it was, and the commits that may be why; None where it is not.

    `timings` in the order of the runs, `commits` to the task's sources the oldest
    first. `among`: how many tasks are looked at, which the level `alpha` is shared
    by (Bonferroni). `unknown`: why there are no commits, e.g. no git checkout.
    """
    change = slower_since([t.seconds for t in timings], rng=rng, alpha=alpha / max(among, 1))
    if change is None:
        return None
    suspects, reason = suspected(change, timings, commits)
    ranked = tuple(sorted(spots, key=lambda s: -s.own))
    return Slowdown(
        task_id=task_id,
        change=change,
        since=timings[change.index].at,
        suspects=suspects,
        spots=ranked,
        reason=unknown or reason,
        calls=calls,
    )


def suspected(
    change: Change, timings: Sequence[Timing], commits: Sequence[Commit]
) -> tuple[tuple[Suspect, ...], str]:
    """The commits that came between the last fast and the first slow run, with why there are none.

    Each place where the change may be has its probability; it is shared by the
    commits that came there. Where most of it falls where no commit came, the code
    is not why, or not the code that is known.
    """
    index = {c.sha: i for i, c in enumerate(commits)}
    reached = [_reached(t, commits, index) for t in timings]
    weights = np.zeros(len(commits))
    none = 0.0
    for i, probability in enumerate(change.places):
        if probability == 0 or i == 0:
            continue
        low, high = reached[i - 1], reached[i]
        if high > low:
            weights[low + 1 : high + 1] += probability / (high - low)
        else:
            none += probability
    if weights.sum() <= none:
        return (), "no commit to its sources came with the change"
    share = weights / weights.sum()
    order = np.argsort(-share, kind="stable")
    found = tuple(
        Suspect(commit=commits[i], probability=float(share[i])) for i in order if share[i] >= 0.01
    )
    if found[0].probability <= SURE:
        return found, "one of several commits: " + ", ".join(s.commit.sha[:10] for s in found[:5])
    return found, ""


def _reached(timing: Timing, commits: Sequence[Commit], index: Mapping[str, int]) -> int:
    """The last commit that a run had, as an index; −1 for none of them."""
    if timing.version is not None:
        # A version that is not among them is older than all of them, or on another line.
        return index.get(timing.version, -1)
    earlier = [i for i, c in enumerate(commits) if c.at <= timing.at]
    return earlier[-1] if earlier else -1


def sources(call: str, files: Mapping[str, str]) -> tuple[str, ...]:
    """The files of a project that a callable's module consists of: its own, and what it imports.

    `files`: path below the root, with '/', → text of each module of the project. Empty
    where the module is none of them, such as an installed package's.
    """
    start = _file_of(call.partition(":")[0], files)
    if start is None:
        return ()
    found = [start]
    for path in found:
        for name in _imported(path, files[path]):
            other = _file_of(name, files)
            if other is not None and other not in found and len(found) < MODULES:
                found.append(other)
    return tuple(found)


def _file_of(module: str, files: Mapping[str, str]) -> str | None:
    path = module.replace(".", "/")
    return next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in files), None)


def _imported(path: str, text: str) -> list[str]:
    """Names of the modules that a file imports, wherever in it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    package = PurePosixPath(path).parent.parts
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            # What is imported from a package may be a module of it.
            names += [base, *(f"{base}.{a.name}" for a in node.names)]
    return names


def functions_at(file: str, text: str, lines: Iterable[int]) -> tuple[Touched, ...]:
    """The innermost functions that hold the given lines (from 1) of a file's text, each once.

    Lines outside of all functions belong to none; a text that cannot be parsed has none.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    spans = [
        (node.lineno, node.end_lineno or node.lineno, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found: dict[tuple[int, str], Touched] = {}
    for line in lines:
        around = [s for s in spans if s[0] <= line <= s[1]]
        if around:
            begin, _, name = max(around)
            found.setdefault((begin, name), Touched(file=file, function=name, line=begin))
    return tuple(found.values())


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
    return tuple(_moved(spot, files.get(spot.file)) for spot in spots)


def _moved(spot: Spot, text: str | None) -> Spot:
    if text is None:
        return spot
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return spot
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == spot.function
    ]
    return replace(spot, line=min(lines, key=lambda n: abs(n - spot.line))) if lines else spot
