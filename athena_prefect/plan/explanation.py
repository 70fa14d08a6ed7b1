"""Shape errors in a reader's words: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from athena_prefect.plan.scalars import nearest
from athena_prefect.plan.validation import Finding, Loc

_SHOWN = 60
"""Characters of a wrong value that a message shows."""


def explain(loc: Loc, details: ErrorDetails) -> Finding:
    """The finding of one of pydantic's errors at `loc` of the document."""
    given = details["input"]
    message, remedy = _EXPLAINED.get(details["type"], _other)(loc, given, details)
    return Finding(loc=loc, message=message, remedy=remedy)


Explained = tuple[str, str]


def shown(value: Any) -> str:
    """`value` as a message names it: text in quotes, containers by their kind."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _unknown_field(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    name = str(loc[-1])
    known = fields_at(loc[:-1])
    close = nearest(name, known)
    if close:
        return f"unknown field {name!r}", f"did you mean {close!r}?"
    return f"unknown field {name!r}", f"known are {', '.join(known)}" if known else ""


def _missing(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"field {str(loc[-1])!r} is missing", "it has no default: write it"


def _value(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    message, _, remedy = str(details["ctx"]["error"]).partition("; ")
    return message, remedy


def _choice(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    choices = [c.strip("'") for c in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    close = nearest(given, choices) if isinstance(given, str) else None
    known = f"one of {', '.join(choices)}" if len(choices) > 1 else f"write {choices[0]}"
    return f"{shown(given)} is not allowed", f"did you mean {close!r}? {known}" if close else known


def _number(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    whole = "whole " if details["type"].startswith("int") else ""
    remedy = f"write a plain {whole}number"
    if isinstance(given, str) and given[:1].isdigit() and "resources" in loc:
        remedy += "; the unit belongs in the resource's name, e.g. memory_gb: 0.5"
    elif isinstance(given, str) and given.endswith("%"):
        remedy += "; a share is a fraction, e.g. 0.15"
    return f"{shown(given)} is not a {whole}number", remedy


def _bound(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    ((kind, bound),) = details["ctx"].items()
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return f"{shown(given)} is out of range", f"{words[kind]} {bound:g}"


def _text(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    quote = isinstance(given, bool | int | float)
    return f"{shown(given)} is not text", f'put it in quotes: "{shown(given)}"' if quote else ""


def _pattern(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return (
        f"{shown(given)} is not a name",
        "letters, digits, _ . and -, beginning with a letter, a digit or _",
    )


def _list(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    scalar = isinstance(given, str | int | float)
    return f"{shown(given)} is not a list", f"write [{given}]" if scalar else "write [a, b]"


def _mapping(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    known = fields_at(loc)
    remedy = f"write fields, e.g. {{{', '.join(f'{k}: …' for k in known[:3])}}}"
    return f"{shown(given)} is not a mapping", remedy if known else "write {name: value}"


def _truth(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"{shown(given)} is neither true nor false", "write true or false"


def _clock(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"{shown(given)} is not a time of the clock", 'write e.g. "06:00"'


def _too_short(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return "is empty", "write at least one"


def _too_long(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"{shown(given)} is too long", f"at most {details['ctx']['max_length']} characters"


def _infinite(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"{shown(given)} is not a finite number", "write a plain number"


def _other(loc: Loc, given: Any, details: ErrorDetails) -> Explained:
    return f"{shown(given)}: {details['msg'][:1].lower()}{details['msg'][1:]}", ""


_EXPLAINED: dict[str, Callable[[Loc, Any, ErrorDetails], Explained]] = {
    "extra_forbidden": _unknown_field,
    "missing": _missing,
    "value_error": _value,
    "enum": _choice,
    "literal_error": _choice,
    **dict.fromkeys(("float_type", "float_parsing"), _number),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _number),
    "finite_number": _infinite,
    **dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), _bound),
    "string_type": _text,
    "string_pattern_mismatch": _pattern,
    "string_too_short": _too_short,
    "string_too_long": _too_long,
    "too_short": _too_short,
    **dict.fromkeys(("tuple_type", "list_type"), _list),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "mapping_type"), _mapping),
    **dict.fromkeys(("bool_type", "bool_parsing"), _truth),
    **dict.fromkeys(("time_parsing", "time_type"), _clock),
}


@cache
def _schema() -> dict[str, Any]:
    from athena_prefect.plan.model import Plan

    return Plan.model_json_schema(by_alias=True)


def fields_at(loc: Loc) -> tuple[str, ...]:
    """The fields that a document may have at `loc`, in the order of the reference."""
    here = list(_branches(_schema()))
    for step in loc:
        here = [deeper for schema in here for deeper in _step(schema, step)]
    names = (name for schema in here for name in schema.get("properties", ()))
    return tuple(dict.fromkeys(names))


def _branches(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema with its references followed and its alternatives apart."""
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    for key in ("anyOf", "oneOf"):
        for option in schema.get(key, ()):
            yield from _branches(option)
    yield schema


def _step(schema: Mapping[str, Any], step: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(step, int):
        yield from _branches(schema.get("items"))
    elif step in schema.get("properties", ()):
        yield from _branches(schema["properties"][step])
    else:
        yield from _branches(schema.get("additionalProperties"))
        for named in schema.get("patternProperties", {}).values():
            yield from _branches(named)
