"""A web server of this machine for checks to ask: good answers, and every bad one."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

Request = http.server.BaseHTTPRequestHandler
Answer = Callable[["Asked"], "Reply"]


class Asked:
    """What was asked for."""

    def __init__(self, request: Request) -> None:
        parts = urlsplit(request.path)
        self.path = parts.path
        self.query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        self.headers = {k.lower(): v for k, v in request.headers.items()}


class Reply:
    """What is answered; `body` as JSON, unless it is bytes."""

    def __init__(
        self, body: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, bytes) else "application/json"
        self.status, self.headers = status, {"Content-Type": kind, **(headers or {})}


class Site:
    """A running server: its address, what it answers by path, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, Answer | Reply] = {}
        self.asked: list[Asked] = []
        self.sent = 0
        """Bytes of endless bodies that were sent."""
        self.closing = threading.Event()


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port."""

    class Handler(Request):
        def do_GET(self) -> None:
            asked = Asked(self)
            site.asked.append(asked)
            if asked.path == "/endless":
                return self.endless()
            if asked.path == "/slow":
                site.closing.wait(30)
                return None
            if asked.path == "/drip":
                return self.drip()
            answer = site.answers.get(asked.path, Reply(b"nothing", 404))
            reply = answer if isinstance(answer, Reply) else answer(asked)
            self.send_response(reply.status)
            for name, value in {"Content-Length": len(reply.content), **reply.headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(reply.content)
            return None

        def endless(self) -> None:
            """A body of 1 GB, sent until the other side hangs up."""
            self.send_response(200)
            self.send_header("Content-Length", str(10**9))
            self.end_headers()
            part = b"1" * 65536
            try:
                while site.sent < 10**9:
                    self.wfile.write(part)
                    site.sent += len(part)
            except OSError:
                self.close_connection = True

        def drip(self) -> None:
            """A byte every 50 ms: no single wait is long."""
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while not site.closing.wait(0.05):
                    self.wfile.write(b"1")
                    self.wfile.flush()
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    # Looks so often whether it is to end that no test waits for it.
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
