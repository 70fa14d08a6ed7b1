"""The wheel: one top-level name, the example project inside, and `athena init` out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import athena_prefect

ROOT = Path(__file__).resolve().parents[1]

INIT = """
import sys, athena_prefect
from pathlib import Path
from athena_prefect.cli import main
assert Path(athena_prefect.__file__).is_relative_to(sys.argv[1]), athena_prefect.__file__
sys.argv = ["athena", "init", sys.argv[2]]
main()
"""

LOAD = """
import json, sys
from prefect.flows import load_flow_from_entrypoint
loaded = {e: load_flow_from_entrypoint(e, use_placeholder_flow=False) for e in sys.argv[2:]}
import athena_prefect
from pathlib import Path
assert Path(athena_prefect.__file__).is_relative_to(sys.argv[1]), athena_prefect.__file__
print(json.dumps({e: flow.name for e, flow in loaded.items()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(
        [*command, str(ROOT)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The wheel unpacked as an installer would; it comes before the checkout on the path."""
    target = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.fixture(scope="module")
def project(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    python(installed, folder, INIT, str(folder))
    return folder


def python(installed: Path, cwd: Path, code: str, *arguments: str) -> str:
    """What `code` prints in a Python that has the wheel, and not the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(installed), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_its_only_top_level_name_is_the_package(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    assert top == {"athena_prefect", f"athena_prefect-{athena_prefect.__version__}.dist-info"}


def test_every_module_of_the_package_is_in_it(wheel: Path) -> None:
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "athena_prefect").rglob("*.py")}
    assert here <= set(names(wheel))
    assert "athena_prefect/py.typed" in names(wheel)


def test_the_migrations_are_in_it(wheel: Path) -> None:
    shipped = [n for n in names(wheel) if n.startswith("athena_prefect/storage/migrations/")]
    assert any("/versions/" in name for name in shipped)


def test_the_example_project_is_in_it_and_nothing_that_was_left_behind(wheel: Path) -> None:
    shipped = {n for n in names(wheel) if n.startswith("athena_prefect/_project/")}
    below = {n.removeprefix("athena_prefect/_project/").partition("/")[0] for n in shipped}
    assert below == {"flows", "tasks", "deployments", "prefect.yaml"}
    assert not [n for n in names(wheel) if "__pycache__" in n or n.endswith((".db", ".pyc"))]


def test_its_commands_and_its_collection_exist(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        text = archive.read(entry).decode()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = [
        *declared["scripts"].values(),
        *declared["entry-points"]["prefect.collections"].values(),
    ]
    for reference in modules:
        assert reference in text
        path = reference.partition(":")[0].replace(".", "/")
        assert {f"{path}.py", f"{path}/__init__.py"} & set(names(wheel)), reference


def test_prefect_finds_the_collection_and_says_nothing(installed: Path, tmp_path: Path) -> None:
    code = """
from prefect.blocks.core import Block
from prefect.plugins import load_prefect_collections
print(load_prefect_collections()["athena_prefect"].__name__)
print(Block.get_block_class_from_key("athena-database").__name__)
"""
    told = python(installed, tmp_path, code)
    assert told.split() == ["athena_prefect.runtime.blocks", "AthenaDatabase"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_every_entry_point_of_a_new_project_loads_strictly(
    installed: Path, project: Path, tmp_path: Path, elsewhere: bool
) -> None:
    """Strictly: without the placeholder that Prefect puts where a flow cannot be imported."""
    entries = [f"{path}:{path.stem}" for path in sorted((project / "flows").glob("*.py"))]
    assert len(entries) >= 2
    cwd = tmp_path if elsewhere else project
    if not elsewhere:
        entries = [os.path.relpath(entry, project) for entry in entries]
    loaded = json.loads(python(installed, cwd, LOAD, *entries))
    assert set(loaded) == set(entries)
    assert set(loaded.values()) == {
        Path(e.rpartition(":")[0]).stem.replace("_", "-") for e in entries
    }
