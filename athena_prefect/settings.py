"""Where things are kept and how carefully: read once at the edge, then passed in.

Each field is the environment variable ``ATHENA_<FIELD>``. How often something is
looked at is no setting: those seconds stand, with their reasons, where they are used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, Field, ValidationError, field_serializer
from pydantic_settings import BaseSettings, SettingsConfigDict

from athena_prefect.errors import SettingsError

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgres", "postgresql+psycopg")
_PASSWORD = re.compile(r"(?s)(?<=://)([^:/@]*):.*@")
_SECRET_QUERY = re.compile(r"(?is)([?&](?:ssl)?password=)[^&]*")

_REMEDIES = {
    "home": "a folder, e.g. /var/lib/athena",
    "database_url": "sqlite:////absolute/file.db or postgresql+psycopg://user@host/database",
    "durable": "process (survives a killed process) or power (survives a power cut, slower)",
    "namespace": "letters, digits, '_', '-' and '.', e.g. staging",
    "spool_folder": "a folder on a local disk",
    "results_folder": "a folder",
    "log_folder": "a folder",
    "profile": "off, auto, all, or ids of tasks with commas",
}
"""What would be right, a field each."""


def masked(url: str) -> str:
    """`url` with its password hidden."""
    return _SECRET_QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))


def _absolute(path: Path) -> Path:
    # A worker or a child has another working directory.
    return path.expanduser().absolute()


def _supported(url: str) -> str:
    driver, separator, _ = url.partition("://")
    if not separator:
        raise ValueError("is not a database URL")
    if driver.lower() not in _DRIVERS:
        raise ValueError(f"{driver!r} is not supported")
    return url


def _default_home() -> Path:
    return Path(platformdirs.user_data_dir("athena", appauthor=False))


def _below_home(name: str) -> Any:
    def default(data: dict[str, Any]) -> Path:
        # No home here: it is refused already, and this default is never used.
        home: Path = data.get("home") or _default_home()
        return home / name

    return default


def _default_database(data: dict[str, Any]) -> str:
    file: Path = _below_home("athena.db")(data)
    return f"sqlite:///{file.as_posix()}"


Folder = Annotated[Path, AfterValidator(_absolute)]


class AthenaSettings(BaseSettings):
    """The settings of one process; keyword arguments win over the environment.

    Raises SettingsError with every variable that cannot be used and what would be
    right. The database's password is in `database_url` and nowhere else: not in
    the settings' text, their dumps or their errors.
    """

    model_config = SettingsConfigDict(
        env_prefix="ATHENA_",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    home: Folder = Field(default_factory=_default_home)
    """Folder of everything that is kept; the user's data folder by default."""
    database_url: Annotated[str, AfterValidator(_supported)] = Field(
        default_factory=_default_database
    )
    """SQLAlchemy URL, password included; a SQLite file in `home` by default."""
    durable: Literal["process", "power"] = "process"
    """What an acknowledged write survives: the process being killed, or the power failing.
    On PostgreSQL its own configuration decides."""
    namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")
    """Keeps dev, stage and prod apart in one database."""
    spool_folder: Folder = Field(default_factory=_below_home("spool"))
    """Events wait here while the database cannot be reached."""
    results_folder: Folder = Field(default_factory=_below_home("results"))
    """Results of tasks, where a plan stores them locally."""
    log_folder: Folder = Field(default_factory=_below_home("logs"))
    """Logs of what must not reach the terminal, such as a temporary server's."""
    profile: str = Field(default="off", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.,\-]*$")
    """Tasks whose time is sampled function by function (extra `profile`): ``off``, ``all``, ids
    with commas, or ``auto``: those that runs before have taught to be slow."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _settings_error(error) from None

    def __repr_args__(self) -> Any:
        for name, value in super().__repr_args__():
            yield name, masked(value) if name == "database_url" else value

    @field_serializer("database_url")
    def _without_password(self, url: str) -> str:
        return masked(url)


def _settings_error(error: ValidationError) -> SettingsError:
    lines: list[str] = []
    variables: list[str] = []
    for defect in error.errors(include_input=False, include_url=False):
        if defect["type"] == "default_factory_not_called":
            continue  # the consequence of another defect of the list
        field = str(defect["loc"][0]) if defect["loc"] else ""
        if field not in AthenaSettings.model_fields:
            known = ", ".join(AthenaSettings.model_fields)
            lines.append(f"no setting {field!r}; there are {known}")
            continue
        variable = f"ATHENA_{field.upper()}"
        message = str(defect["msg"]).removeprefix("Value error, ")
        variables.append(variable)
        lines.append(f"{variable}: {message}; right would be {_REMEDIES[field]}")
    return SettingsError("\n".join(lines), variables=tuple(variables))
