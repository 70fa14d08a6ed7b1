"""An installation for each file of tests: a server and a worker, started and ended here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.deployed import Installation, wait_for


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A server and a worker that polls."""
    made = Installation(tmp_path_factory.mktemp("installation"))
    try:
        made.start_server()
        made.start_worker()
        wait_for("the work pool", made.pools)
        yield made
    finally:
        made.close()
