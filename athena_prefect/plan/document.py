"""Plan documents: YAML or JSON to a `Plan` and back, with every defect at its place."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from athena_prefect.errors import CallableError, Defect, PlanDocumentError
from athena_prefect.plan import references, shape, text
from athena_prefect.plan.explanation import shown
from athena_prefect.plan.model import Plan
from athena_prefect.plan.validation import Finding, Loc, dotted

Rule = Callable[[Any], Iterable[Finding]]
"""More defects of a document's data than the plan's own rules find, e.g. of kinds of checks."""

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def load(path: str | Path, *, resolve: bool = False, rules: Iterable[Rule] = ()) -> Plan:
    """The plan of a YAML or JSON file.

    With `resolve`, every `call` is imported from the file's project; without it
    no user code is imported. `rules` are asked beside the plan's own. Raises
    PlanDocumentError with every defect of the document, each with file, line,
    column and field; a file that cannot be read is one of them.
    """
    path = Path(path)
    root = references.project_root(path) if resolve else None
    plan = loads(_read(path), file=str(path), root=root, rules=rules)
    plan._source = path.resolve()
    return plan


def loads(
    content: str,
    *,
    file: str = "<string>",
    root: str | Path | None = None,
    rules: Iterable[Rule] = (),
) -> Plan:
    """The plan of a document's text; whether it is YAML or JSON is said by the name of `file`.

    `file` stands in messages; where it says neither, JSON is known by its form. With
    `root` every `call` is imported from that project. Raises PlanDocumentError with
    every defect.
    """
    with nothing_collected():
        parsed = text.parse(content, file)
    found: list[Finding] = []
    plan: Plan | None = None
    if parsed.complete and not isinstance(parsed.data, dict):
        found.append(_not_a_mapping(parsed.data))
    elif parsed.complete:
        with nothing_collected():
            result = shape.read(parsed.data)
        plan, found = (result, []) if isinstance(result, Plan) else (None, result)
        if root is not None:
            found += _unresolved(parsed.data, root)
        for rule in rules:
            found += rule(parsed.data)
    defects = [*parsed.defects, *(_placed(f, parsed) for f in found)]
    if plan is None or defects:
        raise PlanDocumentError(defects)
    return plan


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Garbage is not looked for meanwhile: for what makes many objects, keeps them and ends soon.

    Of reading 10,000 tasks that takes a third of the time, of laying them out as a table half.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _read(path: Path) -> str:
    def refuse(message: str, remedy: str, line: int = 1) -> PlanDocumentError:
        return PlanDocumentError(
            [Defect(file=str(path), line=line, field="", message=message, remedy=remedy)]
        )

    try:
        if path.stat().st_size > 4 * text.LARGEST:
            raise refuse("the file is too large for a plan document", "is this the right file?")
        content = path.read_bytes()
    except FileNotFoundError:
        raise refuse("no such file", "give the path of a plan document") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}", "give a file that can be read") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise refuse("is not UTF-8", "save the file as UTF-8", line) from None


def _not_a_mapping(data: Any) -> Finding:
    message = f"the document is {shown(data)}, not fields"
    return Finding(loc=(), message=message, remedy="write name: and tasks:")


def _placed(found: Finding, parsed: text.Parsed) -> Defect:
    line, column = parsed.place(found.loc)
    first = f" (first on line {parsed.place(found.related)[0]})" if found.related else ""
    return Defect(
        file=parsed.file,
        line=line,
        column=column,
        field=dotted(found.loc),
        message=found.message + first,
        remedy=found.remedy,
    )


def calls(data: Any) -> Iterator[tuple[Loc, str]]:
    """Every `call` in a document's data, with its place, whatever else is wrong there."""
    tasks = data.get("tasks") if isinstance(data, dict) else None
    for i, task in _mappings(tasks):
        for loc, part in (
            (("tasks", i), task),
            *((("tasks", i, "modes", k), mode) for k, mode in _mappings(task.get("modes"))),
        ):
            if isinstance(part.get("call"), str):
                yield (*loc, "call"), part["call"]


def _mappings(items: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield i, item


def _unresolved(data: Any, root: str | Path) -> Iterator[Finding]:
    for loc, reference in calls(data):
        try:
            references.resolve(reference, root)
        except CallableError as error:
            yield Finding(loc=loc, message=error.message)


def as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as a document says it: JSON's own types, short forms, defaults left out.

    `Plan.model_validate` of it is the same plan.
    """
    said = plan.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"schema": plan.schema_version, **said}


_SafeDumper: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper


class _Dumper(_SafeDumper):  # type: ignore[misc]  # which of the two is known at run time
    """Quotes what YAML 1.2 would read as a number, beside what YAML 1.1 would."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out each time: a document of anchors is hard to read."""
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", text.INTEGER, list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", text.FLOAT, list("-+.0123456789"))


def dumps(plan: Plan) -> str:
    """The plan as a YAML document; `loads` of it is the same plan."""
    written: str = yaml.dump(
        as_dict(plan), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return written


def digest(plan: Plan) -> str:
    """SHA-256 of the document, whatever its form: the same for plans that are equal."""
    said = json.dumps(as_dict(plan), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()


def dump(plan: Plan, path: str | Path) -> None:
    """Write the plan to a file, JSON where its name ends so and YAML otherwise."""
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = json.dumps(as_dict(plan), indent=2, ensure_ascii=False) + "\n"
    else:
        content = dumps(plan)
    path.write_text(content, encoding="utf-8")


@cache
def _schema_text() -> str:
    schema = Plan.model_json_schema(by_alias=True)
    schema["title"] = "Plan document"
    # Which of two forms is meant is decided by our own look at the value, so
    # that both may fit a text is no error.
    said = json.dumps({"$schema": SCHEMA_DIALECT, **schema})
    return said.replace('"oneOf":', '"anyOf":')


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of plan documents, with descriptions, for editors."""
    schema: dict[str, Any] = json.loads(_schema_text())
    return schema
