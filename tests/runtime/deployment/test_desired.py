"""What should be on a server, computed from plans alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan, Schedule
from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.desired import (
    SLUG,
    desired_state,
    prefect_schedule,
    wanted_limits,
)
from athena_prefect.runtime.deployment.files import watch_file
from athena_prefect.runtime.deployment.pool import Pool, check_pool
from athena_prefect.runtime.deployment.state import Deployment, Limit, ServerState
from athena_prefect.runtime.deployment.triggered import plan_or_all
from athena_prefect.runtime.deployment.wanted import ExtraDeployment
from athena_prefect.service.deploying import DeployOptions, _target
from athena_prefect.settings import AthenaSettings
from tests.runtime.deployment.support import DOCKER, KUBERNETES, URL, flow, plan, target


def desired(*plans: Plan, **more: Any) -> ServerState:
    extras = more.pop("extras", ())
    limits = more.pop("limits", ())
    replan, learn = more.pop("replan", None), more.pop("learn", None)
    return desired_state(
        [flow(p) for p in plans], target(**more),
        watch={}, replan=replan, learn=learn, extras=extras, limits=limits,
    )  # fmt: skip


def named(state: ServerState, name: str) -> Deployment:
    (found,) = [d for d in state.deployments if d.name == name]
    return found


def test_a_plan_has_its_schedule_its_continuation_and_the_namespace_its_watcher() -> None:
    state = desired(plan(schedule={"cron": "0 4 * * 1-5", "timezone": "Europe/Berlin"}))
    assert [d.name for d in state.deployments] == [
        "orders/orders",
        "orders/orders.continuation",
        "watch-plan/watch-plan",
    ]
    schedule = {"cron": "0 4 * * 1-5", "timezone": "Europe/Berlin"}
    assert named(state, "orders/orders").schedules == {SLUG: schedule}
    assert named(state, "orders/orders.continuation").schedules == {}
    assert named(state, "watch-plan/watch-plan").schedules[SLUG]["interval"] == 60
    assert [p.plan for p in state.plans] == ["orders"]
    assert len(state.automations) == len(state.blocks) == 1


def test_of_two_plans_each_has_its_own_and_the_namespace_has_one_watcher() -> None:
    state = desired(plan("one"), plan("two"))
    assert sum(d.flow == names.WATCH_FLOW for d in state.deployments) == 1
    assert len(state.deployments) == 5


def test_all_is_marked_as_ours_by_tags() -> None:
    state = desired(plan(tags=["nightly"]), namespace="stage")
    for deployment in state.deployments:
        assert {"athena", "namespace:stage"} <= set(deployment.tags)
    assert named(state, "orders/orders@stage").tags == (
        "athena", "namespace:stage", "nightly", "plan:orders",
    )  # fmt: skip


def test_no_name_is_the_same_in_two_namespaces() -> None:
    plans = plan("orders"), plan("orders.continuation")
    seen: set[str] = set()
    for namespace in ("default", "stage", "stage.continuation"):
        state = desired(*plans, namespace=namespace)
        found = {d.name for d in state.deployments} | {a.name for a in state.automations}
        assert not found & seen
        seen |= found
    blocks = {names.block_name(n) for n in ("default", "a.b", "a-b", "A-b", "a_b")}
    assert len(blocks) == 5


@pytest.mark.parametrize(
    ("overlap", "catch_up", "limit", "collision"),
    [
        ("skip", False, 1, "CANCEL_NEW"),
        ("skip", True, 1, "ENQUEUE"),
        ("queue", False, 1, "ENQUEUE"),
        ("queue", True, 1, "ENQUEUE"),
        ("cancel_running", False, None, None),
    ],
)
def test_what_prefect_is_asked_to_do_about_overlap(
    overlap: str, catch_up: bool, limit: int | None, collision: str | None
) -> None:
    found = named(desired(plan(overlap=overlap, catch_up=catch_up)), "orders/orders")
    assert (found.limit, found.collision) == (limit, collision)


def test_an_interval_is_counted_from_a_midnight_of_its_zone() -> None:
    found = prefect_schedule(Schedule(interval=timedelta(hours=1), timezone="Europe/Berlin"))
    assert found["interval"] == 3600
    anchor = datetime.fromisoformat(found["anchor_date"])
    assert anchor == datetime(2023, 12, 31, 23, tzinfo=UTC)
    rule = prefect_schedule(Schedule(rrule="FREQ=WEEKLY;BYDAY=MO", timezone="Europe/Berlin"))
    assert rule == {"rrule": "FREQ=WEEKLY;BYDAY=MO", "timezone": "Europe/Berlin"}


def test_the_runs_are_told_the_namespace_and_the_block_and_never_the_url() -> None:
    state = desired(
        plan(),
        namespace="stage",
        environment={"ATHENA_HOME": "/srv/athena"},
        job_variables={"env": {"MY": "own"}, "working_dir": "/tmp"},
    )
    for deployment in state.deployments:
        assert deployment.job_variables == {
            "working_dir": "/tmp",
            "env": {
                "ATHENA_NAMESPACE": "stage",
                "ATHENA_DATABASE_BLOCK": "athena-database/athena",
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
                "ATHENA_HOME": "/srv/athena",
                "MY": "own",
            },
        }
    assert "s3cr3t" not in repr(state)


@pytest.mark.parametrize("pool", [DOCKER, KUBERNETES])
def test_a_container_gets_its_image_and_where_the_project_is_in_it(pool: Pool) -> None:
    settings = AthenaSettings(home=Path("/srv/athena"), database_url=URL, namespace="prod")
    options = DeployOptions(pool=pool.name, image="audit:3", job_variables={"env": {"TZ": "UTC"}})
    stored = plan(results={"storage": "s3-bucket/results"})
    where = _target(options, pool, Path("/home/me/audit"), settings)
    check_pool(pool, (stored,), where.job_variables, where.database.url)
    state = desired_state([flow(stored)], where, watch={})
    for deployment in state.deployments:
        assert deployment.pull_steps == [
            {"prefect.deployments.steps.set_working_directory": {"directory": "/opt/prefect/audit"}}
        ]
        # Only what the template knows, and no folder of this machine.
        assert set(deployment.job_variables) == {"image", "env"} <= set(pool.variables)
        assert deployment.job_variables["image"] == "audit:3"
        assert deployment.job_variables["env"] == {
            "ATHENA_NAMESPACE": "prod",
            "ATHENA_DATABASE_BLOCK": "athena-database/athena-prod",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "TZ": "UTC",
        }
    assert [str(b.url) for b in state.blocks] == ["postgresql+psycopg://me:***@db.example/athena"]


def test_a_block_of_somebody_elses_is_used_and_not_made() -> None:
    state = desired(plan(), block="teams", own_block=False)
    assert state.blocks == ()
    env = named(state, "orders/orders").job_variables["env"]
    assert env["ATHENA_DATABASE_BLOCK"] == "athena-database/teams"


def test_checks_have_scheduled_deployments_of_their_own() -> None:
    check = ExtraDeployment(
        plan="orders", part="check.disk_free", flow="check-assumption",
        entrypoint="flows/check_assumption.py:check_assumption",
        schedule=Schedule(interval=timedelta(minutes=5)),
        parameters={"plan": "orders", "assumption": "disk_free"},
    )  # fmt: skip
    found = named(
        desired(plan(), extras=[check], namespace="stage"),
        "check-assumption/orders.check.disk_free@stage",
    )
    assert found.schedules[SLUG]["interval"] == 300
    assert found.parameters == {"plan": "orders", "assumption": "disk_free"}
    assert "plan:orders" in found.tags


def test_a_run_is_dead_after_three_heartbeats_and_any_event_is_a_sign_of_life() -> None:
    (automation,) = desired(plan(), namespace="stage").automations
    trigger = automation.trigger
    assert trigger["within"] == 90
    assert trigger["after"] == ["prefect.flow-run.heartbeat"]
    # A run that is suspended to ask somebody sends no heartbeats, but it said that it is.
    assert trigger["expect"] == ["prefect.flow-run.*"]
    assert {r["prefect.resource.id"] for r in trigger["match_related"]} == {
        "prefect.tag.athena",
        "prefect.tag.namespace:stage",
    }


def test_what_deviates_starts_the_replanning_flow_of_its_namespace() -> None:
    state = desired(plan(), namespace="stage", replan={"type": "object"})
    assert [d.name for d in state.deployments][-2:] == [
        "replan/replan@stage", "watch-plan/watch-plan@stage",
    ]  # fmt: skip
    (automation,) = [a for a in state.automations if a.trigger["posture"] == "Reactive"]
    assert automation.trigger["match"] == {
        "prefect.resource.id": "athena.plan.*", "athena.namespace": "stage",
    }  # fmt: skip
    assert {"athena.plan.deviated", "athena.assumption.violated"} <= set(
        automation.trigger["expect"]
    )
    (action,) = automation.actions
    assert action["deployment"] == "replan/replan@stage"
    assert len(desired(plan()).automations) == 1, "a project without room for it has none"


def test_a_finished_run_starts_the_learning_flow_which_also_runs_every_night() -> None:
    state = desired(plan(), namespace="stage", learn={"type": "object"})
    (made,) = [d for d in state.deployments if d.flow == "learn"]
    assert made.name == "learn/learn@stage"
    assert made.entrypoint == "flows/learn.py:learn"
    assert made.schedules["plan"]["interval"] == 86400 and made.limit == 1
    (automation,) = [a for a in state.automations if a.trigger["posture"] == "Reactive"]
    assert set(automation.trigger["expect"]) == {
        "athena.plan.completed", "athena.plan.failed", "athena.plan.aborted",
    }  # fmt: skip
    assert automation.trigger["match"]["athena.namespace"] == "stage"
    (action,) = automation.actions
    assert action["parameters"]["plan"]["template"] == "{{ event.payload.plan }}"
    assert [d for d in desired(plan()).deployments if d.flow == "learn"] == []


@pytest.mark.parametrize("name", ["watch-plan", "replan", "learn"])
def test_names_that_are_taken_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="rename"):
        desired(plan(name))


def test_two_deployments_of_one_name_are_refused() -> None:
    checks = [
        ExtraDeployment(
            plan=of, part=f"check.{assumption}", flow="check-assumption", entrypoint="x:y",
            schedule=None,
        )
        for of, assumption in (("a", "x.check.y"), ("a.check.x", "y"))
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"check-assumption/a\.check\.x"):
        desired(plan("a"), plan("a.check.x"), extras=checks)


def test_two_plans_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two plans are named 'orders'"):
        desired(plan(), plan())


class TestLimits:
    """Global concurrency limits: made for a plan, kept while another needs them."""

    def plan(self, name: str, slots: float) -> Plan:
        resources = {"warehouse": {"capacity": slots, "concurrency_limit": "warehouse"}}
        return plan(name, resources=resources)

    def test_a_limit_has_the_resources_capacity_in_whole_slots(self) -> None:
        (found,) = wanted_limits([self.plan("a", 2.5)], "default", ())
        assert found == Limit(name="warehouse", slots=2, agreed=2, needed_by=("default/a",))
        (least,) = wanted_limits([self.plan("a", 0.5)], "default", ())
        assert least.slots == 1

    def test_two_plans_share_it(self) -> None:
        known = Limit(name="warehouse", slots=2, agreed=2, needed_by=("stage/b",))
        (found,) = wanted_limits([self.plan("a", 2)], "default", [known])
        assert found.needed_by == ("default/a", "stage/b")

    def test_another_capacity_than_another_plans_is_refused(self) -> None:
        known = Limit(name="warehouse", slots=2, agreed=2, needed_by=("stage/b",))
        with pytest.raises(InputError, match=r"'a' gives it 3 slots, stage/b 2"):
            wanted_limits([self.plan("a", 3)], "default", [known])
        with pytest.raises(InputError, match="one limit has one capacity"):
            wanted_limits([self.plan("a", 3), self.plan("b", 2)], "default", ())

    def test_what_was_changed_by_hand_is_what_the_plans_say_again(self) -> None:
        known = Limit(name="warehouse", slots=9, agreed=2, needed_by=("stage/b",))
        (found,) = wanted_limits([self.plan("a", 2)], "default", [known])
        assert found.slots == 2

    def test_who_alone_needs_it_may_change_it(self) -> None:
        known = Limit(name="warehouse", slots=2, agreed=2, needed_by=("default/a",))
        (found,) = wanted_limits([self.plan("a", 3)], "default", [known])
        assert found.slots == 3

    def test_nobody_needs_it_any_more(self) -> None:
        known = Limit(name="warehouse", slots=2, agreed=2, needed_by=("default/a",))
        assert wanted_limits([plan("a")], "default", [known]) == ()


@pytest.mark.parametrize(
    ("tags", "namespace", "inside"),
    [
        ([], "default", True),
        (["plan:orders"], "stage", False),
        (["namespace:stage"], "stage", True),
        (["namespace:stage"], "default", False),
        (["namespace:default"], "default", True),
    ],
)
def test_a_deployment_is_of_the_namespace_of_its_tag(
    tags: list[str], namespace: str, inside: bool
) -> None:
    assert names.in_namespace(tags, namespace) is inside


def test_the_watching_flow_is_the_projects_own_and_so_are_its_parameters() -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    root = Path(__file__).parents[3]
    assert watch_file().text == (root / names.WATCH_FILE).read_text()
    watch: Any = load_flow_from_entrypoint(
        str(root / names.WATCH_ENTRYPOINT), use_placeholder_flow=False
    )
    assert watch.name == names.WATCH_FLOW
    assert plan_or_all() == parameter_schema(watch).model_dump(exclude_unset=True)


@pytest.mark.parametrize(
    ("name", "file", "variable"),
    [
        ("environment-audit", "flows/environment_audit.py", "environment_audit"),
        ("queue", "flows/queue_plan.py", "queue"),  # it would hide the standard library's
        ("tasks", "flows/tasks_plan.py", "tasks"),
        ("2nd.load", "flows/plan_2nd_load.py", "plan_2nd_load"),
    ],
)
def test_flow_files_hide_no_module(name: str, file: str, variable: str) -> None:
    assert (names.flow_file(name), names.flow_variable(name)) == (file, variable)
