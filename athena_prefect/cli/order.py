"""In which order and under which headings `athena --help` and the reference list the commands."""

from __future__ import annotations

from cyclopts import App, Group

SECTIONS = {
    "Begin": ("init", "validate", "show", "simulate", "infer", "schema"),
    "Run": ("run", "status", "runs", "why", "report", "checks", "check"),
    "Change": ("replan", "revisions", "rerun", "skip", "done"),
    "Learn": ("learn", "lessons", "accuracy", "patterns"),
    "Serve and deploy": ("deploy", "undeploy", "serve", "watch", "register", "mcp"),
    "Database": ("db",),
}
"""Heading: commands, both in the order in which somebody comes to need them."""


def every_command(app: App) -> tuple[tuple[str, ...], ...]:
    """The words of every command, in order; of one that has commands of its own, theirs."""
    found: list[tuple[str, ...]] = []
    for name in (name for names in SECTIONS.values() for name in names):
        flags = (*app[name].help_flags, *app[name].version_flags)
        own = [inner for inner in app[name] if inner not in flags]
        found += [(name, inner) for inner in own] or [(name,)]
    return tuple(found)


def put_in_order(app: App) -> None:
    """Give every command of `app` its heading and place; its own options stand last.

    One that no section names stands under cyclopts' own heading, which a test forbids.
    """
    for place, (heading, names) in enumerate(SECTIONS.items()):
        group = Group(heading, sort_key=place)
        for number, name in enumerate(names):
            app[name].group = group
            app[name].sort_key = number
    common = Group("Options", sort_key=len(SECTIONS))
    for flag in (*app.help_flags, *app.version_flags):
        app[flag].group = common
