"""Standard output and error as they are found: closed, full, in an old encoding, cut off."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Signs that no text needs and that would colour, move or turn round what stands beside it: an
error of a task may hold any."""
PLAIN = "athena-plain"
"""Name of the error handler of encodings that lack our signs."""
SIGNS = {
    "·": "|", "−": "-", "–": "-", "…": "...", "≈": "~", "≤": "<=", "≥": ">=", "×": "x",
    "◆": "*", "▸": ">", "✗": "x", "█": "#", "→": "->", "±": "+-", "“": '"', "”": '"', "’": "'",
}  # fmt: skip
"""What stands for a sign where the output's encoding lacks it; for any other, a question mark."""


def prepare_streams() -> None:
    """Make standard output and error take every text, whatever they are.

    A stream that was closed before the start is one to nowhere; characters that the
    encoding of one lacks are written as the nearest it has.
    """
    codecs.register_error(PLAIN, _plainly)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            # For the life of the process, as the stream would have been.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure") and not _universal(stream.encoding):
            stream.reconfigure(errors=PLAIN)


def _universal(encoding: str | None) -> bool:
    return (encoding or "").lower().replace("_", "-").startswith(("utf-", "utf8"))


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SIGNS.get(sign, "?") for sign in lacking), error.end


def abandon_output() -> None:
    """Write nothing more: Python would complain of what it cannot flush when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # captured by a caller


class OurConsole(Console):
    """A console that no text of a plan or a task steers.

    What a reader that has enough means is left to the command line.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is written; signs in a text that would steer the terminal are shown as `�`."""
        for segment in super().render(renderable, options):
            if segment.control or not STEERING.search(segment.text):
                yield segment
            else:
                yield Segment(STEERING.sub("�", segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, where Rich would end the process with 1."""
        raise BrokenPipeError
