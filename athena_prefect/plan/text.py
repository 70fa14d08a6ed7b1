"""The text of a plan document as data, every value with its line and column.

YAML 1.2 core schema: ``16:00``, ``yes`` and ``2026-11-30`` are text, only
``true`` and ``false`` are truth values. Nothing is constructed but text, numbers,
truth values, null, lists and mappings, whatever a tag asks for. Depth and the
growth by aliases are bounded, so a small hostile document cannot become a large
one. The text is read as a stream of events, without recursion.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from athena_prefect.errors import Defect
from athena_prefect.plan.scalars import DEEPEST, unstorable
from athena_prefect.plan.validation import Loc, dotted

LARGEST = 64 * 1024 * 1024
"""Characters of a document: ten times what 100,000 tasks need."""
MOST_ALIASED = 200_000
"""Values that aliases may add: what a patient author could still mean."""
LONGEST_NUMBER = 300
"""Characters of a number: more than any that a float can tell from another."""

_Loader: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_CORE = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|(?<!^)\ufeff"
)
INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
"""Whole numbers of the core schema."""
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"
    r"|[-+]?(?:\.inf|\.Inf|\.INF)\Z|(?:\.nan|\.NaN|\.NAN)\Z"
)
"""Other numbers of the core schema."""
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s,:\[\]{}"]+', re.DOTALL)
_JSON_WORDS = {"null": None, "true": True, "false": False}

Place = tuple[int, int]
"""Line and column, both from 1."""


class BrokenTextError(Exception):
    """The text cannot be read any further; `place` and `field` say where."""

    def __init__(self, place: Place, message: str, remedy: str = "", loc: Loc = ()) -> None:
        super().__init__(message)
        self.place, self.message, self.remedy, self.loc = place, message, remedy, loc


class Event(NamedTuple):
    """One step through a document: ``{ } [ ]``, a scalar ``v`` or an alias ``*``."""

    kind: str
    line: int
    column: int
    value: Any = None
    text: str = ""
    """Of a scalar: as it is written, which a key is known by."""
    anchor: str | None = None
    problem: str = ""
    """What is wrong with it, though the rest can be read."""


@dataclass(slots=True)
class Parsed:
    """Data of a document, and where each part of it stands."""

    file: str
    data: Any = None
    defects: list[Defect] = field(default_factory=list)
    complete: bool = False
    """Whether the text could be read to its end."""
    marks: dict[int, dict[str, Place] | list[Place]] = field(default_factory=dict)
    """For each container, by identity, where its keys or elements stand."""

    def place(self, loc: Loc) -> Place:
        """Where `loc` stands, or the innermost part of it that there is."""
        here, at = self.data, (1, 1)
        for step in loc:
            marks: Any = self.marks.get(id(here))
            try:
                at, here = marks[step], here[step]
            except (KeyError, IndexError, TypeError):
                break
        return at

    def defect(self, place: Place, message: str, remedy: str = "", loc: Loc = ()) -> None:
        """Note a defect at a place of the text."""
        self.defects.append(
            Defect(
                file=self.file,
                line=place[0],
                column=place[1],
                field=dotted(loc),
                message=message,
                remedy=remedy,
            )
        )


def parse(text: str, file: str) -> Parsed:
    """The data of `text`, YAML or JSON as the name of `file` or the text itself says.

    Never raises: what cannot be read is in `Parsed.defects`.
    """
    parsed = Parsed(file=file)
    try:
        _check_characters(text)
        text = text.removeprefix("\ufeff")
        events = _json_events(text) if _is_json(text, file) else _yaml_events(text)
        _Builder(parsed).build(events)
        parsed.complete = True
    except BrokenTextError as error:
        parsed.defect(error.place, error.message, error.remedy, error.loc)
    return parsed


def _is_json(text: str, file: str) -> bool:
    name = file.lower()
    if name.endswith((".json", ".yaml", ".yml")):
        return name.endswith(".json")
    if not text.lstrip().startswith("{"):
        return False
    # YAML has braces too; only what is JSON throughout is read as such.
    try:
        json.loads(text, parse_int=len, parse_float=len, parse_constant=len)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _check_characters(text: str) -> None:
    if len(text) > LARGEST:
        raise BrokenTextError(
            (1, 1),
            f"{len(text):,} characters; a document has at most {LARGEST:,}",
            "split the plan, or generate it in Python",
        )
    found = _UNPRINTABLE.search(text)
    if found:
        before = text[: found.start()]
        place = before.count("\n") + 1, found.start() - before.rfind("\n")
        raise BrokenTextError(
            place,
            f"the character U+{ord(found[0]):04X} is not text",
            "take it out; is the file really YAML or JSON in UTF-8?",
        )


def _yaml_events(text: str) -> Iterator[Event]:
    documents = 0
    loader = _Loader(text)
    try:
        # As `yaml.parse` does, which would hand on each event once more.
        while (event := loader.get_event()) is not None:
            mark: Any = event.start_mark
            line, column = mark.line + 1, mark.column + 1
            if type(event) is yaml.ScalarEvent:
                yield _scalar(event, line, column)
            elif isinstance(event, yaml.CollectionStartEvent):
                mapping = isinstance(event, yaml.MappingStartEvent)
                yield Event(
                    "{" if mapping else "[",
                    line,
                    column,
                    anchor=event.anchor,
                    problem=_foreign(event.tag, "map" if mapping else "seq"),
                )
            elif isinstance(event, yaml.CollectionEndEvent):
                yield Event("}", line, column)
            elif isinstance(event, yaml.AliasEvent):
                yield Event("*", line, column, anchor=event.anchor)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise BrokenTextError(
                        (line, column), "a second document begins", "one plan a file"
                    )
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except yaml.YAMLError as error:
        raise BrokenTextError((1, 1), f"not YAML: {error}") from None
    finally:
        loader.dispose()


_REMEDIES = (
    ("tab", "indent with spaces, not tabs"),
    ("mapping values are not allowed", "quote a text that has ': ' in it, or mend the indentation"),
    ("cannot start any token", "quote a text that begins with this character"),
    ("expected <block end>", "mend the indentation"),
    ("did not find expected key", "mend the indentation, or close what is open"),
    ("did not find expected ','", "close the bracket that is open, or add a comma"),
    ("quoted scalar", "close the quote"),
    ("simple key", "add the ':' after the name"),
    ("could not find expected ':'", "add the ':' after the name"),
)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> BrokenTextError:
    mark = error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = " ".join(part for part in (error.context, error.problem) if part)
    if "maximum nesting depth" in said:  # libyaml's own bound, met while it looks ahead
        return _too_deep(place, ())
    if error.context_mark and error.problem_mark:
        said = f"{error.problem} {error.context} that begins on line {error.context_mark.line + 1}"
    here = text.split("\n")[place[0] - 1 : place[0]]
    if here and here[0][place[1] - 1 :].startswith("\t"):
        said = "a tab where none may stand"
    remedy = next((r for words, r in _REMEDIES if words in said), "see that all brackets close")
    return BrokenTextError(place, f"not YAML: {said}", remedy)


def _foreign(tag: str | None, own: str) -> str:
    if tag in (None, "!", _CORE + own):
        return ""
    return f"tag {str(tag).replace(_CORE, '!!')}"


def _scalar(event: yaml.ScalarEvent, line: int, column: int) -> Event:
    text: str = event.value
    value: Any = text
    problem = ""
    if event.tag in (None, "!"):
        if event.implicit[0] and event.tag is None:
            value = core_value(text)
    elif event.tag != _CORE + "str":
        value = core_value(text)
        kind = "null" if value is None else type(value).__name__
        problem = _foreign(event.tag, kind)
    return Event("v", line, column, value, text, event.anchor, problem)


def core_value(text: str) -> Any:
    """What a plain scalar means in the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    if INTEGER.match(text):
        return _integer(text)
    if FLOAT.match(text):
        # float() reads "inf" and "nan" without YAML's dot.
        return float(text.replace(".", "", 1) if text[-1].isalpha() else text)
    return text


def _integer(text: str) -> int | str:
    if len(text) > LONGEST_NUMBER:
        return text  # As text it is refused where a number is wanted.
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _json_events(text: str) -> Iterator[Event]:
    try:
        # For the syntax alone; the numbers are read below, where their place is known.
        json.loads(text, parse_int=len, parse_float=len, parse_constant=len)
    except json.JSONDecodeError as error:
        raise BrokenTextError(
            (error.lineno, error.colno),
            f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}",
            "see that brackets, quotes and commas are right",
        ) from None
    except RecursionError:
        raise _too_deep((1, 1), ()) from None
    starts = [0, *(m.end() for m in re.finditer("\n", text))]
    for found in _JSON_TOKEN.finditer(text):
        token = found[0]
        line = bisect.bisect_right(starts, found.start())
        column = found.start() - starts[line - 1] + 1
        if token in "{[":
            yield Event(token, line, column)
        elif token in "}]":
            yield Event("}", line, column)
        elif token[0] == '"':
            value = json.loads(token) if "\\" in token else token[1:-1]
            yield Event("v", line, column, value, value)
        else:
            yield Event("v", line, column, _json_word(token), token)


def _json_word(token: str) -> Any:
    if token in _JSON_WORDS:
        return _JSON_WORDS[token]
    if re.fullmatch("-?[0-9]+", token):
        return _integer(token)
    return float(token)


def _too_deep(place: Place, loc: Loc) -> BrokenTextError:
    return BrokenTextError(
        place, f"nested more than {DEEPEST} levels deep", "a plan needs no more", loc[:3]
    )


_NO_KEY: Any = object()


@dataclass(slots=True)
class _Frame:
    """A container that is being read."""

    container: dict[str, Any] | list[Any]
    marks: Any
    anchor: str | None
    place: Place
    key: Any = _NO_KEY
    weight: int = 1
    height: int = 1
    merged: list[tuple[Place, Any]] = field(default_factory=list)


class _Builder:
    """Events to data: containers, keys once each, aliases within bounds."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.open_anchors: set[str] = set()
        self.aliased = 0
        self.rooted = False

    def build(self, events: Iterator[Event]) -> None:
        for event in events:
            place = (event.line, event.column)
            if event.kind == "v":
                self._scalar(event, place)
            elif event.kind == "}":
                self._close()
            elif event.kind == "*":
                self._alias(event, place)
            else:
                self._open(event, place)
        if not self.rooted:
            raise BrokenTextError((1, 1), "the document is empty", "write name: and tasks:")

    def loc(self) -> Loc:
        """Where in the document the next value goes."""
        return tuple(
            len(f.container) if isinstance(f.container, list) else f.key
            for f in self.stack
            if isinstance(f.container, list) or f.key is not _NO_KEY
        )

    def _problem(self, event: Event, place: Place) -> None:
        if event.problem:
            remedy = "plain YAML only: take the tag out"
            self.parsed.defect(place, f"{event.problem} is not allowed", remedy, self.loc())

    def _scalar(self, event: Event, place: Place) -> None:
        if event.problem:
            self._problem(event, place)
        if isinstance(event.value, str) and (bad := unstorable(event.value)):
            message = f"text with the character {bad}, which no database keeps"
            self.parsed.defect(place, message, "take it out", self.loc())
        if event.anchor:
            self.anchors[event.anchor] = event.value, 1, 0
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.container, dict) and frame.key is _NO_KEY:
            self._key(frame, event, place)
        else:
            self._add(event.value, place, 1, 0)

    def _key(self, frame: _Frame, event: Event, place: Place) -> None:
        key = event.text
        if not isinstance(event.value, str):
            message = f"the key {key or 'null'} is not text"
            self.parsed.defect(place, message, f'quote it: "{key}"', (*self.loc(), key))
        if key in frame.marks:
            first = frame.marks[key][0]
            message = f"{key!r} is there twice (first on line {first})"
            self.parsed.defect(place, message, "each key once", (*self.loc(), key))
        else:
            frame.marks[key] = place
        frame.key = key

    def _open(self, event: Event, place: Place) -> None:
        self._problem(event, place)
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.container, dict) and frame.key is _NO_KEY:
            raise BrokenTextError(
                place, "a key must be text", "quote a text that begins with { or [", self.loc()
            )
        if len(self.stack) >= DEEPEST:
            raise _too_deep(place, self.loc())
        container: Any = {} if event.kind == "{" else []
        marks: Any = {} if event.kind == "{" else []
        if event.anchor:
            self.open_anchors.add(event.anchor)
        self.parsed.marks[id(container)] = marks
        self.stack.append(_Frame(container, marks, event.anchor, place))

    def _close(self) -> None:
        frame = self.stack.pop()
        for place, value in frame.merged:
            self._merge(frame, value, place)
        if frame.anchor:
            self.open_anchors.discard(frame.anchor)
            self.anchors[frame.anchor] = frame.container, frame.weight, frame.height
        self._add(frame.container, frame.place, frame.weight, frame.height)

    def _alias(self, event: Event, place: Place) -> None:
        name = str(event.anchor)
        if name in self.open_anchors:
            raise BrokenTextError(
                place, f"*{name} stands inside of &{name}", "a plan cannot hold itself", self.loc()
            )
        if name not in self.anchors:
            raise BrokenTextError(
                place, f"no anchor &{name} before *{name}", "quote a text with *", self.loc()
            )
        value, weight, height = self.anchors[name]
        self.aliased += weight
        if self.aliased > MOST_ALIASED:
            raise BrokenTextError(
                place,
                f"aliases make more than {MOST_ALIASED:,} values of it",
                "write out what is meant",
                self.loc()[:3],
            )
        if len(self.stack) + height > DEEPEST:
            raise _too_deep(place, self.loc())
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.container, dict) and frame.key is _NO_KEY:
            raise BrokenTextError(place, "a key must be text", "write it out", self.loc())
        self._add(value, place, weight, height)

    def _add(self, value: Any, place: Place, weight: int, height: int) -> None:
        if not self.stack:
            self.parsed.data, self.rooted = value, True
            return
        frame = self.stack[-1]
        frame.weight += weight
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.container, list):
            frame.container.append(value)
            frame.marks.append(place)
            return
        if frame.key == "<<" and isinstance(value, dict | list):
            frame.merged.append((place, value))
            del frame.marks["<<"]
        else:
            frame.container[frame.key] = value
        frame.key = _NO_KEY

    def _merge(self, frame: _Frame, value: Any, place: Place) -> None:
        """``<<: *base``: the fields of `base` that are not written here."""
        assert isinstance(frame.container, dict)
        for base in value if isinstance(value, list) else [value]:
            if not isinstance(base, dict):
                self.parsed.defect(place, "<< merges mappings", "write <<: *name", self.loc())
                continue
            for key, item in base.items():
                frame.container.setdefault(key, item)
                frame.marks.setdefault(key, place)
