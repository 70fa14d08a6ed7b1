"""What the HTTP server refuses, and that it goes on: foreign pages, strangers, bulk, floods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from athena_prefect.errors import InputError
from athena_prefect.mcp.guard import MOST_BYTES, MOST_PEERS, Guard, Message, Rate, Receive, Send
from athena_prefect.mcp.guard import Scope as ScopeOf
from athena_prefect.mcp.serving import Address, serve
from athena_prefect.settings import AthenaSettings
from tests.mcp.support import http_server, reference_client

TOKEN = "a-token-of-thirty-two-characters"
PING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_a_burst_through_and_then_a_steady_rate() -> None:
    clock = Clock()
    rate = Rate(per_second=2, at_once=3, clock=clock)
    assert [rate.allows("a") for _ in range(5)] == [True, True, True, False, False]
    assert rate.allows("b"), "each address has its own"
    clock.now += 1
    assert [rate.allows("a") for _ in range(3)] == [True, True, False]
    clock.now += 1000
    assert sum(rate.allows("a") for _ in range(10)) == 3, "what is unused does not pile up"


def test_a_bucket_forgets_who_was_quiet_longest() -> None:
    rate = Rate(clock=Clock())
    for n in range(MOST_PEERS + 10):
        rate.allows(str(n))
    assert len(rate._left) == MOST_PEERS and "0" not in rate._left


async def _echo(scope: ScopeOf, receive: Receive, send: Send) -> None:
    """An application that answers with the bytes that it was sent."""
    body, more = b"", True
    while more:
        message: Message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def _asked(guard: Guard, content: object = b"hello", **headers: str) -> httpx.Response:
    raw = {k: v.encode() for k, v in headers.items()}

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://here:1") as client:
            return await client.post("/", content=content, headers=raw)  # type: ignore[arg-type]

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": "Bearer ünïcode"}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "null"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://here:2"}, 403),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "http://here:1"}, 200),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://Good.example"}, 200),
    ],
)
def test_who_may_call(headers: dict[str, str], status: int) -> None:
    guard = Guard(_echo, token=TOKEN, origins=["https://good.example/"])
    assert _asked(guard, **headers).status_code == status


async def _chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1000


def test_how_much_a_request_may_hold() -> None:
    guard = Guard(_echo, most_bytes=10_000)
    assert _asked(guard, b"x" * 10_000).content == b"x" * 10_000
    assert _asked(guard, b"x" * 10_001).status_code == 413
    assert len(_asked(guard, _chunks(10)).content) == 10_000, "sent in pieces, length untold"
    assert _asked(guard, _chunks(11)).status_code == 413


def test_who_sends_too_slowly_is_let_go() -> None:
    sent: list[Message] = []
    pieces = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Message:
        if pieces:
            return pieces.pop()
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits so long")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [], "client": ("a", 1)}
    asyncio.run(Guard(_echo, patience=0.05)(scope, receive, send))
    assert sent[0]["status"] == 408


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process that demands a token."""
    home = tmp_path_factory.mktemp("home")
    with http_server(AthenaSettings(home=home), token=TOKEN) as found:
        yield found


def test_the_server_refuses_and_goes_on(url: str) -> None:
    good = {
        "Authorization": f"Bearer {TOKEN}",
        "Accept": "application/json, text/event-stream",
    }
    statuses = []
    with httpx.Client(timeout=30) as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            good | {"Origin": "https://evil.example"},
            good | {"Host": "evil.example"},
        ):
            statuses.append(client.post(url, json=PING, headers=headers).status_code)
        assert statuses == [401, 401, 403, 421]
        bulk = b'{"x": "' + b"y" * MOST_BYTES + b'"}'
        assert client.post(url, content=bulk, headers=good).status_code == 413
        rubbish = client.post(
            url, content=b"{not json", headers=good | {"Content-Type": "application/json"}
        )
        assert rubbish.status_code == 400 and "Traceback" not in rubbish.text
        with ThreadPoolExecutor(16) as pool:
            flood = set(pool.map(lambda _: client.post(url, json=PING).status_code, range(400)))
        assert flood == {401, 429}
        end = time.monotonic() + 240  # more than a loaded machine needs
        while client.get(url, headers=good).status_code == 429:
            assert time.monotonic() < end, "a flood that is over is forgotten"
            time.sleep(0.5)

    async def list_tools() -> list[str]:
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client

        time.sleep(2)
        async with create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            transport = streamable_http_client(url, http_client=http)
            async with reference_client(transport) as call:
                found = await call.client.list_tools()  # type: ignore[attr-defined]
                return [t.name for t in found.tools]

    assert "execute_replan" in asyncio.run(list_tools())


@pytest.mark.parametrize(
    ("http", "token", "words"),
    [
        ("nowhere", None, "HOST:PORT"),
        ("127.0.0.1:http", None, "HOST:PORT"),
        (":8765", None, "HOST:PORT"),
        ("127.0.0.1:70000", None, "HOST:PORT"),
        ("0.0.0.0:0", None, "ATHENA_MCP_TOKEN"),
        ("a.example:0", None, "ATHENA_MCP_TOKEN"),
        ("127.0.0.1:0", "short", "16 of ASCII"),
        ("192.0.2.1:0", TOKEN, "cannot listen"),
    ],
)
def test_where_it_does_not_listen(
    http: str, token: str | None, words: str, settings: AthenaSettings
) -> None:
    with pytest.raises(InputError, match=words):
        serve(settings, http=http, token=token)


def test_what_only_this_machine_can_reach() -> None:
    inside = ("127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1")
    outside = ("0.0.0.0:1", "[::]:1", "192.168.0.1:1", "localhost.example:1")
    assert all(Address.of(a).loopback for a in inside)
    assert not any(Address.of(a).loopback for a in outside)
