"""A thousand cases whose truth is known, over all kinds that need no Prefect server.

Each case makes a small world (a file, a table, a calendar, a server's answer …), draws
what is expected of it together with whether that is so, and is judged by the validator. The
truth is the generator's own arithmetic, never what a check says. Some worlds are broken:
there a check has to say that it does not know.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psutil
import pytest

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.making import Made, make, prepare
from athena_prefect.assumptions.checks.registry import BUILT_IN
from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Assumption, Plan
from tests.assumptions.checks.web import Reply, Site, serving

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
STARTED = NOW - timedelta(days=2, minutes=30)
SEED = 20261127
EACH = 50
"""Cases a kind."""
BROKEN = 0.06
"""Share of broken worlds, of the kinds that can be broken."""
RIGHT = 0.95
"""Least share of right verdicts."""
BERLIN = ZoneInfo("Europe/Berlin")
OF_PREFECT = {"work_pool", "deployment_success", "variable", "concurrency_limit"}
"""Need a server, and are tested against one with the kinds themselves."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A check, what is expected, and whether it is so; None where nobody can know."""

    check: dict[str, Any]
    expected: Any
    truth: bool | None
    sense: str | None = None
    tolerance: float = 0.0


@dataclass
class World:
    """Where the cases live."""

    folder: Path
    site: Site
    port: int
    rng: random.Random = field(default_factory=lambda: random.Random(SEED))
    count: int = 0

    def name(self, suffix: str = "") -> str:
        """A name that no case had before."""
        self.count += 1
        return f"w{self.count}{suffix}"

    def broken(self) -> bool:
        """Whether this world is to be broken."""
        return self.rng.random() < BROKEN

    def sql(self, *statements: str, rows: tuple[str, list[Any]] | None = None) -> str:
        """Execute in the worlds' database; its URL."""
        with sqlite3.connect(self.folder / "worlds.db") as link:
            for statement in statements:
                link.execute(statement)
            if rows:
                link.executemany(*rows)
        link.close()
        return "sqlite:///worlds.db"


def number(rng: random.Random, value: float, check: dict[str, Any]) -> Case:
    """A number against a bound, in each sense, with and without tolerance; or between two."""
    holds = rng.random() < 0.5
    gap = max(abs(value), 1.0) * rng.uniform(0.02, 0.5)
    tolerance = rng.choice([0.0, 0.0, rng.uniform(0.01, 0.2)])
    sense = rng.choice(["at_least", "at_most", "equal", "between"])
    if sense == "between":
        low = value - gap if holds else value + gap
        expected: Any = {"min": low, "max": low + 2 * gap}
        return Case(check=check, expected=expected, truth=holds)
    if sense == "equal":
        wrong = value + 0.5 * gap + (abs(value) + gap) * 0.5
        return Case(check=check, expected=value if holds else wrong, truth=holds, sense=sense,
                    tolerance=tolerance)  # fmt: skip
    # The bound that counts is chosen first; the expected value is what the tolerance makes it.
    below = (sense == "at_least") is holds
    bound = value - gap if below else value + gap
    slack = tolerance if (sense == "at_least") is (bound > 0) else -tolerance
    return Case(check=check, expected=bound / (1 - slack), truth=holds, sense=sense,
                tolerance=tolerance)  # fmt: skip


def truth_value(rng: random.Random, value: bool, check: dict[str, Any]) -> Case:
    """A truth value; expected to be true where nothing is said."""
    expected = rng.choice([True, False, None])
    return Case(check=check, expected=expected, truth=value is (expected is not False))


def text(rng: random.Random, value: str, check: dict[str, Any]) -> Case:
    """A text, as it is, one of several, or by a pattern."""
    holds = rng.random() < 0.5
    other = value if holds else value + "x"
    expected: Any = rng.choice([other, {"one_of": ["?", other]}, {"matches": f"^{other}$"}])
    return Case(check=check, expected=expected, truth=holds)


def unknowable(case: Case, **check: Any) -> Case:
    """The case in a world that is broken."""
    return replace(case, check=case.check | check, truth=None)


# -- this machine --------------------------------------------------------------------------------


def cpu_load(world: World) -> Case:
    check = {"kind": "cpu_load", "field": "cores"}
    return number(world.rng, psutil.cpu_count() or 1, check)


def memory(world: World) -> Case:
    check = {"kind": "memory", "field": "total", "unit": "MiB"}
    return number(world.rng, psutil.virtual_memory().total / 2**20, check)


def disk_free(world: World) -> Case:
    total = psutil.disk_usage(str(world.folder)).total / 1e9
    case = number(world.rng, total, {"kind": "disk_free", "field": "total", "unit": "GB"})
    return unknowable(case, path=world.name()) if world.broken() else case


def file_of(world: World, size: int = 1, age: float = 0) -> str:
    path = world.folder / world.name(".csv")
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW.timestamp() - age, NOW.timestamp() - age))
    return path.name


def file_age(world: World) -> Case:
    age = world.rng.randint(0, 10**6)
    check = {"kind": "file_age", "path": file_of(world, age=age)}
    case = number(world.rng, age, check)
    if world.rng.random() < 0.3:
        limit = world.rng.randint(0, 10**6)
        case = Case(check=check, expected={"max_age": f"{limit}s"}, truth=age <= limit)
    return unknowable(case, path="none.csv") if world.broken() else case


def file_size(world: World) -> Case:
    size = world.rng.randint(0, 5000)
    case = number(world.rng, size, {"kind": "file_size", "path": file_of(world, size)})
    return unknowable(case, path="none.csv") if world.broken() else case


def file_exists(world: World) -> Case:
    there = world.rng.random() < 0.5
    path = file_of(world) if there else world.name(".csv")
    return truth_value(world.rng, there, {"kind": "file_exists", "path": path})


def function(world: World) -> Case:
    value = world.rng.uniform(-1000, 1000)
    check = {"kind": "function", "call": "thousand_deeds:same", "with": {"value": value}}
    case = number(world.rng, value, check)
    return unknowable(case, call="thousand_deeds:broken") if world.broken() else case


def tcp(world: World) -> Case:
    there = world.rng.random() < 0.5
    port = world.port if there else 1
    return truth_value(world.rng, there, {"kind": "tcp", "port": port})


def http(world: World) -> Case:
    path, status = f"/{world.name()}", world.rng.choice([200, 204, 404, 500, 503])
    world.site.answers[path] = Reply(b"", status)
    check = {"kind": "http", "url": world.site.url + path, "field": "status"}
    return number(world.rng, status, check)


def process(world: World) -> Case:
    alive = world.rng.random() < 0.5
    path = world.folder / world.name(".pid")
    if alive:
        path.write_text(str(os.getpid()))
    return truth_value(world.rng, alive, {"kind": "process", "pid_file": path.name})


# -- databases -----------------------------------------------------------------------------------


def sql(world: World) -> Case:
    rng = world.rng
    value: Any = rng.choice([rng.randint(-50, 50), rng.uniform(-5, 5), f"word{rng.randint(0, 9)}"])
    table = world.name()
    fill = (f"INSERT INTO {table} VALUES (?)", [(value,)])
    url = world.sql(f"CREATE TABLE {table} (v)", rows=fill)
    check = {"kind": "sql", "url": url, "query": f"SELECT v FROM {table}"}
    case = text(rng, value, check) if isinstance(value, str) else number(rng, value, check)
    wrong = rng.choice(["SELECT 1, 2", "SELECT 1 WHERE 0", "SELECT 1; DROP TABLE x", "SELECT nope"])
    return unknowable(case, query=wrong) if world.broken() else case


def row_count(world: World) -> Case:
    table, rows, low = world.name(), world.rng.randint(0, 60), world.rng.randint(0, 60)
    values = [(n,) for n in range(rows)]
    url = world.sql(f"CREATE TABLE {table} (v)", rows=(f"INSERT INTO {table} VALUES (?)", values))
    where = {"where": f"v >= {low}"} if world.rng.random() < 0.5 else {}
    count = max(rows - low, 0) if where else rows
    case = number(world.rng, count, {"kind": "row_count", "url": url, "table": table, **where})
    return unknowable(case, table="nowhere") if world.broken() else case


def newest(world: World) -> Case:
    table, rng = world.name(), world.rng
    ages = [rng.randint(0, 10**6) for _ in range(rng.randint(1, 9))]
    moments = [NOW - timedelta(seconds=age) for age in ages]
    unix = rng.random() < 0.5
    values = [(m.timestamp() if unix else m.isoformat(),) for m in moments]
    url = world.sql(f"CREATE TABLE {table} (at)", rows=(f"INSERT INTO {table} VALUES (?)", values))
    check = {"kind": "newest", "url": url, "table": table, "column": "at"}
    case = number(rng, min(ages), check)
    return unknowable(case, where="0") if world.broken() else case


def null_share(world: World) -> Case:
    table, rng = world.name(), world.rng
    values = [(rng.choice([None, 1]),) for _ in range(rng.randint(1, 40))]
    url = world.sql(f"CREATE TABLE {table} (v)", rows=(f"INSERT INTO {table} VALUES (?)", values))
    share = sum(v is None for (v,) in values) / len(values)
    check = {"kind": "null_share", "url": url, "table": table, "column": "v"}
    case = number(rng, share, check)
    return unknowable(case, column="nope") if world.broken() else case


def schema_drift(world: World) -> Case:
    table, rng = world.name(), world.rng
    there = {f"c{n}": rng.choice(["INTEGER", "TEXT", "REAL"]) for n in range(rng.randint(1, 6))}
    columns = ", ".join(f"{name} {kind}" for name, kind in there.items())
    url = world.sql(f"CREATE TABLE {table} ({columns})")
    wanted: dict[str, str | None] = {name: kind.lower() for name, kind in there.items()}
    how = rng.choice(["same", "same", "changed", "missing", "new"])
    first = next(iter(there))
    if how == "changed":
        wanted[first] = "boolean"
    elif how == "missing":
        wanted["more"] = None
    elif how == "new":
        wanted = {"c0": wanted["c0"]} if len(there) > 1 else {"other": None}
    check = {"kind": "schema_drift", "url": url, "table": table, "columns": wanted}
    case = truth_value(rng, how == "same", check)
    return unknowable(case, url="sqlite:///none.db") if world.broken() else case


# -- the web -------------------------------------------------------------------------------------


def spoil(world: World, path: str) -> None:
    """Another answer than the right one."""
    bad = [Reply(b"<html>", 200), Reply(b"", 500), Reply(b"", 401), Reply(b"", 429)]
    away = Reply(b"", 302, {"Location": "ftp://127.0.0.1/"})
    world.site.answers[path] = world.rng.choice([*bad, away])


def http_json(world: World) -> Case:
    rng, path = world.rng, f"/{world.name()}"
    jobs = [{"n": rng.randint(1, 9), "open": rng.random() < 0.5} for _ in range(rng.randint(1, 9))]
    world.site.answers[path] = Reply({"jobs": jobs})
    take = rng.choice(["count", "sum", "max"])
    found = [j["n"] for j in jobs if j["open"]] if take == "count" else [j["n"] for j in jobs]
    value = {"count": len(found), "sum": sum(found), "max": max(found, default=0)}[take]
    where = "$.jobs[?@.open == true].n" if take == "count" else "$.jobs[*].n"
    check = {"kind": "http_json", "url": world.site.url + path, "path": where, "take": take}
    case = number(rng, value, check)
    if world.broken():
        spoil(world, path)
        return unknowable(case)
    return case


def issues(world: World) -> Case:
    rng, name = world.rng, world.name()
    pages = [[{"number": n, **({"pull_request": {}} if rng.random() < 0.3 else {})}
              for n in range(rng.randint(0, 5))] for _ in range(rng.randint(1, 3))]  # fmt: skip
    path = f"/repos/acme/{name}/issues"

    def answer(asked: Any) -> Reply:
        page = int(asked.query.get("page", 1))
        url = f"{world.site.url}{path}?page={page + 1}"
        link = {"Link": f'<{url}>; rel="next"'} if page < len(pages) else {}
        return Reply(pages[page - 1], headers=link)

    world.site.answers[path] = answer
    check = {"kind": "issues", "tracker": "github", "project": f"acme/{name}"}
    check["url"] = world.site.url
    case = number(rng, sum("pull_request" not in i for page in pages for i in page), check)
    if world.broken():
        spoil(world, path)
        return unknowable(case)
    return case


# -- people, code, data --------------------------------------------------------------------------


def calendar(world: World) -> Case:
    """Weekly absences in Berlin's time, seen in a window around a change of the clock."""
    rng = world.rng
    change = rng.choice([datetime(2026, 3, 29), datetime(2026, 10, 25)])
    at = (change + timedelta(days=rng.randint(-3, 3), hours=rng.randint(4, 20))).replace(tzinfo=UTC)
    lasts = rng.randint(1, 12)
    people, away = {}, 0
    for person in ("anna", "ben", "carl", "dora")[: rng.randint(1, 4)]:
        first = change - timedelta(days=rng.randint(8, 20)) + timedelta(hours=rng.randint(5, 20))
        hours = rng.randint(1, 4)
        file = world.folder / world.name(".ics")
        begin, end = (m.strftime("%Y%m%dT%H%M%S") for m in (first, first + timedelta(hours=hours)))
        file.write_text(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//t//EN\r\nBEGIN:VEVENT\r\nUID:1\r\n"
            f"DTSTAMP:20260101T000000Z\r\nDTSTART;TZID=Europe/Berlin:{begin}\r\n"
            f"DTEND;TZID=Europe/Berlin:{end}\r\nRRULE:FREQ=DAILY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
        people[person] = file.name
        days = (first + timedelta(days=n) for n in range(40))
        local = ((d.replace(tzinfo=BERLIN), d + timedelta(hours=hours)) for d in days)
        spans = ((a.astimezone(UTC), b.replace(tzinfo=BERLIN).astimezone(UTC)) for a, b in local)
        away += any(a < at + timedelta(hours=lasts) and at < b for a, b in spans)
    check = {
        "kind": "calendar", "calendars": people, "lasts": f"{lasts}h",
        "starts_in": f"{(at - EARLY).total_seconds():.0f}s", "field": "share",
    }  # fmt: skip
    case = number(rng, 1 - away / len(people), check)
    if world.broken():
        (world.folder / next(iter(people.values()))).write_text("<html>Sign in</html>")
        return unknowable(case)
    return case


EARLY = datetime(2026, 1, 1, tzinfo=UTC)
"""When calendars are looked at, so that their window may be anywhere in the year."""


def git_changes(world: World) -> Case:
    """Twelve commits, one a day; every third is below `sql`."""
    rng = world.rng
    back = rng.randint(0, 11)
    below = rng.random() < 0.5
    commits = list(range(12 - back, 12))
    count = sum(n % 3 == 0 for n in commits) if below else len(commits)
    check = {
        "kind": "git_changes", "repository": "repository", "since": f"HEAD~{back}",
        **({"paths": ["sql"]} if below else {}),
    }  # fmt: skip
    case = number(rng, count, check)
    return unknowable(case, since="no-such-commit") if world.broken() else case


def dbt_freshness(world: World) -> Case:
    rng, path = world.rng, world.name(".json")
    statuses = [rng.choice(["pass", "pass", "pass", "warn", "error"]) for _ in range(3)]
    results = [
        {"unique_id": f"source.shop.raw.t{n}", "status": s, "max_loaded_at": "2026-11-27T10:00:00Z"}
        for n, s in enumerate(statuses)
    ]
    metadata = {"generated_at": "2026-11-27T11:00:00Z"}
    spoilt = world.broken()
    if spoilt:
        results[1]["status"] = "runtime error"
    (world.folder / path).write_text(json.dumps({"metadata": metadata, "results": results}))
    strict = rng.random() < 0.5
    stale = "error" in statuses or (strict and "warn" in statuses)
    check = {"kind": "dbt_freshness", "path": path, "warnings": strict}
    case = truth_value(rng, not stale, check)
    return unknowable(case) if spoilt else case


def pandera(world: World) -> Case:
    rng, path = world.rng, world.name(".csv")
    values = [rng.choice([1, 2, 3, 4, 5, 6, 7, 8, -1]) for _ in range(rng.randint(1, 6))]
    (world.folder / path).write_text("v\n" + "".join(f"{v}\n" for v in values))
    check = {"kind": "pandera", "schema": "thousand_deeds:SCHEMA", "path": path}
    case = truth_value(rng, min(values) >= 0, check)
    return unknowable(case, path="none.csv") if world.broken() else case


KINDS: tuple[Callable[[World], Case], ...] = (
    cpu_load, memory, disk_free, file_age, file_size, file_exists, function, tcp, http, process,
    sql, row_count, newest, null_share, schema_drift, http_json, issues, calendar, git_changes,
    dbt_freshness, pandera,
)  # fmt: skip

DEEDS = """
import pandera.pandas as pa

SCHEMA = pa.DataFrameSchema({"v": pa.Column(int, pa.Check.ge(0))})


def same(value):
    return value


def broken():
    raise RuntimeError("no")
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An empty database, a server, a repository, and a project with a few functions."""
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "thousand_deeds.py").write_text(DEEDS)
    repository = folder / "repository"
    (repository / "sql").mkdir(parents=True)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    for n in range(12):
        (repository / ("sql/a" if n % 3 == 0 else "other")).write_text(str(n))
        subprocess.run(["git", "add", "-A"], cwd=repository, check=True)
        subprocess.run(["git", *who, "commit", "-qm", str(n)], cwd=repository, check=True)
    with serving() as site, socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield World(folder=folder, site=site, port=server.getsockname()[1])


def validator_of(
    cases: list[Case], folder: Path, moment: datetime | None = None
) -> AssumptionValidator:
    """A validator of a plan that assumes all the cases; checks are made as at `moment`."""
    assumptions = [
        {
            "id": f"a{n}", "check": case.check, "expected_value": case.expected,
            "tolerance": case.tolerance, **({"sense": case.sense} if case.sense else {}),
        }
        for n, case in enumerate(cases)
    ]  # fmt: skip
    plan = Plan.model_validate(
        {"name": "cases", "tasks": [{"id": "t", "duration": "1h"}], "assumptions": assumptions}
    )
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=VirtualClock(STARTED), started_at=STARTED,
        journal=MemoryJournal(),
    )  # fmt: skip

    def checker(assumption: Assumption, context: CheckContext) -> Made:
        assert assumption.check is not None
        check, secrets = prepare(assumption.check, lambda _: None)
        now = moment or (EARLY if check.kind == "calendar" else NOW)
        return make(check, replace(context, now=now, root=folder, secrets=secrets))

    return AssumptionValidator(plan, ExecutionMonitor(plan, context), checker=checker)


def test_a_thousand_cases_of_known_truth(world: World) -> None:
    cases = [make_one(world) for make_one in KINDS for _ in range(EACH)]
    assert {c.check["kind"] for c in cases} == set(BUILT_IN) - OF_PREFECT
    assert len(cases) >= 1000
    validator = validator_of(cases, world.folder)
    tally: Counter[str] = Counter()
    wrong = []
    for n, case in enumerate(cases):
        result = validator.check_assumption(f"a{n}", now=NOW, record=False)
        if result.valid is None:
            tally["unknown" if case.truth is None else "unknown, though it could be known"] += 1
            if case.truth is not None:
                wrong.append((case, result))
        elif result.valid is case.truth:
            tally["right"] += 1
        else:
            tally["wrong"] += 1
            wrong.append((case, result))
    assert tally["wrong"] == 0, wrong
    assert tally["right"] / len(cases) >= RIGHT, tally
    # Not asked for, but so: what can be known is known, and what cannot is said to be unknown.
    assert tally["unknown, though it could be known"] == 0, wrong
    truths = Counter(c.truth for c in cases)
    assert min(truths[True], truths[False]) > len(cases) / 4 and truths[None] > 10, truths
    assert tally["unknown"] == truths[None]
    senses = Counter(c.sense for c in cases)
    assert min(senses[s] for s in ("at_least", "at_most", "equal", None)) > 50, senses
