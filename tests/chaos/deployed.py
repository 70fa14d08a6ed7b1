"""A Prefect server and a worker as an installation has them, each a process that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from athena_prefect.service.deploying import Deployed, DeployOptions, deploy
from athena_prefect.settings import AthenaSettings

DEEDS = Path(__file__).parents[1] / "runtime" / "project" / "deeds.py"
POOL = "default"
PATIENCE = 600.0
"""Seconds until something that should happen by itself counts as not happening: on a busy machine
a flow's process takes half a minute to begin, and the server as long to answer."""
PREFECT = [sys.executable, "-m", "prefect"]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_for(what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """What `condition` answers once it holds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {patience:g} s")


class Installation:
    """A server of its own and a worker, with a project whose plans are deployed to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "prefect.yaml").write_text("")
        shutil.copy(DEEDS, self.project)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.settings = AthenaSettings(home=folder / "athena")
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_UI_ENABLED": "0",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "NO_PROXY": "127.0.0.1",
        }
        # A worker's machine knows nothing of the tests' home: the deployments say it.
        self.environment.pop("ATHENA_HOME", None)
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        self.server = self._start("server", ["server", "start", "--port", str(self.port)])
        wait_for("the server's start", self._healthy)

    def start_worker(self) -> None:
        """Start a worker that polls."""
        pool = ["worker", "start", "--pool", POOL, "--type", "process"]
        self.worker = self._start("worker", pool)

    def _start(self, name: str, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*PREFECT, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _healthy(self) -> bool:
        try:
            with _OPENER.open(f"{self.url}/health", timeout=5) as reply:
                return bool(json.loads(reply.read()))
        except OSError:
            return False

    def stop(self, process: subprocess.Popen[bytes] | None, how: int = signal.SIGTERM) -> None:
        """End a process; with SIGKILL its children go too, as when a machine dies."""
        if process is None or process.poll() is not None:
            return
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        if how == signal.SIGKILL:
            for child in family:
                child.kill()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in family:
            if child.is_running():
                child.kill()

    def close(self) -> None:
        """End all of it."""
        self.stop(self.worker)
        self.stop(self.server)

    def write(self, name: str, document: Mapping[str, Any]) -> Path:
        """A plan document of the project."""
        path = self.project / "deployments" / name / "plan.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"name": name, **document}))
        return path

    def deploy(
        self, *files: Path, watch_every: float = 15.0, env: Mapping[str, str] | None = None
    ) -> Deployed:
        """Deploy plans, watched every so many seconds; `env` is for their runs."""
        options = DeployOptions(
            pool=POOL,
            watch_every=timedelta(seconds=watch_every),
            job_variables={"env": dict(env)} if env else {},
        )
        with self.here():
            return deploy(files, options, settings=self.settings)

    def serve(self, *files: Path) -> subprocess.Popen[bytes]:
        """Serve plans from a process of its own, without a worker."""
        # Tests in the background ignore Ctrl-C, and their children would with them.
        words = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from athena_prefect.cli import main; main()"
        )
        environment = {**self.environment, "ATHENA_HOME": str(self.folder / "athena")}
        with (self.folder / "serve.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", words, "serve", *map(str, files)],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def here(self) -> Any:
        """This process talks to this server."""
        return temporary_settings({PREFECT_API_URL: self.url})

    def client(self) -> SyncPrefectClient:
        """A client of this server."""
        with self.here():
            return get_client(sync_client=True)

    def pools(self) -> bool:
        """Whether the worker has made its pool."""
        with self.client() as client:
            return bool(client.read_work_pools())

    def flow_processes(self, flow_run_id: str) -> list[psutil.Process]:
        """The processes below the worker that run the flow run, the engine's own last."""
        assert self.worker is not None
        found = []
        for child in psutil.Process(self.worker.pid).children(recursive=True):
            try:
                if child.environ().get("PREFECT__FLOW_RUN_ID") == flow_run_id:
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def words(self) -> str:
        """What server and worker said, for a test that failed."""
        logs = [self.folder / f"{name}.log" for name in ("server", "worker")]
        return "\n".join(log.read_text()[-3000:] for log in logs if log.exists())
