"""git_changes: what has changed under a path of a git repository."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense, ValidationMethod

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The tree with nothing in it, which every repository knows."""


def _ref(text: str) -> str:
    if not text or text.startswith("-") or any(c.isspace() or c in "\0:" for c in text):
        raise ValueError(f"{text!r} is no commit, branch or tag; write e.g. main or v1.2")
    return text


Ref = Annotated[str, AfterValidator(_ref)]


class GitChanges(Check):
    """Changes on a branch since a commit, or since the run started: `commits` and `files`.

    Since the run's start: what came after the last commit of the branch's own line
    that is dated before it. Nothing is fetched: a remote branch is as of the last fetch.
    """

    kind: ClassVar[str] = "git_changes"
    sense: ClassVar[Sense] = Sense.AT_MOST
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    counts: ClassVar[str | None] = "commits"

    repository: str = "."
    """A folder of the repository; relative to the project."""
    paths: tuple[str, ...] = ()
    """Paths of the repository below which changes count; all by default."""
    branch: Ref = "HEAD"
    """Where changes are looked for, e.g. ``origin/main``."""
    since: Ref | None = None
    """Commit, branch or tag that changes are counted from; by default the run's start."""

    def observe(self, context: CheckContext) -> Observation:
        """Count the commits, and the files that differ."""
        until = context.ticks() + self.patience

        def git(*words: str) -> str:
            return self._git(context, words, until - context.ticks())

        end = git("rev-parse", "--verify", "--end-of-options", f"{self.branch}^{{commit}}")
        base = self._base(context, git)
        paths = ("--", *(f":(top,literal){p}" for p in self.paths))
        reach = (end, f"^{base}") if base else (end,)
        commits = int(git("rev-list", "--count", *reach, *paths))
        names = git(
            "diff", "--no-ext-diff", "--no-textconv", "--name-only", "-z",
            base or _EMPTY_TREE, end, *paths,
        )  # fmt: skip
        files = sum(1 for name in names.split("\0") if name)
        where = f" under {', '.join(self.paths)}" if self.paths else ""
        origin = self.since or "the start of the run"
        return Observation(
            value={"commits": commits, "files": files},
            details=f"{commits} commits, {files} files changed{where} since {origin}",
        )

    def _base(self, context: CheckContext, git: Callable[..., str]) -> str:
        """The commit that changes are counted from; empty where everything is new."""
        if self.since is not None:
            return git("rev-parse", "--verify", "--end-of-options", f"{self.since}^{{commit}}")
        if context.started is None:
            raise CheckError("no run has started that changes could be counted from; write since")
        moment = f"--before={int(context.started.timestamp())}"
        base = git("rev-list", "-1", "--first-parent", moment, self.branch, "--")
        if not base and git("rev-parse", "--is-shallow-repository") == "true":
            raise CheckError("the repository is shallow: its history ends after the run's start")
        return base

    def _git(self, context: CheckContext, words: tuple[str, ...], seconds: float) -> str:
        folder = context.path(self.repository)
        environment = {
            **os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
        }  # fmt: skip
        try:
            # A session of its own, so that what git has started ends with it.
            process = subprocess.Popen(
                ["git", "-C", folder, "-c", "core.fsmonitor=false", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise CheckError("git is not installed") from None
        with process:
            try:
                output, errors = process.communicate(timeout=max(seconds, 0.001))
            except subprocess.TimeoutExpired:
                raise CheckError(f"git {words[0]} was stopped after {self.patience:g} s") from None
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            said = errors.decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise CheckError(f"git {words[0]}: {said}")
        return output.decode(errors="replace").strip()
