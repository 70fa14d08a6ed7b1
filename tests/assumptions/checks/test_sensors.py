"""Sensors against this machine: its disk, memory, files, ports and processes."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.making import Made, make, prepare
from athena_prefect.errors import AthenaError, CheckError, ParameterError
from athena_prefect.plan.assumption import CheckSpec
from athena_prefect.plan.templates import Template

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def resolve(template: Template) -> Any:
    values: dict[str, dict[str, Any]] = {
        "secret": {"token": "hunter2-secret"},
        "parameters": {"port": 80, "text": "x"},
    }
    try:
        return values[template.namespace][template.name]
    except KeyError:
        raise ParameterError(f"no {template.namespace} {template.name!r}") from None


def seen(kind: str, root: Any = Path(), now: Any = NOW, **options: Any) -> Made:
    check, secrets = prepare(CheckSpec(kind=kind, **options), resolve)
    return make(check, CheckContext(now=now, root=root, secrets=secrets))


def value(kind: str, root: Any = Path(), now: Any = NOW, **options: Any) -> Any:
    made = seen(kind, root, now, **options)
    assert made.observation is not None, made.error
    return made.observation.value


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = int(self.path.strip("/").partition("?")[0])
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_disk_free_is_what_the_disk_says(tmp_path: Path) -> None:
    found = value("disk_free", tmp_path, path=".", unit="MB")
    usage = shutil.disk_usage(tmp_path)
    assert found["total"] == pytest.approx(usage.total / 1e6)
    assert found["share"] == pytest.approx(found["free"] / found["total"])
    assert "no-such" in seen("disk_free", tmp_path, path="no-such").error


def test_memory_and_load() -> None:
    memory = value("memory", unit="B")
    assert memory["total"] == psutil.virtual_memory().total
    assert 0 < memory["available"] < memory["total"]
    load = value("cpu_load", over="15m")
    assert load["per_core"] == pytest.approx(load["load"] / load["cores"])


def test_files_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_bytes(b"x" * 2500)
    os.utime(file, (NOW.timestamp() - 90, NOW.timestamp() - 90))
    assert value("file_age", tmp_path, path="in.csv") == pytest.approx(90)
    assert value("file_size", tmp_path, path="in.csv", unit="kB") == 2.5
    assert value("file_exists", tmp_path, path="in.csv") is True
    assert value("file_exists", tmp_path, path="out.csv") is False
    assert seen("file_age", tmp_path, path="out.csv").error == "there is no out.csv"
    assert "has no size" in seen("file_size", tmp_path, path=".").error


def test_objects_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/key", b"12345")
    try:
        now = datetime.now(UTC) + timedelta(minutes=5)
        assert value("file_size", path="memory://bucket/key") == 5
        age = value("file_age", now=now, path="memory://bucket/key")
        assert 299 < age < 330
        assert value("file_exists", path="memory://bucket/other") is False
        assert "no-such-store" in seen("file_age", path="no-such-store://a").error
    finally:
        store.rm("/bucket", recursive=True)


def test_tcp(listener: int) -> None:
    found = seen("tcp", port=listener, attempts=3).observation
    assert found is not None and found.value["reachable"] is True
    assert len(found.samples) == 3 and found.value["seconds"] >= 0
    assert value("tcp", port=closed_port())["reachable"] is False
    assert value("tcp", host="no-such-host.invalid", port=1)["reachable"] is False


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_http_says_what_it_was_answered(site: str, status: int) -> None:
    found = value("http", url=f"{site}/{status}", attempts=2)
    assert found["reachable"] is True and found["status"] == status


def test_http_without_a_server() -> None:
    assert value("http", url=f"http://127.0.0.1:{closed_port()}/")["reachable"] is False


def test_processes(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600) # mark-7f3a"])
    try:
        pid_file = tmp_path / "pid"
        pid_file.write_text(f"{child.pid}\n")
        assert value("process", command="mark-7f3a") == {"alive": True, "count": 1}
        assert value("process", name=psutil.Process(child.pid).name())["alive"] is True
        assert value("process", tmp_path, pid_file="pid")["alive"] is True
    finally:
        child.kill()
        child.wait()
    assert value("process", command="mark-7f3a")["alive"] is False
    assert value("process", tmp_path, pid_file="pid")["alive"] is False
    assert value("process", tmp_path, pid_file="none")["alive"] is False
    pid_file.write_text("no number")
    assert "no process id" in seen("process", tmp_path, pid_file="pid").error


def test_a_function_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "own_checks.py").write_text(
        "def rows(n, context): return {'rows': n, 'at': context.now.isoformat()}\n"
        "async def later(): return 3\n"
        "def broken(): raise RuntimeError('the warehouse is shut')\n"
        "def leaves(): raise SystemExit(3)\n"
    )
    found = value("function", tmp_path, call="own_checks:rows", **{"with": {"n": 4}})
    assert found == {"rows": 4, "at": NOW.isoformat()}
    assert value("function", tmp_path, call="own_checks:later") == 3
    told = seen("function", tmp_path, call="own_checks:broken").error
    assert told == "RuntimeError: the warehouse is shut"
    assert seen("function", tmp_path, call="own_checks:leaves").error == "SystemExit: 3"
    assert "has no 'gone'" in seen("function", tmp_path, call="own_checks:gone").error


def test_no_secret_in_a_message(tmp_path: Path) -> None:
    (tmp_path / "leaky_checks.py").write_text(
        "def leak(key): raise RuntimeError(f'bad key {key} for https://me:pw1@host/?api_key=pw2')\n"
    )
    made = seen(
        "function", tmp_path, call="leaky_checks:leak", **{"with": {"key": "{{ secret.token }}"}}
    )
    assert made.error == "RuntimeError: bad key *** for https://***@host/?api_key=***"
    with pytest.raises(CheckError) as caught:
        prepare(CheckSpec(kind="tcp", port="{{ secret.token }}"), resolve)
    assert "hunter2" not in str(caught.value) and "port" in str(caught.value)


def test_templates_are_filled_in_and_checked() -> None:
    check, secrets = prepare(CheckSpec(kind="tcp", port="{{ parameters.port }}"), resolve)
    assert check.model_dump()["port"] == 80 and secrets == frozenset()
    with pytest.raises(CheckError, match="port: 'x' is not a whole number"):
        prepare(CheckSpec(kind="tcp", port="{{ parameters.text }}"), resolve)
    with pytest.raises(CheckError, match="no secret 'none'"):
        prepare(CheckSpec(kind="tcp", port="{{ secret.none }}"), resolve)
    with pytest.raises(AthenaError, match="no kind of check"):
        prepare(CheckSpec(kind="nothing"), resolve)


def test_long_errors_are_cut(tmp_path: Path) -> None:
    (tmp_path / "long_checks.py").write_text("def page(): raise RuntimeError('x\\n' * 9000)\n")
    assert len(seen("function", tmp_path, call="long_checks:page").error) == 500
