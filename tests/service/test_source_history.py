"""A slowdown that is planted in a real git repository is found: its commit and its function."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from athena_prefect.learning.code import Timing, slowdown, sources
from athena_prefect.runtime.profiling import profiled
from athena_prefect.service.source_history import NoHistoryError, SourceHistory

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
STEPS = ("read", "parse", "clean", "join")
PROFILED = importlib.util.find_spec("pyinstrument") is not None


class Checkout:
    """A git repository with a task of four steps, to which commits are made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "tasks").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.loops = dict.fromkeys(STEPS, 40)
        self.notes = 0

    def git(self, *words: str, at: datetime = T0) -> str:
        moment = f"{int(at.timestamp())} +0000"
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.root),
            "GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment,
        }  # fmt: skip
        who = ("-c", "user.name=Some One", "-c", "user.email=some@one.example")
        done = subprocess.run(
            ["git", "-C", str(self.root), *who, *words],
            env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, subject: str, at: datetime) -> str:
        steps = "\n\n".join(
            f"def {name}():\n    # note {self.notes}\n    return spin({loops})"
            for name, loops in self.loops.items()
        )
        calls = "\n".join(f"    {name}()" for name in STEPS)
        head = "def spin(n):\n    return sum(i * i for i in range(n * 1000))\n\n\n"
        text = f'"""A task."""\n\n\n{head}{steps}\n\n\ndef run():\n{calls}\n'
        # What is hot itself is `spin`, which all steps share: the step is to be found.
        (self.root / "tasks" / "load.py").write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject, at=at)
        return self.git("rev-parse", "HEAD")

    def elsewhere(self, at: datetime) -> str:
        self.notes += 1
        (self.root / "README.md").write_text(f"{self.notes}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "-m", "words", at=at)
        return self.git("rev-parse", "HEAD")


def planted(root: Path, rng: np.random.Generator) -> tuple[Checkout, str, str, list[Timing]]:
    """A checkout, the commit and the function that are slow, and the runs' durations."""
    checkout = Checkout(root)
    runs = 40
    guilty_day = int(rng.integers(12, 28))
    step = str(rng.choice(STEPS))
    guilty = ""
    commits: dict[int, str] = {0: checkout.commit("first", T0 - DAY)}
    for day in range(1, runs):
        at = T0 + day * DAY - timedelta(hours=1)
        if day == guilty_day:
            checkout.loops[step] *= 6
            guilty = commits[day] = checkout.commit("faster, they said", at)
        elif rng.random() < 0.25:
            checkout.notes += 1
            commits[day] = checkout.commit("harmless", at)
        elif rng.random() < 0.3:
            commits[day] = checkout.elsewhere(at)
    factor = (sum(checkout.loops.values())) / (4 * 40)
    history: list[Timing] = []
    for day in range(runs):
        slow = factor if day >= guilty_day else 1.0
        seconds = 30 * slow * float(np.exp(rng.normal(0, 0.2)))
        history.append(Timing(at=T0 + day * DAY, seconds=seconds))
    return checkout, guilty, step, history


@pytest.fixture
def imported() -> Any:
    def load(file: Path) -> Any:
        spec = importlib.util.spec_from_file_location("planted_load", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.skipif(not PROFILED, reason="needs the extra `profile`")
def test_planted_slowdowns_are_found_with_commit_and_function(
    tmp_path: Path, imported: Any
) -> None:
    right = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        checkout, guilty, step, timings = planted(tmp_path / str(seed), rng)
        history = SourceHistory(checkout.root)
        files = sources("tasks.load:run", history.files)
        module = imported(checkout.root / "tasks" / "load.py")
        with profiled(checkout.root, expected=0.1) as spots:
            module.run()
        found = slowdown("load", timings, history.commits(files), rng=rng, spots=spots)
        if found is None or found.commit is None:
            continue
        found = history.with_touched(found, files)
        assert found.place is not None
        right += found.commit is not None and (found.commit.sha, found.place.function) == (
            guilty,
            step,
        )
    assert right >= 9


def test_the_only_changed_function_is_named_without_a_profile(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.loops["clean"] = 400
    second = checkout.commit("slower", T0 + DAY)
    history = SourceHistory(tmp_path)
    files = ("tasks/load.py",)
    assert [c.sha for c in history.commits(files)] == [first, second]
    assert [t.function for t in history.touched(second, files)] == ["clean"]
    assert {t.function for t in history.touched(first, files)} >= {*STEPS, "run"}
    third = checkout.elsewhere(T0 + 2 * DAY)
    assert history.version(third, files) == second
    assert history.version("0" * 40, files) is None
    assert SourceHistory(tmp_path).head == third


def test_a_project_below_the_top_of_its_repository(tmp_path: Path) -> None:
    inner = Checkout(tmp_path)
    (tmp_path / "project" / "tasks").mkdir(parents=True)
    (tmp_path / "project" / "tasks" / "a.py").write_text("def f():\n    return 1\n")
    sha = inner.commit("inner", T0)
    history = SourceHistory(tmp_path / "project")
    assert [c.sha for c in history.commits(("tasks/a.py",))] == [sha]
    assert [t.function for t in history.touched(sha, ("tasks/a.py",))] == ["f"]


def test_no_checkout_is_said_and_nothing_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    history = SourceHistory(tmp_path)
    assert "not a git repository" in history.missing or "git" in history.missing
    with pytest.raises(NoHistoryError):
        _ = history.head
    assert history.commits(()) == ()
    monkeypatch.setenv("PATH", "")
    assert SourceHistory(tmp_path).missing == "git is not installed"


def test_uncommitted_changes_are_seen(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.commit("first", T0)
    history = SourceHistory(tmp_path)
    assert history.missing == "" and not history.changed()
    (tmp_path / "tasks" / "load.py").write_text("def run(): ...\n")
    assert history.changed()
