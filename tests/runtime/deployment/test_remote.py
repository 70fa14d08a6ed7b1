"""What is read from a server is read to its end."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate

from athena_prefect.runtime.deployment import remote
from athena_prefect.runtime.deployment.remote import Remote

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def test_limits_are_found_among_any_number_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_PAGE", 2)
    ours = [f"paged-{n}" for n in range(5)]
    made = []
    with get_client(sync_client=True) as client:
        for name in ours:
            value = {"limit": name, "slots": 3, "needed_by": ["default/a"]}
            made.append(remote._variable(name))
            client.create_variable(VariableCreate(name=made[-1], value=value))
        for n in range(5):
            made.append(f"athenaxlimit{n}")  # like ours, where an underscore stands for anything
            client.create_variable(VariableCreate(name=made[-1], value={"limit": "not ours"}))
        try:
            found = [limit.name for limit in Remote(client).limits()]
        finally:
            for name in made:
                client.delete_variable_by_name(name)
    assert [name for name in found if name.startswith("paged-")] == ours
    assert "not ours" not in found
