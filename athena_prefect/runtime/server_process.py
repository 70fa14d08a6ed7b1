"""The program of a temporary Prefect server: run as a file, in a process of its own.

It binds a free loopback port itself (no port can be lost between choosing and
binding), says on standard output which, and ends when its standard input does:
the parent holds the other end, so that however the parent dies no server stays.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

GRACE_SECONDS = 5
"""For open connections when the server is asked to stop."""


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    # Ended in order: what Prefect's recorder still holds is written.
    signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Serve until asked to stop or until the parent is gone."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    os.write(1, f"{listener.getsockname()[1]}\n".encode())
    # From here on everything that anybody prints belongs in the log.
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(
        create_app(ephemeral=True, final=True),
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        # uvicorn raises it again after an orderly stop.
        pass
    sys.exit(0 if server.started else 3)


if __name__ == "__main__":
    main()
