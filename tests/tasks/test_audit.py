"""Distributions and files: each kind of damage is found, and nothing else."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import audit
from tests.tasks.sites import Site, recorded


def integrity_of(site: Site, folder: Path, share: float = 1.0) -> audit.Integrity:
    """All files of the site, verified."""
    inventory = audit.list_distributions(folder, "run", [str(site.path)])
    parts = [audit.verify_files(chunk, share) for chunk in audit.chunk_files(inventory, 3)]
    return audit.gather_integrity(inventory, parts)


def statuses(integrity: audit.Integrity) -> dict[str, str]:
    """File name → status."""
    return {Path(r["path"]).name: r["status"] for r in audit.read_rows(integrity["path"])}


def test_a_sound_environment_has_no_damage(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"one/__init__.py": "x = 1\n"})
    found = integrity_of(site, tmp_path)
    assert found["damaged"] == 0
    assert found["statuses"] == {"ok": 2, "unhashed": 1}  # RECORD has no hash of itself


def test_each_kind_of_damage_is_told_apart(site: Site, tmp_path: Path) -> None:
    site.install(
        "one",
        files={"one/changed.py": "x = 1\n", "one/gone.py": "y = 1\n", "one/fine.py": "z = 1\n"},
        record=[
            "one/vanished.txt,,",
            "one/__pycache__/fine.cpython-311.pyc,,",
            "one/weak.py,md5=abc,3",
            "one/folder,sha256=abc,3",
        ],
    )
    (site.path / "one/changed.py").write_text("x = 2\n")
    (site.path / "one/gone.py").unlink()
    (site.path / "one/weak.py").write_text("w\n")
    (site.path / "one/folder").mkdir()
    found = statuses(integrity_of(site, tmp_path))
    assert found.pop("METADATA") == "ok"
    assert found == {
        "changed.py": "mismatch",
        "gone.py": "missing",
        "fine.py": "ok",
        "vanished.txt": "missing",
        "fine.cpython-311.pyc": "unhashed",
        "weak.py": "unhashed",
        "folder": "unreadable",
        "RECORD": "unhashed",
    }


def test_repairs_name_the_damaged_distributions_only(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"one.py": "1"})
    site.install("two", "2.1", files={"two.py": "2"})
    (site.path / "two.py").write_text("3")
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    parts = [audit.verify_files(chunk) for chunk in audit.chunk_files(inventory, 1)]
    integrity = audit.gather_integrity(inventory, parts)
    repairs = audit.suggest_repairs(inventory, integrity)
    assert repairs["distributions"] == ["two"]
    assert "'two==2.1'" in Path(repairs["path"]).read_text()


def test_a_file_of_two_distributions_is_shared(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"both.py": "1"})
    site.install("two", record=[recorded("both.py", "1")])
    assert integrity_of(site, tmp_path)["shared"] == 1


def test_a_row_that_is_there_twice_counts_once(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"one.py": "1"}, record=[recorded("one.py", "1"), ""])
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    assert inventory["file_count"] == 3


def test_files_outside_the_site_folder_are_verified_too(site: Site, tmp_path: Path) -> None:
    script = "#!python\n"
    site.install("one", record=[recorded("../bin/one", script)])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/one").write_text(script)
    assert integrity_of(site, tmp_path)["damaged"] == 0


def test_a_sample_checks_fewer_files_and_the_same_ones_each_time(
    site: Site, tmp_path: Path
) -> None:
    site.install("one", files={f"one/m{n}.py": str(n) for n in range(200)})
    first = statuses(integrity_of(site, tmp_path, share=0.3))
    assert first == statuses(integrity_of(site, tmp_path, share=0.3))
    assert 0 < Counter(first.values())["ok"] < 120


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        audit.verify_files("chunk.csv", share)


def test_what_nobody_owns_is_listed_but_for_byte_code(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"one/__init__.py": ""})
    (site.path / "stray.txt").write_text("stray")
    (site.path / "one/__pycache__").mkdir()
    (site.path / "one/__pycache__/x.cpython-311.pyc").write_text("")
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    found = audit.find_unowned(inventory)
    assert (found["count"], found["bytes"]) == (1, 5)
    assert "stray.txt" in Path(found["path"]).read_text()


def test_only_site_folders_are_searched_for_strangers(tmp_path: Path) -> None:
    work = Site(tmp_path / "project")
    work.path.mkdir()
    work.install("mine")
    (work.path / "notes.txt").write_text("mine")
    inventory = audit.list_distributions(tmp_path / "out", "run", [str(work.path)])
    assert inventory["sites"] == []
    assert audit.find_unowned(inventory)["count"] == 0


def test_of_two_installations_the_second_is_shadowed(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "dist-packages")
    other.path.mkdir()
    site.install("My.Name", "2.0")
    other.install("my-name", "1.0")
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path), str(other.path)])
    assert inventory["duplicates"] == ["my-name"]
    entries = audit.read_distributions(inventory)
    assert [(e["version"], e["shadowed"]) for e in entries] == [("2.0", False), ("1.0", True)]
    assert len({e["distribution"] for e in entries}) == 2


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_a_folder_that_is_on_the_path_twice_counts_once(site: Site, tmp_path: Path) -> None:
    site.install("one")
    link = tmp_path / "lib64"
    link.symlink_to(site.path)
    paths = [str(site.path), str(link)]
    assert audit.list_distributions(tmp_path, "run", paths)["count"] == 1


def test_what_has_no_name_or_no_record_does_not_stop_the_audit(site: Site, tmp_path: Path) -> None:
    (site.path / "broken-1.0.dist-info").mkdir()
    (site.path / "old.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 0.1\n")
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    (entry,) = audit.read_distributions(inventory)
    assert (entry["name"], entry["recorded"]) == ("old", False)


def test_the_environment_of_these_tests_is_listed(tmp_path: Path) -> None:
    inventory = audit.list_distributions(tmp_path, "run")
    names = {e["distribution"] for e in audit.read_distributions(inventory)}
    assert {"pytest", "pandas", "networkx"} <= names


@given(
    sizes=st.lists(st.integers(0, 5_000_000), min_size=1, max_size=60),
    chunks=st.integers(1, 9),
)
def test_chunks_hold_each_file_once_and_are_balanced(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunks: int
) -> None:
    place = tmp_path_factory.mktemp("chunks")
    rows = [{"distribution": "d", "path": f"p{n}", "size": s} for n, s in enumerate(sizes)]
    audit.write_rows(place / "files.csv", audit.FILE_FIELDS, rows)
    inventory = audit.Inventory(
        folder=str(place),
        path="",
        files=str(place / "files.csv"),
        count=1,
        file_count=len(rows),
        bytes=sum(sizes),
        duplicates=[],
        sites=[],
    )
    parts = [list(audit.read_rows(name)) for name in audit.chunk_files(inventory, chunks)]
    assert sorted(r["path"] for p in parts for r in p) == sorted(str(r["path"]) for r in rows)
    assert len(parts) <= chunks
    loads = [sum(int(r["size"]) + audit.FILE_COST for r in part) for part in parts]
    # Greedy bound: no chunk is heavier than the mean plus one file.
    heaviest = max(s + audit.FILE_COST for s in sizes)
    assert max(loads) <= sum(loads) / len(loads) + heaviest


def test_no_chunks_are_refused(site: Site, tmp_path: Path) -> None:
    inventory = audit.list_distributions(tmp_path, "run", [str(site.path)])
    assert inventory["count"] == 0
    assert len(audit.chunk_files(inventory, 4)) == 1
    with pytest.raises(ValueError, match="1 or more"):
        audit.chunk_files(inventory, 0)


def test_running_again_writes_the_same_files(site: Site, tmp_path: Path) -> None:
    site.install("one", files={"one.py": "1"}, headers=["Summary: one"])
    first = integrity_of(site, tmp_path)
    text = Path(first["path"]).read_bytes()
    assert integrity_of(site, tmp_path) == first
    assert Path(first["path"]).read_bytes() == text
    assert not list(tmp_path.rglob("*.part"))
    assert json.loads((tmp_path / "run/distributions.json").read_text())[0]["summary"] == "one"
