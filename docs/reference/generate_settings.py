"""Writes settings.md from the settings themselves: ``python docs/reference/generate_settings.py``."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from athena_prefect.settings import AthenaSettings

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

Of one process, as environment variables; a variable that is empty counts as not set. This page is made from the settings: `python docs/reference/generate_settings.py`.

| variable | default | what |
|---|---|---|
"""

DEFAULTS = {
    "home": "the user's data folder",
    "database_url": "`athena.db` in `ATHENA_HOME`",
    "spool_folder": "`spool` in `ATHENA_HOME`",
    "results_folder": "`results` in `ATHENA_HOME`",
    "log_folder": "`logs` in `ATHENA_HOME`",
}
"""Of those that are made from others."""

FOOT = """
Beside them, `ATHENA_DATABASE_BLOCK` names an `AthenaDatabase` block of a Prefect server that has the database's address and what else it sets; [the database](../how-to/postgresql.md) has more on it. `ATHENA_MCP_TOKEN` is the token that [clients of `athena mcp` over HTTP](../how-to/connect-an-agent.md) have to send.
"""


def descriptions() -> dict[str, str]:
    """What the text below each field says."""
    (found,) = ast.parse(inspect.getsource(AthenaSettings)).body
    assert isinstance(found, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, text in zip(found.body, found.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(text.value.value).replace("``", "`").split())
    return texts


def page() -> str:
    """The page as it should be."""
    texts = descriptions()
    rows = []
    for name, field in AthenaSettings.model_fields.items():
        default = DEFAULTS.get(name) or f"`{field.default}`"
        rows.append(f"| `ATHENA_{name.upper()}` | {default} | {texts[name]} |")
    return HEAD + "\n".join(rows) + "\n" + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
