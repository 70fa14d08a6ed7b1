"""One Prefect server for all tests of the runtime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Prefect server; the tests' flows use it."""
    from athena_prefect.runtime.server import prefect_server

    with prefect_server(tmp_path_factory.mktemp("server") / "server.log") as api:
        yield api.url
