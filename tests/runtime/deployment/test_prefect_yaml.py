"""`prefect deploy --all` and `athena deploy` make the same of a project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from athena_prefect.scaffold import init
from athena_prefect.service.deploying import DeployOptions, prefect_yaml
from athena_prefect.settings import AthenaSettings

ROOT = Path(__file__).parents[3]
ATHENA = [sys.executable, "-c", "from athena_prefect.cli import main; main()"]


def plans(root: Path) -> list[Path]:
    return sorted((root / "deployments").glob("*/plan.yaml"))


def test_the_projects_own_file_is_that_of_its_plans(tmp_path: Path) -> None:
    settings = AthenaSettings(home=tmp_path)
    for root in (ROOT, tmp_path / "project"):
        if root != ROOT:
            init(root)
        text = prefect_yaml(plans(root), DeployOptions(pool="default"), settings=settings)
        assert (root / "prefect.yaml").read_text() == text


def test_the_file_of_a_namespace_says_it_wherever_it_matters(tmp_path: Path) -> None:
    settings = AthenaSettings(home=tmp_path, namespace="stage")
    text = prefect_yaml(plans(ROOT), DeployOptions(pool="default"), settings=settings)
    for entry in yaml.safe_load(text)["deployments"]:
        assert entry["name"].endswith("@stage")
        env = entry["work_pool"]["job_variables"]["env"]
        assert env["ATHENA_NAMESPACE"] == "stage"
        assert str(tmp_path) not in json.dumps(entry)
        for step in entry.get("build", ()):
            (inputs,) = step.values()
            assert inputs["namespace"] == "stage"


@pytest.mark.prefect
@pytest.mark.slow
def test_prefect_deploys_what_athena_deploys(prefect_api: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    init(project)
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_api,
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    environment.pop("ATHENA_HOME")

    def run(*words: str, folder: Path = project) -> str:
        command = ATHENA if words[0] == "athena" else [sys.executable, "-m", words[0]]
        done = subprocess.run(
            [*command, *words[1:]],
            cwd=folder,
            env={**environment, "PWD": str(folder)},  # as a shell does
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def differs(folder: Path = project) -> object:
        files = [str(p.relative_to(folder)) for p in plans(folder)]
        words = ("athena", "deploy", *files, "--pool", "default", "--dry-run", "--json")
        return json.loads(run(*words, folder=folder))["changes"]

    run("prefect", "work-pool", "create", "default", "--type", "process")
    try:
        run("prefect", "--no-prompt", "deploy", "--all")
        assert differs() == [], json.dumps(differs())
        run("prefect", "--no-prompt", "deploy", "--all", folder=ROOT)
        assert differs(ROOT) == [], json.dumps(differs(ROOT))
    finally:
        run("athena", "undeploy", "--all")


def test_the_file_has_the_checks_that_schedules_make(tmp_path: Path) -> None:
    project = tmp_path / "project"
    init(project)
    path = project / "deployments" / "hello" / "plan.yaml"
    memory = "check: {kind: memory, unit: B}, expected_value: 1"
    path.write_text(
        path.read_text()
        + "assumptions:\n"
        + f"  - {{id: room, validation_frequency: 5m, {memory}}}\n"
        + f"  - {{id: always, active: always, validation_frequency: 5m, {memory}}}\n"
    )
    settings = AthenaSettings(home=tmp_path)
    text = prefect_yaml([path], DeployOptions(pool="default"), settings=settings)
    found = {e["name"]: e for e in yaml.safe_load(text)["deployments"]}
    room, always = found["hello.check.room"], found["hello.check.always"]
    assert room["entrypoint"] == "flows/check_assumption.py:check_assumption"
    assert room["parameters"] == {"plan": "deployments/hello/plan.yaml", "assumption": "room"}
    (schedule,) = room["schedules"]
    assert schedule["interval"] == 300 and schedule["active"] is False, "a run sets it active"
    assert "active" not in always["schedules"][0]
