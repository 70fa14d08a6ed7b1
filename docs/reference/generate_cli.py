"""Writes cli.md from the commands' own help: ``python docs/reference/generate_cli.py``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from athena_prefect.cli.app import app
from athena_prefect.cli.order import every_command

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = ((), *every_command(app))
HEAD = """# The command line

Every command but `athena mcp` takes `--json`; `athena run --json` writes one JSON object a line,
the others one document. A plan run's id may be shortened to its first letters. Settings are the
environment variables `ATHENA_HOME`, `ATHENA_DATABASE_URL`, `ATHENA_DURABLE`,
`ATHENA_NAMESPACE`, `ATHENA_SPOOL_FOLDER`, `ATHENA_RESULTS_FOLDER`, `ATHENA_LOG_FOLDER` and
`ATHENA_PROFILE`.

This page is made from the commands' own help by `docs/reference/generate_cli.py`.
"""


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for command in COMMANDS:
        title = " ".join(("athena", *command))
        parts.append(f"## `{title}`\n\n```text\n{_help(command)}\n```\n")
    return "\n".join(parts)


def _help(command: tuple[str, ...]) -> str:
    console = Console(width=88, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        app.help_print(list(command), console=console)
    return "\n".join(line.rstrip() for line in captured.get().strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
