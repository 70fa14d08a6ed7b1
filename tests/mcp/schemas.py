"""Arguments made from a tool's own JSON Schema: fitting ones, and ones that are wrong somewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["", "\x00", "\x1b[31m", "t1", "../../etc/passwd", "'; DROP TABLE plans; --", "{{ secret.x }}",
     "os:system", "http://169.254.169.254/", "NaN", "null", "ü", "𝔘", "a" * 5_000, "%s%n", "\u202e"]
)  # fmt: skip
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -1, 2**63, 1e308])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
"""Any JSON value, and a few numbers that JSON cannot write."""


def fitting(schema: dict[str, Any], known: dict[str, st.SearchStrategy[Any]]) -> Any:
    """Values of `schema`; of a property in `known` often one of those."""
    if "anyOf" in schema:
        return st.one_of([fitting(s, known) for s in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    match schema.get("type"):
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema.get("minimum", -100), schema.get("maximum", 10_000))
        case "number":
            return st.floats(
                schema.get("minimum", -1e6), schema.get("maximum", 1e6), allow_nan=False
            )
        case "string":
            return _strings(schema)
        case "array":
            return st.lists(fitting(schema.get("items", {}), known), max_size=4)
        case "object":
            return _objects(schema, known)
        case _:
            return ANYTHING


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        now = datetime.now(UTC)
        moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))
        near = st.integers(-100_000, 0).map(lambda s: now + timedelta(seconds=s))
        return (near | moments.map(lambda m: m.replace(tzinfo=UTC))).map(datetime.isoformat)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True).filter(
            lambda s: len(s) <= schema.get("maxLength", 1_000)
        )
    return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 30))


def _objects(schema: dict[str, Any], known: dict[str, st.SearchStrategy[Any]]) -> Any:
    properties: dict[str, Any] = schema.get("properties", {})
    if not properties:
        more = schema.get("additionalProperties")
        values = fitting(more, known) if isinstance(more, dict) else ANYTHING
        names = st.sampled_from(["cpu", "gpu", "x"]) | st.text(min_size=1, max_size=5)
        return st.dictionaries(names, values, max_size=3)
    needed = set(schema.get("required", ()))
    made = {
        name: known[name] | fitting(part, known) if name in known else fitting(part, known)
        for name, part in properties.items()
    }
    return st.fixed_dictionaries(
        {n: s for n, s in made.items() if n in needed},
        optional={n: s for n, s in made.items() if n not in needed},
    )


@st.composite
def arguments(
    draw: st.DrawFn, schema: dict[str, Any], known: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """Arguments for a tool, now and then with one that is wrong, missing or too many."""
    made: dict[str, Any] = dict(draw(fitting(schema, known)))
    kind = draw(st.sampled_from(["fits", "fits", "wrong", "missing", "extra", "rubbish"]))
    names = sorted(schema["properties"])
    if kind == "wrong":
        made[draw(st.sampled_from(names))] = draw(ANYTHING)
    elif kind == "missing" and made:
        del made[draw(st.sampled_from(sorted(made)))]
    elif kind == "extra":
        made[draw(TEXTS)] = draw(ANYTHING)
    elif kind == "rubbish":
        made = draw(st.dictionaries(st.sampled_from(names) | TEXTS, ANYTHING, max_size=5))
    return made
