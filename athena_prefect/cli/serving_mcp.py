"""The command that serves tools for agents; the server itself comes with an extra."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Annotated, Any

from cyclopts import Parameter

from athena_prefect.cli.base import app, examples, messages, settings_here
from athena_prefect.errors import InputError

GROUP = "athena_prefect.servers"
"""Entry points that start a server: the command line imports none of them by name."""


@app.command(
    help_epilogue=examples(
        "athena mcp", "athena mcp --read-only", "athena mcp --http 127.0.0.1:8765"
    ),
)
def mcp(
    *,
    http: Annotated[
        str | None,
        Parameter(help="HOST:PORT to serve over HTTP; standard input and output if not given."),
    ] = None,
    read_only: Annotated[
        bool, Parameter(negative=(), help="Leave out every tool that writes.")
    ] = False,
    allow_host: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(), show_default=False, help="A further name that the HTTP server goes by."
        ),
    ] = (),
    allow_origin: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            show_default=False,
            help="A site whose pages may call it, e.g. https://a.example.",
        ),
    ] = (),
) -> int:
    """Serve the tools for agents, over the Model Context Protocol.

    Over HTTP the server listens on this machine only, unless ATHENA_MCP_TOKEN holds
    a token, which clients then must send (Authorization: Bearer …).
    """
    serve = server()
    try:
        serve(
            settings_here(),
            http=http,
            read_only=read_only,
            token=os.environ.get("ATHENA_MCP_TOKEN") or None,
            hosts=allow_host,
            origins=allow_origin,
            ready=lambda url: messages().print(f"athena mcp: {url}", markup=False),
        )
    except KeyboardInterrupt:
        return 0
    return 0


def server() -> Callable[..., Any]:
    """What starts the server. Raises InputError where its extra is not installed."""
    if find_spec("fastmcp") is None:
        raise InputError(
            "athena mcp needs fastmcp, which is not installed; pip install 'athena-prefect[mcp]'"
        )
    found = entry_points(group=GROUP, name="mcp")
    for entry in found:
        loaded: Callable[..., Any] = entry.load()
        return loaded
    raise InputError(
        "athena mcp finds no server among the installed entry points; install athena-prefect again"
    )
