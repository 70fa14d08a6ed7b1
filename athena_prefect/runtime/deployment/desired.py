"""What should be on the server for some plans: computed from them, asking nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan, Schedule
from athena_prefect.runtime.deployment import learning, names
from athena_prefect.runtime.deployment.state import (
    Automation,
    Collision,
    DatabaseBlock,
    Deployment,
    FlowFile,
    Limit,
    Registration,
    ServerState,
)
from athena_prefect.runtime.deployment.triggered import started_by
from athena_prefect.runtime.deployment.wanted import ExtraDeployment, PlannedFlow, Target

WATCHERS = 2
"""Looks at once. One would do, but a look whose process and worker were killed before it began
holds its slot for five minutes, in which nobody would look."""
HEARTBEAT = timedelta(seconds=30)
"""From one heartbeat of a flow run to the next: the least that Prefect takes."""
LOST_AFTER = 3 * HEARTBEAT
"""Without a heartbeat for so long a run counts as crashed: one may be late and one be lost."""
ANCHOR = "2024-01-01T00:00:00"
"""What intervals are counted from, in the schedule's own zone: a midnight (and a Monday), so that
an interval of an hour starts on the hour, whenever it was deployed."""
SLUG = "plan"
"""The one schedule of a deployment of ours: others that somebody adds are removed."""
VERSION = 12
"""Letters of a document's digest that stand for it."""
HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


def desired_state(
    flows: Sequence[PlannedFlow],
    target: Target,
    *,
    watch: Mapping[str, Any],
    replan: Mapping[str, Any] | None = None,
    learn: Mapping[str, Any] | None = None,
    extras: Iterable[ExtraDeployment] = (),
    limits: Sequence[Limit] = (),
    files: Sequence[FlowFile] = (),
) -> ServerState:
    """All that should be there for `flows`, with what the namespace has once.

    `watch` is the parameter schema of the watching flow, `replan` that of the replanning
    flow and `learn` that of the learning flow; None where the project has no room for it.
    `limits` are those that we made already: other plans may need them. Raises InputError
    for plans that cannot be there together.
    """
    plans = [f.plan for f in flows]
    _check_names(plans)
    deployments = [d for f in flows for d in _of_plan(f, target)]
    deployments += [_extra(e, target, plans) for e in extras]
    automations = [heartbeat_automation(target.namespace)]
    if replan is not None:
        deployments.append(_replanning(target, replan))
        automations.append(replanning_automation(target.namespace))
    if learn is not None:
        deployments.append(_learning(target, learn))
        automations.append(learning.learning_automation(target.namespace))
    # Last: in a `prefect.yaml` it makes the automations, which need the others.
    deployments.append(_watching(target, watch))
    _check_distinct(deployments)
    block = DatabaseBlock(name=target.block, url=target.database, durable=target.durable)
    return ServerState(
        files=tuple(files),
        plans=tuple(Registration(plan=f.plan.name, digest=f.version) for f in flows),
        blocks=(block,) if target.own_block else (),
        limits=wanted_limits(plans, target.namespace, limits),
        deployments=tuple(deployments),
        automations=tuple(automations),
    )


def _check_names(plans: Sequence[Plan]) -> None:
    seen: dict[str, Plan] = {}
    for plan in plans:
        for taken, whose in (
            (names.WATCH_FLOW, "watching"),
            (names.REPLAN_FLOW, "replanning"),
            (learning.FLOW, "learning"),
        ):
            if plan.name == taken:
                raise InputError(
                    f"plan {plan.name!r}: that is the {whose} flow's name; rename the plan"
                )
        if plan.name in seen:
            where = " and ".join(
                str(p.source or "a plan in Python") for p in (seen[plan.name], plan)
            )
            raise InputError(f"two plans are named {plan.name!r}: {where}; rename one")
        seen[plan.name] = plan


def _check_distinct(deployments: Sequence[Deployment]) -> None:
    counted = Counter(d.name for d in deployments)
    if twice := sorted(name for name, count in counted.items() if count > 1):
        raise InputError(
            f"two deployments would be named {', '.join(twice)}; rename a plan or an assumption"
        )


# -- deployments ----------------------------------------------------------------------------


def _of_plan(flow: PlannedFlow, target: Target) -> Iterable[Deployment]:
    plan = flow.plan
    limit, collision = prefect_limit(plan)
    yield _deployment(
        target, flow.plan, plan.name, "",
        entrypoint=f"{flow.file}:{flow.variable}",
        schedules=_schedules(plan.schedule),
        limit=limit,
        collision=collision,
        parameter_schema=flow.parameter_schema,
        description=plan.description or None,
        version=flow.version[:VERSION],
    )  # fmt: skip
    yield _deployment(
        target, flow.plan, plan.name, names.CONTINUATION,
        entrypoint=f"{flow.file}:{flow.variable}",
        parameter_schema=flow.parameter_schema,
        description=f"What is left of a run of {plan.name!r} whose plan was changed",
        version=flow.version[:VERSION],
        # From here on they say which run goes on, and are written by whoever changed its plan.
        kept=("tags", "parameters", "version"),
    )  # fmt: skip


def _extra(extra: ExtraDeployment, target: Target, plans: Sequence[Plan]) -> Deployment:
    plan = next(p for p in plans if p.name == extra.plan)
    return _deployment(
        target, plan, extra.flow, extra.part,
        more_tags=extra.tags,
        active=extra.active,
        limit=extra.limit,
        collision=None if extra.limit is None else "CANCEL_NEW",
        entrypoint=extra.entrypoint,
        schedules=_schedules(extra.schedule),
        parameters=extra.parameters,
        parameter_schema=extra.parameter_schema,
        description=extra.description,
    )  # fmt: skip


def _deployment(
    target: Target,
    plan: Plan,
    flow: str,
    part: str,
    *,
    more_tags: Sequence[str] = (),
    **more: Any,
) -> Deployment:
    tags = {
        *plan.tags,
        *more_tags,
        names.OURS,
        names.namespace_tag(target.namespace),
        names.plan_tag(plan.name),
    }
    return Deployment(
        flow=flow,
        deployment=names.deployment_name(plan.name, target.namespace, part),
        tags=tuple(sorted(tags)),
        **_placed(target),
        **more,
    )


def _watching(target: Target, schema: Mapping[str, Any]) -> Deployment:
    return Deployment(
        flow=names.WATCH_FLOW,
        deployment=names.deployment_name(names.WATCH_FLOW, target.namespace),
        entrypoint=names.WATCH_ENTRYPOINT,
        tags=tuple(sorted((names.OURS, names.namespace_tag(target.namespace)))),
        schedules={SLUG: _interval(target.watch_every, "UTC")},
        # After a night without a worker, a look or two and not hundreds at once.
        limit=WATCHERS,
        collision="CANCEL_NEW",
        parameter_schema=schema,
        description="Looks at every live run: what is late, what has to be started again",
        kept=("version",),  # `prefect deploy` writes the hash of its file there
        **_placed(target),
    )


def _replanning(target: Target, schema: Mapping[str, Any]) -> Deployment:
    return Deployment(
        flow=names.REPLAN_FLOW,
        deployment=names.deployment_name(names.REPLAN_FLOW, target.namespace),
        entrypoint=names.REPLAN_ENTRYPOINT,
        tags=tuple(sorted((names.OURS, names.namespace_tag(target.namespace)))),
        parameter_schema=schema,
        description="Gives what is left of a run another plan, where it deviates",
        kept=("version",),
        **_placed(target),
    )


def _learning(target: Target, schema: Mapping[str, Any]) -> Deployment:
    return Deployment(
        flow=learning.FLOW,
        deployment=names.deployment_name(learning.FLOW, target.namespace),
        entrypoint=learning.ENTRYPOINT,
        tags=tuple(sorted((names.OURS, names.namespace_tag(target.namespace)))),
        schedules={SLUG: _interval(learning.EVERY, "UTC")},
        limit=learning.AT_ONCE,
        collision="ENQUEUE",
        parameter_schema=schema,
        description="Learns from finished runs: lessons, accuracy, what delayed them",
        kept=("version",),
        **_placed(target),
    )


def _placed(target: Target) -> dict[str, Any]:
    pool = target.pool
    return {
        "pool": None if pool is None else pool.name,
        "queue": target.queue,
        "directory": target.directory,
        "job_variables": {} if pool is None else _job_variables(target),
    }


def _job_variables(target: Target) -> dict[str, Any]:
    given = dict(target.job_variables)
    own = given.get("env") or {}
    return {**given, "env": {**process_environment(target), **own}}


def process_environment(target: Target) -> dict[str, str]:
    """What the process of a run has to know, and no secret: the database is in the block."""
    return {
        "ATHENA_NAMESPACE": target.namespace,
        "ATHENA_DATABASE_BLOCK": f"athena-database/{target.block}",
        HEARTBEAT_VARIABLE: f"{HEARTBEAT.total_seconds():g}",
        **target.environment,
    }


def prefect_limit(plan: Plan) -> tuple[int | None, Collision | None]:
    """What Prefect is asked to do about overlapping starts; our own rule at a run's start decides.

    With `catch_up` a start that is skipped must be told from one that was missed,
    which Prefect cannot do, so it only keeps them in line. It has nothing that
    cancels what runs.
    """
    match plan.overlap:
        case "skip":
            return 1, "ENQUEUE" if plan.catch_up else "CANCEL_NEW"
        case "queue":
            return 1, "ENQUEUE"
        case "cancel_running":
            return None, None


def _schedules(schedule: Schedule | None) -> dict[str, Mapping[str, Any]]:
    return {} if schedule is None else {SLUG: prefect_schedule(schedule)}


def prefect_schedule(schedule: Schedule) -> Mapping[str, Any]:
    """The schedule as Prefect's API takes it."""
    if schedule.cron is not None:
        return {"cron": schedule.cron, "timezone": schedule.timezone}
    if schedule.rrule is not None:
        return {"rrule": schedule.rrule, "timezone": schedule.timezone}
    assert schedule.interval is not None
    return _interval(schedule.interval, schedule.timezone)


def _interval(interval: timedelta, zone: str) -> Mapping[str, Any]:
    anchor = datetime.fromisoformat(ANCHOR).replace(tzinfo=ZoneInfo(zone))
    return {
        "interval": interval.total_seconds(),
        "anchor_date": anchor.astimezone(UTC).isoformat(),
        "timezone": zone,
    }


# -- shared ---------------------------------------------------------------------------------


def wanted_limits(
    plans: Sequence[Plan], namespace: str, known: Sequence[Limit]
) -> tuple[Limit, ...]:
    """The global limits that `plans` and, of those `known`, other plans need; ours only.

    A limit has whole slots: of a capacity of 2.5 two tasks of one each fit. Raises
    InputError where two plans want the same limit of different size.
    """
    own = {f"{namespace}/{p.name}" for p in plans}
    wanted: dict[str, tuple[int, set[str]]] = {}
    for limit in known:
        others = set(limit.needed_by) - own
        if others:
            wanted[limit.name] = limit.agreed, others
    for plan in plans:
        for resource in plan.resources.values():
            if resource.concurrency_limit is None:
                continue
            name, slots = resource.concurrency_limit, max(1, int(resource.capacity))
            there, needed_by = wanted.setdefault(name, (slots, set()))
            if there != slots:
                raise InputError(
                    f"concurrency limit {name!r}: plan {plan.name!r} gives it {slots} slots, "
                    f"{', '.join(sorted(needed_by))} {there}; one limit has one capacity",
                    limit=name, slots=slots, others=there,
                )  # fmt: skip
            needed_by.add(f"{namespace}/{plan.name}")
    return tuple(
        Limit(name=name, slots=slots, agreed=slots, needed_by=tuple(sorted(needed_by)))
        for name, (slots, needed_by) in sorted(wanted.items())
    )


def heartbeat_automation(namespace: str) -> Automation:
    """The automation that calls a run crashed whose heartbeat has stopped.

    Any event of the run ends the waiting: one that ended, was suspended or waits
    for its retry has no heartbeat and is not dead.
    """
    related = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}
        for tag in (names.OURS, names.namespace_tag(namespace))
    ]
    return Automation(
        name=names.automation_name(namespace),
        description="A run whose process and worker have vanished is marked as crashed; "
        "the watching flow has it started again",
        tags=(names.OURS, names.namespace_tag(namespace)),
        trigger={
            "type": "event",
            "posture": "Proactive",
            "after": ["prefect.flow-run.heartbeat"],
            "expect": ["prefect.flow-run.*"],
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": LOST_AFTER.total_seconds(),
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": related,
        },
        actions=(
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "message": f"no heartbeat for {LOST_AFTER.total_seconds():g} s",
            },
        ),
    )


CALLS_FOR_ANOTHER_PLAN = (
    "athena.assumption.violated", "athena.plan.deviated", "athena.replan.proposed",
)  # fmt: skip
"""Events after which the rest of a run is evaluated. The last is told where the run itself finds
that another plan is called for, which a failed task is a reason for, too."""


def replanning_automation(namespace: str) -> Automation:
    """The automation that starts the replanning flow for a run that deviates."""
    return started_by(
        CALLS_FOR_ANOTHER_PLAN,
        namespace=namespace,
        name=names.replanning_name(namespace),
        description="A run that deviates, or whose assumption is violated, gets another plan "
        "for its rest, where one is called for",
        flow=names.REPLAN_FLOW,
        parameters={
            "plan_run": "{{ event.payload.plan_run }}",
            "trigger": "{{ event.event }}",
        },
    )
