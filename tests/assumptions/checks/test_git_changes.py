"""Changes in a real git repository, and a git that hangs."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from athena_prefect.assumptions.checks.registry import kind_named
from tests.assumptions.checks.observing import error, gone, value


def git(folder: Path, *words: str, when: str = "2026-11-01T00:00:00Z") -> str:
    environment = {
        **os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when,
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *who, *words], cwd=folder, env=environment, check=True, capture_output=True,
        text=True,
    ).stdout.strip()  # fmt: skip


def commit(folder: Path, when: str, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-m", when, when=when)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Three commits on three days; the second is tagged."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-b", "main")
    commit(folder, "2026-11-25T12:00:00Z", sql__a="1", other="1")
    commit(folder, "2026-11-26T12:00:00Z", sql__a="2")
    git(folder, "tag", "v1")
    commit(folder, "2026-11-27T11:00:00Z", sql__a="3", sql__b="1")
    return folder


def started(text: str) -> dict[str, Any]:
    return {"started": datetime.fromisoformat(text)}


def test_since_a_commit(repository: Path) -> None:
    assert value("git_changes", repository, since="v1") == {"commits": 1, "files": 2}
    other = value("git_changes", repository, since="v1", paths=["other"])
    assert other == {"commits": 0, "files": 0}
    assert value("git_changes", repository, since="v1", paths=["sql/b", "none"])["files"] == 1
    assert value("git_changes", repository, since="HEAD")["commits"] == 0
    assert value("git_changes", repository, since="v1~1", branch="v1")["commits"] == 1


def test_since_the_start_of_the_run(repository: Path) -> None:
    for moment, commits in (
        ("2026-11-27T11:30:00+00:00", 0),
        ("2026-11-27T11:00:00+01:00", 1),
        ("2026-11-26T11:00:00+00:00", 2),
        ("2026-11-01T00:00:00+00:00", 3),
    ):
        found = value("git_changes", repository, context=started(moment))
        assert found["commits"] == commits, moment
    below: dict[str, Any] = {"repository": str(repository / "sql"), "paths": ["sql"]}
    found = value("git_changes", context=started("2026-11-26T11:00:00+00:00"), **below)
    assert found == {"commits": 2, "files": 2}
    assert "no run has started" in error("git_changes", repository)


def test_what_was_merged_since_counts_though_it_is_older(repository: Path) -> None:
    git(repository, "switch", "-c", "side", "v1")
    commit(repository, "2026-11-26T13:00:00Z", late="1")
    git(repository, "switch", "main")
    git(repository, "merge", "--no-ff", "-m", "m", "side", when="2026-11-27T11:45:00Z")
    context = {"started": datetime(2026, 11, 27, 11, 30, tzinfo=UTC)}
    found = value("git_changes", repository, context=context)
    assert found == {"commits": 2, "files": 1}
    # Nothing of the merge itself is below this path, but its commit is.
    assert value("git_changes", repository, context=context, paths=["late"])["commits"] == 1


def test_repositories_and_commits_that_are_none(repository: Path, tmp_path: Path) -> None:
    assert "not a git repository" in error("git_changes", tmp_path, since="main")
    assert "nowhere" in error("git_changes", tmp_path, repository="nowhere", since="main")
    assert "git rev-parse" in error("git_changes", repository, since="no-such-commit")
    git(tmp_path, "clone", "--depth", "1", f"file://{repository}", "shallow")
    early = {"started": datetime(2026, 11, 26, 11, tzinfo=UTC)}
    assert "shallow" in error("git_changes", tmp_path, repository="shallow", context=early)
    for ref in ("--output=x", "a b", "a:b", ""):
        with pytest.raises(ValidationError, match="is no commit, branch or tag"):
            kind_named("git_changes").model_validate({"since": ref})


def test_a_git_that_hangs_is_killed_with_what_it_started(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/pid\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    # So long that it has begun also where the machine is busy.
    told = error("git_changes", repository, since="v1", timeout="4s")
    assert told == "git rev-parse was stopped after 3.2 s"
    child = int((tmp_path / "pid").read_text())
    for _ in range(2400):
        if gone(child):
            break
        time.sleep(0.05)
    assert gone(child)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error("git_changes", repository, since="v1") == "git is not installed"
