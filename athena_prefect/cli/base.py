"""What the commands of `athena` share: the application, their options, how they answer."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from cyclopts import App, Parameter
from rich.console import Console

from athena_prefect.cli.streams import OurConsole

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

EXIT_CODES = """Exit codes: 0 done, 1 the plan (or athena) failed, 2 the input is wrong,
3 the deadline was missed, or the run was cancelled or aborted."""

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Write JSON to standard output.")]
PlanFile = Annotated[Path, Parameter(help="The plan document, YAML or JSON.")]
RunId = Annotated[str, Parameter(help="A plan run's id, or the first letters of one.")]


def examples(*lines: str) -> str:
    """A command's epilogue: how it is used, and its exit codes."""
    word = "Example" if len(lines) == 1 else "Examples"
    return f"{word}:\n" + "\n".join(f"  {line}" for line in lines) + f"\n\n{EXIT_CODES}"


app = App(
    name="athena",
    help="Give a Prefect flow a plan: it watches itself run, says when it will finish and how "
    "sure it is.\n\nStart here: `athena init my-project`, then `athena run "
    "deployments/environment_audit/plan.yaml`.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


class Answer(Protocol):
    """What a function of the service answers."""

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain data."""
        ...


def settings_here() -> AthenaSettings:
    """This process's settings, from its environment or the block that it names."""
    from athena_prefect.settings import AthenaSettings

    if os.environ.get("ATHENA_DATABASE_BLOCK"):
        # A block is read through Prefect, whose import takes seconds: only where it is asked for.
        from athena_prefect.runtime.blocks import current_settings

        return current_settings()
    return AthenaSettings()


def terminal() -> Console:
    """Standard output."""
    console = OurConsole(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # Nobody's window: wide enough that a table keeps one line a row.
        console.width = 140
    return console


def messages() -> Console:
    """Standard error."""
    return OurConsole(stderr=True, highlight=False)


def emit(content: Any) -> None:
    """Write `content` as JSON."""
    sys.stdout.write(jsonlib.dumps(content, indent=2, default=str) + "\n")
    sys.stdout.flush()


def answer_of(
    what: str, work: Callable[[], Answer], as_json: bool, show: Callable[[Any], object]
) -> Any:
    """Write what `work` answers, and return it; whoever waits for it on a terminal sees `what`.

    A table of 10,000 rows takes longer to lay out than to reckon, so that is waited for too.
    """
    from athena_prefect.cli.progress import working

    text = ""
    with working(what, quiet=as_json):
        value = work()
        if not as_json:
            from athena_prefect.cli import render

            text = render.laid_out(terminal(), show(value))  # type: ignore[arg-type]
    if as_json:
        emit(value.as_dict())
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    return value


def answer(value: Answer, as_json: bool, show: Callable[[Any], object]) -> None:
    """Write a service's answer: as JSON, or as `show` makes it for people."""
    if as_json:
        emit(value.as_dict())
    else:
        from athena_prefect.cli import render

        render.say(terminal(), show(value))  # type: ignore[arg-type]
