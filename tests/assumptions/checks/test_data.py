"""dbt's sources and pandera's schemas, on files as the two write and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from athena_prefect.assumptions.checks import extras
from athena_prefect.assumptions.checks.registry import kind_named
from tests.assumptions.checks.observing import error, value


def source(name: str, status: str, loaded: str = "2026-11-27T10:00:00+00:00") -> dict[str, Any]:
    return {
        "unique_id": f"source.shop.{name}", "max_loaded_at": loaded,
        "snapshotted_at": "2026-11-27T11:00:00Z", "max_loaded_at_time_ago_in_s": 3600.0,
        "status": status, "execution_time": 0.1, "thread_id": "Thread-1", "timing": [],
        "criteria": {"warn_after": {"count": 6, "period": "hour"}, "error_after": None},
        "adapter_response": {},
    }  # fmt: skip


def sources(folder: Path, *results: Any, at: Any = "2026-11-27T11:00:00.123456Z") -> Path:
    (folder / "target").mkdir(exist_ok=True)
    schema = "https://schemas.getdbt.com/dbt/sources/v3.json"
    document = {
        "metadata": {"dbt_schema_version": schema, "generated_at": at, "dbt_version": "1.9.0"},
        "results": list(results), "elapsed_time": 1.0,
    }  # fmt: skip
    (folder / "target" / "sources.json").write_text(json.dumps(document))
    return folder


def test_fresh_and_stale_sources(tmp_path: Path) -> None:
    sources(
        tmp_path, source("raw.orders", "pass"), source("raw.customers", "warn"),
        source("crm.leads", "error", "2026-11-27T06:00:00"),
    )  # fmt: skip
    assert value("dbt_freshness", tmp_path) == {
        "fresh": False, "stale": ["crm.leads"], "oldest": 6 * 3600,
    }  # fmt: skip
    raw = value("dbt_freshness", tmp_path, select=["raw.*"])
    assert raw == {"fresh": True, "stale": [], "oldest": 2 * 3600}
    assert value("dbt_freshness", tmp_path, select=["raw.*"], warnings=True)["stale"] == [
        "raw.customers"
    ]


def test_what_says_nothing_of_freshness(tmp_path: Path) -> None:
    assert "run `dbt source freshness`" in error("dbt_freshness", tmp_path)
    sources(tmp_path, source("raw.a", "pass"), at="2026-11-25T11:00:00Z")
    assert "was written 2d1h ago" in error("dbt_freshness", tmp_path)
    assert value("dbt_freshness", tmp_path, valid_for="7d")["fresh"] is True
    lost = {"unique_id": "source.shop.raw.a", "error": "no such table", "status": "runtime error"}
    sources(tmp_path, lost)
    assert "could not look at raw.a: no such table" in error("dbt_freshness", tmp_path)
    sources(tmp_path, source("raw.a", "pass"))
    assert "no source" in error("dbt_freshness", tmp_path, select=["row.*"])
    sources(tmp_path, source("raw.a", "pass", "never"))
    assert "last rows" in error("dbt_freshness", tmp_path)
    sources(tmp_path, at=None)
    assert "generated_at" in error("dbt_freshness", tmp_path)
    for text, said in (("<html>", "is not JSON"), ("[]", "none of dbt's files")):
        (tmp_path / "target" / "sources.json").write_text(text)
        assert said in error("dbt_freshness", tmp_path)


SCHEMAS = """
import pandas as pd
import pandera.pandas as pa

ORDERS = pa.DataFrameSchema(
    {"id": pa.Column(int, unique=True), "total": pa.Column(float, pa.Check.ge(0), nullable=False)}
)


class Orders(pa.DataFrameModel):
    id: int
    total: float = pa.Field(ge=0)


NONE = 3


def frame():
    return pd.DataFrame({"id": [1, 2], "total": [1.0, 2.0]})


def no_frame():
    return [1]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with schemas, a good file and a bad one."""
    (tmp_path / "pandera_project.py").write_text(SCHEMAS)
    (tmp_path / "good.csv").write_text("id,total\n1,2.5\n2,0\n")
    (tmp_path / "bad.csv").write_text("id,total\n1,-2.5\n1,\n2,-1\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    return tmp_path


def test_data_that_fits_and_data_that_does_not(project: Path) -> None:
    for schema in ("pandera_project:ORDERS", "pandera_project:Orders"):
        good = value("pandera", project, schema=schema, path="good.csv")
        assert good == {"valid": True, "failures": 0, "rules": []}
        bad = value("pandera", project, schema=schema, path="bad.csv")
        assert bad["valid"] is False and bad["failures"] >= 3
        assert "total: greater_than_or_equal_to(0)" in bad["rules"]
    other = value("pandera", project, schema="pandera_project:ORDERS", path="other.csv")
    assert other["valid"] is False
    frame: dict[str, Any] = {"schema": "pandera_project:Orders", "frame": "pandera_project:frame"}
    assert value("pandera", project, **frame)["valid"] is True


def test_what_cannot_be_validated(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = "pandera_project:ORDERS"
    assert "there is no none.csv" in error("pandera", project, schema=orders, path="none.csv")
    (project / "empty.csv").write_text("")
    assert "cannot be read" in error("pandera", project, schema=orders, path="empty.csv")
    for name, said in (("NONE", "is a int"), ("frame", "no pandera schema")):
        told = error("pandera", project, schema=f"pandera_project:{name}", path="good.csv")
        assert said in told
    no_frame: dict[str, Any] = {"schema": orders, "frame": "pandera_project:no_frame"}
    assert "not a DataFrame" in error("pandera", project, **no_frame)

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras, "import_module", absent)
    told = error("pandera", project, schema=orders, path="good.csv")
    assert "need pandera, which is not installed; pip install 'athena-prefect[checks]'" in told
    for options in ({}, {"path": "a.csv", "frame": "a:b"}, {"path": "a.xlsx"}):
        with pytest.raises(ValidationError, match=r"exactly one of|pandera reads"):
            kind_named("pandera").model_validate({"schema": orders, **options})
