"""Documents: the round trip, and each defect of the text with its line, field and remedy."""

from __future__ import annotations

import gc
import json
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import Defect, PlanDocumentError
from athena_prefect.plan import document, text
from athena_prefect.plan.model import Plan

FULL = Path(__file__).parent / "full.yaml"
GOOD = FULL.read_text(encoding="utf-8")
SMALL = "name: x\ntasks:\n  - {id: a}\n"


def defects(content: str, file: str = "plan.yaml") -> tuple[Defect, ...]:
    with pytest.raises(PlanDocumentError) as caught:
        document.loads(content, file=file)
    return caught.value.defects


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def line_of(content: str, part: str) -> int:
    return content[: content.index(part)].count("\n") + 1


def test_the_full_document_loads() -> None:
    plan = Plan.load(FULL)
    assert plan.source == FULL.resolve()
    assert plan.task_ids == ("extract", "warm_cache", "hash", "licences", "publish")
    assert plan.deadline is not None and plan.deadline.at == time(6)
    assert plan.get_task("hash").expected_items == 40
    assert plan.get_task("extract").mode("snapshot").resources == {"cpu": 1, "memory_gb": 0.5}
    assert plan.replanning.policy.segment_slip == 0.15
    assert plan.required == {"publish", "hash", "extract", "warm_cache"} - {"warm_cache"}


def test_what_is_written_is_the_same_plan(tmp_path: Path) -> None:
    plan = Plan.load(FULL)
    for name in ("again.yaml", "again.json"):
        document.dump(plan, tmp_path / name)
        assert Plan.load(tmp_path / name) == plan
    assert Plan.model_validate(document.as_dict(plan)) == plan
    assert Plan.model_validate(plan.model_dump()) == plan
    assert json.loads(json.dumps(document.as_dict(plan))) == document.as_dict(plan)


def test_defaults_are_left_out_and_short_forms_written() -> None:
    plan = Plan.model_validate(
        {"name": "x", "deadline": "90s", "tasks": [
            {"id": "a", "duration": 30, "optional": False},
            {"id": "b", "depends_on": [{"task": "a"}], "duration": "learned",
             "when": {"task": "a", "is": None}},
        ]}
    )  # fmt: skip
    assert document.as_dict(plan) == {
        "schema": 1,
        "name": "x",
        "deadline": "1m30s",
        "tasks": [
            {"id": "a", "duration": "30s"},
            {"id": "b", "depends_on": ["a"], "when": {"task": "a", "is": None}},
        ],
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
        | st.from_regex(r"\A[-+.0-9eExo_:]{1,8}\Z"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
            st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)  # fmt: skip
def test_any_value_survives_the_round_trip(value: Any) -> None:
    if "{{" in repr(value):
        return
    plan = Plan.model_validate({"name": "x", "tasks": [{"id": "a", "with": {"v": value}}]})
    for content, file in (
        (document.dumps(plan), "p.yaml"),
        (json.dumps(document.as_dict(plan)), "p.json"),
    ):
        again = document.loads(content, file=file)
        assert again == plan
        assert repr(again.tasks[0].with_["v"]) == repr(value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("16:00", "16:00"), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("2026-11-30", "2026-11-30"), ("1_000", "1_000"), ("017", 17), ("0o17", 15),
        ("0x1F", 31), ("1e3", 1000.0), (".5", 0.5),
        ("+1", 1), ("-0.5", -0.5), ("~", None), ("null", None), ("", None), ("True", True),
        ("1.2.3", "1.2.3"), ("-", None), ("!!str 5", "5"), ("! 5", "5"), ("'5'", "5"),
    ],
)  # fmt: skip
def test_plain_values_mean_what_yaml_1_2_says(written: str, meant: Any) -> None:
    value = text.parse(f"v: {written}", "x").data
    if written == "-":
        assert value == {"v": [None]} or value is None
    else:
        assert value == {"v": meant} and type(value["v"]) is type(meant)


SHAPES: list[tuple[str, str, str, str]] = [
    # what is written instead of what, the field that is named, and what is said
    ("retries: 2", "retrys: 2", "tasks[0].retrys", "did you mean 'retries'?"),
    ("retries: 2", "retries: -1", "tasks[0].retries", "at least 0"),
    ("retries: 2", "retries: two", "tasks[0].retries", "whole number"),
    ("retries: 2", "retries: true", "tasks[0].retries", "true is not a number"),
    ("timeout: 10m", "timeout: 20 sek", "tasks[0].timeout", "did you mean s?"),
    ("timeout: 10m", "timeout: 30 minutes?", "tasks[0].timeout", "write e.g. 20s"),
    ("timeout: 10m", "timeout: 0", "tasks[0].timeout", "a timeout of zero"),
    ("memory_gb: 0.5}", "memory_gb: 512MB}", "tasks[0].resources.memory_gb", "e.g. memory_gb: 0.5"),
    ("likely: 30s", "likely: 30m", "tasks[0].duration", "are the units right?"),
    ("isolation: thread", "isolation: thred", "tasks[0].isolation", "did you mean 'thread'?"),
    ("call: tasks.audit:extract", "call: tasks.audit", "tasks[0].call", "module:function"),
    ("deployment: caches/warm", "deployment: warm", "tasks[1].deployment", "flow/deployment"),
    ("s3-bucket/results", "S3://results", "results.storage", "type/name"),
    ("Europe/Berlin}", "Europe/Berln}", "schedule.timezone", "did you mean Europe/Berlin?"),
    ('"0 4 * * 1-5"', '"0 25 * * *"', "schedule.cron", "bad hour"),
    ('"0 4 * * 1-5"', '"0 0 4 * * 1"', "schedule.cron", "five fields"),
    ('cron: "0 4 * * 1-5"', "rrule: FREQ=NEVER", "schedule.rrule", "recurrence rule"),
    ('cron: "0 4 * * 1-5"', "interval: 0", "schedule", "an interval of zero"),
    ('cron: "0 4 * * 1-5"', "interval: 1h, rrule: FREQ=DAILY", "schedule", "exactly one of"),
    ("at: 06:00", "at: 6", "deadline.at", "time of the clock"),
    ("at: 06:00", 'at: "06:00Z"', "deadline", "no offset"),
    ("at: 06:00", "at: 25:00", "deadline.at", "time of the clock"),
    ("default: data", "default: 3", "parameters.folder", "3 is no string write text"),
    ("type: date, required", "type: date, default: x, required", "parameters.day", "e.g. \"2026"),
    ("capacity: 4,", "capacity: .inf,", "resources.cpu.capacity", "inf is not a finite number"),
    ("capacity: 4,", "", "resources.cpu.capacity", "is missing"),
    ("expected_value: 5", "expected_value: .nan", "assumptions[0].expected_value", "nan"),
    ("depends_on: [hash, licences]", "depends_on: hash", "tasks[4].depends_on", "[hash]"),
    ("goals: [publish]", "goals: {a: 1}", "goals", "a mapping is not a list"),
    ("runner: {kind: threads, max_workers: 4}", "runner: threads", "runner", "{kind: …"),
    ("description: What is audited", "description: 5", "parameters.folder.description", '"5"'),
    ("{id: licence,", "{id: a b,", "assumptions[3].id", "letters, digits"),
    ("{id: licence,", "{id: " + "a" * 300 + ",", "assumptions[3].id", "at most 255"),
    ("optional: true", "optional: perhaps", "tasks[3].optional", "write true or false"),
    ("value: 0.2", "value: 20%", "tasks[3].value", "e.g. 0.15"),
    ("rows: {min: 100}", "rows: {mn: 100}", "tasks[0].success_criteria.rows.mn", "'min'"),
    ("rows: {min: 100}", "rows: {min: 9, max: 3}", "tasks[0].success_criteria.rows", "min 9 is"),
    ("rows: {min: 100}", "rows: {matches: '('}", "tasks[0].success_criteria.rows", "regular"),
    ("changed, is: true", "changed", "tasks[2].when", "says nothing"),
    ("{at: start}", "{at: start, after: hash}", "assumptions[0].milestones[2]", "exactly one"),
    ("effect: {mode: snapshot}", "effect: {}", "assumptions[0].effect", "exactly one of mode"),
    ("cpu: observed", "cpu: seen", "assumptions[1].effect.capacity.cpu", "observed"),
    ("segment_slip: 0.15", "high_slip: 0.01", "replanning.policy", "medium_slip"),
    ("schema: 1", "schema: 2", "schema", "write 1"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "said"), SHAPES)
def test_one_wrong_value_is_one_defect_at_its_place(
    old: str, new: str, field: str, said: str
) -> None:
    content = changed(old, new)
    (found,) = defects(content)
    assert found.field == field
    assert said in f"{found.message} {found.remedy}"
    assert abs(found.line - line_of(GOOD, old)) <= 7
    assert str(found).startswith(f"plan.yaml:{found.line}: {field}: ")


DEEP = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99))
BOMB = "x: &a0 [x]\n" + "".join(f"b{i}: &a{i} [{f'*a{i - 1},' * 9}]\n" for i in range(1, 50))
SYNTAX: list[tuple[str, int, str]] = [
    ("", 1, "empty"),
    ("# nothing\n", 1, "empty"),
    ("null", 1, "nothing (null), not fields"),
    ("- a", 1, "a list, not fields"),
    ("plain", 1, "'plain', not fields"),
    (SMALL + "---\nname: y\n", 4, "a second document"),
    ("name: x\ntasks:\n\t- id: a\n", 3, "not tabs"),
    ("name: a: b\n", 1, "quote a text that has"),
    ("name: [a\ntasks: b\n", 2, "bracket"),
    ('name: "a\n', 2, "close the quote"),
    ("name: x\n  tasks: []\n", 2, "not YAML"),
    ("name: @x\n", 1, "begins with this character"),
    ("name: x\x1b\n", 1, "U+001B is not text"),
    ("name: *x\n", 1, "no anchor &x"),
    ("name: &x [*x]\n", 1, "stands inside of &x"),
    ("{a: 1}: x\n", 1, "a key must be text"),
    ("? [a]\n: x\n", 1, "a key must be text"),
    ("a: &a x\n*a : y\n", 2, "a key must be text"),
    ("name: " + "[" * 100_000, 1, "64 levels"),
    ("\n".join(" " * i + "a:" for i in range(100)), 65, "64 levels"),
    (DEEP, 64, "64 levels"),
    (BOMB, 7, "200,000"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "line", "said"), SYNTAX)
def test_text_that_cannot_be_read_says_where(content: str, line: int, said: str) -> None:
    (found,) = defects(content)
    assert found.line == line
    assert said in f"{found.message} {found.remedy}"


def test_text_problems_stand_beside_all_the_others() -> None:
    content = (
        "name: x\n"
        "name: y\n"
        "tasks:\n"
        "  - id: a\n"
        "    retries: !!python/object/apply:os.system [ls]\n"
        "    5: x\n"
        '    description: "\\0"\n'
        "    depends_on: [b]\n"
    )
    found = [(d.line, d.field, d.message) for d in defects(content)]
    assert (2, "name", "'name' is there twice (first on line 1)") in found
    assert (6, "tasks[0].5", "the key 5 is not text") in found
    assert any(line == 5 and "!!python/object/apply" in m for line, _, m in found)
    assert any(line == 7 and "U+0000" in m for line, _, m in found)
    assert (8, "tasks[0].depends_on[0]", "no task 'b'") in found


def test_aliases_and_merge_keys_work_and_have_places() -> None:
    content = (
        "name: x\n"
        "tasks:\n"
        "  - &base {id: a, retries: 2, duration: 5s}\n"
        "  - <<: *base\n"
        "    id: b\n"
        "    tags: &t [x]\n"
        "  - <<: [*base, {value: 1}]\n"
        "    id: c\n"
        "    tags: *t\n"
    )
    plan = document.loads(content)
    assert [t.retries for t in plan.tasks] == [2, 2, 2]
    assert plan.tasks[2].value == 1 and plan.tasks[2].tags == ("x",)
    (found,) = defects(content.replace("[*base, {value: 1}]", "[*base, 3]"))
    assert (found.line, found.message) == (7, "<< merges mappings")


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert document.loads("\ufeff" + GOOD.replace("\n", "\r\n")) == document.loads(GOOD)


def test_json_is_known_by_its_form_where_the_name_does_not_say() -> None:
    plan = document.loads('{"name": "x", "tasks": [{"id": "a", "category": "\\ud83d\\ude00"}]}')
    assert plan.tasks[0].category == "\U0001f600"
    assert document.loads("{name: x, tasks: [{id: a}]}").name == "x"


def test_json_has_places_too() -> None:
    content = '{"name": "x",\n "tasks": [{"id": "a"},\n  {"id": "a", "retries": "\\u0041"}]}'
    assert [(d.line, d.column, d.field) for d in defects(content, "p.json")] == [
        (3, 4, "tasks[1].id"),
        (3, 15, "tasks[1].retries"),
    ]
    for broken, line in (
        ('{"name": "x",}', 1),
        ('{\n"a": 1\n"b": 2}', 3),
        ("", 1),
        ("[" * 9999, 1),
    ):
        assert defects(broken, "p.json")[0].line == line
    endless = '{"name": "x", "resources": {"a": {"capacity": Infinity}}, "tasks": [{"id": "a"}]}'
    assert "not a finite number" in str(defects(endless, "p.json")[0])
    (half,) = defects('{"name": "x", "tasks": [{"id": "a", "category": "\\ud800"}]}', "p.json")
    assert "U+D800" in half.message


def test_numbers_beyond_measure_are_text() -> None:
    content = changed("retries: 2", "retries: " + "9" * 5000)
    (found,) = defects(content)
    assert found.field == "tasks[0].retries" and len(str(found)) < 300


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(PlanDocumentError, match=said):
            Plan.load(path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: x\ndescription: grün\n".encode("latin-1"))
    with pytest.raises(PlanDocumentError) as caught:
        Plan.load(path)
    (found,) = caught.value.defects
    assert (found.line, found.message) == (2, "is not UTF-8")


def test_documents_too_large_are_refused_unread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(text, "LARGEST", 10)
    assert "at most 10" in defects(SMALL)[0].message
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD)
    with pytest.raises(PlanDocumentError, match="too large"):
        Plan.load(path)


def test_the_json_schema_accepts_what_loads_and_refuses_what_it_can() -> None:
    schema = document.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["$schema"] and schema["title"] == "Plan document"
    assert validator.is_valid(text.parse(GOOD, "x").data)
    assert validator.is_valid(document.as_dict(Plan.load(FULL)))
    for old, new in (("retries: 2", "retrys: 2"), ("overlap: skip", "overlap: sip"),
                     ("capacity: 4,", "capacity: -4,"), ("name: wide,", "")):  # fmt: skip
        assert not validator.is_valid(text.parse(changed(old, new), "x").data)


def test_pyyaml_without_its_c_library_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = document.loads(GOOD)
    monkeypatch.setattr(text, "_Loader", yaml.SafeLoader)
    assert document.loads(GOOD) == fast
    assert defects("name: [a\ntasks: b\n")[0].line == 2


def test_a_plan_of_many_tasks_is_read_without_recursion() -> None:
    tasks: list[dict[str, Any]] = [{"id": "t0", "duration": "1s"}]
    tasks += [
        {"id": f"t{i}", "duration": "1s", "depends_on": [f"t{i - 1}"]} for i in range(1, 3000)
    ]
    plan = document.loads(json.dumps({"name": "x", "tasks": tasks}), file="p.json")
    assert len(plan.required) == 3000
    assert plan.get_task("t2999").planned_duration == timedelta(seconds=1)


def test_garbage_is_collected_again_whatever_came_of_a_document() -> None:
    assert gc.isenabled()
    document.loads("name: p\ntasks: [{id: a, duration: 1}]")
    assert gc.isenabled()
    for broken in ("name: [", "name: p\ntasks: [{id: 3}]", ""):
        with pytest.raises(PlanDocumentError):
            document.loads(broken)
        assert gc.isenabled()
    gc.disable()
    try:
        document.loads("name: p\ntasks: [{id: a, duration: 1}]")
        assert not gc.isenabled(), "who switched it off switches it on"
    finally:
        gc.enable()
