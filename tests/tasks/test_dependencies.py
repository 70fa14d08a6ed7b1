"""The dependency graph: what applies, what is unmet, what goes round in circles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audit import list_distributions
from tasks.dependencies import (
    Need,
    applicable_needs,
    check_dependencies,
    dependency_graph,
    depths,
    find_cycles,
)
from tests.tasks.sites import Site


def entry(name: str, version: str = "1.0", *requires: str) -> dict[str, Any]:
    """An installed distribution."""
    return {"key": name, "version": version, "requires": list(requires)}


def problems(*entries: dict[str, Any]) -> dict[str, str]:
    """Requirement → problem, of those that apply."""
    return {n.requirement: n.problem for n in applicable_needs(entries)}


def test_met_missing_and_incompatible_are_told_apart() -> None:
    found = problems(entry("a", "1.0", "b>=2", "b<2", "c", "B[x]==2.*"), entry("b", "2.1"))
    assert found == {"b>=2": "", "b<2": "incompatible", "c": "missing", "B[x]==2.*": ""}


def test_an_installed_pre_release_counts() -> None:
    assert problems(entry("a", "1.0", "b>=1"), entry("b", "2.0rc1")) == {"b>=1": ""}


def test_a_marker_that_does_not_hold_leaves_the_requirement_out() -> None:
    asked = "c; python_version < '3'"
    assert problems(entry("a", "1.0", asked, "b; python_version > '3'"), entry("b")) == {
        "b; python_version > '3'": ""
    }


def test_an_extra_applies_only_where_it_is_asked_for_and_asks_on() -> None:
    b = entry("b", "1.0", "c[more]; extra == 'fast'", "never; extra == 'slow'")
    c = entry("c", "1.0", "gone; extra == 'more'")
    assert problems(entry("a", "1.0", "b[Fast]"), b, c) == {
        "b[Fast]": "",
        "c[more]; extra == 'fast'": "",
        "gone; extra == 'more'": "missing",
    }
    assert problems(entry("a", "1.0", "b"), b, c) == {"b": ""}


def test_extras_that_ask_for_each_other_come_to_an_end() -> None:
    a = entry("a", "1.0", "a[all]; extra == 'all'", "b; extra == 'all'")
    found = problems(entry("top", "1.0", "a[all]"), a, entry("b"))
    assert found["b; extra == 'all'"] == ""


@pytest.mark.parametrize("text", ["not a requirement at all!", "b; nonsense_name == '1'"])
def test_what_cannot_be_read_is_said_and_not_raised(text: str) -> None:
    assert problems(entry("a", "1.0", text), entry("b")) == {text: "unreadable"}


def test_a_version_that_is_none_is_said_and_not_raised() -> None:
    assert problems(entry("a", "1.0", "b>1"), entry("b", "2010-final")) == {"b>1": "unreadable"}


def test_a_requirement_by_address_needs_presence_only() -> None:
    text = "b @ https://example.org/b.whl"
    assert problems(entry("a", "1.0", text), entry("b", "0.1")) == {text: ""}


def need(source: str, target: str) -> Need:
    """A met need."""
    return Need(distribution=source, target=target, requirement=target, extra="", problem="")


arcs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20)


@given(arcs)
def test_cycles_are_found_exactly_where_networkx_finds_groups(
    found: list[tuple[int, int]],
) -> None:
    entries = [entry(str(n)) for n in range(8)]
    graph = dependency_graph(entries, [need(str(a), str(b)) for a, b in found])
    cycles = find_cycles(graph)
    groups = [g for g in nx.strongly_connected_components(graph) if len(g) > 1]
    assert len(cycles) == len(groups)
    for cycle in cycles:
        assert any(set(cycle) <= g for g in groups)
        assert all(graph.has_edge(a, b) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))


@given(arcs)
def test_whoever_needs_stands_above_what_is_needed(found: list[tuple[int, int]]) -> None:
    down = [need(str(max(a, b)), str(min(a, b))) for a, b in found if a != b]
    graph = dependency_graph([entry(str(n)) for n in range(8)], down)
    levels = depths(graph)
    assert all(levels[a] > levels[b] for a, b in graph.edges)
    assert max(levels.values()) == nx.dag_longest_path_length(graph)


def test_the_step_writes_what_it_counts(site: Site, tmp_path: Path) -> None:
    site.install("app", requires=["lib>=2", "ghost"])
    site.install("lib", "1.0", requires=["app"])
    inventory = list_distributions(tmp_path, "run", [str(site.path)])
    found = check_dependencies(inventory)
    assert (found["needs"], found["conflicts"], found["cycles"], found["roots"]) == (3, 2, 1, 0)
    document = json.loads(Path(found["path"]).read_text())
    assert document["cycles"] == [["app", "lib"]]
    assert {n["problem"] for n in document["needs"]} == {"", "missing", "incompatible"}
