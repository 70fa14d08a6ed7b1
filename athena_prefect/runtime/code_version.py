"""The commit that a project's folder has checked out, and which of its files are not as in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PATIENCE = 2.0
"""Seconds for git to compare the files with the commit: a run is not to wait longer for it."""
MOST = 200
"""Files that are named: of more, the code is another altogether."""


def uncommitted(root: Path) -> list[str] | None:
    """The Python files below `root` that are not as in the commit; None where git cannot say."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "-c", "core.fsmonitor=false", "diff", "--name-only",
             "--relative", "-z", "--no-ext-diff", "--no-textconv", "HEAD", "--", "*.py"],
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    named = done.stdout.decode(errors="replace").split("\0")
    return [name for name in named if name][:MOST]


def commit_of(root: Path) -> str | None:
    """The commit checked out in the git checkout that `root` is in; None where there is none.

    Read from git's own files, so that it is known where git is not installed, too.
    """
    for folder in (root, *root.parents):
        found = folder / ".git"
        try:
            if found.is_dir():
                return _head(found)
            if found.is_file():  # a further work tree, or a submodule
                said = found.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
                return _head((folder / said).resolve())
        except (OSError, UnicodeDecodeError):
            return None
    return None


def _head(git: Path) -> str | None:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return _commit(head)
    name = head.removeprefix("ref:").strip()
    common = git
    if (git / "commondir").is_file():
        common = (git / (git / "commondir").read_text(encoding="utf-8").strip()).resolve()
    for place in (git, common):
        if (place / name).is_file():
            return _commit((place / name).read_text(encoding="utf-8").strip())
    packed = common / "packed-refs"
    for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
        sha, _, ref = line.partition(" ")
        if ref == name:
            return _commit(sha)
    return None


def _commit(text: str) -> str | None:
    """`text` where it is a commit's name, of 40 digits or of 64."""
    hexadecimal = all(c in "0123456789abcdef" for c in text)
    return text if len(text) in (40, 64) and hexadecimal else None
