"""Commands: how they end is told, and nothing of them is left behind."""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

import pytest

from tasks.shell import CommandError, run_command


def python(code: str) -> list[str]:
    """A command that runs `code`."""
    return [sys.executable, "-c", code]


def test_output_and_errors_come_back_in_order() -> None:
    code = "import sys; print('a', flush=True); print('b', file=sys.stderr)"
    found = run_command(python(code))
    assert (found["exit_code"], found["tail"]) == (0, "a\nb")
    assert found["seconds"] > 0


def test_only_the_last_lines_are_kept_and_a_file_keeps_all(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "out.txt"
    found = run_command(python("for n in range(20000): print(n)"), lines=2, output=log)
    assert found["tail"] == "19998\n19999"
    assert len(log.read_text().splitlines()) == 20000
    assert run_command(python("print(1)"), lines=0)["tail"] == ""


def test_an_exit_code_is_an_error_unless_accepted() -> None:
    failing = python("import sys; print('why'); sys.exit(3)")
    assert run_command(failing, accept=(0, 3))["exit_code"] == 3
    with pytest.raises(CommandError, match="exit code 3") as caught:
        run_command(failing)
    assert (caught.value.exit_code, caught.value.tail) == (3, "why")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.exit_code) == (str(caught.value), 3)


def test_arguments_stay_out_of_errors() -> None:
    with pytest.raises(CommandError) as caught:
        run_command([sys.executable, "-c", "raise SystemExit(1)", "--token=hunter2"])
    assert "hunter2" not in str(caught.value)


def test_a_string_is_split_and_no_shell_sees_it() -> None:
    found = run_command(f"{sys.executable} -c 'import sys; print(sys.argv[1:])' '$HOME' ';'")
    assert found["tail"] == "['$HOME', ';']"


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize("command", ["echo $WORD | tr a b", ["echo", "bnnb"]])
def test_a_shell_sees_it_when_asked(command: str | list[str]) -> None:
    assert run_command(command, shell=True, env={"WORD": "anna"})["tail"] == "bnnb"


def test_folder_and_environment_are_the_command_s(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['X'], 'PATH' in os.environ)"
    found = run_command(python(code), cwd=tmp_path, env={"X": "1"})
    assert found["tail"] == f"{tmp_path.resolve()} 1 True"


@pytest.mark.parametrize("command", ["", "   ", []])
def test_an_empty_command_is_refused(command: str | list[str]) -> None:
    with pytest.raises(CommandError, match="empty"):
        run_command(command)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match="no-such-program cannot be started"):
        run_command(["no-such-program", "secret"])


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_past_its_time_out_all_that_it_started_is_killed() -> None:
    # A shell starts at once also where the machine is busy; an interpreter may take seconds.
    with pytest.raises(CommandError, match="killed after 2 s") as caught:
        run_command(["sh", "-c", "sleep 60 & echo $!; wait"], timeout=2)
    assert caught.value.exit_code is None
    assert ends(int(caught.value.tail))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_signal_is_named() -> None:
    with pytest.raises(CommandError, match="signal 9"):
        run_command(python("import os; os.kill(os.getpid(), 9)"))


def test_a_cancelled_task_leaves_no_command_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    started: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not started:
            started.append(process)
            raise KeyboardInterrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_command(python("import time; time.sleep(60)"))
    assert started[0].poll() is not None


def ends(pid: int) -> bool:
    """Whether it is gone soon: the kernel takes a killed process down when it finds the time."""
    given_up = time.monotonic() + 60  # above what a loaded machine needs
    while not gone(pid) and time.monotonic() < given_up:
        time.sleep(0.02)
    return gone(pid)


def gone(pid: int) -> bool:
    """Whether no such process runs; a dead one whose parent is yet to notice does not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"
