"""The values of a plan's parameters, as the types that the plan names."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from athena_prefect.errors import ParameterError
from athena_prefect.plan.model import Parameter
from athena_prefect.plan.units import parse_duration

TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "date": date,
    "datetime": datetime,
    "duration": timedelta,
    "list": list[Any],
    "object": dict[str, Any],
}


def parameter_value(name: str, parameter: Parameter, value: Any) -> Any:
    """`value` as the parameter's type. Raises ParameterError, naming the parameter."""
    if parameter.type == "duration":
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ParameterError(f"parameter {name!r}: {error}", parameter=name) from None
    try:
        return TypeAdapter(TYPES[parameter.type]).validate_python(value)
    except ValueError:
        raise ParameterError(
            f"parameter {name!r} is {value!r}; it takes a {parameter.type}", parameter=name
        ) from None
