"""The reference of the kinds is what the kinds say, and its examples are right."""

from __future__ import annotations

import pickle
import textwrap

import pytest
import yaml

from athena_prefect.assumptions.checks.registry import BUILT_IN, kind_named
from athena_prefect.assumptions.rules import check_findings
from athena_prefect.plan.document import loads
from tests.docs.pages import reference

REFERENCE = reference("checks")
EXAMPLES = {name: both for kinds in REFERENCE.GROUPS.values() for name, both in kinds.items()}


def test_the_page_is_current() -> None:
    remedy = "run python docs/reference/generate_checks.py"
    assert REFERENCE.PAGE.read_text(encoding="utf-8") == REFERENCE.page(), remedy


def test_every_kind_is_on_the_page() -> None:
    assert set(EXAMPLES) == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_its_example_is_right(name: str) -> None:
    check, expected = EXAMPLES[name]
    document = textwrap.dedent(
        f"""\
        name: shop
        tasks: [{{id: load, duration: 1m}}]
        assumptions:
          - id: a
            check: {check}
            expected_value: {expected}
        """
    )
    plan = loads(document, rules=(check_findings,))
    (assumption,) = plan.assumptions
    assert assumption.check is not None and assumption.check.kind == name


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_each_option_says_what_it_means(name: str) -> None:
    fields, _, _ = REFERENCE.options_of(kind_named(name))
    assert all(field.get("description") for field in fields.values())


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_it_comes_whole_into_another_process(name: str) -> None:
    """A check that can hang is sent as its options to a child."""
    options = dict(yaml.safe_load(EXAMPLES[name][0]))
    options.pop("field", None)
    kind = kind_named(options.pop("kind"))
    check = kind.model_validate({**options, "timeout": "7s"})
    sent = pickle.loads(pickle.dumps(check.model_dump(by_alias=True, exclude_unset=True)))
    assert kind.model_validate(sent) == check
