"""The server: which tools, resources and prompts there are, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import athena_prefect
from athena_prefect.settings import AthenaSettings

INSTRUCTIONS = """\
athena watches runs of plans: when they will finish, how sure that is, what is at risk, \
which assumptions broke, and what could be done about it. Every tool takes a plan_id, a \
planning decision's id; replies name the one to use next. Durations are seconds, shares \
are fractions, unknown is null with its reason. Show the person the options and let them \
choose before execute_replan: it changes a run. Prefect's own MCP server has flows, logs \
and deployments; this one has plans."""


@dataclass(frozen=True, slots=True)
class ToolKind:
    """A tool's title and hints, beside its function's own words."""

    name: str
    title: str
    reads: bool = True
    destructive: bool = False
    idempotent: bool = True
    open_world: bool = False
    """Whether it may look beyond the database: a plan's own check does."""


KINDS = (
    ToolKind("start_execution_monitoring", "Begin monitoring a run", reads=False),
    ToolKind("record_task_event", "Record a task's start or end", reads=False, idempotent=False),
    ToolKind("get_plan_deviation", "How far off is the run"),
    ToolKind(
        "validate_assumption", "Check an assumption", reads=False, idempotent=False, open_world=True
    ),
    ToolKind("check_replanning_need", "Is another plan needed"),
    ToolKind("generate_replanning_options", "What could be done"),
    ToolKind("execute_replan", "Change the run", reads=False, destructive=True),
    ToolKind("get_execution_patterns", "What recurs from run to run"),
    ToolKind("get_estimation_accuracy", "How good were the estimates"),
    ToolKind("get_execution_recommendations", "What to change in the next plan"),
)


def make_server(settings: AthenaSettings, *, read_only: bool = False) -> Any:
    """A server over `settings`' database and namespace; with `read_only` none of it writes."""
    from fastmcp import FastMCP

    from athena_prefect.mcp.answering import guarded
    from athena_prefect.mcp.prompts import add_prompts
    from athena_prefect.mcp.resources import add_resources
    from athena_prefect.mcp.tools import Tools

    server: Any = FastMCP(
        "athena",
        INSTRUCTIONS,
        version=athena_prefect.__version__,
        mask_error_details=True,
        on_duplicate="error",
    )
    # The first is the outermost: whatever another raises is an answer, too.
    server.middleware.insert(0, guarded)
    tools = Tools(settings)
    for kind in KINDS:
        if kind.reads or not read_only:
            _add(server, kind, getattr(tools, kind.name))
    add_resources(server, settings, tools.runs)
    add_prompts(server)
    return server


def _add(server: Any, kind: ToolKind, function: Callable[..., Any]) -> None:
    server.tool(
        function,
        name=kind.name,
        title=kind.title,
        annotations={
            "title": kind.title,
            "readOnlyHint": kind.reads,
            "destructiveHint": kind.destructive,
            "idempotentHint": kind.idempotent,
            "openWorldHint": kind.open_world,
        },
    )
