"""Where a plan's project is, and the callables that its tasks name."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from athena_prefect.errors import CallableError
from athena_prefect.plan.scalars import nearest

ROOT_FILES = ("prefect.yaml", "pyproject.toml")
"""A folder with one of these is a project."""


def project_root(path: str | Path) -> Path:
    """The nearest folder above the plan file with a `prefect.yaml` or `pyproject.toml`.

    Without one, the plan file's own folder. `path` may also be a folder.
    """
    path = Path(path).resolve()
    start = path if path.is_dir() else path.parent
    for folder in (start, *start.parents):
        if any((folder / name).is_file() for name in ROOT_FILES):
            return folder
    return start


class _ProjectFolder(str):
    """An entry of the import path that `put_first` has put there, so that it can go again."""

    __slots__ = ()


def put_first(root: str | Path) -> None:
    """Make `root` the first place that modules are imported from, in this process.

    The project that was first before gives way: with both on the path, a folder
    without `__init__.py` here would lose to a module of that name there.
    """
    folder = _ProjectFolder(Path(root).resolve())
    if not (sys.path and sys.path[0] == folder):
        others = [p for p in sys.path if not isinstance(p, _ProjectFolder)]
        sys.path[:] = [folder, *others]


def resolve(reference: str, root: str | Path | None = None) -> Callable[..., Any]:
    """The callable that ``module:function`` names; modules of the project come first.

    `root` stays first on the import path, since what was imported may import
    more later. Raises CallableError: not a reference, no such module or name, a
    module that fails when it is imported, or something that cannot be called.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (colon and module_name and attribute):
        raise CallableError(reference, "is not module:function; write e.g. tasks.audit:extract")
    if root is not None:
        put_first(root)
        _forget_other_project(module_name.partition(".")[0], Path(root).resolve())
    found: Any = _module(reference, module_name, root)
    where = f"module {module_name}"
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise CallableError(reference, f"{where} has no {part!r}{_hint(part, dir(found))}")
        found, where = getattr(found, part), part
    if not callable(found):
        raise CallableError(reference, f"is a {type(found).__name__}, which cannot be called")
    result: Callable[..., Any] = found
    return result


def _module(reference: str, name: str, root: str | Path | None) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            place = f" in {root} or among the installed packages" if root else ""
            hint = _hint(name, _modules_beside(missing))
            raise CallableError(reference, f"no module {missing!r}{place}{hint}") from error
        raise CallableError(reference, f"{name} needs {missing!r}, which is missing") from error
    except (Exception, SystemExit) as error:
        # A user's module may raise anything while it is imported; it is reported.
        raise CallableError(reference, f"importing {name} failed: {_told(error)}") from error


def _told(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({last[0].filename}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {error}{place}"


def _modules_beside(missing: str) -> list[str]:
    """Full names of the modules that stand where `missing` was looked for."""
    parent = missing.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else sys.path
    return [prefix + m.name for m in pkgutil.iter_modules(path)]


def _hint(name: str, known: Iterable[str]) -> str:
    close = nearest(name, (k for k in known if not k.startswith("_")))
    return f"; did you mean {close!r}?" if close else ""


def _forget_other_project(top: str, root: Path) -> None:
    """Drop a module of the same name that another project left in this process.

    Every project has a `tasks`; what an earlier plan of this process imported
    must not answer for this one.
    """
    ours = (root / top).is_dir() or (root / f"{top}.py").is_file()
    if not ours or top in sys.stdlib_module_names:
        return
    for name in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
        module = sys.modules[name]
        # A package without __init__ has no file, and spans folders: its first one counts.
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        place = next((p for p in places if p), None)
        if place is None or not Path(place).resolve().is_relative_to(root):
            del sys.modules[name]
