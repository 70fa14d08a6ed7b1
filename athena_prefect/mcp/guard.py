"""What stands before the HTTP server: how often, from where, by whom, how much.

Host and Origin are checked by the server's own guard too; what is here is stricter
and is tried first: nothing of a request that is refused reaches a tool.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PER_SECOND = 20.0
"""Requests a second from one address in the long run: an agent makes a few."""
AT_ONCE = 60.0
"""Requests that may come together: a client that connects asks for all lists at once."""
MOST_PEERS = 1_024
"""Addresses that are remembered; the one that was quiet longest is forgotten."""
MOST_BYTES = 256 * 1024
"""Bytes of a request: the largest call that a tool takes is a tenth of it."""

PATIENCE_SECONDS = 20.0
"""How long a request may take to arrive: a slow sender holds one of few connections."""
DRAIN_SECONDS = 1.0
DRAIN_BYTES = 1024 * 1024
"""What is still taken, and dropped, of a request that is refused."""


@dataclass(slots=True)
class Rate:
    """A bucket of tokens for each address (Turner 1986): full at first, refilled steadily."""

    per_second: float = PER_SECOND
    at_once: float = AT_ONCE
    clock: Callable[[], float] = time.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def allows(self, peer: str) -> bool:
        """Whether one more request of `peer` is taken now."""
        now = self.clock()
        left, since = self._left.pop(peer, (self.at_once, now))
        left = min(self.at_once, left + (now - since) * self.per_second)
        taken = left >= 1.0
        self._left[peer] = (left - 1.0 if taken else left, now)
        while len(self._left) > MOST_PEERS:
            self._left.popitem(last=False)
        return taken


class Guard:
    """Refuses floods (429), foreign pages (403), strangers (401), bulk (413), the slow (408)."""

    def __init__(
        self,
        app: App,
        *,
        token: str | None = None,
        origins: Sequence[str] = (),
        rate: Rate | None = None,
        most_bytes: int = MOST_BYTES,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.app = app
        self.token = None if token is None else token.encode()
        self.origins = frozenset(o.rstrip("/").lower() for o in origins)
        self.rate = rate or Rate()
        self.most_bytes = most_bytes
        self.patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request here, or let it through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets here: the server closes what is not answered
        refused = self._refused(scope)
        if refused is not None:
            await _drained(receive)
            await _answer(send, *refused)
            return
        with anyio.move_on_after(self.patience) as waiting:
            body = await self._body(receive)
        if waiting.cancelled_caught:
            await _answer(send, 408, "the request did not arrive in time")
            return
        if body is None:
            await _drained(receive)
            await _answer(send, 413, f"a request has at most {self.most_bytes} bytes")
            return
        await self.app(scope, _replayed(body, receive), send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        client = scope.get("client")
        if not self.rate.allows(str(client[0]) if client else ""):
            return 429, "too many requests; wait a second"
        headers = {k.lower(): v for k, v in scope.get("headers") or ()}
        origin = headers.get(b"origin", b"").decode("latin-1").rstrip("/").lower()
        own = f"{scope.get('scheme', 'http')}://{headers.get(b'host', b'').decode('latin-1')}"
        if origin and origin != own.lower() and origin not in self.origins:
            return 403, "pages of other sites may not call this server"
        if not self._known(headers.get(b"authorization", b"")):
            return 401, "a bearer token is needed: Authorization: Bearer <token>"
        try:
            size = int(headers.get(b"content-length", b"0"))
        except ValueError:
            size = 0
        if size > self.most_bytes:
            return 413, f"a request has at most {self.most_bytes} bytes"
        return None

    def _known(self, authorization: bytes) -> bool:
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        same = hmac.compare_digest(given.strip(), self.token)
        return same and scheme.lower() == b"bearer"

    async def _body(self, receive: Receive) -> list[Message] | None:
        """The request's messages; None where they hold too much."""
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body") or b"")
            if size > self.most_bytes:
                return None
            if message["type"] != "http.request" or not message.get("more_body"):
                return messages


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    left = list(messages)

    async def again() -> Message:
        return left.pop(0) if left else await receive()

    return again


async def _drained(receive: Receive) -> None:
    """Read on for a moment: who is cut off in the middle of sending never reads the answer."""
    dropped = 0
    with anyio.move_on_after(DRAIN_SECONDS):
        while dropped <= DRAIN_BYTES:
            message = await receive()
            dropped += len(message.get("body") or b"")
            if message["type"] != "http.request" or not message.get("more_body"):
                return


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode() + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="athena"'))
    if status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
