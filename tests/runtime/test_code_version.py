"""The commit of a checkout, read as git would say it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from athena_prefect.runtime.code_version import commit_of


def git(root: Path, *words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(root)}
    who = ("-c", "user.name=Some One", "-c", "user.email=some@one.example")
    done = subprocess.run(
        ["git", "-C", str(root), *who, *words],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_it_is_what_git_says_however_the_checkout_is_made(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "inner").mkdir(parents=True)
    assert commit_of(root / "inner") is None or len(commit_of(root / "inner") or "") >= 40
    git(root, "init", "--quiet", "--initial-branch=main")
    assert commit_of(root) is None, "there is no commit yet"
    git(root, "commit", "--quiet", "--allow-empty", "-m", "one")
    first = git(root, "rev-parse", "HEAD")
    assert commit_of(root) == commit_of(root / "inner") == first
    git(root, "pack-refs", "--all")
    assert commit_of(root) == first
    git(root, "worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    git(tmp_path / "side", "commit", "--quiet", "--allow-empty", "-m", "two")
    second = git(tmp_path / "side", "rev-parse", "HEAD")
    assert commit_of(tmp_path / "side") == second and commit_of(root) == first
    git(root, "checkout", "--quiet", "--detach", second)
    assert commit_of(root) == second
    (root / ".git" / "HEAD").write_text("nonsense")
    assert commit_of(root) is None
