"""Results are stored whole, verified when read, and refused where they cannot be kept."""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import ResultNotSerializableError, ResultUnreadableError
from athena_prefect.runtime.results import LocalStore, open_vault, result_key


def test_a_result_comes_back(tmp_path: Path) -> None:
    vault = open_vault("local", tmp_path)
    checksum = vault.put("a/b", {"rows": [1, 2]}, task_id="t")
    assert vault.get("a/b", checksum, task_id="t") == {"rows": [1, 2]}
    assert vault.raw("a/b") is not None
    assert vault.raw("a/c") is None


@given(position=st.integers(min_value=0, max_value=10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_is_seen(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("results")
    vault = open_vault("local", folder)
    checksum = vault.put("k", list(range(300)), task_id="t")
    content = bytearray((folder / "k").read_bytes())
    content[position % len(content)] ^= 1 << bit
    (folder / "k").write_bytes(bytes(content))
    with pytest.raises(ResultUnreadableError, match="damaged"):
        vault.get("k", checksum, task_id="t")


def test_a_lost_result_says_whose_it_was(tmp_path: Path) -> None:
    with pytest.raises(ResultUnreadableError, match="'hash'") as caught:
        open_vault("local", tmp_path).get("gone", None, task_id="hash")
    assert caught.value.__dict__["task_id"] == "hash"


def test_what_cannot_be_pickled_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ResultNotSerializableError, match="return the path"):
        open_vault("local", tmp_path).put("k", threading.Lock(), task_id="t")
    assert not (tmp_path / "k").exists()


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path, sync=True)
    store.write("other", b"old")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("athena_prefect.runtime.results.os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        store.write("k", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_torn_result_is_told_from_a_whole_one(tmp_path: Path) -> None:
    vault = open_vault("local", tmp_path)
    checksum = vault.put("k", list(range(1000)), task_id="t")
    (tmp_path / "k").write_bytes((tmp_path / "k").read_bytes()[:-7])
    with pytest.raises(ResultUnreadableError, match="checksum"):
        vault.get("k", checksum, task_id="t")


def test_keys_differ_where_anything_differs() -> None:
    run = uuid4()
    keys = {
        result_key(run, "a.b", None, "d" * 64, 1),
        result_key(run, "a-b", None, "d" * 64, 1),
        result_key(run, "a_b", None, "d" * 64, 1),
        result_key(run, "a.b", 0, "d" * 64, 1),
        result_key(run, "a.b", None, "e" * 64, 1),
        result_key(run, "a.b", None, "d" * 64, 2),
        result_key(uuid4(), "a.b", None, "d" * 64, 1),
    }
    assert len(keys) == 7
