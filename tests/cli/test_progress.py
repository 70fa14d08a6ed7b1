"""While a command works a person sees it on a terminal, and nobody else is bothered."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from athena_prefect import service
from athena_prefect.cli import progress
from athena_prefect.cli.progress import working
from athena_prefect.settings import AthenaSettings
from tests.cli.conftest import Athena

pty = pytest.importorskip("pty", reason="no pseudo-terminals")

WAITING = """\
import time
from pathlib import Path

print("a line of the module")
while not Path("go").exists():
    time.sleep(0.01)


def work() -> None: ...
"""
PLAN = """\
name: slow
tasks:
  - {id: a, call: "slowmodule:work", duration: 60s}
"""


class Terminal:
    """A pseudo-terminal, and what was written to it so far."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = ""
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self.master, 4096)
            except OSError:
                part = b""
            with self._more:
                self.seen += part.decode("utf-8", "replace")
                self._more.notify_all()
            if not part:
                return

    def wait_for(self, words: str) -> None:
        """Until something that `words`, a pattern, match was written."""
        with self._more:
            found = self._more.wait_for(lambda: re.search(words, self.seen), timeout=240)
            assert found, self.seen

    def close(self) -> None:
        """Nobody writes any more: all of it is in `seen`."""
        os.close(self.slave)
        self._reader.join(timeout=60)
        os.close(self.master)


@contextmanager
def a_terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A project whose one module takes until there is a file `go`."""
    (tmp_path / "slowmodule.py").write_text(WAITING)
    (tmp_path / "plan.yaml").write_text(PLAN)
    return tmp_path


@contextmanager
def begun(
    folder: Path, *tokens: str, out: int | None = None, err: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-m", "athena_prefect.cli", *tokens],
        cwd=folder,
        env=os.environ
        | {"ATHENA_HOME": str(folder / "home"), "TERM": "xterm", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE if out is None else out,
        stderr=subprocess.PIPE if err is None else err,
        text=True,
        encoding="utf-8",
    )
    try:
        yield running
    finally:
        running.kill()  # nothing is left waiting where a test fails
        running.wait()


def test_a_command_that_lasts_says_so_until_it_is_done(slow: Path) -> None:
    with (
        a_terminal() as terminal,
        begun(slow, "validate", "plan.yaml", err=terminal.slave) as running,
    ):
        terminal.wait_for("checking the plan")
        # It goes on, and says for how long; a busy machine may pass a second over.
        terminal.wait_for(r"0:0\d:(0[1-9]|[1-5]\d)")
        (slow / "go").touch()
        out, _ = running.communicate()
    assert running.returncode == 0
    lines = out.splitlines()
    assert lines[0] == "a line of the module", "what modules print stays where it is sent"
    assert "is sound" in lines[1] and "checking" not in out
    assert terminal.seen.endswith("\x1b[2K") and "\x1b[?25h" in terminal.seen, "nothing is left"


def test_the_answer_follows_the_sign_on_one_terminal(slow: Path) -> None:
    with (
        a_terminal() as terminal,
        begun(slow, "validate", "plan.yaml", out=terminal.slave, err=terminal.slave) as running,
    ):
        terminal.wait_for("checking the plan")
        (slow / "go").touch()
        running.communicate()
    assert running.returncode == 0
    assert terminal.seen.index("checking the plan") < terminal.seen.index("is sound")


@pytest.mark.parametrize("how", ["--json", "no terminal", "dumb"])
def test_nobody_else_is_bothered(
    how: str, slow: Path, athena: Athena, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slow / "go").touch()
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setenv("TERM", "dumb" if how == "dumb" else "xterm")
    monkeypatch.syspath_prepend(str(slow))
    (slow / "plan.yaml").write_text(PLAN)
    with a_terminal() as terminal:
        if how == "no terminal":
            said = athena("validate", "plan.yaml")
            assert said.code == 0 and said.err == ""
        else:
            with open(terminal.slave, "w", closefd=False) as stream:
                monkeypatch.setattr(sys, "stderr", stream)
                more = ["--json"] if how == "--json" else []
                said = athena("validate", "plan.yaml", *more)
                monkeypatch.undo()
            assert said.code == 0
            if more:
                json.loads(said.out[said.out.index("{") :])
    assert terminal.seen == ""


def one_run(folder: Path) -> str:
    """A run that goes on, monitored from outside; its id."""
    settings = AthenaSettings(home=folder / "home")
    plan = service.register(folder / "plan.yaml", settings=settings)
    start = datetime.now(UTC) - timedelta(seconds=30)
    begun_run = service.begin(plan.plan_id, started_at=start, settings=settings)
    service.record(begun_run.plan_id, "a", "start", at=start, settings=settings)
    return str(service.runs(settings=settings)[0].plan_run)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (("validate", "plan.yaml"), "checking the plan"),
        (("show", "plan.yaml"), "planning"),
        (("simulate", "plan.yaml"), "simulating"),
        (("learn", "slow"), "learning"),
        (("accuracy",), "measuring estimates"),
        (("patterns",), "looking for patterns"),
        (("status", "RUN"), "reading the run"),
        (("why", "RUN"), "looking for the reason"),
        (("revisions", "RUN"), "reading the revisions"),
        (("checks", "plan.yaml"), "reading the checks"),
        (("lessons",), "reading the lessons"),
        (("report", "RUN"), "writing the report"),
        (("replan", "RUN", "--dry-run"), "solving the alternatives"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_whatever_may_last_has_a_sign(
    tokens: tuple[str, ...],
    words: str,
    slow: Path,
    athena: Athena,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (slow / "go").touch()
    (slow / "plan.yaml").write_text(PLAN)
    monkeypatch.syspath_prepend(str(slow))
    run = one_run(slow)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setenv("TERM", "xterm")
    with a_terminal() as terminal, open(terminal.slave, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        said = athena(*(run if token == "RUN" else token for token in tokens))
        monkeypatch.undo()
    assert said.code == 0, terminal.seen
    assert words in terminal.seen and words not in said.out
    assert said.out.strip()


def test_what_is_over_soon_does_not_flicker(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", 3600.0)
    with working("counting", quiet=False) as sign:
        sign.say("counting on")
    assert stream.getvalue() == ""


def test_an_error_takes_the_sign_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Screen()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", 0)
    with pytest.raises(ZeroDivisionError), working("[b]counting[/b]", quiet=False):
        raise ZeroDivisionError
    told = stream.getvalue()
    assert "[b]counting[/b]" in told, "no markup is made of what is said"
    assert told.count("\x1b[?25l") == told.count("\x1b[?25h") == 1, "the cursor is back"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True
