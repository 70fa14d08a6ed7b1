"""What all tests share: homes of their own, set before Prefect reads its settings."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import settings

_HOME = tempfile.mkdtemp(prefix="athena-tests-")
os.environ.update(
    PREFECT_HOME=f"{_HOME}/prefect",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    DO_NOT_TRACK="1",
    ATHENA_HOME=f"{_HOME}/athena",
)
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "ATHENA_DATABASE_URL"):
    os.environ.pop(_name, None)

# Hypothesis looks for counterexamples, never at the clock: the machine may be busy.
# The gate draws the same examples each time; `--hypothesis-profile=search` looks wider.
settings.register_profile("gate", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("gate")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for more than the short form of a test that chance drives."""
    parser.addoption("--kills", type=int, default=5, help="how often tests/chaos kill a dispatcher")
    parser.addoption("--mcp-calls", type=int, default=120, help="calls that tests/mcp makes up")
    parser.addoption("--kill-seed", type=int, default=1, help="chooses the moments of the kills")


@pytest.fixture(autouse=True)
def modules_of_the_project() -> Iterator[None]:
    """A test that loads another project's `tasks` and `flows` leaves this one's as they were.

    A folder `steps` that stays behind as a module, where a file of that name was one before, is
    more than `inspect` can take when it looks for the module of a class.
    """

    def own() -> dict[str, ModuleType]:
        names = ("tasks", "flows", "steps")
        return {n: m for n, m in sys.modules.items() if n.partition(".")[0] in names}

    before, path = own(), list(sys.path)
    yield
    for name in own().keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)
    sys.path[:] = path


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Prefect server, one for the session; the tests' flows use it."""
    from athena_prefect.runtime.server import prefect_server

    with prefect_server(tmp_path_factory.mktemp("server") / "server.log") as api:
        yield api.url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a Prefect server come last: the most are without, and say at once what broke.

    Prefect's threads live on when their tests are over, and draw random numbers
    while hypothesis makes examples, which it takes for a flaw of the test.
    """
    items.sort(key=lambda item: item.get_closest_marker("prefect") is not None)
