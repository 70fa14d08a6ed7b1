"""Kinds are found by name, imported late, and named in a document's defects."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from athena_prefect.assumptions.checks import registry
from athena_prefect.assumptions.checks.base import CheckContext, check
from athena_prefect.assumptions.rules import check_findings, require
from athena_prefect.errors import CheckError, PlanDocumentError, UnknownNameError
from athena_prefect.plan.document import load, loads
from athena_prefect.plan.model import Plan, Sense

ROOT = Path(__file__).resolve().parents[2]


@check("queue_length", sense="at_most", can_hang=False)
def queue_length(context: CheckContext, *, queue: str, urgent: bool = False) -> int:
    """Jobs that wait."""
    return len(queue) + urgent


NO_CHECK = 3


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds as another distribution would bring them."""
    here = __name__
    points = {
        "queue_length": EntryPoint("queue_length", f"{here}:queue_length", registry.GROUP),
        "no_check": EntryPoint("no_check", f"{here}:NO_CHECK", registry.GROUP),
        "gone": EntryPoint("gone", "no_such_module:Gone", registry.GROUP),
    }
    sys.modules.setdefault(here, sys.modules[__name__])
    monkeypatch.setattr(registry, "_installed", lambda: points)


def test_every_built_in_kind_is_sound_and_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared[registry.GROUP] == dict(registry.BUILT_IN)
    for name in registry.BUILT_IN:
        kind = registry.kind_named(name)
        assert kind.kind == name
        assert kind.__doc__
        for option, field in kind.model_fields.items():
            assert field.description, f"{name}.{option} says nothing"


def test_a_function_becomes_a_kind(installed: None) -> None:
    kind = registry.kind_named("queue_length")
    assert kind.sense is Sense.AT_MOST
    made = kind.model_validate({"queue": "abc", "timeout": "2s"})
    from datetime import UTC, datetime

    assert made.observe(CheckContext(now=datetime.now(UTC))).value == 3
    assert made.seconds == 2


def test_options_have_to_be_keyword_only() -> None:
    with pytest.raises(TypeError, match="'queue' is not keyword-only"):

        @check("wrong")
        def wrong(context: CheckContext, queue: str) -> int:
            return 0


def test_an_unknown_kind_has_a_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'disk_free'"):
        registry.kind_named("diskfree")


@pytest.mark.parametrize(
    ("name", "said"), [("no_check", "names a int"), ("gone", "cannot be imported")]
)
def test_a_kind_that_is_none(installed: None, name: str, said: str) -> None:
    with pytest.raises(CheckError, match=said):
        registry.kind_named(name)


DOCUMENT = textwrap.dedent(
    """\
    schema: 1
    name: shop
    parameters: {port: {type: integer, default: 80}}
    tasks:
      - {id: load, duration: 1m, bogus: 1}
    assumptions:
      - {id: a, check: {kind: disk_fre}}
      - {id: b, check: {kind: disk_free, pth: .}}
      - {id: c, check: {kind: tcp}}
      - {id: d, check: {kind: tcp, port: 99999}}
      - {id: e, check: {kind: tcp, port: "{{ parameters.port }}"}}
      - {id: f, check: {kind: process}}
      - {id: g, check: {kind: cpu_load, over: 2m}, expected_value: {mix: 1, max: 2}}
      - {id: h, check: {kind: memory, timeout: 0s}, expected_value: {min: 5, max: 2}}
      - {id: i, check: {kind: http, url: "ftp://x"}, expected_value: {any: value}}
    """
)


def test_a_document_is_told_all_of_it_with_places() -> None:
    with pytest.raises(PlanDocumentError) as caught:
        loads(DOCUMENT, file="shop.yaml", rules=(check_findings,))
    told = [str(d) for d in caught.value.defects]
    assert told[0].startswith("shop.yaml:5: tasks[0].bogus: unknown field 'bogus'")
    assert told[1:] == [
        "shop.yaml:7: assumptions[0].check.kind: no kind of check 'disk_fre' "
        "(did you mean 'disk_free'?)",
        "shop.yaml:8: assumptions[1].check.pth: kind 'disk_free' has no option 'pth' "
        "(did you mean 'path'?)",
        "shop.yaml:9: assumptions[2].check.port: kind 'tcp' needs the option 'port' (The port.)",
        "shop.yaml:10: assumptions[3].check.port: 99999 is out of range (at most 65535)",
        "shop.yaml:12: assumptions[5].check: give exactly one of name, command, pid_file",
        "shop.yaml:13: assumptions[6].check.over: '2m' is not allowed (one of 1m, 5m, 15m)",
        "shop.yaml:13: assumptions[6].expected_value.mix: no condition 'mix' (did you mean 'min'?)",
        "shop.yaml:14: assumptions[7].check.timeout: a time-out of zero (write e.g. 10s)",
        "shop.yaml:14: assumptions[7].expected_value: min 5 is above max 2 (nothing can meet both)",
        "shop.yaml:15: assumptions[8].check.url: 'ftp://x' is no address of the web "
        "(write http://… or https://…)",
    ]


def test_a_plan_made_in_python_is_told_too() -> None:
    plan = Plan.model_validate(
        {"name": "p", "tasks": [{"id": "t"}], "assumptions": [{"id": "a", "check": {"kind": "x"}}]}
    )
    with pytest.raises(PlanDocumentError, match="no kind of check 'x'"):
        require(plan)


def test_the_plans_of_this_project_are_sound() -> None:
    for path in sorted((ROOT / "deployments").glob("*/plan.yaml")):
        load(path, rules=(check_findings,))


def test_kinds_bring_neither_prefect_nor_a_database() -> None:
    code = """
import sys
from athena_prefect.assumptions.checks.registry import BUILT_IN, kind_named
from athena_prefect.assumptions.rules import check_findings
for name in BUILT_IN:
    kind_named(name)
print(sorted({"prefect", "sqlalchemy", "httpx", "pandas", "fsspec"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
