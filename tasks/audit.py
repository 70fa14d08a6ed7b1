"""The Python environment that runs this, audited: what is installed, and whether it is intact.

Each function is one task of `deployments/environment_audit/plan.yaml`. What is
large goes from task to task as the path of a file in the run's folder; what the
functions return is counts and paths. Running one again writes the same files.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import heapq
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

from packaging.utils import canonicalize_name

from athena_prefect import report_usage

FILE_FIELDS = ("distribution", "path", "algorithm", "digest", "size")
STATUS_FIELDS = ("distribution", "path", "status", "size", "detail")
ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})
"""What RECORD may use: PEP 376 and PEP 427 ask for SHA-256 or better."""

SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})
"""Folders that hold nothing but installed files. Others on `sys.path` are somebody's work."""

FILE_COST = 64 * 1024
"""What a file costs beside its bytes, in bytes hashed in that time: about 0.15 ms to open
and look up, at some 450 MB/s (measured with SHA-256 on a 2-core machine, warm cache)."""

READ_BYTES = 100_000
"""Of a licence text: longer ones say which licence they are well before that."""


class Inventory(TypedDict):
    """What is installed. `path`: a JSON list of distributions; `files`: a CSV of their files."""

    folder: str
    path: str
    files: str
    count: int
    file_count: int
    bytes: int
    duplicates: list[str]
    sites: list[str]


class Verified(TypedDict):
    """One chunk, verified. `path`: a CSV with each file's status."""

    path: str
    files: int
    bytes: int
    seconds: float
    statuses: dict[str, int]


class Integrity(TypedDict):
    """All chunks together. `damaged` files differ from their RECORD, are missing or unreadable."""

    path: str
    files: int
    bytes: int
    damaged: int
    shared: int
    statuses: dict[str, int]


class Unowned(TypedDict):
    """Files in the site folders that no distribution installed. `path`: a CSV of them."""

    path: str
    count: int
    bytes: int


class Repairs(TypedDict):
    """Commands that would mend what is damaged. `path`: a text file of them."""

    path: str
    distributions: list[str]


def list_distributions(folder: str | Path, run: str | UUID, paths: Sequence[str] = ()) -> Inventory:
    """List the installed distributions and the files that their RECORDs claim.

    `paths`: where to look, as in `sys.path`, which is the default. Writes
    ``distributions.json`` and ``files.csv`` under `folder` / `run`.
    """
    place = Path(folder).resolve() / str(run)
    place.mkdir(parents=True, exist_ok=True)
    found = _distributions(list(paths) or sys.path)
    files = [row for entry, distribution in found for row in _recorded(entry, distribution)]
    sizes = Counter[str]()
    for row in files:
        sizes[row["distribution"]] += row["size"]
    entries = [{**entry, "bytes": sizes[entry["distribution"]]} for entry, _ in found]
    listing, recorded = place / "distributions.json", place / "files.csv"
    write_text(listing, json.dumps(entries, indent=1))
    write_rows(recorded, FILE_FIELDS, files)
    return Inventory(
        folder=str(place),
        path=str(listing),
        files=str(recorded),
        count=len(entries),
        file_count=len(files),
        bytes=sizes.total(),
        duplicates=sorted({e["name"] for e in entries if e["shadowed"]}),
        sites=sorted({e["location"] for e in entries if Path(e["location"]).name in SITE_FOLDERS}),
    )


def changed_since(moment: str | datetime, paths: Sequence[str] = ()) -> int:
    """How many distributions were installed, or had their metadata changed, since `moment`.

    For an assumption: what is removed leaves its folder changed, which counts too.
    """
    since = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    changed = 0
    for folder in {Path(p or ".") for p in (list(paths) or sys.path)}:
        if not folder.is_dir() or folder.name not in SITE_FOLDERS:
            continue
        for entry in folder.glob("*.dist-info"):
            changed += entry.stat().st_mtime > since.timestamp()
    return changed


def chunk_files(inventory: Inventory, chunks: int) -> list[str]:
    """Split the recorded files into at most `chunks` CSV files that take about equally long.

    The largest file goes first, each to the chunk that is lightest so far
    (longest processing time rule, Graham 1969: at most 4/3 of the best split).
    """
    if chunks < 1:
        raise ValueError(f"chunks is {chunks}; it is 1 or more")
    rows = sorted(read_rows(inventory["files"]), key=lambda r: (-int(r["size"]), r["path"]))
    loads = [(0, n) for n in range(min(chunks, max(1, len(rows))))]
    parts: dict[int, list[Mapping[str, Any]]] = {n: [] for _, n in loads}
    for row in rows:
        load, n = heapq.heappop(loads)
        parts[n].append(row)
        heapq.heappush(loads, (load + int(row["size"]) + FILE_COST, n))
    place = Path(inventory["folder"]) / "chunks"
    place.mkdir(exist_ok=True)
    names = []
    for n, part in parts.items():
        name = place / f"{n:04d}.csv"
        write_rows(name, FILE_FIELDS, part)
        names.append(str(name))
    return names


def verify_files(chunk: str, share: float = 1.0) -> Verified:
    """Hash the files of a chunk and hold each against its RECORD.

    `share` below 1 verifies that share of them, the same ones in every run;
    the rest is ``unchecked``. Reports the processor time it took as usage of `cpu`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it is above 0 and at most 1")
    began, cpu = time.perf_counter(), time.thread_time()
    rows, read = [], 0
    for row in read_rows(chunk):
        status, size, detail = verify_file(row) if _sampled(row, share) else ("unchecked", 0, "")
        read += size
        rows.append({**row, "status": status, "detail": detail})
    target = Path(chunk).with_suffix(".verified.csv")
    write_rows(target, STATUS_FIELDS, rows)
    seconds = time.perf_counter() - began
    if seconds > 0:
        report_usage(cpu=(time.thread_time() - cpu) / seconds)
    return Verified(
        path=str(target),
        files=len(rows),
        bytes=read,
        seconds=seconds,
        statuses=dict(Counter(r["status"] for r in rows)),
    )


def verify_file(row: Mapping[str, str]) -> tuple[str, int, str]:
    """The status of one recorded file, the bytes that were read for it, and what was found.

    ok, mismatch, missing, unreadable; unhashed where RECORD gives no hash that
    could be verified. A byte-code file that went missing is no damage.
    """
    path, algorithm = Path(row["path"]), row["algorithm"]
    try:
        if not algorithm:
            exists = path.exists() or path.suffix == ".pyc"
            return ("unhashed", 0, "") if exists else ("missing", 0, "not there")
        if algorithm not in ALGORITHMS:
            return "unhashed", 0, f"{algorithm} is no accepted algorithm"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).digest()
            size = file.tell()
    except FileNotFoundError:
        return "missing", 0, "not there"
    except OSError as error:
        return "unreadable", 0, error.strerror or str(error)
    digest = base64.urlsafe_b64encode(found).rstrip(b"=").decode()
    if digest != row["digest"].rstrip("="):
        return "mismatch", size, f"{algorithm} is {digest}, recorded {row['digest']}"
    return "ok", size, ""


def gather_integrity(inventory: Inventory, parts: Sequence[Verified]) -> Integrity:
    """Put the verified chunks together in ``integrity.csv``, sorted.

    `shared` counts the files that more than one distribution claims: removing
    one of them breaks the other.
    """
    rows = [row for part in parts for row in read_rows(part["path"])]
    rows.sort(key=lambda r: (r["distribution"], r["path"]))
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        owners[row["path"]].add(row["distribution"])
    statuses = Counter(row["status"] for row in rows)
    target = Path(inventory["folder"]) / "integrity.csv"
    write_rows(target, STATUS_FIELDS, rows)
    return Integrity(
        path=str(target),
        files=len(rows),
        bytes=sum(part["bytes"] for part in parts),
        damaged=statuses["mismatch"] + statuses["missing"] + statuses["unreadable"],
        shared=sum(1 for names in owners.values() if len(names) > 1),
        statuses=dict(statuses),
    )


def find_unowned(inventory: Inventory) -> Unowned:
    """List the files in the site folders that no distribution's RECORD claims.

    Byte code is left out: Python writes it for whatever it imports.
    """
    owned = {row["path"] for row in read_rows(inventory["files"])}
    strangers = sorted(
        path
        for site in inventory["sites"]
        for path in _files_below(site)
        if path not in owned and not path.endswith(".pyc") and os.path.realpath(path) not in owned
    )
    sizes = [os.lstat(path).st_size for path in strangers]
    rows = [{"path": p, "size": size} for p, size in zip(strangers, sizes, strict=True)]
    target = Path(inventory["folder"]) / "unowned.csv"
    write_rows(target, ("path", "size"), rows)
    return Unowned(path=str(target), count=len(rows), bytes=sum(sizes))


def suggest_repairs(inventory: Inventory, integrity: Integrity) -> Repairs:
    """Write the pip commands that would install again what is damaged; runs none of them."""
    damaged = {
        row["distribution"]
        for row in read_rows(integrity["path"])
        if row["status"] in ("mismatch", "missing", "unreadable")
    }
    versions = {e["distribution"]: e["version"] for e in read_distributions(inventory)}
    names = sorted(damaged)
    lines = [f"pip install --force-reinstall --no-deps '{n}=={versions[n]}'\n" for n in names]
    target = Path(inventory["folder"]) / "repairs.txt"
    write_text(target, "".join(lines))
    return Repairs(path=str(target), distributions=names)


def read_distributions(inventory: Inventory) -> list[dict[str, Any]]:
    """The distributions of an inventory, with what their metadata says."""
    entries: list[dict[str, Any]] = json.loads(Path(inventory["path"]).read_text("utf-8"))
    return entries


def read_rows(path: str | Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def write_rows(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as CSV, whole or not at all: a task that was cut off leaves no half file."""
    part = path.with_name(path.name + ".part")
    # A name that is no valid text on this machine still gets its row.
    with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", errors="backslashreplace")
    part.replace(path)


def _distributions(paths: list[str]) -> list[tuple[dict[str, Any], metadata.Distribution]]:
    """Each distribution once, in order of name; of a name, the one that imports find is first."""
    found: list[tuple[dict[str, Any], metadata.Distribution]] = []
    first: dict[str, str] = {}
    seen: set[tuple[str, str, str]] = set()
    for distribution in metadata.distributions(path=paths):
        name = _said(distribution.metadata, "Name")
        if not name:
            continue  # what an interrupted installation leaves behind has no name to go by
        key, location = canonicalize_name(name), os.path.realpath(str(distribution.locate_file("")))
        # lib64 is a link to lib on some systems, and both are on the path.
        identity = (key, location, distribution.version)
        if identity in seen:
            continue
        seen.add(identity)
        entry = _entry(key, name, location, distribution)
        entry["shadowed"] = first.setdefault(key, location) != location
        if entry["shadowed"]:
            entry["distribution"] = f"{key} ({location})"
        found.append((entry, distribution))
    return sorted(found, key=lambda pair: str(pair[0]["distribution"]))


def _entry(
    key: str, name: str, location: str, distribution: metadata.Distribution
) -> dict[str, Any]:
    said = distribution.metadata
    classifiers = [c for c in said.get_all("Classifier") or () if c.startswith("License ::")]
    return {
        "distribution": key,
        "key": key,
        "name": name,
        "version": distribution.version,
        "location": location,
        "summary": _said(said, "Summary"),
        "requires": list(distribution.requires or ()),
        "license_expression": _said(said, "License-Expression"),
        "license": _said(said, "License"),
        "license_classifiers": classifiers,
        "license_text": _licence_text(distribution),
        "installer": (distribution.read_text("INSTALLER") or "").strip(),
        "editable": '"editable": true' in (distribution.read_text("direct_url.json") or ""),
        "recorded": distribution.read_text("RECORD") is not None,
    }


def _said(said: metadata.PackageMetadata, field: str) -> str:
    return str(said[field]) if field in said else ""


def _licence_text(distribution: metadata.Distribution) -> str:
    """The start of the first licence file that the metadata names; empty where there is none."""
    for name in distribution.metadata.get_all("License-File") or ():
        # Where they stand changed with PEP 639.
        text = distribution.read_text(f"licenses/{name}") or distribution.read_text(name)
        if text:
            return text[:READ_BYTES]
    return ""


def _recorded(
    entry: Mapping[str, Any], distribution: metadata.Distribution
) -> Iterator[dict[str, Any]]:
    """The files in a distribution's RECORD, each once.

    Read from the text: from Python 3.12 on `Distribution.files` leaves out
    missing files, which are what an audit looks for.
    """
    seen: set[str] = set()
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if not row or not row[0]:
            continue
        path = os.path.normpath(os.path.join(entry["location"], row[0]))
        if path in seen:
            continue
        seen.add(path)
        algorithm, _, digest = (row[1] if len(row) > 1 else "").partition("=")
        size = int(row[2]) if len(row) > 2 and row[2].isdigit() else 0
        yield {
            "distribution": entry["distribution"],
            "path": path,
            "algorithm": algorithm,
            "digest": digest,
            "size": size,
        }


def _sampled(row: Mapping[str, str], share: float) -> bool:
    if share == 1:
        return True
    point = int.from_bytes(hashlib.sha256(row["path"].encode()).digest()[:4]) / 2**32
    return point < share


def _files_below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (os.path.join(place, name) for name in names)
