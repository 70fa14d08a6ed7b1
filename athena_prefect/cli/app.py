"""`athena`: every command, and the one place where an error becomes a line and an exit code.

A file of commands for each subject; each parses, calls one function of the
service, and renders. Importing them here is what registers them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cyclopts import CycloptsError

from athena_prefect.cli import (
    by_hand,
    checking,
    database,
    deploying,
    inferring,
    learning,
    planning,
    plans,
    runs,
    serving_mcp,
    watching,
)
from athena_prefect.cli.base import app, emit, messages, settings_here, terminal
from athena_prefect.errors import AthenaError, InputError, PlanDocumentError


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:] if tokens is None else tokens))


def run_command(tokens: list[str]) -> int:
    """The exit code of a command line. Never raises, never shows a traceback."""
    as_json = "--json" in tokens
    try:
        code = app(
            tokens, exit_on_error=False, print_error=False, help_on_error=False, console=terminal()
        )
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        command = " ".join(("athena", *(error.command_chain or ())))
        wrong = InputError(f"{_text_of(error)} See `{command} --help`.")
        return _refuse(wrong, as_json)
    except AthenaError as error:
        return _refuse(error, as_json)
    except KeyboardInterrupt:
        messages().print("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read has enough; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost boundary: kept in a file, told in a line
        return _unexpected(error, as_json)


def _text_of(error: CycloptsError) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "?", "!")) else text + "."


def _refuse(error: AthenaError, as_json: bool) -> int:
    if as_json:
        emit(error.as_dict() | {"message": error.message, "exit_code": error.exit_code})
        return error.exit_code
    if isinstance(error, PlanDocumentError):
        lines = error.message
        count = len(error.defects)
        text = f"{lines}\n{count} defect{'s' if count != 1 else ''} found"
    else:
        text = f"athena: {error.message}"
    messages().print(text, markup=False, highlight=False, soft_wrap=True)
    return error.exit_code


def _unexpected(error: Exception, as_json: bool) -> int:
    import traceback

    text = f"unexpected {type(error).__name__}: {error}"
    file = _keep("".join(traceback.format_exception(error)))
    if as_json:
        emit({"error": type(error).__name__, "message": text, "log": str(file), "exit_code": 1})
    else:
        told = f"athena: {text}\nThis is a defect of athena; the details are in {file}"
        messages().print(told, markup=False, highlight=False, soft_wrap=True)
    return 1


def _keep(details: str) -> Path:
    import tempfile

    try:
        folder = settings_here().log_folder
        folder.mkdir(parents=True, exist_ok=True)
    except (AthenaError, OSError):
        folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, prefix="athena-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(details)
    return Path(file.name)


__all__ = [
    "app",
    "by_hand",
    "checking",
    "database",
    "deploying",
    "inferring",
    "learning",
    "main",
    "planning",
    "plans",
    "run_command",
    "runs",
    "serving_mcp",
    "watching",
]
