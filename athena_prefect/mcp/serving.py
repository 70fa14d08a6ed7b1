"""`athena mcp`: the server over standard input and output, or over HTTP."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from athena_prefect.errors import InputError
from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)

PATH = "/mcp"
TOKEN_VARIABLE = "ATHENA_MCP_TOKEN"
SHORTEST_TOKEN = 16
"""Characters: what is shorter can be tried out."""
MOST_CONNECTIONS = 64
"""At the same time; a client has one or two."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the HTTP server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """The address of ``HOST:PORT``. Raises InputError."""
        host, separator, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not separator or not bare or not port.isdecimal() or int(port) > 65_535:
            raise InputError(
                f"--http is {text!r}; write HOST:PORT, e.g. 127.0.0.1:8765", field="http"
            )
        return cls(bare, int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve(
    settings: AthenaSettings,
    *,
    http: str | None = None,
    read_only: bool = False,
    token: str | None = None,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve until the client goes away (standard input and output) or the process is stopped.

    `http` is HOST:PORT; port 0 takes a free one, and `ready` is told the server's
    URL. `token` is demanded wherever it is given, and needed beyond this machine.
    `hosts` and `origins` are further names that the server goes by, and sites whose
    pages may call it. Raises InputError, and StorageError where there is no database.
    """
    address = None if http is None else Address.of(http)
    if address is not None:
        _needs_token(address, token)
    from athena_prefect.service.addressing import store_of

    store_of(settings)  # a database that cannot be used is said now, not at the first call
    from athena_prefect.mcp.server import make_server

    server = make_server(settings, read_only=read_only)
    if address is None:
        server.run("stdio", show_banner=False, log_level="ERROR")
        return
    listening = _listen(address)
    port = listening.getsockname()[1]
    name = f"[{address.host}]" if ":" in address.host else address.host
    url = f"http://{name}:{port}{PATH}"
    if ready is not None:
        ready(url)
    server.run(
        "http",
        show_banner=False,
        host=address.host,
        port=port,
        path=PATH,
        sockets=[listening],
        log_level="ERROR",
        uvicorn_config={
            "limit_concurrency": MOST_CONNECTIONS,
            "timeout_keep_alive": 30,
            "server_header": False,
            "ws": "none",
        },
        middleware=[_guard(token, origins)],
        # Of names that the server goes by, only those that are known: a page that has its own
        # name point here (DNS rebinding) is refused.
        host_origin_protection=True,
        allowed_hosts=[address.host, *hosts],
        allowed_origins=list(origins),
    )


def _guard(token: str | None, origins: Sequence[str]) -> Any:
    from starlette.middleware import Middleware

    from athena_prefect.mcp.guard import Guard

    return Middleware(Guard, token=token, origins=origins)


def _needs_token(address: Address, token: str | None) -> None:
    if token is None and not address.loopback:
        raise InputError(
            f"{address.host} can be reached from other machines, so that clients need a token; "
            f"set {TOKEN_VARIABLE} to a long random text, or listen on 127.0.0.1",
            field=TOKEN_VARIABLE,
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii()):
        raise InputError(
            f"{TOKEN_VARIABLE} has {len(token)} characters; {SHORTEST_TOKEN} of ASCII or more, "
            "e.g. from `openssl rand -hex 32`",
            field=TOKEN_VARIABLE,
        )


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen on {address.host}:{address.port}: {error.strerror}; "
            "give another address with --http HOST:PORT",
            field="http",
        ) from None
    listening.listen(MOST_CONNECTIONS)
    return listening
