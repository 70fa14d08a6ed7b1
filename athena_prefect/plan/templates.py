"""Templates in a plan document: ``{{ parameters.folder }}``, and nothing that is evaluated.

A template names a value; there is no expression language. A string that is
exactly one template takes the value with its type; one inside a longer string is
written into it as text.

    >>> render({"n": "{{ parameters.n }}", "s": "n={{ parameters.n }}"}, lambda t: 3)
    {'n': 3, 's': 'n=3'}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Namespace = Literal["parameters", "run", "secret", "variable"]
NAMESPACES: tuple[Namespace, ...] = ("parameters", "run", "secret", "variable")
"""What a template may name: the run's parameters, the run itself, Prefect's
secrets and variables."""

RUN_NAMES = ("logical_date", "id", "started_at", "plan")
"""What a run says of itself."""

Step = str | int
_OPEN = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\s*([A-Za-z_]+)\s*\.\s*([A-Za-z0-9_][A-Za-z0-9_.\-]*)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One reference: `secret` and `api-key` of ``{{ secret.api-key }}``."""

    namespace: Namespace
    name: str

    def __str__(self) -> str:
        return f"{{{{ {self.namespace}.{self.name} }}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A template where it stands: the keys and indices that lead to its string.

    `template` is None, and `problem` says why, where the text is not a template.
    """

    path: tuple[Step, ...]
    text: str
    template: Template | None = None
    problem: str = ""


def references(value: Any) -> tuple[Reference, ...]:
    """Every template in `value`, in strings of nested lists and mappings, broken ones too."""
    return tuple(_walk(value, ()))


def _walk(value: Any, path: tuple[Step, ...]) -> Iterator[Reference]:
    todo = [(value, path)]
    while todo:
        item, where = todo.pop()
        if isinstance(item, str):
            yield from _in_text(item, where)
        elif isinstance(item, Mapping):
            todo += [(v, (*where, str(k))) for k, v in reversed(list(item.items()))]
        elif isinstance(item, list | tuple):
            todo += [(v, (*where, i)) for i, v in reversed(list(enumerate(item)))]


def _in_text(text: str, path: tuple[Step, ...]) -> Iterator[Reference]:
    if "{{" not in text:
        return
    for found in _OPEN.finditer(text):
        template, problem = _parse(found[1])
        yield Reference(path=path, text=found[0], template=template, problem=problem)
    if "{{" in _OPEN.sub("", text):
        yield Reference(path=path, text=text, problem="`{{` without `}}`")


def _parse(inner: str) -> tuple[Template | None, str]:
    named = _NAME.fullmatch(inner)
    if named is None:
        return None, f"`{{{{{inner}}}}}` is not a template; it names one value"
    for namespace in NAMESPACES:
        if named[1] == namespace:
            return Template(namespace=namespace, name=named[2]), ""
    return None, f"templates know no {named[1]!r}; they know {', '.join(NAMESPACES)}"


def render(value: Any, resolve: Callable[[Template], Any]) -> Any:
    """`value` with every template replaced by what `resolve` answers for it.

    A string that is one template keeps the value's type. Lists and mappings are
    copied, never changed; a tuple becomes a list. Errors of `resolve` rise.
    Raises ValueError for text that `references` calls a problem.
    """
    if isinstance(value, str):
        return _render_text(value, resolve)
    if isinstance(value, Mapping):
        return {key: render(item, resolve) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, resolve) for item in value]
    return value


def _render_text(text: str, resolve: Callable[[Template], Any]) -> Any:
    found = list(_in_text(text, ()))
    for reference in found:
        if reference.template is None:
            raise ValueError(f"{text!r}: {reference.problem}")
    whole = _OPEN.fullmatch(text.strip())
    if whole and len(found) == 1 and found[0].template is not None:
        return resolve(found[0].template)
    parts = iter(found)

    def one(_: re.Match[str]) -> str:
        template = next(parts).template
        assert template is not None
        return str(resolve(template))

    return _OPEN.sub(one, text)
