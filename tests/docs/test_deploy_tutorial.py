"""The tutorial on deploying, followed word for word: with a server, a worker and PostgreSQL."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.docs.pages import ROOT, Block, blocks_of
from tests.docs.test_tutorial import ATHENA
from tests.fixtures.postgres import PostgresServer

pytestmark = [pytest.mark.prefect, pytest.mark.postgres, pytest.mark.slow]

PAGE = ROOT / "docs" / "tutorial" / "deploy.md"
SECONDS = 240
PREFECT = [sys.executable, "-m", "prefect"]
STAYS = {"PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK"}


class Reader:
    """Somebody with three terminals, whose port may be taken and whose database is another."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("PREFECT_", "ATHENA_")) or k in STAYS
        }
        self.environment = {
            **kept,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(self.port),
            "ATHENA_HOME": str(folder / "athena"),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1",
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }
        self.database = database
        self.said: dict[str, list[str]] = {}
        self.background: list[subprocess.Popen[bytes]] = []

    def follow(self, block: Block) -> None:
        if "file" in block.marks:
            path = self.folder / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if block.language != "console":
            return
        if "wait" in block.marks:
            self.until("a scheduled run", (self.folder / "data/pulse.txt").exists)
            self.until("its end", lambda: "completed" in self.type("athena runs"))
        for command in block.commands:
            if "background" in block.marks:
                self.start(command)
            else:
                self.said.setdefault(command, []).append(self.type(command))

    def words(self, command: str) -> list[str]:
        """The command as it is run here."""
        words = shlex.split(command.replace(":4200", f":{self.port}"))
        match words[0]:
            case "athena":
                return [*ATHENA, *words[1:]]
            case "prefect":
                here = ["--port", str(self.port)] if words[1:] == ["server", "start"] else []
                return [*PREFECT, *words[1:], *here]
            case _:
                return words

    def type(self, command: str) -> str:
        if command.startswith("export "):
            name, _, _ = command.removeprefix("export ").partition("=")
            assert name == "ATHENA_DATABASE_URL"
            self.environment[name] = self.database
            return ""
        done = subprocess.run(
            self.words(command),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\n{said}"
        assert "Traceback" not in said, said
        return said

    def start(self, command: str) -> None:
        # Another terminal: what was exported in the first is not known there.
        environment = {k: v for k, v in self.environment.items() if k != "ATHENA_DATABASE_URL"}
        with (self.folder.parent / f"{len(self.background)}.log").open("ab") as log:
            self.background.append(
                subprocess.Popen(
                    self.words(command),
                    cwd=self.folder.parent,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        if "server" in command:
            self.until("the server", lambda: self.api("GET", "/health") is True)

    def api(self, method: str, path: str, **body: Any) -> Any:
        try:
            with httpx.Client(trust_env=False, timeout=10) as client:
                url = f"http://127.0.0.1:{self.port}/api{path}"
                return client.request(method, url, json=body or None).json()
        except (httpx.HTTPError, ValueError):
            return None

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {SECONDS} s"
            time.sleep(1)

    def close(self) -> None:
        for process in reversed(self.background):
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in family:
                if child.is_running():
                    child.kill()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="athena-deploy-")) / "data")
    made = Reader(tmp_path, server.create().render_as_string(hide_password=False))
    yield made
    made.close()
    server.close()


def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for block in blocks_of(PAGE):
        reader.follow(block)
        if "wait" in block.marks:
            dashboards_are_in_the_ui(reader)
    deploy = "athena deploy deployments/pulse/plan.yaml --pool default"
    first, second, changed = reader.said[deploy]
    assert "changes made" in first
    assert second.strip() == "nothing to change"
    would, differs = reader.said[f"{deploy} --dry-run"]
    for word in ("flow file", "block", "pulse/pulse.continuation", "watch-plan", "automation"):
        assert word in would
    assert "schedules.plan.interval: 30.0 → 3600.0" in differs
    assert "schedules.plan.interval: 30.0 → 3600.0" in changed
    assert "pulse" in reader.type("athena runs")
    # A busy server may let a question go unanswered.
    reader.until(
        "no deployments", lambda: reader.api("POST", "/deployments/filter", limit=10) == []
    )
    reader.until(
        "no automations", lambda: reader.api("POST", "/automations/filter", limit=10) == []
    )


def dashboards_are_in_the_ui(reader: Reader) -> None:
    wanted = {"pulse-status", "pulse-gantt", "pulse-tasks", "pulse-progress"}

    def there() -> bool:
        found = reader.api("POST", "/artifacts/latest/filter", limit=50) or []
        return wanted <= {artifact["key"] for artifact in found}

    reader.until("the dashboards", there)
