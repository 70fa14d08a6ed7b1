"""Who needs whom among the installed distributions, and where that does not add up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import networkx as nx
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tasks.audit import Inventory, read_distributions, write_text

Problem = Literal["", "missing", "incompatible", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One requirement that applies here; `problem` says how it is not met, empty where it is."""

    distribution: str
    target: str
    requirement: str
    extra: str
    problem: Problem
    detail: str = ""


class Dependencies(TypedDict):
    """The dependency graph in figures. `path`: a JSON document with needs, cycles and layers."""

    path: str
    needs: int
    conflicts: int
    cycles: int
    roots: int
    deepest: int


def check_dependencies(inventory: Inventory) -> Dependencies:
    """Build the dependency graph and find unmet and incompatible requirements and cycles."""
    entries = [e for e in read_distributions(inventory) if not e["shadowed"]]
    needs = list(applicable_needs(entries))
    graph = dependency_graph(entries, needs)
    cycles = find_cycles(graph)
    layers = depths(graph)
    roots = sorted(n for n in graph if graph.in_degree(n) == 0)
    target = Path(inventory["folder"]) / "dependencies.json"
    document = {
        "needs": [asdict(n) for n in needs],
        "cycles": cycles,
        "roots": roots,
        "depths": layers,
    }
    write_text(target, json.dumps(document, indent=1))
    return Dependencies(
        path=str(target),
        needs=len(needs),
        conflicts=sum(1 for n in needs if n.problem),
        cycles=len(cycles),
        roots=len(roots),
        deepest=max(layers.values(), default=0),
    )


def applicable_needs(entries: Sequence[Mapping[str, Any]]) -> Iterator[Need]:
    """The requirements that apply in this environment, in the order of their distributions.

    An extra's requirements apply where some applicable requirement asks for
    that extra (``uvicorn[standard]``), which may ask for more: a fixed point.
    """
    installed = {e["key"]: e for e in entries}
    asked: list[tuple[str, str]] = [(key, "") for key in installed]
    done: set[tuple[str, str]] = set()
    seen: set[tuple[str, str]] = set()
    while asked:
        key, extra = asked.pop(0)
        if (key, extra) in done or key not in installed:
            continue
        done.add((key, extra))
        for text in installed[key]["requires"]:
            need, extras = _need(installed, key, extra, text)
            if need is None or (key, text) in seen:
                continue
            seen.add((key, text))
            yield need
            asked += [(need.target, canonicalize_name(name)) for name in sorted(extras)]


def _need(
    installed: Mapping[str, Mapping[str, Any]], key: str, extra: str, text: str
) -> tuple[Need | None, set[str]]:
    """`text` as a need of `key`; None where its marker says that it does not apply."""
    try:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            return None, set()
    except (
        InvalidRequirement, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName
    ) as error:  # fmt: skip
        return Need(
            distribution=key,
            target="",
            requirement=text,
            extra=extra,
            problem="unreadable",
            detail=str(error).splitlines()[0],
        ), set()
    target = canonicalize_name(requirement.name)
    problem, detail = _problem(requirement, installed.get(target))
    need = Need(
        distribution=key,
        target=target,
        requirement=text,
        extra=extra,
        problem=problem,
        detail=detail,
    )
    return need, requirement.extras


def _problem(requirement: Requirement, installed: Mapping[str, Any] | None) -> tuple[Problem, str]:
    if installed is None:
        return "missing", "not installed"
    try:
        version = Version(installed["version"])
    except InvalidVersion:
        return "unreadable", f"{installed['version']!r} is no version"
    # What is installed counts, a pre-release too: pip would have asked.
    met = requirement.specifier.contains(version, prereleases=True)
    return ("", "") if met else ("incompatible", f"{version} is installed")


def dependency_graph(
    entries: Sequence[Mapping[str, Any]], needs: Sequence[Need]
) -> nx.DiGraph[str]:
    """Arcs from each installed distribution to those it needs, of what is installed."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(e["key"] for e in entries)
    graph.add_edges_from((n.distribution, n.target) for n in needs if n.target in graph)
    return graph


def find_cycles(graph: nx.DiGraph[str]) -> list[list[str]]:
    """One cycle of each group of distributions that need each other; a self-reference is none.

    All simple cycles of a group may be exponentially many; one is enough to see it.
    """
    found = []
    for group in nx.strongly_connected_components(graph):
        if len(group) > 1:
            inside: nx.DiGraph[str] = nx.DiGraph(sorted(graph.subgraph(group).edges))
            found.append([source for source, _ in nx.find_cycle(inside, min(group))])
    return sorted(found)


def depths(graph: nx.DiGraph[str]) -> dict[str, int]:
    """How far each distribution stands above those that need nothing (0); cycles count as one."""
    condensed = nx.condensation(graph)
    level: dict[int, int] = {}
    for group in reversed(list(nx.topological_sort(condensed))):
        level[group] = max((level[n] + 1 for n in condensed.successors(group)), default=0)
    members = condensed.graph["mapping"]
    return {name: level[members[name]] for name in sorted(graph)}
