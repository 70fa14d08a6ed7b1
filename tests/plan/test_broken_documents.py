"""Whatever is done to a good document: it loads, or every defect has its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.errors import Defect, PlanDocumentError
from athena_prefect.plan import document, text
from athena_prefect.plan.model import Plan

GOOD = (Path(__file__).parent / "full.yaml").read_text(encoding="utf-8")
DATA: dict[str, Any] = text.parse(GOOD, "full.yaml").data
WORDS = (
    "extract hash publish licences warm_cache cpu memory_gb learned observed default wide id "
    "tasks with call is min max fields relaxed before after at name kind type with_ is_ task_id"
).split()
JUNK: list[Any] = [
    None, True, False, 0, -1, 1, 3.7, 10**18, 10**400, -(10**30), 1e308, float("nan"), float("inf"),
    "", " ", "x", "20 sek", "30 minutes?", "512MB", "PT", "P1D", "1h 1h", "9" * 400 + "d", "-5s",
    "{{", "}}", "{{ parameters.folder }}", "{{ parameters.nope }}", "{{ evil() }}", "{{ run.x }}",
    "a:b", "a:b:c", "flow/x", "a/b/c", "\x00", "é", "ünï", "yes", "16:00", "06:00Z", "2026-11-30",
    "a{99999999999}", "(((", "Europe", "../../etc/passwd", "@daily", "* * * * *", "FREQ=HOURLY",
    [], {}, [[]], [None], [1, "a"], {"a": None}, {"": 1}, {"task": "hash"}, {"is": None}, {"at": 6},
    {"learned": False}, {"fallback": {"fallback": 1}}, [{"id": "extract"}], ["extract", "extract"],
    {"fields": {"fields": {"min": "x"}}}, {"mode": "x", "block": True}, {"capacity": {}},
]  # fmt: skip


MANY = settings(max_examples=4 * settings().max_examples)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in `value` but the root."""
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [p for k, v in items for p in ((*here, k), *paths(v, (*here, k)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def renamed(parent: dict[str, Any], key: str, other: str) -> None:
    items = [(other if k == key else k, v) for k, v in parent.items()]
    parent.clear()
    parent.update(items)


@st.composite
def mutated_data(draw: st.DrawFn) -> Any:
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 5))):
        places = paths(data)
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent, key = at(data, path[:-1]), path[-1]
        match draw(st.sampled_from(["delete", "junk", "move", "rename", "wrap", "twice", "typo"])):
            case "delete":
                del parent[key]
            case "junk":
                parent[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
            case "move":
                parent[key] = copy.deepcopy(at(data, draw(st.sampled_from(places))))
            case "rename" if isinstance(parent, dict):
                renamed(parent, key, draw(st.sampled_from([*WORDS, key[:-1], key + "s", key * 2])))
            case "wrap":
                parent[key] = draw(st.sampled_from([[parent[key]], {"x": parent[key]}]))
            case "twice" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[key]))
            case "typo" if isinstance(parent[key], str):
                parent[key] = parent[key].replace("s", "m").replace("m", " ")[::-1]
            case _:
                parent[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    return data


@st.composite
def mutated_text(draw: st.DrawFn) -> str:
    content = GOOD
    garbage = st.one_of(
        st.sampled_from(list(":{}[]&*!|>'\"%@`#-,?\t\n\r\0\ufeff\u2028\x85\x1b")),
        st.sampled_from(["<<: *a", "&a ", "*a", "!!python/object:os.system ", "---\n", "...\n",
                         "!!binary ", "!!set ", "? ", "%YAML 1.1\n", "[[[[", "{{", "\n\n", "  "]),
        st.text(max_size=5),
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 2, 10, 80])))
        match draw(st.sampled_from(["insert", "delete", "repeat", "cut"])):
            case "insert":
                content = content[:start] + draw(garbage) + content[end:]
            case "delete":
                content = content[:start] + content[end:]
            case "repeat":
                content = content[:end] + content[start:]
            case _:
                content = content[:start]
    return content


def loaded(make: Callable[[], Plan]) -> tuple[Plan | None, tuple[Defect, ...]]:
    """The plan or the defects; any other error rises."""
    try:
        return make(), ()
    except PlanDocumentError as error:
        return None, error.defects


def check(content: str, file: str) -> None:
    plan, defects = loaded(lambda: document.loads(content, file=file))
    assert (plan is None) == bool(defects)
    lines = len(content.splitlines()) + 2
    for defect in defects:
        assert defect.file == file
        assert 1 <= defect.line <= lines
        assert defect.column >= 1
        assert defect.message
        assert "Traceback" not in defect.message and "pydantic" not in defect.message
    if plan is not None:
        assert document.loads(document.dumps(plan)) == plan
        as_json = json.dumps(document.as_dict(plan), allow_nan=False)
        assert document.loads(as_json, file="again.json") == plan


@MANY
@given(mutated_data())
def test_a_document_of_the_wrong_structure(data: Any) -> None:
    check(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "plan.yaml")


@MANY
@given(mutated_data())
def test_a_json_document_of_the_wrong_structure(data: Any) -> None:
    check(json.dumps(data, indent=1), "plan.json")


@MANY
@given(mutated_text())
def test_a_document_with_garbage_in_its_text(content: str) -> None:
    check(content, "plan.yaml")


@MANY
@given(mutated_text())
def test_garbage_that_is_called_json(content: str) -> None:
    check(content, "plan.json")


@given(st.binary(max_size=200))
def test_a_file_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "plan.yaml"
    path.write_bytes(content)
    with pytest.raises(PlanDocumentError) as caught:
        document.load(path)
    assert all(d.line >= 1 and d.file == str(path) for d in caught.value.defects)


@MANY
@given(mutated_data())
def test_data_built_in_python(data: Any) -> None:
    plan, defects = loaded(lambda: Plan.model_validate(data))
    assert (plan is None) == bool(defects)
    assert all(d.message and d.line == 0 for d in defects)
