"""The warehouse: loaded twice is loaded once, and what is wrong in it is found."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from tasks import audit, audit_report, dependencies, licences, warehouse
from tasks.sql import SqlError
from tests.tasks.sites import Site


class Results(NamedTuple):
    """What the plan's tasks hand on."""

    inventory: audit.Inventory
    integrity: audit.Integrity
    needs: dependencies.Dependencies
    said: licences.Licences
    unowned: audit.Unowned


@pytest.fixture
def results(site: Site, tmp_path: Path) -> Results:
    """A small audited environment with one of each finding."""
    site.install(
        "app",
        requires=["lib>=2", "NA"],
        files={"app.py": "1"},
        headers=["License-Expression: MIT", "Summary: <script>alert(1)</script>"],
    )
    site.install("lib", "1.0", requires=["app"], files={"lib,with comma.py": "2"})
    site.install("NA", "1.0")
    (site.path / "app.py").write_text("changed <b>")
    (site.path / "stray.txt").write_text("stray")
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    parts = [audit.verify_files(chunk) for chunk in audit.chunk_files(inventory, 2)]
    return Results(
        inventory,
        audit.gather_integrity(inventory, parts),
        dependencies.check_dependencies(inventory),
        licences.classify_licences(inventory),
        audit.find_unowned(inventory),
    )


def load(results: Results, folder: Path, url: str = "", run: str = "run") -> warehouse.Checked:
    """Load and check a run."""
    warehouse.prepare_warehouse(folder, url, run, "2026-01-05")
    packages = warehouse.load_packages(
        folder, url, run, results.inventory, results.needs, results.said
    )
    files = warehouse.load_files(folder, url, run, results.integrity)
    warehouse.load_unowned(folder, url, run, results.unowned)
    return warehouse.check_rows(folder, url, run, packages, files)


def contents(folder: Path, url: str = "") -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with warehouse.opened(folder, url) as engine, engine.connect() as connection:
        return {
            table.name: [
                tuple(r) for r in connection.execute(sa.select(table).order_by(*table.primary_key))
            ]
            for table in warehouse.metadata.sorted_tables
        }


def test_a_run_that_is_loaded_twice_has_the_same_rows(
    results: Results, tmp_path: Path, warehouse_url: str
) -> None:
    first = load(results, tmp_path, warehouse_url)
    rows = contents(tmp_path, warehouse_url)
    assert load(results, tmp_path, warehouse_url) == first
    assert contents(tmp_path, warehouse_url) == rows
    assert first["problems"] == []
    assert [r[1] for r in rows["audit_distribution"]] == ["app", "lib", "na"]
    assert len(rows["audit_file"]) == results.integrity["files"] == first["rows"] - 3 - 3 - 1


def test_runs_stand_side_by_side(results: Results, tmp_path: Path) -> None:
    load(results, tmp_path, run="one")
    load(results, tmp_path, run="two")
    rows = contents(tmp_path)
    assert {r[0] for r in rows["audit_file"]} == {"one", "two"}
    assert len(rows["audit_distribution"]) == 6


def test_rows_that_went_missing_are_found(results: Results, tmp_path: Path) -> None:
    load(results, tmp_path)
    with warehouse.opened(tmp_path, "") as engine, engine.begin() as connection:
        connection.execute(sa.delete(warehouse.DISTRIBUTIONS).where(sa.text("name = 'lib'")))
        connection.execute(sa.update(warehouse.FILES).values(size=-1))
    packages = warehouse.Loaded(tables={"audit_distribution": 3})
    files = warehouse.Loaded(tables={"audit_file": results.integrity["files"]})
    found = warehouse.check_rows(tmp_path, "", "run", packages, files)
    assert found["problem_count"] == len(found["problems"]) == 4
    assert "audit_distribution has 2 rows of the run, 3 were loaded" in found["problems"]


def test_the_database_refuses_a_key_twice_and_a_null(results: Results, tmp_path: Path) -> None:
    load(results, tmp_path)
    row = {"run": "run", "path": "p", "size": 1}
    with pytest.raises(SqlError), warehouse.opened(tmp_path, "") as engine, engine.begin() as c:
        c.execute(sa.insert(warehouse.UNOWNED), [row, row])
    with pytest.raises(SqlError), warehouse.opened(tmp_path, "") as engine, engine.begin() as c:
        c.execute(sa.insert(warehouse.UNOWNED), [{**row, "size": None}])


def test_the_report_is_self_contained_and_escapes_what_it_shows(
    results: Results, tmp_path: Path, warehouse_url: str
) -> None:
    load(results, tmp_path, warehouse_url)
    published = audit_report.publish_report(tmp_path, warehouse_url, "run")
    page = Path(published["path"]).read_text("utf-8")
    assert published["bytes"] == len(page.encode())
    assert "3 distributions" in published["summary"]
    assert "1 damaged" in published["summary"]
    assert "2026-01-05" in page
    assert page.count("<svg") == 2
    assert "stray.txt" in page
    assert "lib&gt;=2" in page
    assert not {"<script", "src=", "href=", "@import", "url("} & {
        word for word in ("<script", "src=", "href=", "@import", "url(") if word in page
    }


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    with warehouse.opened(tmp_path, "") as engine:
        warehouse.metadata.create_all(engine)
    published = audit_report.publish_report(tmp_path, "", "none")
    assert published["summary"].startswith("0 distributions, 0 files")


def test_a_label_is_cut_and_a_bar_is_never_gone() -> None:
    drawn = audit_report.bars([("x" * 40, 1.0, "a", "#000"), ("y", 1e9, "b", "#000")], "t & u")
    assert "x" * 27 + "…" in drawn
    assert 'width="1.0"' in drawn
    assert "t &amp; u" in drawn


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_500_000_000, "2.5 GB")]
)
def test_sizes_are_written_as_people_do(count: int, text: str) -> None:
    assert audit_report._size(count) == text


def test_long_tables_are_cut_and_say_so(site: Site, tmp_path: Path) -> None:
    site.install("app", requires=[f"gone{n}" for n in range(audit_report.MOST_ROWS + 5)])
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    needs = dependencies.check_dependencies(inventory)
    said = licences.classify_licences(inventory)
    warehouse.prepare_warehouse(tmp_path, "", "run")
    warehouse.load_packages(tmp_path, "", "run", inventory, needs, said)
    page = Path(audit_report.publish_report(tmp_path, "", "run")["path"]).read_text("utf-8")
    assert f"<p>{audit_report.MOST_ROWS} of {audit_report.MOST_ROWS + 5}.</p>" in page
