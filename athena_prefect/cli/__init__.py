"""The command line: parse, call one service function, render."""

from __future__ import annotations

from athena_prefect.cli.app import main

__all__ = ["main"]
