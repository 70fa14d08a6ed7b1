"""The flow files of plans: found, or written as three lines; and the flows in them."""

from __future__ import annotations

import ast
from pathlib import Path

from athena_prefect.errors import InputError
from athena_prefect.plan.document import digest
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root
from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.state import FlowFile
from athena_prefect.runtime.deployment.wanted import PlannedFlow

_TEXT = '''"""The plan of `{folder}` as a Prefect flow."""

from athena_prefect.runtime.compiler import compile_plan

{variable} = compile_plan("{document}")
'''


def planned_flow(plan: Plan) -> tuple[PlannedFlow, FlowFile]:
    """The plan's flow and the file for it. Raises InputError where its file has another flow."""
    from prefect.utilities.callables import parameter_schema

    from athena_prefect.runtime.compiler import compile_plan

    root, document = root_of(plan), document_of(plan)
    path, variable = names.flow_file(plan.name), names.flow_variable(plan.name)
    file = root / path
    if file.is_file():
        variable = _variable_in(file, plan, document, variable)
    text = _TEXT.format(
        folder=Path(document).parent.as_posix(), variable=variable, document=document
    )
    flow = compile_plan(plan, root=root)
    flow_facts = PlannedFlow(
        plan=plan,
        file=path,
        variable=variable,
        version=digest(plan),
        parameter_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        document=document,
    )
    return flow_facts, FlowFile(path=path, text=text)


def root_of(plan: Plan) -> Path:
    """The project's root. Raises InputError for a plan that has no file."""
    if plan.source is None:
        raise InputError(f"plan {plan.name!r} is in no file; write it to one to deploy it")
    return project_root(plan.source)


def document_of(plan: Plan) -> str:
    """The plan's document below the project's root."""
    assert plan.source is not None
    return plan.source.relative_to(root_of(plan)).as_posix()


def _variable_in(file: Path, plan: Plan, document: str, usual: str) -> str:
    """The variable of the plan's flow in a file that is there."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}", path=str(file)) from error
    assigned: dict[str, ast.expr | None] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            assigned |= {t.id: node.value for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assigned[node.name] = None
    compiled = {n: v for n, v in assigned.items() if _names_document(v, document)}
    if usual in assigned and (usual in compiled or not compiled):
        return usual
    if len(compiled) == 1:
        return next(iter(compiled))
    raise InputError(
        f"{file}: has no flow of plan {plan.name!r}; write "
        f'{usual} = compile_plan("{document}"), or remove the file to have it written',
        path=str(file),
    )


def _names_document(value: ast.expr | None, document: str) -> bool:
    return isinstance(value, ast.Call) and any(
        isinstance(a, ast.Constant) and a.value == document
        for a in [*value.args, *(k.value for k in value.keywords)]
    )
