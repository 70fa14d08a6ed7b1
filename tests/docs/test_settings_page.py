"""The reference of the settings is what the settings say."""

from __future__ import annotations

from tests.docs.pages import reference


def test_the_page_is_current() -> None:
    page = reference("settings")
    remedy = "run python docs/reference/generate_settings.py"
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), remedy
