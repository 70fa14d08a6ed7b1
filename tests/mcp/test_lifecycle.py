"""The whole lifecycle by real clients: fastmcp's and the reference SDK's, over every transport."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from athena_prefect.mcp.server import make_server
from athena_prefect.settings import AthenaSettings
from tests.mcp.support import (
    ATHENA,
    environment,
    fastmcp_client,
    http_server,
    lifecycle,
    reference_client,
)

TOKEN = "a-token-of-thirty-two-characters"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_in_memory(mode: str, settings: AthenaSettings, plan_id: int) -> None:
    async def go() -> None:
        async with fastmcp_client(make_server(settings), mode=mode) as call:
            await lifecycle(call, plan_id)

    asyncio.run(go())


@pytest.mark.slow
def test_fastmcp_over_stdio(settings: AthenaSettings, plan_id: int) -> None:
    from fastmcp.client.transports import StdioTransport

    async def go() -> None:
        transport = StdioTransport(ATHENA[0], list(ATHENA[1:]), env=environment(settings))
        async with fastmcp_client(transport) as call:
            await lifecycle(call, plan_id)

    asyncio.run(go())


@pytest.mark.slow
def test_the_reference_client_over_stdio(settings: AthenaSettings, plan_id: int) -> None:
    from mcp import StdioServerParameters, stdio_client

    async def go() -> None:
        parameters = StdioServerParameters(
            command=ATHENA[0], args=list(ATHENA[1:]), env=environment(settings)
        )
        async with reference_client(stdio_client(parameters)) as call:
            await lifecycle(call, plan_id)

    asyncio.run(go())


@pytest.mark.slow
def test_fastmcp_over_http(settings: AthenaSettings, plan_id: int) -> None:
    from fastmcp.client.transports import StreamableHttpTransport

    async def go(url: str) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with fastmcp_client(StreamableHttpTransport(url, headers=headers)) as call:
            await lifecycle(call, plan_id)

    with http_server(settings, token=TOKEN) as url:
        asyncio.run(go(url))


@pytest.mark.slow
def test_the_reference_client_over_http(settings: AthenaSettings, plan_id: int) -> None:
    async def go(url: Any) -> None:
        async with reference_client(url) as call:
            await lifecycle(call, plan_id)

    with http_server(settings) as url:
        asyncio.run(go(url))
