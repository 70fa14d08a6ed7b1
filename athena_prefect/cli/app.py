"""`athena`: every command, and the one place where an error becomes a line and an exit code.

A file of commands for each subject; each parses, calls one function of the
service, and renders. Importing them here is what registers them.
"""

from __future__ import annotations

import errno
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
from athena_prefect.cli.order import put_in_order
from athena_prefect.cli.streams import abandon_output, prepare_streams
from athena_prefect.errors import AthenaError, InputError, PlanDocumentError, SettingsError

OUTPUT_FAILS = (errno.ENOSPC, errno.EIO, errno.EBADF)
"""What writing to standard output fails with; other files are named in their errors."""

put_in_order(app)


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    sys.exit(run_command(sys.argv[1:] if tokens is None else tokens))


def run_command(tokens: list[str]) -> int:
    """The exit code of a command line. Never raises, never shows a traceback."""
    prepare_streams()
    try:
        code = _answered(tokens, as_json="--json" in tokens)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read has enough.
        abandon_output()
        return 0
    except OSError as error:
        abandon_output()
        told = f"athena: cannot write the output: {error.strerror or error}"
        messages().print(told, markup=False, highlight=False, soft_wrap=True)
        return 1


def _answered(tokens: list[str], as_json: bool) -> int:
    """The exit code. Raises OSError, and BrokenPipeError, only of standard output."""
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
        raise
    except OSError as error:
        if error.filename is None and error.errno in OUTPUT_FAILS:
            raise
        refused = _unusable(error)
        return _refuse(refused, as_json) if refused else _unexpected(error, as_json)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: kept in a file, told in a line
        return _unexpected(error, as_json)


def _unusable(error: OSError) -> AthenaError | None:
    """What is said where a folder of ours cannot be made or written to; None of other errors."""
    try:
        settings = settings_here()
    except AthenaError:
        return None
    for name in ("spool_folder", "results_folder", "log_folder", "home"):
        folder: Path = getattr(settings, name)
        if error.filename and Path(os.fsdecode(error.filename)).is_relative_to(folder):
            variable = f"ATHENA_{name.upper()}"
            return SettingsError(
                f"{error.filename}: {error.strerror}; set {variable} to a folder that can be "
                "made and written to",
                variable=variable,
            )
    return None


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

    def write(folder: Path) -> Path:
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, prefix="athena-error-", suffix=".log", delete=False, encoding="utf-8"
        ) as file:
            file.write(details)
        return Path(file.name)

    try:
        folder = settings_here().log_folder
        folder.mkdir(parents=True, exist_ok=True)
        return write(folder)
    except (AthenaError, OSError):
        return write(Path(tempfile.gettempdir()))


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
