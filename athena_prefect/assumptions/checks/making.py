"""From what a plan says to an observation: options filled in, the check made, errors caught."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation, hide
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.assumptions.rules import option_findings
from athena_prefect.errors import AthenaError, CheckError
from athena_prefect.plan.assumption import CheckSpec
from athena_prefect.plan.scalars import unstorable
from athena_prefect.plan.templates import Template, render

Resolver = Callable[[Template], Any]
"""Gives the value of a template; raises AthenaError where it has none."""

LONGEST_MESSAGE = 500
"""Characters of an error that are kept: a server may answer with a page."""
LONGEST_VALUE = 10_000
"""Characters of an observed value, written out: it is kept in the journal for ever."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What became of a check: an observation, or why there is none."""

    observation: Observation | None = None
    error: str = ""


def prepare(spec: CheckSpec, resolve: Resolver) -> tuple[Check, frozenset[str]]:
    """The check that `spec` says, its templates filled in, and the secrets among them.

    Raises CheckError where a template has no value or an option is refused;
    the message has no secret in it.
    """
    secrets: set[str] = set()

    def filled(template: Template) -> Any:
        value = resolve(template)
        if template.namespace == "secret":
            secrets.add(str(value))
        return value

    kind = kind_named(spec.kind)
    try:
        options = render(spec.options, filled)
    except (AthenaError, ValueError) as error:
        raise CheckError(f"check {spec.kind!r}: {error}") from None
    try:
        return kind.model_validate(options), frozenset(secrets)
    except ValidationError:
        found = next(option_findings((), kind, options), None)
        said = f"{found.loc[0] if found.loc else spec.kind}: {found.message}" if found else ""
        hidden = hide(said, frozenset(secrets))
        raise CheckError(f"check {spec.kind!r}: {hidden or 'its options are refused'}") from None


def make(check: Check, context: CheckContext) -> Made:
    """Make the check here and now; whatever goes wrong is the check's and nobody else's."""
    try:
        found = check.observe(context)
        value = kept(as_data(found.value))
    except CheckError as error:
        return Made(error=context.hide(shortened(str(error))))
    except TimeoutError as error:
        return Made(error=context.hide(shortened(f"no answer in time: {error}".rstrip(": "))))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary of every check: told
        return Made(error=context.hide(shortened(f"{type(error).__name__}: {error}")))
    details = context.hide(found.details) if found.details else ""
    return Made(observation=replace(found, value=value, details=shortened(details)))


def kept(value: Any) -> Any:
    """`value`, which has to be one that a journal can keep. Raises CheckError."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise CheckError("bytes were observed; a value is a number, a text or a moment")
    if isinstance(value, str | list | Mapping):
        written = str(value)
        if len(written) > LONGEST_VALUE:
            raise CheckError(
                f"what was observed is too large to be kept ({len(written)} characters); "
                "observe a part of it"
            )
        if bad := unstorable(written if isinstance(value, str) else _texts(value)):
            raise CheckError(f"what was observed has the character {bad}, which no database keeps")
    return value


def _texts(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"{k}{_texts(v)}" for k, v in value.items())
    if isinstance(value, list):
        return "".join(map(_texts, value))
    return value if isinstance(value, str) else ""


def shortened(text: str) -> str:
    """`text` on one line, and no longer than a message may be."""
    line = " ".join(_UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def as_data(value: Any) -> Any:
    """`value` with numbers of other libraries as Python's own; moments and lengths stay."""
    if isinstance(value, Mapping):
        return {str(k): as_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_data(v) for v in value]
    item = getattr(value, "item", None)
    if callable(item) and type(value).__module__.partition(".")[0] == "numpy":
        return item()
    from decimal import Decimal

    return float(value) if isinstance(value, Decimal) else value
