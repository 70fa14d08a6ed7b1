"""What a document's shape errors say, and what can still be checked beside them.

Pydantic reports every field that has the wrong shape, but no rule of the whole
plan is asked then. So that one report has all defects, the broken parts are
taken out, the rest is read again, and the whole-plan rules judge what is left;
nothing is held against it that the lost parts may have said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from athena_prefect.plan.explanation import explain
from athena_prefect.plan.validation import Finding, Loc, Lost, findings, placeless

if TYPE_CHECKING:
    from athena_prefect.errors import Defect
    from athena_prefect.plan.model import Plan

SHAPE_ONLY = object()
"""Validation context under which a `Plan` is read without its whole-plan checks."""

ROUNDS = 8
"""Times that broken parts are taken out: what hides behind so many layers shows next time."""


def defects(value: Any, error: ValidationError) -> Iterator[Defect]:
    """Every defect of the data `value`, which pydantic refused with `error`; no lines."""
    name = value.get("name") if isinstance(value, Mapping) else None
    file = f"plan {name!r}" if isinstance(name, str) else "plan"
    return placeless(_examine(value, error, by_name=True), file)


def read(value: Any) -> Plan | list[Finding]:
    """The plan that the document data `value` describes, or all its defects."""
    from athena_prefect.plan.model import Plan

    try:
        plan = Plan.model_validate(value, context=SHAPE_ONLY, by_alias=True, by_name=False)
    except ValidationError as error:
        return _examine(value, error, by_name=False)
    return findings(plan) or plan


def _examine(value: Any, error: ValidationError, *, by_name: bool) -> list[Finding]:
    """The findings of `error`, and those of the whole plan without its broken parts."""
    from athena_prefect.plan.model import Plan

    found: dict[tuple[Loc, str], Finding] = {}
    pruned = _Pruned(raw=value, rest=value)
    for _ in range(ROUNDS):
        for one in pruned.take_out(error):
            found.setdefault((one.loc, one.message), one)
        if pruned.hopeless:
            break
        try:
            plan = Plan.model_validate(
                pruned.rest, context=SHAPE_ONLY, by_alias=True, by_name=by_name
            )
        except ValidationError as again:
            error = again
            continue
        for one in findings(plan, pruned.lost()):
            placed = pruned.placed(one)
            found.setdefault((placed.loc, placed.message), placed)
        break
    return list(found.values())


@dataclass
class _Pruned:
    """Document data without its broken parts; places are those of the whole data."""

    raw: Any
    rest: Any
    """The data without what was taken out."""
    out: set[Loc] = field(default_factory=set)
    """Every place taken out."""
    broken: set[Loc] = field(default_factory=set)
    """Those whose loss may cause errors of its own: all but fields like no other."""
    kept: dict[Loc, list[int]] = field(default_factory=dict)
    """Of lists in `rest` that lack elements: where each of theirs stood."""
    hopeless: bool = False
    """Whether nothing is left that could be read."""

    def take_out(self, error: ValidationError) -> list[Finding]:
        """Take the broken parts out; the findings that are not of our own making."""
        found = []
        before = len(self.out)
        earlier = _prefixes(self.broken)
        for details in error.errors(include_url=False):
            loc = self.original(self._navigable(details))
            if details["type"] == "too_short" and _at(self.raw, loc):
                continue  # Its elements are broken: each has an error of its own.
            one = explain(loc, details)
            if loc not in earlier:
                found.append(one)
            if loc == ("name",) and details["type"] == "missing":
                continue
            part = loc[:-1] if details["type"] == "missing" else loc
            self.out.add(part)
            if details["type"] != "extra_forbidden" or one.remedy.startswith("did you mean"):
                self.broken.add(part)
        self.hopeless = () in self.out or (len(self.out) == before and "name" in self.rest)
        if not self.hopeless:
            self.kept.clear()
            self.rest = self._build(self.raw, (), ())
            # Without a name the rest can still be judged.
            self.rest.setdefault("name", "unnamed")
        return found

    def _navigable(self, details: ErrorDetails) -> Loc:
        """Pydantic's location without its own words (tags of unions, names of validators)."""
        here = self.rest
        loc: list[str | int] = []
        last = len(details["loc"]) - 1
        for i, step in enumerate(details["loc"]):
            if isinstance(here, Mapping) and step in here:
                here = here[str(step)]
            elif isinstance(here, list | tuple) and isinstance(step, int) and step < len(here):
                here = here[step]
            elif details["type"] != "missing" or i != last or not isinstance(here, Mapping):
                continue
            loc.append(step)
        return tuple(loc)

    def _build(self, value: Any, loc: Loc, new: Loc) -> Any:
        if isinstance(value, Mapping):
            return {
                k: self._build(v, (*loc, k), (*new, k))
                for k, v in value.items()
                if (*loc, k) not in self.out
            }
        if not isinstance(value, list | tuple):
            return value
        kept = [i for i in range(len(value)) if (*loc, i) not in self.out]
        if len(kept) < len(value):
            self.kept[new] = kept
        return [self._build(value[i], (*loc, i), (*new, n)) for n, i in enumerate(kept)]

    def original(self, loc: Loc) -> Loc:
        """A place in `rest`, as the place it has in `raw`."""
        if not self.kept:
            return loc
        return tuple(
            self.kept[loc[:i]][step] if isinstance(step, int) and loc[:i] in self.kept else step
            for i, step in enumerate(loc)
        )

    def placed(self, found: Finding) -> Finding:
        """`found`, a finding about `rest`, with the places of `raw`."""
        return Finding(
            loc=self.original(found.loc),
            message=found.message,
            remedy=found.remedy,
            related=None if found.related is None else self.original(found.related),
        )

    def lost(self) -> Lost:
        """What was taken out, with all the words that stand in it."""
        names: set[str] = set()
        for loc in self.out:
            names.update(str(step) for step in loc[-1:])
            names.update(_words(_at(self.raw, loc)))
        return Lost(locs=frozenset(self.out), names=frozenset(names))


def _prefixes(locs: set[Loc]) -> set[Loc]:
    return {loc[:i] for loc in locs for i in range(len(loc) + 1)}


def _at(value: Any, loc: Loc) -> Any:
    for step in loc:
        if isinstance(value, Mapping) and step in value:
            value = value[str(step)]
        elif isinstance(value, list | tuple) and isinstance(step, int):
            value = value[step]
        else:
            return None
    return value


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _words(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
