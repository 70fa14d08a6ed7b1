"""The documentation, read for its code: every fenced block, where it stands and what it is."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block: its language, its ``key=value`` marks and flags, its text."""

    page: str
    line: int
    language: str
    marks: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def pages() -> list[Path]:
    """README and every page of the documentation, but for decisions, which are history."""
    docs = ROOT / "docs"
    found = [p for p in docs.rglob("*.md") if "decisions" not in p.parts]
    return [ROOT / "README.md", *sorted(found)]


def blocks(language: str) -> list[Block]:
    """Every block in that language, in order of page and place."""
    return [b for page in pages() for b in blocks_of(page) if b.language == language]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of one page, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split()
        marks = {k: v for k, _, v in (word.partition("=") for word in words)}
        found.append(
            Block(
                page=page.relative_to(ROOT).as_posix(),
                line=text.count("\n", 0, match.start()) + 1,
                language=language,
                marks=marks,
                text=match["text"],
            )
        )
    return found


def links_of(page: Path) -> list[str]:
    """Where a page's links and pictures lead, but for other sites."""
    text = _FENCE.sub("", page.read_text("utf-8"))
    targets = [match["target"] for match in _LINK.finditer(text)]
    return [t for t in targets if not re.match(r"[a-z]+:", t) and not t.startswith("#")]


def reference(name: str) -> Any:
    """The module that makes a page of the reference: ``docs/reference/generate_NAME.py``."""
    file = ROOT / "docs" / "reference" / f"generate_{name}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
