"""What a plan document says wrongly of its checks: kinds, their options, what is expected.

Asked beside the plan's own rules (`plan.document.load(..., rules=...)`), on the
document's data, so that one report has these defects too, whatever else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from athena_prefect.assumptions.checks.base import Check
from athena_prefect.assumptions.checks.registry import kind_named, kinds, nearest_kind
from athena_prefect.errors import CheckError, PlanDocumentError, UnknownNameError
from athena_prefect.plan.expectation import Expectation
from athena_prefect.plan.explanation import explain
from athena_prefect.plan.model import Plan
from athena_prefect.plan.scalars import nearest
from athena_prefect.plan.templates import references
from athena_prefect.plan.validation import Finding, Loc, placeless

OWN = frozenset({"kind", "field"})
"""Keys of `check` that are not options of its kind."""


def check_findings(data: Any) -> Iterator[Finding]:
    """The defects of the checks in a document's data, in its order."""
    assumptions = data.get("assumptions") if isinstance(data, Mapping) else None
    for i, assumption in enumerate(assumptions if isinstance(assumptions, list | tuple) else ()):
        if isinstance(assumption, Mapping):
            loc: Loc = ("assumptions", i)
            yield from _spec(loc, assumption.get("check"))
            yield from _expected(loc, assumption.get("expected_value"))


def require(plan: Plan) -> None:
    """Raises PlanDocumentError for a plan whose checks are not sound, however it was made."""
    from athena_prefect.plan.document import as_dict

    found = list(check_findings(as_dict(plan)))
    if found:
        raise PlanDocumentError(placeless(found, f"plan {plan.name!r}"))


def _spec(loc: Loc, spec: Any) -> Iterator[Finding]:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        return  # the plan's own rules have the word on this
    place, name = (*loc, "check"), spec["kind"]
    try:
        kind = kind_named(name)
    except UnknownNameError:
        close = nearest_kind(name)
        remedy = f"did you mean {close!r}?" if close else f"known are {', '.join(kinds())}"
        yield Finding(loc=(*place, "kind"), message=f"no kind of check {name!r}", remedy=remedy)
    except CheckError as error:
        yield Finding(loc=(*place, "kind"), message=str(error))
    else:
        options = {k: v for k, v in spec.items() if k not in OWN}
        yield from option_findings(place, kind, options)


def option_findings(place: Loc, kind: type[Check], options: Mapping[str, Any]) -> Iterator[Finding]:
    """The options that the kind refuses; a template may turn out to be anything."""
    open_ = {r.path[0] for r in references(options) if r.path}
    try:
        kind.model_validate(dict(options))
    except ValidationError as error:
        for details in error.errors(include_url=False):
            first = details["loc"][0] if details["loc"] else None
            if first in open_:
                continue
            if first is None and open_:
                continue  # a rule about several options, of which some are not known yet
            yield _option(place, kind, details)


def _option(place: Loc, kind: type[Check], details: ErrorDetails) -> Finding:
    name = str(details["loc"][0]) if details["loc"] else ""
    known = [f.alias or n for n, f in kind.model_fields.items()]
    # Steps into unions and tuples are pydantic's own, and no part of the document.
    loc: Loc = (*place, name) if name else place
    if details["type"] == "extra_forbidden":
        close = nearest(name, known)
        remedy = f"did you mean {close!r}?" if close else f"it has {', '.join(known)}"
        return Finding(loc=loc, message=f"kind {kind.kind!r} has no option {name!r}", remedy=remedy)
    if details["type"] == "missing":
        return Finding(
            loc=loc,
            message=f"kind {kind.kind!r} needs the option {name!r}",
            remedy=(kind.model_fields[name].description or "write it").split("\n")[0]
            if name in kind.model_fields
            else "write it",
        )
    return explain(loc, details)


def _expected(loc: Loc, expected: Any) -> Iterator[Finding]:
    """A mapping is conditions: one that is none is a slip, not a value to be equal to."""
    if not isinstance(expected, Mapping) or not expected:
        return
    place = (*loc, "expected_value")
    conditions = tuple(f.alias or n for n, f in Expectation.model_fields.items())
    if expected.keys().isdisjoint(conditions):
        near = any(nearest(str(k), conditions) for k in expected)
        if not near:
            return  # a value that is a mapping
    try:
        Expectation.model_validate(dict(expected))
    except ValidationError as error:
        for details in error.errors(include_url=False):
            step = details["loc"][:1]
            if details["type"] == "extra_forbidden":
                close = nearest(str(step[0]), conditions)
                yield Finding(
                    loc=(*place, *step),
                    message=f"no condition {str(step[0])!r}",
                    remedy=f"did you mean {close!r}?"
                    if close
                    else f"known are {', '.join(conditions)}",
                )
            else:
                yield explain((*place, *step), details)
