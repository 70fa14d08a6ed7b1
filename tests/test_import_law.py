"""The import law of the architecture, and that the contracts would notice a breach."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "athena_prefect"
CORE = ("plan", "schedule", "journal", "monitor", "assumptions", "replanning", "learning")
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "time_ns"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("plan", "import prefect"),
        ("journal", "import sqlalchemy"),
        ("plan", "from athena_prefect.journal import events"),
        ("storage", "from athena_prefect.runtime import context"),
        ("runtime", "import flows.hello"),
        ("service", "import tasks.shell"),
    ],
)
def test_a_breach_is_noticed(tmp_path: Path, module: str, statement: str) -> None:
    """In a copy that has every module of the law, empty but for the breach."""
    layers = (
        *CORE,
        "orchestrator",
        "storage",
        "report",
        "runtime",
        "service",
        "scaffold",
        "settings",
        "errors",
    )
    for name in ("", *layers):
        folder = tmp_path / "athena_prefect" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    for name in ("events", "context"):
        owner = "journal" if name == "events" else "runtime"
        (tmp_path / "athena_prefect" / owner / f"{name}.py").touch()
    (tmp_path / "athena_prefect" / "__init__.py").write_text("import athena_prefect.plan\n")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    assert lint_imports(tmp_path).returncode == 0
    (tmp_path / "athena_prefect" / module / "breach.py").write_text(statement + "\n")
    assert lint_imports(tmp_path).returncode == 1


def test_every_module_stands_in_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in contracts["contracts"] if c["id"] == "layers")["layers"]
    named = {n.strip(" ()") for layer in layers for n in layer.replace(":", "|").split("|")}
    data = {"__init__", "__main__", "templates", "_project"}
    there = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert {n for n in there if not n.startswith("__")} - data <= named


def test_the_core_reads_no_clock_and_no_global_randomness() -> None:
    assert [found for package in CORE for found in impure(PACKAGE / package)] == []


def impure(folder: Path) -> list[str]:
    """Calls of a clock (`datetime.now`, `time.time` …) and uses of module-level randomness."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                clock = node.func.attr in CLOCKS and owner in {"datetime", "date", "time"}
                chance = owner in {"random", "np.random", "numpy.random"} and (
                    node.func.attr not in {"default_rng", "Generator", "SeedSequence", "PCG64"}
                )
                unseeded = node.func.attr == "default_rng" and not (node.args or node.keywords)
                if clock or chance or unseeded:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    return found


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    """Nothing rests on what another dependency happens to bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [d for e in ("dask", "ray", "checks", "mcp", "profile") for d in extras[e]]
    core = set(map(distribution, project["dependencies"]))
    used = needed(PACKAGE, ROOT / "flows", ROOT / "tasks")
    assert used <= core | set(map(distribution, optional))
    # Held to a bound for Prefect's sake, or data that is never imported.
    assert core - used <= {"fastapi", "tzdata"}
    dev = {distribution(r) for r in [*extras["dev"], *extras["mcp"]]}
    # pyarrow: what a step says where it is not there is tested, either way.
    assert needed(ROOT / "tests", ROOT / "benchmarks") - {"pyarrow"} <= core | dev


def needed(*folders: Path) -> set[str]:
    """The distributions that the files of the folders import."""
    owners = packages_distributions()
    names = {name for folder in folders for name in imported(folder)}
    own = {"flows", "tasks", "tests", "benchmarks"}
    found = {distribution(owners.get(name, [name])[0]) for name in names - own}
    # The package fastmcp installs another one, which holds its modules.
    return {"fastmcp" if name == "fastmcp-slim" else name for name in found}


def distribution(requirement: str) -> str:
    """The normalised name of a requirement."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path) -> set[str]:
    """Top-level names of what the files of `folder` import, but for the standard library."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"athena_prefect"}
