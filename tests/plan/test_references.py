"""Callables of the user's project: its modules come first, and what is wrong is said."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from athena_prefect.errors import CallableError, PlanDocumentError
from athena_prefect.plan import document
from athena_prefect.plan.references import project_root, resolve


@pytest.fixture(autouse=True)
def own_imports() -> Iterator[None]:
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]


def project(folder: Path, **modules: str) -> Path:
    (folder / "steps").mkdir(parents=True)
    (folder / "prefect.yaml").write_text("name: x\n")
    for name, content in modules.items():
        (folder / "steps" / f"{name}.py").write_text(content)
    return folder


def test_the_root_is_the_nearest_folder_with_a_project_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "a"
    (inner / "deployments" / "x").mkdir(parents=True)
    plan = inner / "deployments" / "x" / "plan.yaml"
    assert project_root(plan) == tmp_path
    (inner / "prefect.yaml").touch()
    assert project_root(plan) == inner
    assert project_root(plan.parent) == inner


def test_functions_classes_and_what_is_inside_of_them(tmp_path: Path) -> None:
    root = project(tmp_path / "p", good="class A:\n    @staticmethod\n    def f(): return 1\n")
    assert resolve("steps.good:A.f", root)() == 1
    assert resolve("json:dumps") is __import__("json").dumps


def test_another_project_does_not_answer(tmp_path: Path) -> None:
    one = project(tmp_path / "one", load="def f(): return 1\n")
    two = project(tmp_path / "two", load="def f(): return 2\n")
    assert resolve("steps.load:f", one)() == 1
    assert resolve("steps.load:f", two)() == 2
    assert resolve("steps.load:f", two) is resolve("steps.load:f", two)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("steps.good:extrct", "did you mean 'extract'?"),
        ("steps.goood:extract", "did you mean 'steps.good'?"),
        ("steqs.good:extract", "no module 'steqs'"),
        ("steps.good:number", "is a int, which cannot be called"),
        ("steps.good", "is not module:function"),
        (":f", "is not module:function"),
        ("steps.raises:f", "importing steps.raises failed: ZeroDivisionError: division by zero"),
        ("steps.exits:f", "SystemExit"),
        ("steps.syntax:f", "SyntaxError"),
        ("steps.needs:f", "needs 'no_such_package', which is missing"),
    ],
)
def test_what_cannot_be_resolved_says_why(tmp_path: Path, reference: str, said: str) -> None:
    root = project(
        tmp_path / "p",
        good="number = 3\ndef extract(): ...\n",
        raises="1 / 0\n",
        exits="import sys; sys.exit(3)\n",
        syntax="def f(:\n",
        needs="import no_such_package\n",
    )
    with pytest.raises(CallableError) as caught:
        resolve(reference, root)
    assert said in str(caught.value)
    assert caught.value.reference == reference


def test_a_document_names_every_call_that_cannot_be_resolved(tmp_path: Path) -> None:
    root = project(tmp_path / "p", good="def extract(): ...\n")
    path = root / "plan.yaml"
    path.write_text(
        "name: x\n"
        "tasks:\n"
        "  - id: a\n"
        "    call: steps.good:extrct\n"
        "    modes:\n"
        "      - name: m\n"
        "        call: steps.bad:f\n"
        "  - id: b\n"
        "    call: steps.good:extract\n"
    )
    assert document.load(path).task_ids == ("a", "b")
    with pytest.raises(PlanDocumentError) as caught:
        document.load(path, resolve=True)
    assert [(d.line, d.field) for d in caught.value.defects] == [
        (4, "tasks[0].call"),
        (7, "tasks[0].modes[0].call"),
    ]
