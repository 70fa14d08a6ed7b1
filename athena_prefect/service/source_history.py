"""What git knows of a project's files; where there is no checkout, why nothing is known."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from athena_prefect.errors import AthenaError
from athena_prefect.learning.code import Commit, Slowdown, Suspect, Touched, functions_at

PATIENCE = 10.0
"""Seconds for one question to git; of 100,000 commits it tells those to a file in about one."""
COMMITS = 1000
"""Newest commits to a task's sources that are looked at."""
LARGEST = 2_000_000
"""Bytes of a file that is read as a module: longer ones are data."""
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


class NoHistoryError(AthenaError):
    """Git says nothing about this project; the message says why."""


class ProjectFiles(Mapping[str, str]):
    """Texts of a project's Python files by their path below `root`, read when asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._texts: dict[str, str | None] = {}

    def __getitem__(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = self._read(path)
        text = self._texts[path]
        if text is None:
            raise KeyError(path)
        return text

    def _read(self, path: str) -> str | None:
        file = self._root / path
        try:
            if not file.is_file() or file.stat().st_size > LARGEST:
                return None
            return file.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            return None

    def __iter__(self) -> Iterator[str]:
        return iter([p for p, text in self._texts.items() if text is not None])

    def __len__(self) -> int:
        return len(list(iter(self)))


class SourceHistory:
    """The commits of the git checkout that a project's root is in."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.files = ProjectFiles(self.root)

    @cached_property
    def head(self) -> str:
        """The commit that is checked out. Raises NoHistoryError."""
        return self._git("rev-parse", "--verify", "HEAD^{commit}")

    @property
    def missing(self) -> str:
        """Why nothing is known here; empty where something is."""
        try:
            _ = self.head
            if self._git("rev-parse", "--is-shallow-repository") == "true":
                return "the git checkout is shallow: its history is cut off"
        except NoHistoryError as error:
            return error.message
        return ""

    def changed(self) -> bool:
        """Whether files that git keeps differ from `head`. Raises NoHistoryError."""
        return bool(self._git("status", "--porcelain", "--untracked-files=no", "--", "."))

    def commits(self, files: Sequence[str]) -> tuple[Commit, ...]:
        """The commits to `files` (below the root), the oldest first. Raises NoHistoryError."""
        if not files:
            return ()
        told = self._git(
            "log", "--topo-order", f"--max-count={COMMITS}", "--format=%H%x1f%ct%x1f%an%x1f%s",
            self.head, "--", *_literal(files),
        )  # fmt: skip
        found = [line.split("\x1f", 3) for line in told.splitlines()]
        return tuple(
            Commit(sha=sha, at=datetime.fromtimestamp(int(at), UTC), author=author, subject=subject)
            for sha, at, author, subject in reversed(found)
        )

    def version(self, commit: str, files: Sequence[str]) -> str | None:
        """The last commit to `files` that `commit` has; None where `commit` is not known here."""
        try:
            return self._git("rev-list", "-1", commit, "--", *_literal(files)) or None
        except NoHistoryError:
            return None

    def with_touched(self, found: Slowdown, files: Sequence[str], *, most: int = 3) -> Slowdown:
        """`found` with the functions that its likeliest commits changed."""
        named = tuple(
            Suspect(
                commit=replace(s.commit, touched=self.touched(s.commit.sha, files)),
                probability=s.probability,
            )
            for s in found.suspects[:most]
        )
        return replace(found, suspects=(*named, *found.suspects[most:]))

    def touched(self, sha: str, files: Sequence[str]) -> tuple[Touched, ...]:
        """The functions of `files` whose lines a commit changed; those that it took out are not."""
        result: list[Touched] = []
        for file in files:
            try:
                text = self._git("show", f"{sha}:./{file}")
                hunks = self._git(
                    "show", "--format=", "--unified=0", "--first-parent", "-m", "--no-ext-diff",
                    "--no-textconv", "--relative", sha, "--", *_literal([file]),
                )  # fmt: skip
            except NoHistoryError:
                continue  # the file is not in that commit
            result += functions_at(file, text, _lines(hunks))
        return tuple(result)

    def _git(self, *words: str) -> str:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
        }  # fmt: skip
        try:
            # A session of its own, so that what git has started ends with it.
            process = subprocess.Popen(
                ["git", "-C", str(self.root), "-c", "core.fsmonitor=false", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise NoHistoryError("git is not installed") from None
        with process:
            try:
                output, errors = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise NoHistoryError(f"git {words[0]} took more than {PATIENCE:g} s") from None
        if process.returncode:
            said = errors.decode(errors="replace").strip().splitlines()
            raise NoHistoryError(said[0] if said else f"git {words[0]} failed")
        return output.decode(errors="replace").strip("\n")


def _literal(files: Sequence[str]) -> list[str]:
    return [f":(literal){file}" for file in files]


def _lines(hunks: str) -> list[int]:
    """The lines of the new file that hunks are about; for what was taken out, those around it."""
    lines: list[int] = []
    for match in _HUNK.finditer(hunks):
        first, count = int(match[1]), int(match[2] or 1)
        lines += range(first, first + count) if count else (first, first + 1)
    return lines
