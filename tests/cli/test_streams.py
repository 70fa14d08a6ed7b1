"""Output that is closed, full or in an old encoding; folders that cannot be written to."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.text import Text

from athena_prefect.cli import live
from athena_prefect.cli.streams import OurConsole
from tests.cli.conftest import Athena
from tests.service.standin import PLAN, StandIn


def run(
    tmp_path: Path, *tokens: str, env: dict[str, str] | None = None, shell: str = ""
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "plan.yaml").write_text(PLAN)
    command = f'"{sys.executable}" -m athena_prefect.cli {" ".join(tokens)} {shell}'
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"ATHENA_HOME": str(tmp_path / "home")} | (env or {}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_an_encoding_without_our_signs_gets_the_nearest_it_has(tmp_path: Path) -> None:
    done = run(tmp_path, "show", "plan.yaml", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and " | " in done.stdout and "* critical path" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("tokens", [["show", "plan.yaml"], ["validate", "none", "--json"]])
def test_a_full_device_is_one_line(tmp_path: Path, tokens: list[str]) -> None:
    done = run(tmp_path, *tokens, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("athena: cannot write the output: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_no_harm(tmp_path: Path, shell: str) -> None:
    done = run(tmp_path, "runs", "--json", shell=shell)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("tokens", [["--help"], ["schema"], ["show", "plan.yaml"]])
def test_whoever_has_read_enough_is_no_failure(tmp_path: Path, tokens: list[str]) -> None:
    done = run(tmp_path, *tokens, shell="| head -c 1; wait")
    assert done.stderr == "" and len(done.stdout) == 1


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_home_that_is_a_file_is_a_setting_to_mend(
    athena: Athena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATHENA_HOME", str(tmp_path / "file" / "home"))
    said = athena("runs", *extra)
    assert said.code == 2
    message = json.loads(said.out)["message"] if extra else said.err
    assert "ATHENA_HOME" in message and str(tmp_path / "file") in message


def test_a_log_folder_that_cannot_be_made_is_a_setting_to_mend(
    athena: Athena, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATHENA_LOG_FOLDER", str(tmp_path / "file" / "logs"))
    said = athena("run", "plan.yaml", "--set", "limit=1")
    assert said.code == 2 and "ATHENA_LOG_FOLDER" in said.err
    assert "defect of athena" not in said.err


def test_no_text_of_a_task_steers_the_terminal() -> None:
    console = OurConsole(file=io.StringIO(), force_terminal=True, width=80, color_system="standard")
    console.print(Text("bad \x1b[31mred\x1b]0;title\x07 \u202eevil\rgone", style="bold"))
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert told.startswith("\x1b[1mbad �[31mred�]0;title")
    assert told.count("\x1b") == 2  # bold, and its end
    assert not set(told) & {"\x07", "\u202e", "\r"}


class Gone(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


def test_a_run_goes_on_when_nobody_reads_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned: list[bool] = []
    monkeypatch.setattr(live, "abandon_output", lambda: abandoned.append(True))
    live.PlainLines(OurConsole(file=Gone())).waiting("a server")
    assert abandoned
    lines = live.JsonLines(Gone())
    lines.waiting("a server")
    lines.waiting("a server")
