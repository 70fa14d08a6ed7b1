"""Changes to a plan document that leave the rest of its text as somebody wrote it.

A patch names tasks, resources and assumptions and what their fields become:
``{"tasks": {"t3": {"duration": "2h13m"}}, "resources": {"cpu": {"capacity": 6}}}``.
Only the text of those fields changes: comments, order and layout stay. A resource that
is named and not there is added.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import yaml

from athena_prefect.errors import InputError, PlanDocumentError
from athena_prefect.plan.document import as_dict, loads
from athena_prefect.plan.model import Plan

Patch = Mapping[str, Any]
_LISTS = ("tasks", "assumptions")
"""Sections that are lists of parts with an id."""


def patched(plan: Plan, patches: Iterable[Patch]) -> Plan:
    """`plan` with the fields of `patches`. Raises PlanDocumentError where it is none any more."""
    data = deepcopy(as_dict(plan))
    for patch in patches:
        for section, parts in patch.items():
            if section == "runner":
                data["runner"] = {**data.get("runner", {}), **parts}
                continue
            for name, fields in parts.items():
                _part(data, section, name).update(deepcopy(dict(fields)))
    return Plan.model_validate(data)


def _part(data: dict[str, Any], section: str, name: str) -> dict[str, Any]:
    parts = data.get(section)
    if section in _LISTS and isinstance(parts, list):
        for part in parts:
            if part.get("id", part.get("assumption_id", part.get("task_id"))) == name:
                found: dict[str, Any] = part
                return found
    elif isinstance(parts, dict) and name in parts:
        found = parts[name]
        return found
    if section == "resources":
        # A resource that the plan does not have yet.
        new: dict[str, Any] = data.setdefault("resources", {}).setdefault(name, {})
        return new
    raise InputError(f"the plan has no {name!r} in {section}")


def edited(text: str, patches: Iterable[Patch], *, file: str = "<string>") -> str:
    """The document's text with the fields of `patches`, and nothing else changed.

    Raises InputError where the text is written in a way that does not allow it, such
    as with anchors: then nothing is half changed.
    """
    given = list(patches)
    wanted = patched(loads(text, file=file), given)
    new = _edited_json(text, wanted) if file.lower().endswith(".json") else _edited(text, given)
    try:
        same = loads(new, file=file) == wanted
    except PlanDocumentError:
        same = False
    if not same:
        raise InputError(
            f"{file} is written in a way that cannot be changed field by field (anchors, or "
            f"merged keys); change it by hand: {json.dumps(given)}",
            file=file,
        )
    return new


def difference(old: str, new: str, *, file: str = "plan") -> str:
    """What changed, as a unified diff; empty where nothing did."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), file, file
    )
    return "".join(lines)


def _edited_json(text: str, wanted: Plan) -> str:
    indent = next((len(n) - len(n.lstrip()) for n in text.splitlines()[1:] if n.strip()), 2)
    return json.dumps(as_dict(wanted), indent=indent or 2, ensure_ascii=False) + "\n"


def _edited(text: str, patches: list[Patch]) -> str:
    # One field at a time: each looks at the text as the one before left it.
    for patch in patches:
        for section, parts in patch.items():
            fields = {"": parts} if section == "runner" else parts
            for name, values in fields.items():
                for field, value in values.items():
                    text = _with_field(text, section, name, field, value)
    return text


def _with_field(text: str, section: str, name: str, field: str, value: Any) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise InputError("the document is not made of fields")
    at = _value(root, section)
    if section == "runner":
        if at is None:
            return _inserted(text, root, "runner", {field: value})
        return _set(text, at, field, value)
    part = None if at is None else _named(at, name)
    if part is None and section == "resources":
        if isinstance(at, yaml.MappingNode) and at.value:
            return _inserted(text, at, name, {field: value})
        if at is None:
            return _inserted(text, root, section, {name: {field: value}})
        return _set(text, root, section, {name: {field: value}})
    if part is None:
        raise InputError(f"the document has no {name!r} in {section}")
    return _set(text, part, field, value)


def _named(section: yaml.Node, name: str) -> yaml.Node | None:
    if isinstance(section, yaml.MappingNode):
        return _value(section, name)
    if isinstance(section, yaml.SequenceNode):
        for part in section.value:
            for key in ("id", "task_id", "assumption_id"):
                found = _value(part, key)
                if found is not None and found.value == name:
                    part_: yaml.Node = part
                    return part_
    return None


def _pair(node: yaml.Node, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return name, value
    return None


def _value(node: yaml.Node, key: str) -> yaml.Node | None:
    pair = _pair(node, key)
    return None if pair is None else pair[1]


def _set(text: str, part: yaml.Node, field: str, value: Any) -> str:
    if not isinstance(part, yaml.MappingNode):
        raise InputError(f"there is no place for {field} in the document")
    pair = _pair(part, field)
    if pair is None:
        return _inserted(text, part, field, value)
    colon = text.index(":", pair[0].end_mark.index)
    return f"{text[: colon + 1]} {_flow(value)}{text[_end(pair[1]) :]}"


def _inserted(text: str, part: yaml.MappingNode, field: str, value: Any) -> str:
    """With a field more, behind the first one."""
    first, content = part.value[0]
    end = _end(content)
    if part.flow_style:
        return f"{text[:end]}, {field}: {_flow(value)}{text[end:]}"
    line = text.find("\n", end)
    line = len(text) if line < 0 else line
    return f"{text[:line]}\n{' ' * first.start_mark.column}{field}: {_flow(value)}{text[line:]}"


def _end(node: yaml.Node) -> int:
    """Where a value's text ends; of a block that is its last line's, not the next key's begin."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _flow(value: Any) -> str:
    written: str = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    return written.removesuffix("\n").removesuffix("\n...").strip()
