"""JSON over HTTP, against a server of our own."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.http import HttpError, get_json, post_json


class Handler(BaseHTTPRequestHandler):
    """Answers as the path asks."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/slow":
            time.sleep(1)
        if path == "/moved":
            self.answer(302, b"", {"Location": "file:///etc/passwd"})
        elif path == "/broken":
            self.answer(500, b'{"why": "broken"}')
        elif path == "/html":
            self.answer(200, b"<html>")
        elif path == "/binary":
            self.answer(200, b"\xff\xfe\xfd")
        elif path == "/large":
            self.answer(200, b'"' + b"x" * 100_000 + b'"')
        elif path == "/empty":
            self.answer(204, b"")
        else:
            said = {"path": self.path, "key": self.headers.get("X-Key")}
            self.answer(200, json.dumps(said).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, b'{"got": ' + body + b"}")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client did not want to read all of it

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine go to this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_get_sends_parameters_and_headers(address: str) -> None:
    found = get_json(f"{address}/x", parameters={"a": 1}, headers={"X-Key": "k"})
    assert found == {"status": 200, "body": {"path": "/x?a=1", "key": "k"}}


def test_post_sends_json(address: str) -> None:
    assert post_json(f"{address}/x", {"a": [1]}) == {"status": 201, "body": {"got": {"a": [1]}}}


def test_an_empty_answer_is_null(address: str) -> None:
    assert get_json(f"{address}/empty") == {"status": 204, "body": None}


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("/broken", "HTTP 500", 500),
        ("/moved", "HTTP 302", 302),
        ("/html", "not JSON", 200),
        ("/binary", "not JSON", 200),
        ("/large", "longer than 1000 bytes", 200),
    ],
)
def test_what_is_no_usable_answer_is_an_error(
    address: str, path: str, said: str, status: int
) -> None:
    with pytest.raises(HttpError, match=said) as caught:
        get_json(f"{address}{path}", max_bytes=1000)
    assert caught.value.status == status
    assert pickle.loads(pickle.dumps(caught.value)).status == status


def test_no_answer_in_time_is_an_error(address: str) -> None:
    with pytest.raises(HttpError, match=r"within 0\.1 s"):
        get_json(f"{address}/slow", timeout=0.1)


def test_nobody_there_is_an_error_without_secrets() -> None:
    with pytest.raises(HttpError) as caught:
        get_json("http://user:hunter2@127.0.0.1:1/x?token=hunter2", timeout=2)
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[", "nowhere"])
def test_other_schemes_and_no_urls_are_refused(url: str) -> None:
    with pytest.raises(HttpError):
        get_json(url)
