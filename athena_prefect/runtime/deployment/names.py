"""How deployments, tags, blocks and flow files of a plan are named.

What is ours on a server is known by its tags alone, so that a deployment which
somebody else made is never changed or removed.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable

OURS = "athena"
"""The tag of everything that `athena deploy` makes."""
DEFAULT = "default"
"""The namespace that names do not mention."""
CONTINUATION = "continuation"
WATCH_FLOW = "watch-plan"
"""The watching flow's name, and its deployment's."""
WATCH_FILE = "flows/watch_plan.py"
WATCH_ENTRYPOINT = f"{WATCH_FILE}:watch_plan"
REPLAN_FLOW = "replan"
"""The replanning flow's name, and its deployment's."""
REPLAN_FILE = "flows/replan.py"
REPLAN_STEPS = "tasks/replanning.py"
REPLAN_ENTRYPOINT = f"{REPLAN_FILE}:replan"

_TAKEN = {"athena_prefect", "prefect", "flows", "tasks", "deployments"}
"""Modules beside those of the standard library that a flow file must not hide: its
folder comes first on the import path of the process that runs it."""


def namespace_tag(namespace: str) -> str:
    """The tag of what belongs to a namespace."""
    return f"namespace:{namespace}"


def plan_tag(plan: str) -> str:
    """The tag of what belongs to a plan, also of its runs."""
    return f"plan:{plan}"


def in_namespace(tags: Iterable[str], namespace: str) -> bool:
    """Whether something with these tags is of the namespace; untagged, it is of the default one."""
    named = [t for t in tags if t.startswith(namespace_tag(""))]
    return namespace_tag(namespace) in named if named else namespace == DEFAULT


def deployment_name(base: str, namespace: str, part: str = "") -> str:
    """``orders``, ``orders.continuation``, in the namespace stage ``orders.continuation@stage``.

    `@` occurs in no plan's name and in no namespace, so that no two namespaces share one.
    """
    where = "" if namespace == DEFAULT else f"@{namespace}"
    return ".".join(filter(None, (base, part))) + where


def block_name(namespace: str) -> str:
    """The name of the block with the namespace's database: small letters, digits, dashes."""
    if namespace == DEFAULT:
        return OURS
    plain = re.sub(r"[^a-z0-9]+", "-", namespace.lower()).strip("-")
    if plain == namespace:
        return f"{OURS}-{plain}"
    # Two namespaces that a block's name cannot tell apart must not share one.
    mark = hashlib.sha256(namespace.encode()).hexdigest()[:6]
    return "-".join(filter(None, (OURS, plain, mark)))


def automation_name(namespace: str) -> str:
    """The name of the automation that ends runs whose heartbeat stopped."""
    return deployment_name("athena: runs without a heartbeat", namespace)


def replanning_name(namespace: str) -> str:
    """The name of the automation that starts the replanning flow."""
    return deployment_name("athena: replan what deviates", namespace)


def flow_variable(plan: str) -> str:
    """The variable of the plan's flow in its file: the plan's name as an identifier."""
    name = re.sub(r"\W", "_", plan, flags=re.ASCII)
    return f"plan_{name}" if name[0].isdigit() else name


def flow_file(plan: str) -> str:
    """The plan's flow file below the project's root, e.g. ``flows/environment_audit.py``."""
    name = flow_variable(plan)
    if name in _TAKEN or name in sys.stdlib_module_names:
        name += "_plan"
    return f"flows/{name}.py"
