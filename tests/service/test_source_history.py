"""A slowdown that is planted in a real git repository is found: its commit and its function."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from athena_prefect.learning.code import Timing
from athena_prefect.runtime.code_version import uncommitted
from athena_prefect.service.source_history import NoHistoryError, SourceHistory
from tests.learning.repositories import PLACES, found_in, git_in, planted, quiet

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
CALL = "tasks.load:run"
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
        return git_in(self.root, *words, at=at)

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


def run_at(commit: str | None = None, day: float = 0, *changed: str) -> Timing:
    return Timing(at=T0 + day * DAY, seconds=1, version=commit, changed=frozenset(changed))


def shas(history: SourceHistory, one: Timing, other: Timing) -> list[str]:
    found = history.between(CALL, one, other)
    assert found.unknown == ""
    return [c.sha for c in found.commits]


def test_the_commits_between_two_runs_and_the_functions_that_they_changed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.loops["clean"] = 400
    second = checkout.commit("slower", T0 + DAY)
    history = SourceHistory(tmp_path)
    assert shas(history, run_at(first), run_at(second)) == [second]
    (found,) = history.between(CALL, run_at(first), run_at(second)).commits
    assert [t.function for t in found.touched] == ["clean"] and not found.elsewhere
    assert found.subject == "slower" and found.author == "Some One"
    third = checkout.elsewhere(T0 + 2 * DAY)
    assert shas(history, run_at(second), run_at(third)) == []
    # Runs that did not say what they ran had what was there then.
    history = SourceHistory(tmp_path)
    assert history.head == third
    assert shas(history, run_at(day=0.5), run_at(day=1.5)) == [second]
    assert "no commit was there yet" in history.between(CALL, run_at(day=-1), run_at()).unknown


def test_what_only_looks_otherwise_is_no_commit_to_the_code(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.notes = 7
    second = checkout.commit("words in the code", T0 + DAY)
    assert shas(SourceHistory(tmp_path), run_at(first), run_at(second)) == []


def test_what_was_merged_is_named_and_not_the_merge(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.git("checkout", "--quiet", "-b", "side")
    checkout.loops["clean"] = 400
    side = checkout.commit("slower", T0 + DAY)
    checkout.git("checkout", "--quiet", "main")
    other = checkout.elsewhere(T0 + 2 * DAY)
    checkout.git("merge", "--quiet", "--no-ff", "-m", "merge", "side", at=T0 + 3 * DAY)
    merge = checkout.git("rev-parse", "HEAD")
    history = SourceHistory(tmp_path)
    assert shas(history, run_at(first), run_at(other)) == []
    assert shas(history, run_at(other), run_at(merge)) == [side]
    # By dates: the branch came with its merge, not when it was made.
    assert shas(history, run_at(day=0.5), run_at(day=1.5)) == []
    assert shas(history, run_at(day=2.5), run_at(day=3.5)) == [side]
    # Gone back to before it.
    assert "went back" in history.between(CALL, run_at(merge), run_at(other)).unknown


def test_a_module_that_was_renamed_since_is_followed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    (tmp_path / "lib").mkdir()
    helper = tmp_path / "lib" / "old.py"
    body = "def deep():\n    return {}\n\n\ndef still():\n    return [1, 2, 3, 4, 5, 6, 7]\n"
    for k, name in enumerate(("old", "old", "new")):
        if name == "new":
            checkout.git("mv", "lib/old.py", "lib/new.py")
            helper = tmp_path / "lib" / "new.py"
        helper.write_text(body.format(min(k, 1)))
        (tmp_path / "tasks" / "job.py").write_text(
            f"from lib import {name} as helper\n\n\ndef run():\n    return helper.deep()\n"
        )
        checkout.commit(f"commit {k}", T0 + k * DAY)
    log = checkout.git("log", "--format=%H").split()
    history = SourceHistory(tmp_path)
    (found,) = history.between("tasks.job:run", run_at(log[2]), run_at(log[1])).commits
    assert [(t.file, t.function, t.line) for t in found.touched] == [("lib/new.py", "deep", 1)]
    (renamed,) = history.between("tasks.job:run", run_at(log[1]), run_at(log[0])).commits
    assert renamed.touched == () and not renamed.elsewhere


def test_a_branch_in_which_the_module_had_its_old_name_is_merged(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    job, old = tmp_path / "tasks" / "job.py", tmp_path / "tasks" / "old.py"
    call = "from tasks import {} as helper\n\n\ndef run():\n    return helper.deep()\n"
    body = "def deep():\n    return {}\n\n\ndef still():\n    return [1, 2, 3, 4, 5, 6, 7]\n"
    job.write_text(call.format("old"))
    old.write_text(body.format(1))
    checkout.commit("first", T0)
    checkout.git("checkout", "--quiet", "-b", "side")
    old.write_text(body.format(2))
    side = checkout.commit("slower", T0 + DAY)
    checkout.git("checkout", "--quiet", "main")
    checkout.git("mv", "tasks/old.py", "tasks/new.py")
    job.write_text(call.format("new"))
    renamed = checkout.commit("another name", T0 + 2 * DAY)
    checkout.git("merge", "--quiet", "--no-ff", "-m", "merge", "side", at=T0 + 3 * DAY)
    merge = checkout.git("rev-parse", "HEAD")
    history = SourceHistory(tmp_path)
    (found,) = history.between("tasks.job:run", run_at(renamed), run_at(merge)).commits
    assert found.sha == side
    assert [(t.file, t.function) for t in found.touched] == [("tasks/new.py", "deep")]


def test_runs_with_changes_that_nobody_committed_blame_no_commit(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.loops["clean"] = 400
    second = checkout.commit("slower", T0 + DAY)
    assert uncommitted(tmp_path) == []
    (tmp_path / "tasks" / "load.py").write_text("def run(): ...\n")
    (tmp_path / "README.md").write_text("words\n")
    assert uncommitted(tmp_path) == ["tasks/load.py"]
    history = SourceHistory(tmp_path)
    dirty = run_at(second, 0, "tasks/load.py")
    assert "nobody had committed" in history.between(CALL, run_at(first), dirty).unknown
    unconcerned = run_at(second, 0, "tasks/other.py")
    assert shas(history, run_at(first), unconcerned) == [second]


def test_a_shallow_checkout_says_what_it_knows_and_no_more(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "whole")
    versions = []
    for k in range(4):
        checkout.loops["clean"] = 40 + k
        versions.append(checkout.commit(f"commit {k}", T0 + k * DAY))
    url = f"file://{tmp_path / 'whole'}"
    checkout.git("clone", "--quiet", "--depth=2", url, str(tmp_path / "shallow"))
    history = SourceHistory(tmp_path / "shallow")
    assert history.missing == ""
    assert shas(history, run_at(versions[2]), run_at(versions[3])) == [versions[3]]
    gone = history.between(CALL, run_at(versions[1]), run_at(versions[3])).unknown
    assert gone == f"commit {versions[1][:10]}, which ran, is not in the checkout"
    assert "shallow" in history.between(CALL, run_at(day=0.5), run_at(day=3.5)).unknown


def test_what_is_checked_out_now_does_not_matter(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    first = checkout.commit("first", T0)
    checkout.loops["clean"] = 400
    second = checkout.commit("slower", T0 + DAY)
    checkout.git("checkout", "--quiet", "--detach", first)
    assert shas(SourceHistory(tmp_path), run_at(first), run_at(second)) == [second]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.skipif(not PROFILED, reason="needs the extra `profile`")
def test_a_planted_slowdown_is_found_with_commit_and_function(tmp_path: Path, place: str) -> None:
    for seed in range(2):
        case = planted(tmp_path / str(seed), place=place, seed=seed)
        said = found_in(case)
        assert said["commit"] == case.guilty
        assert (said["file"], said["function"]) == case.spot


@pytest.mark.parametrize("kind", ["stable", "input size", "machine"])
def test_no_alarm_where_no_code_became_slow(tmp_path: Path, kind: str) -> None:
    assert found_in(quiet(tmp_path, kind=kind, seed=3)) == {}


def test_a_project_below_the_top_of_its_repository(tmp_path: Path) -> None:
    inner = Checkout(tmp_path)
    first = inner.commit("first", T0)
    file = tmp_path / "project" / "tasks" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    return 1\n")
    second = inner.commit("inner", T0 + DAY)
    file.write_text("def f():\n    return 2\n")
    third = inner.commit("more", T0 + 2 * DAY)
    history = SourceHistory(tmp_path / "project")
    (found,) = history.between("tasks.a:f", run_at(second), run_at(third)).commits
    assert found.sha == third and [(t.file, t.function) for t in found.touched] == [
        ("tasks/a.py", "f")
    ]
    assert (
        "not in the project" in history.between("tasks.b:f", run_at(first), run_at(third)).unknown
    )
    assert uncommitted(tmp_path / "project") == []


def test_no_checkout_is_said_and_nothing_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    history = SourceHistory(tmp_path)
    assert "not a git repository" in history.missing or "git" in history.missing
    with pytest.raises(NoHistoryError):
        _ = history.head
    assert uncommitted(tmp_path) is None
    assert history.between(CALL, run_at(), run_at()).unknown != ""
    monkeypatch.setenv("PATH", "")
    assert SourceHistory(tmp_path).missing == "git is not installed"
