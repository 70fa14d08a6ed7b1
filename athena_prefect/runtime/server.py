"""Prefect's API for one command: the configured one, or a temporary server of our own.

The temporary server keeps its records in the user's own Prefect home, so that a
later `prefect server start` shows the runs. It starts before Prefect is imported
here, so that both take their seconds at the same time; none of its output
reaches the terminal.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml

from athena_prefect.errors import ServerError
from athena_prefect.runtime.connection import API_URL, configured_api_url

STARTUP_SECONDS = 180.0
"""Until a server that has not answered counts as failed. The first start makes
the database: 18 s measured on two cores, 4.6 s for later ones."""
FLUSH_SECONDS = 15.0
"""How long records may take to reach the API after the last state change."""
STOP_SECONDS = 20.0
"""From asking the server to end, at first and again, until it is killed. A first
start that is interrupted finishes making its database first."""
POLL_SECONDS = 0.05
PROGRAM = Path(__file__).with_name("server_process.py")

_SERVER_ENV = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT_UI_ENABLED": "0",
    # One second rather than five, so that the end of a command does not wait for it.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    # A transaction for each of the states of 500 tasks takes longer than the tasks.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
}
_QUIET_ENV = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

OnWait = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Where Prefect's API is; `temporary` where it ends with this command."""

    url: str
    temporary: bool

    def flush(self, flow_run: UUID, tasks: Sequence[str], timeout: float = FLUSH_SECONDS) -> bool:
        """Wait until the API shows the flow run and the task runs `tasks` in their last states.

        Task-run states travel to the API behind the run's back; a server that is
        stopped before they arrive loses them. True where all arrived in time.
        """
        drain_events(timeout)
        if not self.temporary:
            return True  # it stays, and takes what is still under way
        end = time.monotonic() + timeout
        before: object = None
        while time.monotonic() < end:
            lacking = self._lacking(flow_run, len(set(tasks)))
            if not any(lacking):
                return True
            if lacking != before:
                # A long run's records take their time; they must not stand still.
                before, end = lacking, time.monotonic() + timeout
            time.sleep(0.2)
        return False

    def _lacking(self, flow_run: UUID, tasks: int) -> tuple[int, int, int]:
        """How many flow runs and task runs are not over yet, and how many task runs are missing."""
        runs = {"id": {"any_": [str(flow_run)]}}
        open_states = {"type": {"any_": ["RUNNING", "SCHEDULED", "PENDING", "CANCELLING"]}}
        try:
            body: dict[str, Any] = {"flow_runs": {**runs, "state": open_states}}
            flows = _post(self.url, "flow_runs/count", body)
            # A task whose upstream failed stays NotReady, of type PENDING, for ever.
            open_states["type"]["any_"].remove("PENDING")
            body = {"flow_runs": runs, "task_runs": {"state": open_states}}
            under_way = _post(self.url, "task_runs/count", body)
            known = _post(self.url, "task_runs/count", {"flow_runs": runs})
        except (OSError, ValueError):
            return 1, tasks, tasks
        return int(flows), int(under_way), max(tasks - int(known), 0)


@contextmanager
def prefect_server(
    log_file: Path,
    on_wait: OnWait = lambda _: None,
    *,
    meanwhile: Callable[[], object] = lambda: None,
    startup_timeout: float = STARTUP_SECONDS,
) -> Iterator[Api]:
    """Prefect's API while the block runs, with Prefect imported and told to use it.

    A configured API is used as it is. `on_wait` is told, in words, what is being
    waited for; `meanwhile` is called, with Prefect imported, while a server comes up.
    Raises ServerError, naming `log_file`, where no server comes up.
    """
    configured = configured_api_url()
    with ExitStack() as stack:
        stack.enter_context(environment(_QUIET_ENV, keep=True))
        if configured:
            on_wait("loading Prefect")
            stack.enter_context(_use(configured))
            meanwhile()
            yield Api(url=configured, temporary=False)
            return
        log_file.parent.mkdir(parents=True, exist_ok=True)
        first = not _prefect_database().exists()
        on_wait(
            "starting a Prefect server" + (", its first start makes its database" if first else "")
        )
        server = stack.enter_context(_process(log_file))
        url = _address(server, log_file)
        stack.enter_context(_use(url))
        meanwhile()
        _await_health(server, url, log_file, startup_timeout)
        yield Api(url=url, temporary=True)
        on_wait("stopping the Prefect server")
        drain_events(FLUSH_SECONDS)


def drain_events(timeout: float) -> None:
    """Let Prefect's background threads of this process deliver what they hold."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=timeout, at_exit=False)


def log_to_file(log_file: Path, folder: Path) -> dict[str, str]:
    """The environment with which Prefect logs to `log_file` instead of to the terminal.

    Prefect's logging configuration (the user's own where there is one) is copied
    into `folder` with its console handler made a file handler; what goes to the
    API is unchanged. It holds for child processes too.
    """
    from importlib.util import find_spec

    spec = find_spec("prefect")
    assert spec is not None and spec.origin is not None
    own = os.environ.get("PREFECT_LOGGING_SETTINGS_PATH")
    home = Path(own).expanduser() if own else _prefect_home() / "logging.yml"
    source = home if home.exists() else Path(spec.origin).parent / "logging" / "logging.yml"
    config = yaml.safe_load(source.read_text(encoding="utf-8"))
    file = {
        "class": "logging.FileHandler",
        "level": 0,
        "formatter": "standard" if "standard" in config.get("formatters", {}) else None,
        # `$` starts a setting's name in this file.
        "filename": str(log_file).replace("$", "$$"),
        "encoding": "utf-8",
        "delay": True,
    }
    for name, handler in config.get("handlers", {}).items():
        if "Console" in str(handler.get("class")) or "StreamHandler" in str(handler.get("class")):
            config["handlers"][name] = {k: v for k, v in file.items() if v is not None}
    folder.mkdir(parents=True, exist_ok=True)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    path = folder / "prefect-logging.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return {"PREFECT_LOGGING_SETTINGS_PATH": str(path)}


def _prefect_home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


def _prefect_database() -> Path:
    return _prefect_home() / "prefect.db"


@contextmanager
def environment(values: Mapping[str, str], *, keep: bool = False) -> Iterator[None]:
    """`values` in the environment while the block runs; with `keep` the user's own win."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({k: v for k, v in values.items() if not (keep and before[k])})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _use(url: str) -> Iterator[None]:
    """Prefect, imported, with `url` as its API, here and in child processes."""
    # Without this a proxy for the outside world would be asked for the loopback.
    hosts = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    values = {API_URL: url}
    if url.startswith("http://127.0.0.1"):
        values["NO_PROXY"] = hosts
    with environment(values):
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: url}):
            yield


@contextmanager
def _process(log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log_file.open("ab") as log:
        server = subprocess.Popen(
            # -P: this file's folder must not come first on the server's import path.
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_SERVER_ENV},
            # Ctrl-C is for the run; the server must outlive it to record the end.
            start_new_session=os.name != "nt",
        )
    try:
        yield server
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    signals = [signal.SIGTERM] if os.name == "nt" else [signal.SIGINT, signal.SIGTERM]
    for number in signals:
        if server.poll() is None:
            server.send_signal(number)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    if server.poll() is None:
        server.kill()
        server.wait()
    for pipe in (server.stdin, server.stdout):
        if pipe is not None:
            pipe.close()


def _address(server: subprocess.Popen[bytes], log_file: Path) -> str:
    assert server.stdout is not None
    line = server.stdout.readline().strip()
    if not line:
        raise _failed("ended before it listened", server, log_file)
    return f"http://127.0.0.1:{int(line)}/api"


def _await_health(
    server: subprocess.Popen[bytes], url: str, log_file: Path, timeout: float
) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if server.poll() is not None:
            raise _failed(f"ended with exit code {server.returncode}", server, log_file)
        try:
            if _get(url, "health"):
                return
        except (OSError, ValueError):
            time.sleep(POLL_SECONDS)
    raise _failed(f"did not answer within {timeout:g} s", server, log_file)


def _failed(what: str, server: subprocess.Popen[bytes], log_file: Path) -> ServerError:
    return ServerError(
        f"the temporary Prefect server {what}; its output is in {log_file}. "
        "To use a server of your own, start one (`prefect server start`) and set PREFECT_API_URL",
        log=str(log_file),
        returncode=server.poll(),
    )


# Loopback or the configured host, never through a proxy that only knows the outside.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str, path: str) -> Any:
    with _opener.open(f"{url}/{path}", timeout=5) as reply:
        return json.loads(reply.read())


def _post(url: str, path: str, body: Mapping[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    content = json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/{path}", content, headers, method="POST")
    with _opener.open(request, timeout=5) as reply:
        return json.loads(reply.read())
