"""`--set name=value`: typed by the plan, refused by name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import ParameterError
from athena_prefect.plan.model import Plan
from athena_prefect.service.parameters import read_parameters, split_assignments


def plan(**parameters: Any) -> Plan:
    return Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a", "duration": 1}], "parameters": parameters}
    )


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("string", "a=b", "a=b"),
        ("integer", "-3", -3),
        ("number", "1.5", 1.5),
        ("boolean", "Yes", True),
        ("boolean", "0", False),
        ("date", "2026-01-31", date(2026, 1, 31)),
        ("datetime", "2026-01-31T06:00:00+00:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("duration", "1h30m", timedelta(minutes=90)),
        ("list", "[1, 2]", [1, 2]),
        ("object", '{"a": 1}', {"a": 1}),
    ],
)
def test_a_value_is_read_as_its_parameter_is_typed(kind: str, text: str, value: Any) -> None:
    assert read_parameters(plan(x={"type": kind}), {"x": text}) == {"x": value}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "1.5"), ("number", "nan"), ("number", "much"), ("boolean", "maybe"),
        ("date", "31.1.2026"), ("datetime", "2026-01-31T06:00:00"), ("duration", "5 parsecs"),
        ("list", "{}"), ("list", "["), ("object", "[]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_parameters_name_and_an_example(
    kind: str, text: str
) -> None:
    with pytest.raises(ParameterError, match=r"'x'.*e\.g\. --set x=") as caught:
        read_parameters(plan(x={"type": kind}), {"x": text})
    assert caught.value.as_dict()["parameter"] == "x"
    assert caught.value.exit_code == 2


def test_an_unknown_parameter_is_refused_with_the_nearest_or_all_known() -> None:
    known = plan(folder={}, limit={"type": "integer"})
    with pytest.raises(ParameterError, match="did you mean 'folder'"):
        read_parameters(known, {"foldr": "x"})
    with pytest.raises(ParameterError, match="it has folder, limit"):
        read_parameters(known, {"zzz": "x"})
    with pytest.raises(ParameterError, match="it has none"):
        read_parameters(plan(), {"zzz": "x"})


def test_a_required_one_must_be_given_and_a_default_need_not() -> None:
    with pytest.raises(ParameterError, match=r"'x' .*is required"):
        read_parameters(plan(x={"required": True}), {})
    assert read_parameters(plan(x={"default": "d"}), {}) == {}


@pytest.mark.parametrize("text", ["folder", "=x", "  = x"])
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="name=value"):
        split_assignments([text])


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="given twice"):
        split_assignments(["a=1", "a=2"])


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True), st.text()))
def test_assignments_come_back_as_they_were(values: dict[str, str]) -> None:
    assert split_assignments(f"{k}={v}" for k, v in values.items()) == values
