"""Changes to a plan document that leave the rest of its text as somebody wrote it.

A patch names tasks, resources and assumptions and what their fields become:
``{"tasks": {"t3": {"duration": "2h13m"}}, "resources": {"cpu": {"capacity": 6}}}``.
Only the text of those fields changes: comments, order, layout and line ends stay. A
resource that is named and not there is added.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import yaml

from athena_prefect.errors import InputError, PlanDocumentError
from athena_prefect.plan.document import as_dict, loads
from athena_prefect.plan.model import Plan

Patch = Mapping[str, Any]
Write = Callable[[Any], str]
"""How a value is written on one line."""
_ALONE = re.compile(r" *,? *(\r?\n)")
"""What follows a part of a list or mapping that has its line to itself."""
_LISTS = ("tasks", "assumptions")
"""Sections that are lists of parts with an id."""


def patched(plan: Plan, patches: Iterable[Patch]) -> Plan:
    """`plan` with the fields of `patches`. Raises PlanDocumentError where it is none any more."""
    data = deepcopy(as_dict(plan))
    _patch(data, patches)
    return Plan.model_validate(data)


def _patch(data: dict[str, Any], patches: Iterable[Patch]) -> None:
    for patch in patches:
        for section, parts in patch.items():
            if section == "runner":
                data["runner"] = {**(data.get("runner") or {}), **parts}
                continue
            for name, fields in parts.items():
                _part(data, section, name).update(deepcopy(dict(fields)))


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
    new = _edited_json(text, given) if _is_json(text, file) else _edited(text, given)
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
    before, after = ([f"{line}\n" for line in text.splitlines()] for text in (old, new))
    return "".join(difflib.unified_diff(before, after, file, file))


def _is_json(text: str, file: str) -> bool:
    """As the name says; where it says neither, by its form."""
    name = file.lower()
    return name.endswith(".json") or (
        not name.endswith((".yaml", ".yml")) and text.lstrip("\ufeff \t\r\n").startswith("{")
    )


def _edited_json(text: str, patches: list[Patch]) -> str:
    try:
        return _edited(text, patches, _written_json)
    except yaml.YAMLError:
        # Not all JSON is YAML: tabs are not.
        return _anew(text, patches)


def _anew(text: str, patches: list[Patch]) -> str:
    """JSON written anew in its own indentation and line ends, the values as they were given."""
    begin = "\ufeff" if text.startswith("\ufeff") else ""
    data = json.loads(text.removeprefix("\ufeff"))
    _patch(data, patches)
    lines = text.splitlines()
    indent = next((n[: len(n) - len(n.lstrip())] for n in lines[1:] if n.strip()), None)
    separators = (",", ": " if '": ' in text else ":") if indent else None
    new = json.dumps(data, indent=indent or None, ensure_ascii=False, separators=separators)
    end = text[len(text.rstrip("\r\n")) :]
    return begin + new.replace("\n", _line_end(text)) + end


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _edited(text: str, patches: list[Patch], write: Write | None = None) -> str:
    write = write or _flow
    # One field at a time: each looks at the text as the one before left it.
    for patch in patches:
        for section, parts in patch.items():
            fields = {"": parts} if section == "runner" else parts
            for name, values in fields.items():
                for field, value in values.items():
                    text = _with_field(text, section, name, field, value, write)
    return text


def _with_field(text: str, section: str, name: str, field: str, value: Any, write: Write) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise InputError("the document is not made of fields")
    at = _value(root, section)
    if section == "runner":
        if at is None:
            return _inserted(text, root, "runner", {field: value}, write)
        return _set(text, at, field, value, write)
    part = None if at is None else _named(at, name)
    if part is None and section == "resources":
        if isinstance(at, yaml.MappingNode) and at.value:
            return _inserted(text, at, name, {field: value}, write)
        if at is None:
            return _inserted(text, root, section, {name: {field: value}}, write)
        return _set(text, root, section, {name: {field: value}}, write)
    if part is None:
        raise InputError(f"the document has no {name!r} in {section}")
    return _set(text, part, field, value, write)


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


def _set(text: str, part: yaml.Node, field: str, value: Any, write: Write) -> str:
    if not isinstance(part, yaml.MappingNode):
        raise InputError(f"there is no place for {field} in the document")
    pair = _pair(part, field)
    if pair is None:
        return _inserted(text, part, field, value, write)
    colon = text.index(":", pair[0].end_mark.index)
    return f"{text[: colon + 1]} {write(value)}{text[_end(pair[1]) :]}"


def _inserted(text: str, part: yaml.MappingNode, field: str, value: Any, write: Write) -> str:
    """With a field more, behind the first one."""
    new = f"{write(field)}: {write(value)}"
    first, content = part.value[0]
    end = _end(content)
    indent = " " * first.start_mark.column
    if part.flow_style:
        alone = _ALONE.match(text, end)
        gap = " " if alone is None else alone[1] + indent
        return f"{text[:end]},{gap}{new}{text[end:]}"
    line = text.find("\n", end)
    line = len(text) if line < 0 else line - text[:line].endswith("\r")
    line_end = "\r\n" if text.startswith("\r\n", line) else "\n"
    line_end = _line_end(text) if line == len(text) else line_end
    return f"{text[:line]}{line_end}{indent}{new}{text[line:]}"


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


def _written_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
