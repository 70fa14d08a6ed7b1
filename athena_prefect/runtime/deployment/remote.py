"""A Prefect server's side: what is there of ours, and the changes made to it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    VariableCreate,
    VariableUpdate,
)
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
)
from prefect.client.schemas.objects import Variable
from prefect.exceptions import ObjectNotFound

from athena_prefect.errors import InputError, ServerError
from athena_prefect.runtime.deployment import learning, names
from athena_prefect.runtime.deployment.changes import Action, Change
from athena_prefect.runtime.deployment.pool import Pool
from athena_prefect.runtime.deployment.state import (
    Automation,
    DatabaseBlock,
    Deployment,
    Limit,
    Masked,
)

_PAGE = 200
_MADE = "athena_limit_"
"""What the variable's name begins with that says of a limit that we made it."""


class Remote:
    """The server behind a client."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client

    # -- reading ----------------------------------------------------------------------------

    def pool(self, name: str) -> Pool:
        """The work pool. Raises InputError where there is none of that name."""
        try:
            found = self.client.read_work_pool(name)
        except ObjectNotFound:
            known = ", ".join(sorted(p.name for p in self.client.read_work_pools()))
            raise InputError(
                f"there is no work pool {name!r}; make one with `prefect work-pool create "
                f"{name} --type process`" + (f", or take one of {known}" if known else ""),
                pool=name,
            ) from None
        return Pool(name=name, type=found.type, template=found.base_job_template)

    def deployments(self, namespace: str) -> tuple[Deployment, ...]:
        """The deployments of ours in the namespace."""
        return tuple(self._deployment(d, flows) for d, flows in self._tagged(namespace))

    def _tagged(self, namespace: str) -> Iterator[tuple[Any, Mapping[UUID, str]]]:
        tags = DeploymentFilterTags(all_=[names.OURS, names.namespace_tag(namespace)])
        offset = 0
        while True:
            page = self.client.read_deployments(
                deployment_filter=DeploymentFilter(tags=tags), limit=_PAGE, offset=offset
            )
            ids = list({d.flow_id for d in page})
            flows = {}
            if ids:
                chosen = FlowFilter(id=FlowFilterId(any_=ids))
                flows = {
                    f.id: f.name for f in self.client.read_flows(flow_filter=chosen, limit=_PAGE)
                }
            for deployment in page:
                yield deployment, flows
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def _deployment(self, found: Any, flows: Mapping[UUID, str]) -> Deployment:
        limit = found.global_concurrency_limit
        options = found.concurrency_options
        return Deployment(
            flow=flows[found.flow_id],
            deployment=found.name,
            entrypoint=found.entrypoint or "",
            tags=tuple(sorted(found.tags)),
            pool=found.work_pool_name,
            queue=None if found.work_queue_name == "default" else found.work_queue_name,
            directory=_directory(found),
            schedules={
                s.slug or str(s.id): _schedule(s.schedule.model_dump(mode="json"))
                for s in found.schedules
            },
            limit=None if limit is None else limit.limit,
            collision=None if options is None else options.collision_strategy.value,
            parameters=dict(found.parameters),
            job_variables=dict(found.job_variables),
            parameter_schema=dict(found.parameter_openapi_schema or {}),
            description=found.description,
            version=found.version,
        )

    def automations(self, namespace: str) -> tuple[Automation, ...]:
        """The automations of ours of the namespace, those that are there."""
        wanted = (
            names.automation_name(namespace),
            names.replanning_name(namespace),
            learning.automation_name(namespace),
        )
        return tuple(
            Automation(
                name=a.name,
                description=a.description,
                tags=tuple(sorted(a.tags)),
                trigger=_trigger(a.trigger.model_dump(mode="json")),
                actions=tuple(
                    self._named({k: v for k, v in action.model_dump(mode="json").items() if v})
                    for action in a.actions
                ),
            )
            for name in wanted
            for a in self.client.read_automations_by_name(name)
            if names.OURS in a.tags
        )

    def _named(self, action: dict[str, Any]) -> dict[str, Any]:
        """The action with its deployment by name: ids are the server's."""
        if "deployment_id" not in action:
            return action
        id = UUID(str(action.pop("deployment_id")))
        try:
            found = self.client.read_deployment(id)
        except ObjectNotFound:
            return {**action, "deployment": f"gone: {id}"}
        flow = self.client.read_flow(found.flow_id)
        return {**action, "deployment": f"{flow.name}/{found.name}"}

    def _by_id(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """The action as the server takes it."""
        made = dict(action)
        if "deployment" in made:
            name = str(made.pop("deployment"))
            made["deployment_id"] = str(self.client.read_deployment_by_name(name).id)
        return made

    def limits(self) -> tuple[Limit, ...]:
        """The global limits that we made, of every namespace."""
        found = []
        for variable in self._variables():
            value = variable.value
            if isinstance(value, dict):
                name = str(value["limit"])
                needed_by = tuple(sorted(map(str, value["needed_by"])))
                found.append(
                    Limit(
                        name=name, slots=self.slots(name), agreed=int(value["slots"]),
                        needed_by=needed_by,
                    )
                )  # fmt: skip
        return tuple(sorted(found, key=lambda limit: limit.name))

    def _variables(self) -> Iterator[Variable]:
        """Those that say of a limit that we made it, however many variables there are."""
        offset = 0
        while True:
            # The client's own method knows neither a filter nor where to go on.
            wanted = {"name": {"like_": _MADE}}
            answer = self.client.request(
                "POST",
                "/variables/filter",
                json={"variables": wanted, "limit": _PAGE, "offset": offset, "sort": "NAME_ASC"},
            )
            page = [Variable.model_validate(v) for v in answer.raise_for_status().json()]
            yield from (v for v in page if v.name.startswith(_MADE))
            if len(page) < _PAGE:
                return
            offset += _PAGE

    def slots(self, limit: str) -> int | None:
        """The slots of a global limit, whoever made it; None where there is none."""
        try:
            return self.client.read_global_concurrency_limit_by_name(limit).limit
        except ObjectNotFound:
            return None

    def blocks(self, name: str) -> tuple[DatabaseBlock, ...]:
        """The database block of that name, where it is there."""
        try:
            found = self.client.read_block_document_by_name(name, "athena-database")
        except ObjectNotFound:
            return ()
        # Loaded as a block it would be told to Prefect as an event, at each look.
        url, durable = str(found.data["url"]), str(found.data.get("durable", "process"))
        return (DatabaseBlock(name=name, url=Masked(url), durable=durable),)

    # -- writing ----------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Make one change. Raises ServerError, with the server's words, where it is refused."""
        item = change.wanted or change.found
        try:
            match item:
                case Deployment():
                    self._apply_deployment(change, item)
                case Automation():
                    self._apply_automation(change, item)
                case Limit():
                    self._apply_limit(change, item)
                case DatabaseBlock():
                    self._apply_block(change, item)
                case _:
                    raise TypeError(f"a {change.kind} is not on the server")
        except httpx.HTTPStatusError as error:
            raise ServerError(
                f"the server refuses to {change.action.value} {change.kind} {change.name!r}: "
                f"{error.response.text}",
                log="",
                status=error.response.status_code,
            ) from error

    def _apply_deployment(self, change: Change, item: Deployment) -> None:
        if change.action is Action.REMOVE:
            self.client.delete_deployment(self.client.read_deployment_by_name(item.name).id)
            return
        flow_id = self.client.create_flow_from_name(item.flow)
        payload = _payload(item, flow_id)
        if change.action is Action.UPDATE:
            self._keep(payload, change)
        # The server updates one of that flow and name, in one transaction.
        made = self.client.request("POST", "/deployments/", json=payload).raise_for_status()
        before = change.found
        if item.pool is None and isinstance(before, Deployment) and before.pool is not None:
            # A pool is left only by an update that says so.
            self.client.request(
                "PATCH",
                "/deployments/{id}",
                path_params={"id": made.json()["id"]},
                json={"work_pool_name": None},
            ).raise_for_status()

    def _keep(self, payload: dict[str, Any], change: Change) -> None:
        """What is not ours to change: a schedule's pause, and what the wanted one leaves alone."""
        assert isinstance(change.wanted, Deployment)
        assert isinstance(change.found, Deployment)
        active = {
            s.slug: s.active for s in self.client.read_deployment_by_name(change.name).schedules
        }
        for schedule in payload["schedules"]:
            schedule["active"] = active.get(schedule["slug"], change.wanted.active)
        found = change.found.facets()
        for name in change.wanted.kept:
            payload[name] = found[name]

    def _apply_automation(self, change: Change, item: Automation) -> None:
        from prefect.events.schemas.automations import AutomationCore

        there = [a for a in self.client.read_automations_by_name(item.name) if names.OURS in a.tags]
        if change.action is Action.REMOVE:
            for found in there:
                self.client.delete_automation(found.id)
            return
        core = AutomationCore.model_validate(
            {
                "name": item.name,
                "description": item.description,
                "tags": list(item.tags),
                "trigger": dict(item.trigger),
                "actions": [self._by_id(a) for a in item.actions],
                "enabled": all(a.enabled for a in there),
            }
        )
        if change.action is Action.UPDATE:
            self.client.update_automation(there[0].id, core)
        else:
            self.client.create_automation(core)

    def _apply_limit(self, change: Change, item: Limit) -> None:
        variable = _variable(item.name)
        there = self.slots(item.name)
        if change.action is Action.REMOVE:
            if there is not None:
                self.client.delete_global_concurrency_limit_by_name(item.name)
            self.client.delete_variable_by_name(variable)
            return
        assert item.slots is not None
        if there is None:
            made = GlobalConcurrencyLimitCreate(name=item.name, limit=item.slots)
            self.client.create_global_concurrency_limit(made)
        elif there != item.slots:
            self.client.update_global_concurrency_limit(
                item.name, GlobalConcurrencyLimitUpdate(limit=item.slots)
            )
        value = {
            "limit": item.name, "slots": item.agreed, "needed_by": list(item.needed_by)
        }  # fmt: skip
        if self.client.read_variable_by_name(variable) is None:
            self.client.create_variable(
                VariableCreate(name=variable, value=value, tags=[names.OURS])
            )
        else:
            self.client.update_variable(VariableUpdate(name=variable, value=value))

    def _apply_block(self, change: Change, item: DatabaseBlock) -> None:
        from pydantic import SecretStr

        from athena_prefect.runtime.blocks import AthenaDatabase

        if change.action is Action.REMOVE:
            found = self.client.read_block_document_by_name(item.name, "athena-database")
            assert found.id is not None
            self.client.delete_block_document(found.id)
            return
        block = AthenaDatabase.model_validate(
            {"url": SecretStr(item.url.url), "durable": item.durable}
        )
        block.save(item.name, overwrite=True, _sync=True)  # type: ignore[call-arg]


def _variable(limit: str) -> str:
    # A variable's name has fewer characters than a limit's may have.
    return _MADE + hashlib.sha256(limit.encode()).hexdigest()[:12]


def _payload(item: Deployment, flow_id: UUID) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "name": item.deployment,
        "flow_id": str(flow_id),
        "entrypoint": item.entrypoint,
        "path": None if item.pool else item.directory,
        "pull_steps": item.pull_steps,
        "tags": list(item.tags),
        "work_pool_name": item.pool,
        "schedules": [
            {"slug": slug, "schedule": dict(s), "active": item.active}
            for slug, s in item.schedules.items()
        ],
        "concurrency_limit": item.limit,
        "concurrency_options": (
            None if item.collision is None else {"collision_strategy": item.collision}
        ),
        "parameters": dict(item.parameters),
        "job_variables": dict(item.job_variables),
        "parameter_openapi_schema": dict(item.parameter_schema),
        "enforce_parameter_schema": True,
        "description": item.description,
        "version": item.version,
    }
    if item.queue is not None:
        payload["work_queue_name"] = item.queue
    return payload


def _directory(found: Any) -> str:
    for step in found.pull_steps or ():
        for inputs in step.values():
            if isinstance(inputs, dict) and "directory" in inputs:
                return str(inputs["directory"])
    return found.path or ""


def _schedule(data: Mapping[str, Any]) -> Mapping[str, Any]:
    if "interval" in data:
        anchor = datetime.fromisoformat(data["anchor_date"])
        return {
            "interval": float(data["interval"]),
            "anchor_date": anchor.astimezone(UTC).isoformat(),
            "timezone": data["timezone"],
        }
    kind = "cron" if "cron" in data else "rrule"
    return {kind: data[kind], "timezone": data["timezone"]}


def _trigger(data: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = (
        "type", "posture", "after", "expect", "for_each", "threshold", "within", "match",
        "match_related",
    )  # fmt: skip
    return {
        k: sorted(data[k]) if isinstance(data[k], list) and k != "match_related" else data[k]
        for k in kept
        if k in data
    }


def plans_of(deployments: Collection[Deployment]) -> set[str]:
    """The plans that have a deployment among `deployments`."""
    prefix = names.plan_tag("")
    return {
        tag.removeprefix(prefix) for d in deployments for tag in d.tags if tag.startswith(prefix)
    }
