"""The reference of the tools is what the server says."""

from __future__ import annotations

from tests.docs.pages import reference


def test_the_page_is_current() -> None:
    page = reference("tools")
    remedy = "run python docs/reference/generate_tools.py"
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), remedy
