"""The temporary server: found or started, quiet, ended with the command however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import yaml

from athena_prefect.errors import ServerError
from athena_prefect.runtime import server
from athena_prefect.runtime.server import Api, environment, log_to_file, prefect_server

SERVING = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        task_runs = self.path.endswith("task_runs/count")
        body = b"true" if self.path.endswith("health") else COUNTS[task_runs].pop(0)
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = answer
COUNTS = {False: [b"1", b"0", b"0"], True: [b"2", b"0", b"1", b"1", b"0", b"2"]}
web = http.server.HTTPServer(("127.0.0.1", 0), Handler)
os.write(1, f"{web.server_address[1]}\\n".encode())
os.dup2(2, 1)
print("a line of the server's")
web.serve_forever()
"""


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "configured_api_url", lambda: None)


def program(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = path / "program.py"
    file.write_text(textwrap.dedent(text))
    monkeypatch.setattr(server, "PROGRAM", file)


def new_child(others: list[psutil.Process]) -> psutil.Process:
    """The one child of this process that is not among `others`."""
    (child,) = set(psutil.Process().children()) - set(others)
    return child


@pytest.mark.usefixtures("unconfigured")
class TestOwnServer:
    def test_its_api_is_used_while_it_runs_and_its_words_go_to_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from prefect.settings import PREFECT_API_URL

        program(tmp_path, SERVING, monkeypatch)
        before = os.environ.get("PREFECT_API_URL")
        waits: list[str] = []
        others = psutil.Process().children()
        with prefect_server(tmp_path / "server.log", waits.append) as api:
            assert api.temporary
            assert os.environ["PREFECT_API_URL"] == api.url == PREFECT_API_URL.value()
            child = new_child(others)
            # The run is not over, then a task run is not, then all is there.
            assert api.flush(uuid4(), ["a", "b"])
        assert not child.is_running()
        assert os.environ.get("PREFECT_API_URL") == before
        assert any("Prefect server" in w for w in waits)
        assert capfd.readouterr() == ("", "")

    def test_records_that_do_not_arrive_are_said_not_to_have(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program(tmp_path, SERVING.replace('b"2"]}', 'b"1"]}'), monkeypatch)
        with prefect_server(tmp_path / "server.log") as api:
            assert not api.flush(uuid4(), ["a", "b"], timeout=1)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("import sys; sys.exit('no')", "ended before it listened"),
            ("print(1, flush=True); raise SystemExit(3)", "exit code 3"),
            ("import time; print(1, flush=True); time.sleep(60)", "did not answer within"),
        ],
    )
    def test_one_that_does_not_come_up_is_told_with_its_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
    ) -> None:
        program(tmp_path, text, monkeypatch)
        before = psutil.Process().children()
        log = tmp_path / "logs" / "server.log"
        with (
            pytest.raises(ServerError, match=said) as caught,
            prefect_server(log, startup_timeout=2),
        ):
            pytest.fail("there is no server")
        assert caught.value.as_dict()["log"] == str(log)
        assert log.exists()
        assert psutil.Process().children() == before

    def test_a_deaf_one_is_killed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        deaf = "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n"
        program(tmp_path, deaf + SERVING, monkeypatch)
        monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
        others = psutil.Process().children()
        with prefect_server(tmp_path / "server.log"):
            child = new_child(others)
        assert not child.is_running()


def test_a_configured_api_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "configured_api_url", lambda: "http://team/api")
    done: list[int] = []
    with prefect_server(tmp_path / "server.log", meanwhile=lambda: done.append(1)) as api:
        assert (api.url, api.temporary) == ("http://team/api", False)
        assert os.environ["PREFECT_API_URL"] == "http://team/api"
        assert api.flush(uuid4(), [])
    assert done == [1]
    assert not (tmp_path / "server.log").exists()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_no_server_outlives_a_killed_command(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from athena_prefect.runtime import server
        server.configured_api_url = lambda: None
        with server._process(Path({str(tmp_path / "server.log")!r})) as process:
            print(process.pid, flush=True)
            import time; time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PREFECT_HOME": str(tmp_path)},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=30)


def test_prefects_log_goes_to_the_file_and_nowhere_else(tmp_path: Path) -> None:
    log = tmp_path / "a $HOME of logs" / "run.log"
    code = """
        from prefect import flow
        from prefect.logging import get_logger
        import logging
        get_logger("test").error("a word of Prefect's")
        logging.getLogger("somebody").error("a word of another's")
    """
    with environment(log_to_file(log, tmp_path / "config")):
        told = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert (told.stdout, told.stderr) == ("", "")
    assert "a word of Prefect's" in log.read_text()
    assert "a word of another's" in log.read_text()


def test_a_logging_configuration_of_the_users_is_kept_but_for_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "logging.yml"
    handlers = {
        "console": {"class": "logging.StreamHandler", "level": 0},
        "theirs": {"class": "their.Handler"},
    }
    own.write_text(yaml.safe_dump({"version": 1, "handlers": handlers}))
    monkeypatch.setenv("PREFECT_LOGGING_SETTINGS_PATH", str(own))
    made = log_to_file(tmp_path / "run.log", tmp_path / "config")
    config = yaml.safe_load(Path(made["PREFECT_LOGGING_SETTINGS_PATH"]).read_text())
    assert config["handlers"]["theirs"] == {"class": "their.Handler"}
    assert config["handlers"]["console"]["class"] == "logging.FileHandler"


def test_an_api_that_is_gone_has_recorded_nothing() -> None:
    gone = Api(url="http://127.0.0.1:9/api", temporary=True)
    begun = time.monotonic()
    assert not gone.flush(uuid4(), [], timeout=0.5)
    assert time.monotonic() - begun < 30


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = {c.pid for c in psutil.Process().children()}
    yield
    assert {c.pid for c in psutil.Process().children()} <= before
