"""Patches of plan documents: the fields that are named change, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from athena_prefect.errors import InputError, PlanDocumentError
from athena_prefect.plan.document import loads
from athena_prefect.plan.editing import difference, edited, patched

TEXT = """\
# Nightly load.
name: nightly
resources:
  cpu: {capacity: 4}   # the box has four
  disk:
    capacity: 2
tasks:
  - id: extract  # the slow one
    duration: {optimistic: 20s, likely: 30s, pessimistic: 90s}
    resources: {cpu: 2}
  - id: load
    depends_on:
      - extract
      - task: warm   # not needed
        kind: soft
    # how long it took in March
    duration: 2h
  - {id: warm}
assumptions:
  - id: room
    description: There is room
    validation_frequency: 30s
    expected_value: 1
    check: {kind: disk_free, path: .}
"""


def only(new: str) -> list[str]:
    lines = difference(TEXT, new).splitlines()
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize(
    ("patch", "lines"),
    [
        ({"tasks": {"load": {"duration": "2h13m20s"}}},
         ["-    duration: 2h", "+    duration: 2h13m20s"]),
        ({"tasks": {"extract": {"duration": {"optimistic": "22s", "likely": "33s",
                                             "pessimistic": "99s"}}}},
         ["-    duration: {optimistic: 20s, likely: 30s, pessimistic: 90s}",
          "+    duration: {optimistic: 22s, likely: 33s, pessimistic: 99s}"]),
        ({"tasks": {"load": {"depends_on": [{"task": "extract"}]}}},
         ["-    depends_on:", "-      - extract", "-      - task: warm   # not needed",
          "-        kind: soft", "+    depends_on: [{task: extract}]"]),
        ({"tasks": {"warm": {"duration": "5s"}}},
         ["-  - {id: warm}", "+  - {id: warm, duration: 5s}"]),
        ({"tasks": {"load": {"resources": {"cpu": 1}}}}, ["+    resources: {cpu: 1}"]),
        ({"resources": {"cpu": {"capacity": 6}, "disk": {"capacity": 3}}},
         ["-  cpu: {capacity: 4}   # the box has four",
          "+  cpu: {capacity: 6}   # the box has four",
          "-    capacity: 2", "+    capacity: 3"]),
        ({"runner": {"max_workers": 12}}, ["+runner: {max_workers: 12}"]),
        ({"assumptions": {"room": {"validation_frequency": "1m"}}},
         ["-    validation_frequency: 30s", "+    validation_frequency: 1m"]),
    ],
)  # fmt: skip
def test_only_the_named_field_changes(patch: dict[str, Any], lines: list[str]) -> None:
    new = edited(TEXT, [patch])
    assert sorted(only(new)) == sorted(lines)
    assert loads(new) == patched(loads(TEXT), [patch])


def test_several_patches_and_none() -> None:
    both: list[dict[str, Any]] = [
        {"tasks": {"load": {"duration": "3h"}}},
        {"runner": {"max_workers": 2}},
    ]
    plan = loads(edited(TEXT, both))
    assert plan.runner.max_workers == 2
    assert edited(TEXT, []) == TEXT and difference(TEXT, TEXT) == ""


PATCHES: list[dict[str, Any]] = [
    {"tasks": {"load": {"duration": "3h"}, "extract": {"timeout": "10m"}}},
    {"resources": {"gpu": {"capacity": 1}, "disk": {"capacity": 3}}},
    {"runner": {"max_workers": 3}},
]


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_line_ends_stay_as_they_are(begin: str, end: str) -> None:
    text = begin + TEXT.rstrip("\n") + end
    new = edited(text, PATCHES)
    windows = edited(text.replace("\n", "\r\n"), PATCHES)
    assert windows == new.replace("\n", "\r\n")
    assert new.startswith(begin + "# Nightly") and new.endswith(f"path: .}}{end}")
    assert "\r" not in difference(text.replace("\n", "\r\n"), windows)
    mixed = edited(text.replace("# the slow one\n", "# the slow one\r\n"), PATCHES)
    assert mixed.count("\r\n") == 2, "the new line ends as the one above it"


def test_a_field_behind_the_last_line_of_a_file_without_an_end() -> None:
    text = "name: p\r\ntasks:\r\n  - id: a"
    assert edited(text, [{"tasks": {"a": {"duration": "3s"}}}]) == f"{text}\r\n    duration: 3s"


def test_json_stays_json_and_as_it_was_laid_out() -> None:
    text = """{
  "name": "p", "resources": {"cpu": {"capacity": 4}},
  "tasks": [
    {
      "id": "a",
      "duration": "1h30m"
    },
    {"id": "b", "depends_on": ["a"]}
  ]
}
"""
    patch = {"tasks": {"a": {"duration": "2h", "timeout": "3h"}, "b": {"duration": "5s"}},
             "resources": {"cpu": {"capacity": 6}}}  # fmt: skip
    new = edited(text, [patch], file="plan.json")
    changed = [n for n in difference(text, new).splitlines() if n[:1] == "+" and n[:3] != "+++"]
    assert changed == [
        '+  "name": "p", "resources": {"cpu": {"capacity": 6}},',
        '+      "timeout": "3h",',
        '+      "duration": "2h"',
        '+    {"id": "b", "duration": "5s", "depends_on": ["a"]}',
    ]
    assert edited(text.replace("\n", "\r\n"), [patch], file="plan.json") == new.replace(
        "\n", "\r\n"
    )
    tabs = json.dumps(json.loads(text), indent="\t")
    assert json.loads(edited(tabs, [patch], file="plan.json")) == json.loads(new)
    assert '\n\t"' in edited(tabs, [patch], file="plan.json")


def test_what_cannot_be_changed_is_refused_and_nothing_is_half_changed() -> None:
    with pytest.raises(InputError, match="no 'nobody' in tasks"):
        edited(TEXT, [{"tasks": {"nobody": {"duration": "1s"}}}])
    with pytest.raises(PlanDocumentError):
        edited(TEXT, [{"tasks": {"load": {"duration": "nonsense"}}}])
    anchored = TEXT.replace("duration: 2h", "duration: *slow").replace(
        "duration: {optimistic", "duration: &slow {optimistic"
    )
    with pytest.raises(InputError, match="by hand"):
        edited(anchored, [{"tasks": {"load": {"duration": "1s"}}}])
