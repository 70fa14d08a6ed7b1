"""`athena init`: the example project, copied into a folder that the user owns.

The files are the repository's own `flows/`, `tasks/` and `deployments/`, so what
is copied is what the tests run. A wheel carries them as `athena_prefect/_project/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from athena_prefect.errors import InputError

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = ("flows", "tasks", "deployments")
_FILES = ("prefect.yaml",)
_OWN = {"README.md": "README.md", "gitignore": ".gitignore"}
"""Written for the new project alone. The second would hide files of the
template from version control under its final name."""


def init(folder: str | Path) -> tuple[Path, ...]:
    """Make a project in `folder`, which need not exist; the files written, sorted.

    Raises InputError, with nothing written, where a file of the project is there
    already (all of them are named) or the folder cannot be written to.
    """
    target = Path(folder).expanduser().absolute()
    files = {target / name: source for name, source in _template()}
    _refuse_to_overwrite(target, files)
    made: list[Path] = []
    try:
        for path, source in sorted(files.items()):
            content = source.read_bytes()
            _make_folder(path.parent, made)
            with path.open("xb") as file:  # x: nor one that appeared since
                made.append(path)
                file.write(content)
    except OSError as error:
        _take_back(made)
        raise InputError(
            f"{error.filename or target}: {error.strerror}; "
            "name a folder that can be made and written to",
            path=str(error.filename or target),
        ) from error
    return tuple(path for path in sorted(files))


def template_folder() -> Path:
    """Where the example project is: in the wheel, or the root of a source checkout."""
    shipped = _PACKAGE / "_project"
    return shipped if shipped.is_dir() else _PACKAGE.parent


def _template() -> Iterator[tuple[str, Path]]:
    root = template_folder()
    for folder in _FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.is_file() and _is_source(path.relative_to(root)):
                yield path.relative_to(root).as_posix(), path
    for name in _FILES:
        yield name, root / name
    for source, name in _OWN.items():
        yield name, _PACKAGE / "templates" / "project" / source


def _is_source(path: Path) -> bool:
    # A checkout also holds what running the examples left behind.
    hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
    return not hidden and path.suffix in {".py", ".yaml", ".yml", ".json", ".csv", ".md", ".sql"}


def _refuse_to_overwrite(target: Path, files: dict[Path, Path]) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; name a folder", path=str(target))
    there = tuple(str(p.relative_to(target)) for p in sorted(files) if p.exists())
    if there:
        raise InputError(
            f"{target} has {', '.join(there)} already, and nothing is overwritten; "
            "name an empty folder",
            path=str(target),
            existing=there,
        )


def _make_folder(folder: Path, made: list[Path]) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, made)
    folder.mkdir()
    made.append(folder)


def _take_back(made: list[Path]) -> None:
    for path in reversed(made):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
