"""What a task's code consists of, as far as text tells: its modules, and where functions stand."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MODULES = 200
"""Files of a project that are read to see what a callable imports: an answer within a second."""
ROOTS = ("", "src/")
"""Folders below a project's root that its modules are looked for in: those of both layouts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A function whose lines a commit changed."""

    file: str
    function: str
    line: int
    """Where it begins now; in the commit's version of the file where it is gone."""


def sources(call: str, files: Mapping[str, str]) -> tuple[str, ...]:
    """The files of a project that a callable's module consists of: its own, and what it imports.

    `files`: path below the root, with '/', → text of each module of the project. Empty
    where the module is none of them, such as an installed package's.
    """
    start = _file_of(call.partition(":")[0], files)
    if start is None:
        return ()
    found = [start]
    for path in found:
        for name in _imported(path, files[path]):
            other = _file_of(name, files)
            if other is not None and other not in found and len(found) < MODULES:
                found.append(other)
    return tuple(found)


def _file_of(module: str, files: Mapping[str, str]) -> str | None:
    path = module.replace(".", "/")
    named = (f"{root}{path}{end}" for root in ROOTS for end in (".py", "/__init__.py"))
    return next((f for f in named if f in files), None)


def _imported(path: str, text: str) -> list[str]:
    """Names of the modules that a file imports, wherever in it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    package = PurePosixPath(path).parent.parts
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            # What is imported from a package may be a module of it.
            names += [base, *(f"{base}.{a.name}" for a in node.names)]
    return names


def functions_at(file: str, text: str, lines: Iterable[int]) -> tuple[Touched, ...]:
    """The innermost functions that hold the given lines (from 1) of a file's text, each once.

    Lines outside of all functions belong to none; a text that cannot be parsed has none.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ()
    spans = [
        (node.lineno, _span(node), node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found: dict[tuple[int, str], Touched] = {}
    for line in lines:
        around = [s for s in spans if line in s[1]]
        if around:
            begin, _, name = max(around, key=lambda s: s[0])
            found.setdefault((begin, name), Touched(file=file, function=name, line=begin))
    return tuple(found.values())


def same_code(one: str, other: str) -> bool:
    """Whether two texts of a module do the same: alike but for layout, comments and docstrings.

    A text that cannot be parsed is like none other than itself.
    """
    if one == other:
        return True
    try:
        return ast.dump(_bare(one)) == ast.dump(_bare(other))
    except (SyntaxError, ValueError, RecursionError):
        return False


def _bare(text: str) -> ast.Module:
    """What a module does, without its docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [n for n in node.body if not _said(n)] or [ast.Pass()]
    return tree


def _said(node: ast.stmt) -> bool:
    """Whether a statement is a text alone, such as a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def changes_elsewhere(text: str, lines: Iterable[int]) -> bool:
    """Whether the given lines (from 1) of a module hold code outside of functions.

    Imports and texts alone are none. Of what cannot be parsed it is not known: then it may.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return True
    inside = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and _said(node))
        for line in _span(node)
    }
    code = {line for node in tree.body for line in _span(node)}
    return any(line in code and line not in inside for line in lines)


def _span(node: ast.stmt) -> range:
    """Its lines, those of its decorators too: a cache that is made smaller is a change of it."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    begin = min((d.lineno for d in decorators), default=node.lineno)
    return range(begin, (node.end_lineno or node.lineno) + 1)


def line_now(line: int, function: str, text: str | None) -> int:
    """Where a function that began at `line` begins in the text as it is now.

    Of several of that name the nearest; where there is none, or no text, `line`.
    """
    try:
        tree = ast.parse(text or "")
    except (SyntaxError, ValueError):
        return line
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    ]
    return min(lines, key=lambda n: abs(n - line)) if lines else line
