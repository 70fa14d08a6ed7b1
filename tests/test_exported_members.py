"""The public names: all there, each declared once for each reader, cheap to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import athena_prefect

SOURCE = ast.parse(Path(athena_prefect.__file__).read_text())
HEAVY = ("prefect", "sqlalchemy", "pandas", "numpy", "networkx", "pydantic", "rich", "cyclopts")


def for_type_checkers() -> dict[str, str]:
    """What the TYPE_CHECKING block imports: name to module."""
    return {
        alias.name: node.module or ""
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("athena_prefect.")
        for alias in node.names
    }


@pytest.mark.parametrize("name", athena_prefect.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(athena_prefect, name) is not None


def test_type_checkers_see_what_is_imported() -> None:
    modules = {n: f"athena_prefect.{m}" for n, m in athena_prefect._MODULES.items()}
    assert for_type_checkers() == modules
    assert sorted([*modules, "__version__"]) == athena_prefect.__all__


def test_public_classes_say_what_they_are() -> None:
    assert not [n for n in athena_prefect._MODULES if not getattr(athena_prefect, n).__doc__]


def test_dir_lists_every_public_name() -> None:
    assert set(athena_prefect.__all__) <= set(dir(athena_prefect))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Plans'"):
        athena_prefect.Plans  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, athena_prefect; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_plan_needs_neither_prefect_nor_a_database() -> None:
    code = (
        "import sys, athena_prefect; athena_prefect.Plan, athena_prefect.MemoryJournal; "
        "print([m for m in ('prefect', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
