"""The values of ``--set name=value``, read as the plan's parameters are typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from athena_prefect.errors import ParameterError
from athena_prefect.plan.model import Parameter, Plan
from athena_prefect.plan.units import parse_duration

_YES = {"true", "yes", "on", "1"}
_NO = {"false", "no", "off", "0"}


def split_assignments(given: Iterable[str]) -> dict[str, str]:
    """``name=value`` texts as a mapping. Raises ParameterError for what is none or comes twice."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        name = name.strip()
        if not sign or not name:
            raise ParameterError(f"--set {text}: write it as name=value, e.g. --set folder=data")
        if name in found:
            raise ParameterError(f"--set {name} is given twice", parameter=name)
        found[name] = value
    return found


def read_parameters(plan: Plan, given: Mapping[str, str]) -> dict[str, Any]:
    """The values of a run's parameters, `given` as text and typed by the plan.

    Parameters that were not given keep their defaults and are left out. Raises
    ParameterError, naming the parameter, where one is unknown, missing or of the
    wrong type.
    """
    for name in given:
        if name not in plan.parameters:
            raise ParameterError(_unknown(plan, name), parameter=name)
    for name, parameter in plan.parameters.items():
        if parameter.required and parameter.default is None and name not in given:
            raise ParameterError(
                f"parameter {name!r} ({parameter.type}) is required; give --set {name}=…",
                parameter=name,
            )
    return {name: _read(name, plan.parameters[name], text) for name, text in given.items()}


def _unknown(plan: Plan, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(plan.parameters), n=1)
    if close:
        return f"plan {plan.name!r} has no parameter {name!r}; did you mean {close[0]!r}?"
    known = ", ".join(plan.parameters) or "none"
    return f"plan {plan.name!r} has no parameter {name!r}; it has {known}"


def _read(name: str, parameter: Parameter, text: str) -> Any:
    reader, example = _READERS[parameter.type]
    try:
        return reader(text)
    except ValueError as error:
        reason = f"; {error}" if parameter.type == "duration" else ""
        raise ParameterError(
            f"parameter {name!r} is {text!r}, which is no {parameter.type}{reason}; "
            f"write it as e.g. --set {name}={example}",
            parameter=name,
        ) from None


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise ValueError(text)
    return word in _YES


def _number(text: str) -> float:
    value = float(text)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _moment(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(text)
    return value


def _json(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_READERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "string": (str, "text"),
    "integer": (int, "10"),
    "number": (_number, "1.5"),
    "boolean": (_boolean, "true"),
    "date": (date.fromisoformat, "2026-01-31"),
    "datetime": (_moment, "2026-01-31T06:00:00+00:00"),
    "duration": (parse_duration, "10m"),
    "list": (_json(list), "'[1, 2]'"),
    "object": (_json(dict), "'{\"key\": 1}'"),
}
