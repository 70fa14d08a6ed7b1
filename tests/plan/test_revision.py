"""What a revision of a plan changes: in the document, as data and in words."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Plan
from athena_prefect.plan.revision import Change, ChangeKind, changes_between, revised
from tests.schedule.standings import plans


def _plan(**more: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "resources": {"cpu": {"capacity": 4}},
            "tasks": [
                {"id": "a", "duration": 1, "resources": {"cpu": 1}},
                {"id": "b", "duration": 1, "depends_on": [{"task": "a", "kind": "soft"}],
                 "modes": [{"name": "fast", "duration": 1}]},
                {"id": "x", "duration": 1, "depends_on": ["a"], "optional": True},
                {"id": "c", "duration": 1, "depends_on": ["b", "x"]},
            ],
            "assumptions": [
                {"id": "slow", "affects": ["x"], "milestones": [{"before": "x"}, {"at": "start"}],
                 "effect": {"duration_factor": 2}},
                {"id": "short", "affects": ["x"], "milestones": [{"at": "start"}],
                 "effect": {"capacity": {"cpu": 2}}},
                {"id": "other", "affects": ["c", "x"], "milestones": [{"after": "a"}]},
            ],
            **more,
        }
    )  # fmt: skip


def test_nothing_changed_is_no_change() -> None:
    plan = _plan()
    same = revised(plan)
    assert same == plan and changes_between(plan, same) == ()


def test_every_kind_of_change_in_words_and_as_data() -> None:
    plan = _plan()
    new = revised(plan, dropped=["x"], cut=[("a", "b")], capacities={"cpu": 6})
    found = changes_between(plan, new, new_modes={"b": "fast"})
    assert [str(c) for c in found] == [
        "b in mode fast instead of default",
        "b no longer waits for a",
        "x is left out",
        "cpu: 6 instead of 4",
    ]
    assert found[1].as_dict() == {
        "kind": ChangeKind.DEPENDENCY, "subject": "b", "before": "a", "after": None,
        "words": "b no longer waits for a",
    }  # fmt: skip
    document = as_dict(plan)
    document["tasks"][0]["duration"] = "5s"
    document["tasks"][3]["success_criteria"] = {"rows": {"min": 1}}
    document["tasks"].append({"id": "new", "duration": "1s", "depends_on": ["c"]})
    edited = Plan.model_validate(document)
    assert {str(c) for c in changes_between(plan, edited)} == {
        "a: other duration",
        "c: other success criteria",
        "new is new",
    }
    again = Change(kind=ChangeKind.AGAIN, subject="a", after="fast")
    assert str(again) == "a is done again in mode fast"


def test_what_assumptions_say_of_dropped_tasks_goes_with_them() -> None:
    plan = _plan()
    new = revised(plan, dropped=["x"])
    slow, short, other = new.assumptions
    assert slow.affects == () and slow.effect is None and len(slow.milestones) == 1
    # Less capacity is still less capacity: it stands with those that take the resource.
    assert short.affects == ("a",) and short.effect is not None
    assert other.affects == ("c",)
    assert Plan.model_validate(as_dict(new)) == new, "what is stored can be read again"
    assert new.required == plan.required and plan.task_ids == ("a", "b", "x", "c")


@given(plans(), st.data())
def test_a_revision_is_a_sound_document_without_what_was_taken_out(
    plan: Plan, data: st.DataObject
) -> None:
    soft = [(d.task, t.id) for t in plan.tasks for d in t.upstream if not d.hard]
    cut = data.draw(st.sets(st.sampled_from(soft))) if soft else set()
    optional = [t.id for t in plan.tasks if t.optional]
    dropped = data.draw(st.sets(st.sampled_from(optional))) if optional else set()
    new = revised(plan, dropped=dropped, cut=cut)
    assert set(new.task_ids) == set(plan.task_ids) - dropped
    arcs = {(d.task, t.id) for t in new.tasks for d in t.upstream}
    assert arcs.isdisjoint(cut) and not any(a in dropped for a, _ in arcs)
    assert Plan.model_validate(as_dict(new)) == new
    told = changes_between(plan, new)
    assert {c.subject for c in told if c.kind is ChangeKind.DROPPED} == dropped
