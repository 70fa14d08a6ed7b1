"""Templates name values; they keep types, go into nested values, and evaluate nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.plan.templates import Template, references, render

VALUES: dict[str, Any] = {"parameters.n": 3, "secret.api-key": "s3", "run.id": "abc"}


def resolve(template: Template) -> Any:
    return VALUES[f"{template.namespace}.{template.name}"]


def test_a_text_that_is_one_template_keeps_the_type() -> None:
    assert render("{{ parameters.n }}", resolve) == 3
    assert render("  {{parameters.n}} ", resolve) == 3
    assert render("n={{ parameters.n }}, {{ run.id }}", resolve) == "n=3, abc"


def test_nested_values_are_rendered_and_not_changed() -> None:
    given_ = {"a": [{"b": "{{ secret.api-key }}"}, 1, None], "c": ("{{ run.id }}",)}
    assert render(given_, resolve) == {"a": [{"b": "s3"}, 1, None], "c": ["abc"]}
    assert given_["a"][0] == {"b": "{{ secret.api-key }}"}


def test_references_say_where_they_stand() -> None:
    found = references({"a": [1, "x {{ run.id }} {{ parameters.n }}"], "b": "{{ secret.k }}"})
    assert [(r.path, str(r.template)) for r in found] == [
        (("a", 1), "{{ run.id }}"),
        (("a", 1), "{{ parameters.n }}"),
        (("b",), "{{ secret.k }}"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ parameters.x", "`{{` without `}}`"),
        ("{{ parameters }}", "is not a template"),
        ("{{ 1 + 1 }}", "is not a template"),
        ("{{ }}", "is not a template"),
        ("{{ parameters.x | upper }}", "is not a template"),
        ("{{ env.HOME }}", "no 'env'"),
        ("{{ run.id }} {{", "`{{` without `}}`"),
    ],
)
def test_what_is_not_a_template_is_a_problem(text: str, said: str) -> None:
    problems = [r.problem for r in references([text]) if r.template is None]
    assert len(problems) == 1 and said in problems[0]
    with pytest.raises(ValueError) as caught:
        render(text, resolve)
    assert problems[0] in str(caught.value)


@given(st.text())
def test_text_without_braces_stays_as_it_is(text: str) -> None:
    if "{{" not in text:
        assert render(text, resolve) == text
        assert references(text) == ()


def test_errors_of_resolve_rise() -> None:
    with pytest.raises(KeyError):
        render("{{ parameters.unknown }}", resolve)


def test_what_a_value_says_is_not_rendered_again() -> None:
    assert render("x {{ run.id }}", lambda _: "{{ secret.api-key }}") == "x {{ secret.api-key }}"
