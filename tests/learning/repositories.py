"""Git repositories with a history, runs of a plan out of them, and a slowdown or none planted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.learning.records import TaskRecord
from athena_prefect.plan.model import Plan
from athena_prefect.service.learning import learn
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.records import ExecutionRecords
from athena_prefect.storage.sql_journal import SqlJournal

T0 = datetime(2026, 1, 5, 4, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 40
PLAN = """\
name: nightly
tasks:
  - {id: load, call: "tasks.load:run", duration: 1m}
  - {id: report, call: "tasks.report:run", duration: 1m, depends_on: [load]}
"""
PLACES = ("own function", "helper module", "helper of a helper")
STABLE = ("stable", "outliers", "input size", "machine", "slow and mended")
MODULES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tasks/load.py": {
        "run": ("read", "fetch", "parse.lines"),
        "read": (),
        "fetch": ("clean.rows",),
    },
    "lib/parse.py": {"lines": ("fields", "deep.decode"), "fields": ()},
    "lib/clean.py": {"rows": ("deep.trim",), "spare": ()},
    "lib/deep.py": {"decode": (), "trim": ()},
    "tasks/report.py": {"run": ("draw",), "draw": ()},
    "lib/unused.py": {"never": ()},
}
"""Module → its functions → what each calls."""
WHERE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "own function": (("tasks/load.py", "read"), ("tasks/load.py", "fetch")),
    "helper module": (("lib/parse.py", "fields"), ("lib/clean.py", "rows")),
    "helper of a helper": (("lib/deep.py", "decode"), ("lib/deep.py", "trim")),
}
LOOPS = 3000
"""Of each function at first: some tenths of a millisecond."""


@dataclass(slots=True)
class Case:
    """A repository, its runs in a database, and what is to be found in it."""

    root: Path
    settings: AthenaSettings
    guilty: str = ""
    spot: tuple[str, str] = ("", "")
    """File and function."""


def git_in(root: Path, *words: str, at: datetime = T0) -> str:
    """What git says; commits are some one's, at `at`, whatever this machine has configured."""
    moment = f"{int(at.timestamp())} +0000"
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(root),
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment,
    }  # fmt: skip
    who = ("-c", "user.name=Some One", "-c", "user.email=some@one.example")
    done = subprocess.run(
        ["git", "-C", str(root), *who, *words],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@dataclass(slots=True)
class Project:
    """A repository whose modules are written out anew at each commit."""

    root: Path
    rng: np.random.Generator
    loops: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """A module's file as it is called now."""
    loose: set[str] = field(default_factory=set)
    """Modules that are laid out otherwise."""
    other: int = 0

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "pyproject.toml").touch()
        (self.root / "plan.yaml").write_text(PLAN)
        self.git("init", "--quiet", "--initial-branch=main")
        for file, functions in MODULES.items():
            self.names[file], self.notes[file] = file, 0
            for function in functions:
                self.loops[file, function] = LOOPS

    def git(self, *words: str, at: datetime = T0) -> str:
        return git_in(self.root, *words, at=at)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def write(self) -> None:
        for file, functions in MODULES.items():
            path = self.root / self.names[file]
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(self._text(file, functions))

    def _text(self, file: str, functions: Mapping[str, tuple[str, ...]]) -> str:
        used = sorted({c.split(".")[0] for calls in functions.values() for c in calls if "." in c})
        now = {Path(f).stem: Path(n).stem for f, n in self.names.items()}
        lines = [f"from lib import {now[name]} as {name}" for name in used]
        gap = "\n\n\n" if file not in self.loose else "\n\n"
        for name, calls in functions.items():
            head = f"def {name}():" if file not in self.loose else f"def {name}(\n):"
            body = [
                f"    # note {self.notes[file]}",
                "    total = 0",
                f"    for i in range({self.loops[file, name]}):",
                "        total += i * i",
                *(f"    total += {call}()" for call in calls),
                "    return total",
            ]
            lines.append(gap.strip("\n") + "\n" + "\n".join([head, *body]))
        return gap.join(lines) + "\n"

    def commit(self, subject: str, at: datetime) -> str:
        self.write()
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject, at=at)
        return self.head

    def seconds(self) -> float:
        """What a run of `load` takes: a second for each loop count at first."""
        return sum(self.loops[f, n] for f, n in self.loops if f not in ELSEWHERE) / LOOPS

    def elsewhere(self, at: datetime) -> None:
        self.other += 1
        (self.root / "README.md").write_text(f"{self.other}\n")
        self.loops["lib/unused.py", "never"] += 1
        self.commit("words", at)

    def harmless(self, at: datetime) -> None:
        """A change of what code says and not of what it does."""
        file = str(self.rng.choice(CLOSURE))
        if self.rng.random() < 0.5:
            self.notes[file] += 1
        else:
            self.loose ^= {file}
        self.commit("tidy", at)

    def code(self, at: datetime) -> None:
        """A change of what code does, by next to nothing."""
        file, function = list(self.loops)[int(self.rng.integers(len(self.loops)))]
        self.loops[file, function] += 3
        self.commit("a little thing", at)

    def renamed(self, file: str, at: datetime) -> None:
        new = self.names[file].replace(".py", "_module.py")
        self.git("mv", self.names[file], new)
        self.names[file] = new
        self.commit("another name", at)


ELSEWHERE = {"tasks/report.py", "lib/unused.py"}
CLOSURE = [f for f in MODULES if f not in ELSEWHERE]


def planted(root: Path, *, place: str, seed: int, recorded: bool = True) -> Case:
    """A history in which a function of `place` became slow; `recorded`: runs say their commit."""
    rng = np.random.default_rng(seed)
    project = Project(root / "project", rng)
    project.commit("first", T0 - DAY)
    spot = WHERE[place][int(rng.integers(2))]
    day = int(rng.integers(14, 29))
    merged, rename = rng.random() < 0.5, int(rng.integers(5, 36))
    guilty = ""
    runs: list[tuple[str | None, float]] = []
    for today in range(DAYS):
        at = T0 + today * DAY - timedelta(hours=2)
        if merged and today == day - 3:
            # On a branch that comes to main three days later.
            project.git("checkout", "--quiet", "-b", "faster")
            before = dict(project.loops)
            project.loops[spot] = int(LOOPS * rng.uniform(8, 16))
            guilty = project.commit("faster, they said", at)
            project.git("checkout", "--quiet", "main")
            slow, project.loops = project.loops[spot], before
        elif today == day:
            if merged:
                project.git("merge", "--quiet", "--no-ff", "--no-commit", "-X", "ours", "faster")
                project.loops[spot] = slow
                project.commit("merge of faster", at)
            else:
                project.loops[spot] = int(LOOPS * rng.uniform(8, 16))
                guilty = project.commit("faster, they said", at)
        elif today == rename:
            project.renamed("lib/parse.py" if seed % 2 else "lib/clean.py", at)
        elif rng.random() < 0.5:
            make = (project.harmless, project.code, project.elsewhere)[int(rng.integers(3))]
            make(at)
        if rng.random() < 0.3:
            make = (project.harmless, project.elsewhere)[int(rng.integers(2))]
            make(at + timedelta(minutes=30))
        runs.append((project.head if recorded else None, project.seconds()))
    return _stored(project, runs, guilty, (project.names[spot[0]], spot[1]), rng)


def quiet(root: Path, *, kind: str, seed: int) -> Case:
    """A history in which no code became slow."""
    rng = np.random.default_rng(seed)
    project = Project(root / "project", rng)
    project.commit("first", T0 - DAY)
    day = int(rng.integers(14, 29))
    runs: list[tuple[str | None, float]] = []
    hosts, rows = ["one"] * DAYS, [1000.0] * DAYS
    for today in range(DAYS):
        at = T0 + today * DAY - timedelta(hours=2)
        if rng.random() < 0.5:
            (project.harmless, project.code, project.elsewhere)[int(rng.integers(3))](at)
        factor = 1.0
        if kind == "outliers" and rng.random() < 0.05:
            factor = float(rng.uniform(3, 20))
        if kind == "input size":
            rows[today] = float(rng.uniform(900, 1100)) * (1.0 if today < day else 2.0)
            factor = rows[today] / 1000
        if kind == "machine" and today >= day:
            hosts[today], factor = "two", 1.6
        if kind == "slow and mended" and 15 <= today < 25:
            factor = 2.0
        runs.append((project.head, project.seconds() * factor))
    given = [{"rows": r} if kind == "input size" else {} for r in rows]
    return _stored(project, runs, "", ("", ""), rng, hosts=hosts, used=given)


def _stored(
    project: Project,
    runs: list[tuple[str | None, float]],
    guilty: str,
    spot: tuple[str, str],
    rng: np.random.Generator,
    *,
    hosts: list[str] | None = None,
    used: list[dict[str, float]] | None = None,
) -> Case:
    """The runs in a database; the newest was sampled."""
    settings = AthenaSettings(home=project.root.parent / "home")
    database, plan = Database.open(settings), Plan.load(project.root / "plan.yaml")
    store, records, journal = PlanStore(database), ExecutionRecords(database), SqlJournal(database)
    noise = float(rng.uniform(0.05, 0.15))
    for day, (commit, seconds) in enumerate(runs):
        run, begun = uuid4(), T0 + day * DAY
        took = timedelta(seconds=seconds * float(np.exp(rng.normal(0, noise))))
        store.open_run(run, plan, started=begun)
        journal.append(
            RunEvent(plan_run=run, kind=RunEventKind.STARTED, at=begun,
                     data={"commit": commit, "host": hosts[day] if hosts else "one"}),
        )  # fmt: skip
        if day == len(runs) - 1:
            journal.append(
                TaskEvent(plan_run=run, task_id="load", kind=TaskEventKind.ENDED, at=begun,
                          source="s", outcome=TaskOutcome.SUCCESS,
                          data={"profile": sampled(project.root)}),
            )  # fmt: skip
        rest = timedelta(seconds=30 * float(np.exp(rng.normal(0, noise))))
        shared: dict[str, Any] = {"outcome": TaskOutcome.SUCCESS, "queue_time": timedelta(0),
                                  "planned_duration": timedelta(minutes=1)}  # fmt: skip
        records.write(run, [
            TaskRecord(task_id="load", planned_start=begun, actual_start=begun,
                       actual_duration=took, resources_used=used[day] if used else {}, **shared),
            TaskRecord(task_id="report", planned_start=begun + timedelta(minutes=1),
                       actual_start=begun + took, actual_duration=rest, **shared),
        ])  # fmt: skip
        store.set_run_status(run, "completed", ended=begun + took + rest)
    return Case(project.root, settings, guilty, spot)


SAMPLED = """
import json, sys
from athena_prefect.runtime.profiling import profiled
sys.path.insert(0, sys.argv[1])
from tasks.load import run
with profiled(sys.argv[1]) as spots:
    for _ in range(40):
        run()
print(json.dumps([s.as_dict() for s in spots]))
"""


def sampled(root: Path) -> list[dict[str, Any]]:
    """Where the profiler finds the time of the task, as the checkout is now."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", SAMPLED, str(root)], check=True, capture_output=True, text=True,
        cwd=root,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def found_in(case: Case) -> dict[str, Any]:
    """What learning says of `load`, as data; empty where it says that nothing became slow."""
    found = learn(case.root / "plan.yaml", settings=case.settings)
    return next((s.as_dict() for s in found.slowdowns if s.task_id == "load"), {})
