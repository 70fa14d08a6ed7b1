"""Which Prefect API this process is configured for, found without importing Prefect.

The order is Prefect's own (3.8): environment, ``.env``, ``prefect.toml``,
``pyproject.toml``, then the active profile. Importing Prefect takes seconds,
which a temporary server needs to come up beside it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

API_URL = "PREFECT_API_URL"


def configured_api_url(
    environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str | None:
    """The API's URL that Prefect would use, or None where it would start a server of its own.

    Where Prefect is imported already its own settings answer. Raises SettingsError
    for a profiles or settings file that is not TOML.
    """
    if environ is None and "prefect" in sys.modules:
        from prefect.settings import get_current_settings

        return get_current_settings().api.url
    env = os.environ if environ is None else environ
    folder = cwd or Path.cwd()
    return next((url for url in _candidates(env, folder) if url), None)


def _candidates(env: Mapping[str, str], folder: Path) -> Iterator[str | None]:
    dotenv = _dotenv(folder / ".env")
    prefect = _toml(folder / "prefect.toml")
    project = _inside(_toml(folder / "pyproject.toml"), "tool", "prefect")
    yield env.get(API_URL)
    yield dotenv.get(API_URL)
    yield _text(_inside(prefect, "api").get("url"))
    yield _text(_inside(project, "api").get("url"))
    named = (
        env.get("PREFECT_PROFILES_PATH")
        or dotenv.get("PREFECT_PROFILES_PATH")
        or _text(prefect.get("profiles_path"))
        or _text(project.get("profiles_path"))
    )
    home = Path(env.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    data = _toml(folder / named if named else home / "profiles.toml")
    active = env.get("PREFECT_PROFILE") or _text(data.get("active")) or ""
    yield _text(_inside(data, "profiles", active).get(API_URL))


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        from athena_prefect.errors import SettingsError

        raise SettingsError(f"{path}: not a TOML file ({error})", file=str(path)) from None


def _dotenv(path: Path) -> Mapping[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        # Prefect, too, goes on without a .env that it cannot read.
        return {}
    pairs = (line.removeprefix("export ").partition("=") for line in map(str.strip, lines))
    return {name.strip(): value.strip().strip("'\"") for name, sign, value in pairs if sign}


def _inside(data: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        found = data.get(key)
        data = found if isinstance(found, Mapping) else {}
    return data


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
