"""What has to change on a server so that it is as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from athena_prefect.runtime.deployment.state import Item, Masked, ServerState


class Action(StrEnum):
    """What is done with something on the server."""

    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field that is not as it should be; a secret is never shown in it."""

    field: str
    is_now: Any
    should_be: Any

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "field": self.field,
            "is_now": _shown(self.is_now),
            "should_be": _shown(self.should_be),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing to make, alter or remove."""

    action: Action
    kind: str
    name: str
    differences: tuple[Difference, ...] = ()
    wanted: Item | None = None
    found: Item | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "action": self.action.value,
            "kind": self.kind,
            "name": self.name,
            "differences": [d.as_dict() for d in self.differences],
        }


def compare(desired: ServerState, actual: ServerState) -> tuple[Change, ...]:
    """The changes that make `desired` of `actual`, in the order in which they can be made.

    What is made comes first and in order of need; what is removed comes last and
    in the opposite order. Where both are the same there are none.
    """
    found = {(i.kind, i.name): i for i in actual.items()}
    changes: list[Change] = []
    for item in desired.items():
        before = found.pop((item.kind, item.name), None)
        if before is None:
            changes.append(
                Change(action=Action.CREATE, kind=item.kind, name=item.name, wanted=item)
            )
        elif differences := tuple(_differences(before.facets(), _compared(item))):
            changes.append(
                Change(
                    action=Action.UPDATE, kind=item.kind, name=item.name,
                    differences=differences, wanted=item, found=before,
                )
            )  # fmt: skip
    surplus = [
        Change(action=Action.REMOVE, kind=i.kind, name=i.name, found=i) for i in found.values()
    ]
    return (*changes, *reversed(surplus))


def _compared(item: Item) -> Mapping[str, Any]:
    kept = getattr(item, "kept", ())
    return {name: value for name, value in item.facets().items() if name not in kept}


def _differences(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Difference]:
    return [
        found
        for name in wanted
        if now[name] != wanted[name]
        for found in _inside(name, now[name], wanted[name])
    ]


def _inside(name: str, now: Any, wanted: Any) -> list[Difference]:
    """The difference, told for each key where both are mappings: the rest is no news."""
    if not (isinstance(now, Mapping) and isinstance(wanted, Mapping)):
        return [Difference(field=name, is_now=now, should_be=wanted)]
    keys = [k for k in {**now, **wanted} if now.get(k) != wanted.get(k)]
    return [found for k in keys for found in _inside(f"{name}.{k}", now.get(k), wanted.get(k))]


def _shown(value: Any) -> Any:
    if isinstance(value, Masked):
        return str(value)
    if isinstance(value, Mapping):
        return {k: _shown(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(v) for v in value]
    return value
