"""`athena init` gives a whole project or nothing, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.scaffold import init, template_folder


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_project_has_all_its_parts(tmp_path: Path) -> None:
    written = init(tmp_path / "new" / "project")
    project = tmp_path / "new" / "project"
    assert {p.relative_to(project).as_posix() for p in written} == files(project)
    assert files(project) >= {
        "README.md",
        ".gitignore",
        "prefect.yaml",
        "flows/hello.py",
        "flows/environment_audit.py",
        "tasks/shell.py",
        "deployments/hello/plan.yaml",
        "deployments/environment_audit/plan.yaml",
    }
    assert not any("__pycache__" in name for name in files(project))


def test_it_is_the_repositorys_own_example(tmp_path: Path) -> None:
    init(tmp_path)
    for name in ("flows/hello.py", "tasks/shell.py", "prefect.yaml"):
        assert (tmp_path / name).read_bytes() == (template_folder() / name).read_bytes()


def test_every_plan_of_the_project_is_sound(tmp_path: Path) -> None:
    init(tmp_path)
    plans = sorted((tmp_path / "deployments").glob("*/plan.yaml"))
    assert {Plan.load(path).name for path in plans} >= {"hello", "environment-audit"}


def test_every_plan_has_its_flow_and_every_deployment_its_file(tmp_path: Path) -> None:
    init(tmp_path)
    for plan in (tmp_path / "deployments").glob("*/plan.yaml"):
        flow = tmp_path / "flows" / f"{plan.parent.name}.py"
        assert plan.relative_to(tmp_path).as_posix() in flow.read_text()
    for deployment in yaml.safe_load((tmp_path / "prefect.yaml").read_text())["deployments"]:
        file, _, name = deployment["entrypoint"].partition(":")
        text = (tmp_path / file).read_text()
        assert f"{name} = " in text or f"def {name}(" in text


def test_a_second_time_nothing_is_written_and_every_file_in_the_way_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "flows").mkdir()
    mine = {"README.md": "mine", "flows/hello.py": "also mine", "notes.txt": "no matter"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        init(tmp_path)
    assert caught.value.as_dict()["existing"] == ("README.md", str(Path("flows/hello.py")))
    assert {name: (tmp_path / name).read_text() for name in files(tmp_path)} == mine


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    init(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/below"])
def test_a_file_where_the_folder_should_be_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="folder"):
        init(tmp_path / name)
    assert files(tmp_path) == {"notes.txt"}


def test_what_was_written_before_a_failure_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "prefect.yaml":
            raise OSError(28, "No space left on device", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(InputError, match="No space left"):
        init(tmp_path / "project")
    assert not (tmp_path / "project").exists()
