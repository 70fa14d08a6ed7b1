"""What git knows of a project's files; where there is no checkout, why nothing is known."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from athena_prefect.errors import AthenaError
from athena_prefect.learning.code import Between, Commit, Timing
from athena_prefect.learning.sources import (
    Touched,
    changes_elsewhere,
    functions_at,
    line_now,
    same_code,
    sources,
)

PATIENCE = 10.0
"""Seconds for one question to git; of 100,000 commits it tells those to a file in about one."""
COMMITS = 50
"""Commits between two runs that are looked into: of more, one would hardly stand out."""
LARGEST = 2_000_000
"""Bytes of a file that is read as a module: longer ones are data."""
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
_FORMAT = "--format=%H%x1f%ct%x1f%an%x1f%s"


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


class CommittedFiles(Mapping[str, str]):
    """Texts of the files of a commit by their path below the project's root, read when asked for.

    `texts` is shared by the commits of a history: most files are the same in most of them.
    """

    def __init__(self, history: SourceHistory, commit: str, texts: dict[str, str]) -> None:
        self._history, self._texts = history, texts
        self._names: dict[str, str] = {}
        for line in history.git("ls-tree", "-r", "-z", commit).split("\0"):
            said, _, path = line.partition("\t")
            if path.endswith(".py"):
                self._names[path] = said.split()[2]

    def __getitem__(self, path: str) -> str:
        name = self._names[path]
        if name not in self._texts:
            self._texts[name] = self._history.git("cat-file", "blob", name)
        return self._texts[name]

    def name(self, path: str) -> str | None:
        """What git calls the file's content; alike where that is the same."""
        return self._names.get(path)

    def __contains__(self, path: object) -> bool:
        return path in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class SourceHistory:
    """The commits of the git checkout that a project's root is in."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.files = ProjectFiles(self.root)
        self._commits: dict[str, CommittedFiles] = {}
        self._texts: dict[str, str] = {}
        self._at: dict[datetime, str | None] = {}

    @cached_property
    def head(self) -> str:
        """The commit that is checked out. Raises NoHistoryError."""
        return self.git("rev-parse", "--verify", "HEAD^{commit}")

    @property
    def missing(self) -> str:
        """Why nothing is known here; empty where something is."""
        try:
            _ = self.head
        except NoHistoryError as error:
            return error.message
        return ""

    @cached_property
    def _cut_off(self) -> frozenset[str]:
        """The commits of a shallow checkout of which nothing is known before them."""
        if self.git("rev-parse", "--is-shallow-repository") != "true":
            return frozenset()
        file = self.root / self.git("rev-parse", "--git-path", "shallow")
        try:
            return frozenset(file.read_text(encoding="utf-8").split())
        except OSError:
            raise NoHistoryError("the git checkout is shallow: its history is cut off") from None

    def at(self, moment: datetime) -> str | None:
        """The commit that the line of the one checked out had then; None where there was none."""
        if moment not in self._at:
            seconds = int(moment.timestamp())
            said = self.git("rev-list", "-1", "--first-parent", f"--before={seconds}", self.head)
            self._at[moment] = said or None
        return self._at[moment]

    def between(self, call: str, before: Timing, after: Timing) -> Between:
        """The commits to a callable's sources that the later of two runs had, the earlier not.

        What a run had checked out is what it said; where it said nothing, what the line
        of the present commit had at that moment.
        """
        try:
            one = before.version or self.at(before.at)
            other = after.version or self.at(after.at)
            return self._between(call, one, other, before.changed | after.changed)
        except NoHistoryError as error:
            return Between(unknown=error.message)

    def _between(
        self, call: str, one: str | None, other: str | None, changed: frozenset[str]
    ) -> Between:
        for commit in (one, other):
            if commit is None:
                why = "the git checkout is shallow" if self._cut_off else "no commit was there yet"
                return Between(unknown=f"{why}: which code ran is not known")
            if not self.known(commit):
                return Between(unknown=f"commit {commit[:10]}, which ran, is not in the checkout")
        assert one is not None and other is not None
        tips = (one, other, *self._merged(one, other))
        files = {file for tip in tips for file in sources(call, self.tree(tip))}
        if not files:
            return Between(unknown=f"{call} is not in the project")
        if changed & files:
            return Between(unknown="it ran with changes that nobody had committed")
        found = self._commits_to(sorted(files), one, other)
        if self._cut_off & {c.sha for c in found}:
            return Between(unknown="the git checkout is shallow: its history is cut off")
        if len(found) <= COMMITS:
            found = tuple(c for c in map(self._looked_into, found) if c is not None)
        if not found and one != other and self._commits_to(sorted(files), other, one):
            return Between(unknown="its code went back to an earlier commit")
        return Between(commits=found)

    def _merged(self, one: str, other: str) -> tuple[str, ...]:
        """The commits that were merged on the way from `one` to `other`.

        Their modules may be called otherwise than those of either.
        """
        if one == other:
            return ()
        told = self.git(
            "rev-list", "--merges", "--parents", f"--max-count={COMMITS}", other, f"^{one}"
        )
        return tuple(p for line in told.splitlines() for p in line.split()[2:])

    def known(self, commit: str) -> bool:
        """Whether a commit is in the checkout's repository."""
        try:
            self.git("cat-file", "-e", f"{commit}^{{commit}}")
        except NoHistoryError:
            return False
        return True

    def tree(self, commit: str) -> CommittedFiles:
        """The files of a commit. Raises NoHistoryError."""
        if commit not in self._commits:
            self._commits[commit] = CommittedFiles(self, commit, self._texts)
        return self._commits[commit]

    def _commits_to(self, files: Sequence[str], one: str, other: str) -> tuple[Commit, ...]:
        """The commits to `files` that `other` has and `one` has not, the oldest first.

        A merge is one of them where nothing else is and it is as none of its parents,
        as where a conflict was resolved.
        """
        if not files or one == other:
            return ()
        asked = "log", "--full-history", "--topo-order", f"--max-count={COMMITS + 1}", _FORMAT
        wanted = other, f"^{one}", "--", *_literal(files)
        told = self.git(*asked, "--no-merges", *wanted)
        if not told:
            told = "\n".join(
                line for line in self.git(*asked, "--merges", *wanted).splitlines()
                if self.git("diff-tree", "--cc", "--name-only", "--no-commit-id", "-r",
                            line.partition("\x1f")[0], "--", *_literal(files))
            )  # fmt: skip
        found = [line.split("\x1f", 3) for line in told.splitlines()]
        return tuple(
            Commit(sha=sha, at=datetime.fromtimestamp(int(at), UTC), author=author, subject=subject)
            for sha, at, author, subject in reversed(found)
        )

    def _looked_into(self, commit: Commit) -> Commit | None:
        """A commit with what it changed; None where the code does the same as before it."""
        changes = self.changes(commit.sha)
        if not changes or all(c.same for c in changes):
            return None
        return replace(
            commit,
            touched=tuple(t for c in changes for t in c.touched),
            elsewhere=any(c.elsewhere for c in changes),
        )

    def changes(self, sha: str) -> tuple[FileChange, ...]:
        """What a commit did to the project's Python files, as they are called now.

        Set against its first parent. Raises NoHistoryError.
        """
        tree = self.tree(sha)
        parent = self.git("rev-list", "-1", "--parents", sha).split()[1:2]
        before = self.tree(parent[0]) if parent else None
        result = []
        for old, new in self._renamed(parent[0] if parent else None, sha):
            was = before.get(old) if before is not None and old is not None else None
            text = tree[new]
            if was is not None and same_code(was, text):
                result.append(FileChange(file=new, same=True))
                continue
            lines: Sequence[int] = range(1, text.count("\n") + 2)
            if was is not None:
                lines = _lines(self._hunks(parent[0], sha, old, new))
            file = self.called_now(sha, new)
            now = self.files.get(file)
            result.append(
                FileChange(
                    file=file,
                    touched=tuple(
                        replace(t, line=line_now(t.line, t.function, now))
                        for t in functions_at(file, text, lines)
                    ),
                    elsewhere=changes_elsewhere(text, lines),
                )
            )
        return tuple(result)

    def _renamed(self, parent: str | None, sha: str) -> Iterator[tuple[str | None, str]]:
        """(path before, path since) of the Python files that a commit changed or brought."""
        if parent is None:
            yield from ((None, path) for path in self.tree(sha))
            return
        told = self.git(
            "diff-tree", "-r", "-z", "-M", "--name-status", "--relative", parent, sha, "--", "*.py"
        )
        yield from _statuses(told)

    def _hunks(self, parent: str, sha: str, old: str | None, new: str) -> str:
        both = _literal([new] if old in (None, new) else [str(old), new])
        return self.git(
            "diff-tree", "-p", "-M", "--unified=0", "--no-ext-diff", "--no-textconv", "--relative",
            parent, sha, "--", *both,
        )  # fmt: skip

    def called_now(self, sha: str, file: str) -> str:
        """What a file of a commit is called in the present one; as it was where it is gone."""
        if file in self.tree(self.head):
            return file
        told = self.git(
            "diff-tree", "-r", "-z", "-M", "--name-status", "--relative", sha, self.head, "--",
            "*.py",
        )  # fmt: skip
        return next((new for old, new in _statuses(told) if old == file), file)

    def git(self, *words: str) -> str:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What a commit did to a file."""

    file: str
    touched: tuple[Touched, ...] = ()
    elsewhere: bool = False
    """It changed what stands outside of functions and is no import."""
    same: bool = False
    """The code does the same: only its layout, comments or docstrings changed."""


def _literal(files: Sequence[str]) -> list[str]:
    return [f":(literal){file}" for file in files]


def _lines(hunks: str) -> list[int]:
    """The lines of the new file that hunks are about; for what was taken out, those around it."""
    lines: list[int] = []
    for match in _HUNK.finditer(hunks):
        first, count = int(match[1]), int(match[2] or 1)
        lines += range(first, first + count) if count else (first, first + 1)
    return lines


def _statuses(told: str) -> Iterator[tuple[str | None, str]]:
    """(path before, path since) out of `--name-status -z`; those that were taken out are not."""
    parts = iter(told.split("\0"))
    for status in parts:
        if not status:
            continue
        first = next(parts)
        if status[0] in "RC":
            yield first, next(parts)
        elif status[0] != "D":
            yield (None if status[0] == "A" else first), first
