"""What the documentation shows is so: code runs, plans are sound, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from athena_prefect.plan.model import Plan
from tests.docs.pages import ROOT, Block, blocks, blocks_of, links_of, pages


def python_pages() -> list[Path]:
    return [p for p in pages() if any(b.language == "python" for b in blocks_of(p))]


@pytest.mark.parametrize("page", python_pages(), ids=lambda p: p.name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks_of(page):
        if block.language == "python":
            # Blank lines before it, so that an error names the line of the page.
            code = compile("\n" * block.line + block.text, block.page, "exec")
            exec(code, {"__name__": "step"} if "file" in block.marks else names)


def test_the_readme_s_example_is_short() -> None:
    (block,) = [b for b in blocks("python") if b.page == "README.md"]
    assert len([line for line in block.text.splitlines() if line.strip()]) <= 25


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_plans_are_sound(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text)
    if document is None:
        return  # nothing but a comment: a line to put into a plan
    assert {"name", "tasks"} <= document.keys(), "show a whole plan"
    Plan.model_validate(document)


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [t for t in links_of(page) if not (page.parent / t.partition("#")[0]).exists()]
    assert missing == []


def test_the_index_links_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / t).resolve() for t in links_of(index)}
    others = {p.resolve() for p in pages() if p.parent != ROOT and p != index}
    assert others - linked == set()


def athena_commands() -> list[tuple[str, list[str]]]:
    """Each shown use of `athena`: where, and its words."""
    found = []
    for block in [*blocks("console"), *blocks("sh")]:
        lines = block.commands if block.language == "console" else block.text.splitlines()
        for line in lines:
            for part in re.split(r"&&|\|", line):
                words = shlex.split(part, comments=True) if part.strip() else []
                if words[:1] == ["athena"]:
                    found.append((str(block), words[1:]))
    return found


@pytest.mark.parametrize(("where", "words"), athena_commands(), ids=lambda v: str(v)[:60])
def test_commands_and_their_options_exist(
    where: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from athena_prefect.cli import main

    path = words[:2] if words[0] == "db" else words[:1]
    with pytest.raises(SystemExit) as ended:
        main([*path, "--help"])
    assert ended.value.code in (0, None)
    shown = capsys.readouterr().out
    for option in (w.partition("=")[0] for w in words if w.startswith("-") and len(w) > 1):
        assert option in shown, f"{where}: athena {' '.join(path)} has no {option}"


def test_the_recorded_first_run_is_calm() -> None:
    lines = (ROOT / "docs" / "recordings" / "first-run.txt").read_text("utf-8").splitlines()
    assert "exit 0" in lines
    assert any("finishes in" in line and "deadline" in line for line in lines)
    loud = re.compile(r"warn|error|traceback|exception", re.IGNORECASE)
    assert [line for line in lines if loud.search(line)] == []
