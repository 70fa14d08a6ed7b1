"""A real browser, a real Prefect server with its UI, and processes that run plans on it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""What Chromium is called, by distribution."""
CALM = (
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
"""Nothing of the network beyond this machine is asked for."""
SECONDS = 180
"""Until a server or a run counts as hung."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window; the tests that need it are skipped where there is none.

    Closed with its module: while it is open, an event loop runs in this thread, which
    makes coroutines of much that Prefect answers.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip(f"no Chromium on this machine: {', '.join(NAMES)}, nor playwright's own")
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        with playwright.chromium.launch(
            executable_path=program, args=list(CALM), chromium_sandbox=not root
        ) as opened:
            yield opened


@dataclass(slots=True)
class Server:
    """A Prefect server with its UI, in a home of its own."""

    port: int
    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its UI is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to work with it."""
        return {
            **os.environ,
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_UI_STATIC_DIRECTORY": str(self.home / "ui"),
            "ATHENA_HOME": str(self.home / "athena"),
            "NO_PROXY": "127.0.0.1",
        }

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        """A process of this Python that is ended with the server."""
        with (self.home / log).open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, plan: Path, root: Path, *, to_its_end: bool) -> UUID:
        """Run a plan in a process of its own; the id of its plan run."""
        plan_run = uuid4()
        process = self.start("-c", RUN, str(plan), str(root), str(plan_run), log=f"{plan_run}.log")
        if to_its_end:
            assert process.wait(SECONDS) == 0, (self.home / f"{plan_run}.log").read_text()
        return plan_run

    def stop(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


RUN = """
import sys
from pathlib import Path
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.compiler import compile_plan
flow = compile_plan(Plan.load(sys.argv[1]), root=Path(sys.argv[2]))
state = flow(plan_run=sys.argv[3], return_state=True)
sys.exit(0 if state.is_completed() else 1)
"""


@pytest.fixture(scope="module")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with its UI; started only where there is a browser to look at it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made = Server(free.getsockname()[1], tmp_path_factory.mktemp("ui"))
    try:
        process = made.start(
            "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(made.port),
            log="server.log",
        )  # fmt: skip
        end = time.monotonic() + SECONDS
        while not _healthy(made):
            log = (made.home / "server.log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < end, log
            time.sleep(0.2)
        yield made
    finally:
        made.stop()


def _healthy(server: Server) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{server.url}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
