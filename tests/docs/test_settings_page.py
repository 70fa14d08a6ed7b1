"""The reference of the settings is what the settings say."""

from __future__ import annotations

import importlib.util
from typing import Any

from tests.docs.pages import ROOT

GENERATOR = ROOT / "docs" / "reference" / "generate_settings.py"


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_settings", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    reference = _generator()
    remedy = "run python docs/reference/generate_settings.py"
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), remedy
