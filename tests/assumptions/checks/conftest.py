"""What the tests of kinds share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.assumptions.checks.web import Site, serving


@pytest.fixture
def web() -> Iterator[Site]:
    """A web server of this machine."""
    with serving() as site:
        yield site
