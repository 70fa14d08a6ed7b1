"""Patches of plan documents: the fields that are named change, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from athena_prefect.errors import InputError, PlanDocumentError
from athena_prefect.plan.document import as_dict, loads
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


def test_json_stays_json() -> None:
    text = json.dumps(as_dict(loads(TEXT)), indent=4)
    new = edited(text, [{"resources": {"cpu": {"capacity": 6}}}], file="plan.json")
    assert json.loads(new)["resources"]["cpu"] == {"capacity": 6}
    assert '\n    "' in new


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
