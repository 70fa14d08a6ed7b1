"""The audit's report: one self-contained HTML page with its plots, made from the warehouse."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from tasks import warehouse as tables
from tasks.audit import write_text

LARGEST = 20
"""Distributions in the plot of sizes: what fits on a screen, and most of the bytes."""

MOST_ROWS = 200
"""Of one table on the page; the warehouse has them all, and the page says how many there are."""

BAR, GAP, LEFT, WIDTH = 18, 6, 190, 760
"""Of a plot, in pixels."""

FILLS = {
    "permissive": "#2a7f62",
    "public domain": "#6aa88f",
    "weak copyleft": "#d9a21b",
    "strong copyleft": "#c4572f",
    "proprietary": "#8a3b7a",
    "unknown": "#8b8f97",
}

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2129;background:#fff;margin:2rem auto;
max-width:62rem;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2.2rem}
p.when{color:#5d636e;margin-top:.2rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1rem;margin:1.5rem 0}
dl div{border:1px solid #d8dbe0;border-radius:6px;padding:.6rem .8rem}
dt{color:#5d636e;font-size:.85rem}dd{margin:0;font-size:1.35rem;font-weight:600}
dd.bad{color:#b3261e}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e6e8ec;overflow-wrap:anywhere}
svg{width:100%;height:auto;font:12px system-ui,sans-serif}
svg text{fill:#1d2129}
@media(prefers-color-scheme:dark){body{background:#16181d;color:#e6e8ec}
dl div{border-color:#3a3f48}th,td{border-color:#2a2e36}svg text{fill:#e6e8ec}
p.when,dt{color:#a3a9b4}dd.bad{color:#ff8a80}}
"""


class Published(TypedDict):
    """The page that was written, and what it says in one line."""

    path: str
    bytes: int
    summary: str


def publish_report(folder: str | Path, warehouse: str, run: str | UUID) -> Published:
    """Write ``report.html`` into the run's folder, from the run's rows in the warehouse."""
    with tables.opened(folder, warehouse) as engine, engine.connect() as connection:
        page, summary = _page(connection, run)
    place = Path(folder).resolve() / str(run)
    place.mkdir(parents=True, exist_ok=True)
    target = place / "report.html"
    write_text(target, page)
    return Published(path=str(target), bytes=target.stat().st_size, summary=summary)


def bars(rows: Sequence[tuple[str, float, str, str]], title: str) -> str:
    """Horizontal bars as SVG; each row: label, length, what to write behind it, colour."""
    longest = max((length for _, length, _, _ in rows), default=0) or 1
    height = len(rows) * (BAR + GAP) + GAP
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    ]
    for n, (label, length, text, fill) in enumerate(rows):
        top = GAP + n * (BAR + GAP)
        wide = max(1.0, (WIDTH - LEFT - 130) * length / longest)
        parts.append(
            f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(_cut(label))}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{wide:.1f}" height="{BAR}" rx="2" fill="{fill}"/>'
            f'<text x="{LEFT + wide + 6:.1f}" y="{top + 13}">{escape(text)}</text>'
        )
    return "".join(parts) + "</svg>"


def _page(connection: sa.Connection, run: str | UUID) -> tuple[str, str]:
    noted = tables.read_table(connection, tables.RUNS, run)
    packages = tables.read_table(connection, tables.DISTRIBUTIONS, run)
    needs = tables.read_table(connection, tables.REQUIREMENTS, run)
    cycles = tables.read_table(connection, tables.CYCLES, run)
    unowned = tables.read_table(connection, tables.UNOWNED, run)
    files = _file_counts(connection, run)
    damaged = _damaged(connection, run)
    conflicts = needs[needs["problem"] != ""]
    bytes_ = int(packages["bytes"].sum())
    facts = [
        ("distributions", f"{len(packages)}", False),
        ("files", f"{sum(files.values()):,}", False),
        ("on disk", _size(bytes_), False),
        ("verified", f"{files.get('ok', 0):,}", False),
        ("damaged", f"{len(damaged)}", len(damaged) > 0),
        ("conflicts", f"{len(conflicts)}", len(conflicts) > 0),
        ("cycles", f"{len(cycles)}", False),
        ("unknown licences", f"{int((packages['family'] == 'unknown').sum())}", False),
    ]
    summary = ", ".join(f"{value} {name}" for name, value, _ in facts)
    body = [
        "<h1>Environment audit</h1>",
        _when(noted, run),
        "<dl>" + "".join(_fact(*fact) for fact in facts) + "</dl>",
        "<h2>Largest distributions</h2>",
        _sizes(packages),
        "<h2>Licences</h2>",
        _families(packages),
        _section("Damaged files", damaged, ["distribution", "path", "status", "detail"]),
        _section("Conflicts", conflicts, ["distribution", "requirement", "problem", "detail"]),
        _section("Cycles", cycles, ["members"]),
        _section("Files that no distribution owns", unowned, ["path", "size"]),
        _section(
            "Distributions",
            packages,
            ["name", "version", "licence", "licence_source", "bytes", "depth"],
        ),
    ]
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Environment audit</title><style>{STYLE}</style>"
    )
    return head + "".join(body) + "</html>\n", summary


def _file_counts(connection: sa.Connection, run: str | UUID) -> dict[str, int]:
    files = tables.FILES
    counted = sa.select(files.c.status, sa.func.count()).where(files.c.run == str(run))
    return {status: count for status, count in connection.execute(counted.group_by(files.c.status))}


def _damaged(connection: sa.Connection, run: str | UUID) -> pd.DataFrame:
    files = tables.FILES
    query = sa.select(files).where(
        files.c.run == str(run), files.c.status.in_(("mismatch", "missing", "unreadable"))
    )
    return pd.read_sql(query.order_by(files.c.distribution, files.c.path), connection)


def _when(noted: pd.DataFrame, run: str | UUID) -> str:
    said = [f"run {run}"]
    if len(noted):
        row = noted.iloc[0]
        said = [row["audited"], f"Python {row['python']}", row["platform"], row["prefix"], *said]
    else:
        said = [sys.prefix, *said]
    return f'<p class="when">{escape(" · ".join(str(s) for s in said if s))}</p>'


def _fact(name: str, value: str, bad: bool) -> str:
    return f"<div><dt>{name}</dt><dd{' class=bad' if bad else ''}>{value}</dd></div>"


def _sizes(packages: pd.DataFrame) -> str:
    largest = packages.sort_values(["bytes", "distribution"], ascending=[False, True]).head(LARGEST)
    rows = [
        (str(r["name"]), float(r["bytes"]), _size(int(r["bytes"])), FILLS[str(r["family"])])
        for _, r in largest.iterrows()
    ]
    return bars(rows, "Largest distributions, coloured by the family of their licence")


def _families(packages: pd.DataFrame) -> str:
    counts = packages["family"].value_counts()
    rows = [(f, float(counts[f]), str(counts[f]), FILLS[f]) for f in FILLS if f in counts.index]
    return bars(rows, "Distributions by the family of their licence")


def _section(title: str, frame: pd.DataFrame, columns: Sequence[str]) -> str:
    if frame.empty:
        return f"<h2>{title}</h2><p>None.</p>"
    shown = frame[list(columns)].head(MOST_ROWS)
    head = "".join(f"<th>{escape(c.replace('_', ' '))}</th>" for c in columns)
    rows = "".join(f"<tr>{_cells(row)}</tr>" for row in shown.itertuples(index=False))
    more = f"<p>{len(shown)} of {len(frame)}.</p>" if len(frame) > len(shown) else ""
    return f"<h2>{title}</h2><table><tr>{head}</tr>{rows}</table>{more}"


def _cells(row: Iterable[object]) -> str:
    return "".join(f"<td>{escape(str(value))}</td>" for value in row)


def _cut(text: str) -> str:
    return text if len(text) <= 28 else text[:27] + "…"


def _size(count: int) -> str:
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
