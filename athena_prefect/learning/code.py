"""Which commit made a task slow, and in which function its time goes.

Pure: what git and the profiler know is handed in. Where the durations do not show
a change, no commit came with it, or several could be it, nothing more is said than
is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from athena_prefect.learning.change_points import ALPHA, Change, slower_since
from athena_prefect.learning.comparable import of_one_size, same
from athena_prefect.learning.sources import Touched
from athena_prefect.learning.spots import Spot

LIKELY = 0.01
"""P(the slow part begins with this run) from which git is asked what came with the run."""
COLD = 0.1
"""How much likelier it is that what is slow was changed itself, than that what was changed takes
no time and makes others slow: ten times, so that of a dozen cold changes none hides a hot one."""
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
    """The commit that its project had checked out; None where that is not known."""
    run: str = ""
    host: str = ""
    """The machine that it ran on; empty where that is not known."""
    sizes: Mapping[str, float] = field(default_factory=dict)
    """Quantities that it reported, such as rows."""
    changed: frozenset[str] = frozenset()
    """Files, below the project's root, that were not as in the commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit to the sources of a task."""

    sha: str
    at: datetime
    subject: str = ""
    author: str = ""
    touched: tuple[Touched, ...] = ()
    elsewhere: bool = False
    """It changed what stands outside of functions, too, and is no import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """What git knows of the code of two runs, one after the other."""

    commits: tuple[Commit, ...] = ()
    """To the task's sources, that the later run had and the earlier one had not."""
    unknown: str = ""
    """Why that cannot be known; empty where it can."""


Asked = Callable[[Timing, Timing], Between]
"""What came between two runs; asked only of those between which a change may be."""


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

    @property
    def suggestion(self) -> str:
        """What to look at, by file and line, or at what commit; empty where neither is known."""
        place, commit = self.place, self.commit
        what = "" if place is None else f"{place.function} ({place.file}:{place.line})"
        if commit is not None:
            seen = f"what commit {commit.sha[:10]} changed"
            what = f"{seen} in {what}" if what else seen
        return f"look at {what}" if what else ""

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
            "suggestion": self.suggestion,
            "words": str(self),
        }


def slowdown(
    task_id: str,
    timings: Sequence[Timing],
    between: Asked | None = None,
    *,
    rng: np.random.Generator,
    spots: Iterable[Spot] = (),
    among: int = 1,
    alpha: float = ALPHA,
    calls: str = "",
) -> Slowdown | None:
    """Whether a task is slower than it was, and the commits that may be why; None where it is not.

    `timings` in the order of the runs. Runs are compared on the same machine and, where
    they reported what they had to do, for the same of it. `among`: how many tasks are
    looked at, which the level `alpha` is shared by (Bonferroni).
    """
    seconds = of_one_size([t.seconds for t in timings], [t.sizes for t in timings])
    change = slower_since(
        seconds, rng=rng, alpha=alpha / max(among, 1), alike=same([t.host for t in timings])
    )
    if change is None:
        return None
    ranked = tuple(sorted(spots, key=lambda s: -s.own))
    found = Slowdown(
        task_id=task_id,
        change=change,
        since=timings[change.index].at,
        spots=ranked,
        calls=calls,
    )
    return found if between is None else explained(found, timings, between)


def explained(slow: Slowdown, timings: Sequence[Timing], between: Asked) -> Slowdown:
    """`slow` with the commits that may be why, or why none is named."""
    suspects, reason = suspected(slow.change, timings, between, slow.spots)
    return replace(slow, suspects=suspects, reason=reason)


def suspected(
    change: Change, timings: Sequence[Timing], between: Asked, spots: Sequence[Spot] = ()
) -> tuple[tuple[Suspect, ...], str]:
    """The commits that came between the last fast and the first slow run, with why there are none.

    Each place where the change may be has its probability; the commits that came
    there share it, by how much of the time goes where they changed something.
    Where most of it falls where no commit came, the code is not why, or not the code
    that is known.
    """
    known: dict[str, Commit] = {}
    weights: dict[str, float] = {}
    without: dict[str, float] = {}
    for i, probability in enumerate(change.places):
        if probability < LIKELY or i == 0:
            continue
        found = between(timings[i - 1], timings[i])
        if found.unknown or not found.commits:
            why = found.unknown or "no commit to its sources came with the change"
            without[why] = without.get(why, 0.0) + probability
            continue
        heat = [_heat(c, spots, change) for c in found.commits]
        for commit, part in zip(found.commits, heat, strict=True):
            known[commit.sha] = commit
            share = probability * part / sum(heat)
            weights[commit.sha] = weights.get(commit.sha, 0.0) + share
    total = sum(weights.values())
    if total <= sum(without.values()):
        return (), max(without, key=lambda why: without[why], default="")
    ranked = sorted(weights, key=lambda sha: -weights[sha])
    suspects = tuple(
        Suspect(commit=known[sha], probability=weights[sha] / total)
        for sha in ranked
        if weights[sha] >= LIKELY * total
    )
    if suspects[0].probability <= SURE:
        names = ", ".join(s.commit.sha[:10] for s in suspects[:5])
        return suspects, f"one of several commits: {names}"
    return suspects, ""


def _heat(commit: Commit, spots: Sequence[Spot], change: Change) -> float:
    """How much of what the change took more falls where a commit changed something; to 1."""
    if not spots or commit.elsewhere:
        return 1.0
    changed = {(t.file, t.function) for t in commit.touched}
    hottest = max((s.below for s in spots if (s.file, s.function) in changed), default=0.0)
    needed = 1.0 - 1.0 / change.ratio
    return max(min(hottest / needed, 1.0), COLD)
