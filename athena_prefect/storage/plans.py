"""Plans, their revisions and their runs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, desc, func, select, update
from sqlalchemy.exc import IntegrityError

from athena_prefect.errors import RevisionTakenError, UnknownNameError, UnknownRunError
from athena_prefect.journal.events import utc
from athena_prefect.plan.document import as_dict as document_of
from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.decisions import (
    Decision,
    RunRow,
    add_decision,
    insert_once,
    newest_plan_revision,
    plan_id_of,
    read_decision,
    read_document,
    select_decisions,
    select_runs,
    store_document,
    to_decision,
    to_run,
)
from athena_prefect.storage.replans import insert_replanning_event
from athena_prefect.storage.tables import (
    DecisionRow,
    EventRow,
    PlanRow,
    PlanRunRow,
    RevisionRow,
)

LIVE = ("running", "paused", "cancelling")
"""Statuses of runs that are not over."""

BASELINE = "run||baselined"
"""Key of the event that holds a run's first forecast, and with it its first promise."""

_NEAREST_AMONG = 200
"""Newest runs among which the nearest to a mistyped id is looked for."""


class PlanStore:
    """Plans and runs in `database`. Every method may raise StorageUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- plans ------------------------------------------------------------------------------

    def register(
        self,
        plan: Plan,
        *,
        author: str = "",
        reason: str = "",
        namespace: str = "default",
        status: str = "valid",
    ) -> Decision:
        """Store `plan` as the newest revision of the plan of its name.

        Where the document is that of the newest revision, that one is the answer.
        """
        document = document_of(plan)
        with self._database.writing() as connection:
            return _register(connection, namespace, plan.name, document, author, reason, status)

    def plan(self, ref: str | int, *, namespace: str = "default") -> Plan:
        """The plan of that name at its newest revision, or as that decision says.

        A decision of a run stands for the run's revision in force. Raises
        UnknownNameError.
        """
        with self._database.reading() as connection:
            if isinstance(ref, int):
                decision = _in_force(connection, _decision(connection, ref))
            else:
                plan_id = _plan_id(connection, namespace, ref)
                found = newest_plan_revision(connection, plan_id)
                if found is None:
                    raise UnknownNameError("registered plan", ref)
                decision = found
            return read_document(connection, decision.document)

    def decision(self, decision_id: int) -> Decision:
        """The decision of that id. Raises UnknownNameError."""
        with self._database.reading() as connection:
            return _decision(connection, decision_id)

    def decisions(
        self,
        plan: str | None = None,
        *,
        plan_run: UUID | None = None,
        namespace: str | None = None,
        limit: int = 100,
    ) -> Sequence[Decision]:
        """Decisions, the newest first; of a plan, of a plan run, or all."""
        query = select_decisions().order_by(desc(DecisionRow.id)).limit(limit)
        for wanted, column in (
            (plan, PlanRow.name),
            (plan_run, DecisionRow.plan_run),
            (namespace, PlanRow.namespace),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.reading() as connection:
            return tuple(to_decision(row) for row in connection.execute(query))

    # -- runs -------------------------------------------------------------------------------

    def open_run(
        self,
        plan_run: UUID,
        plan: Plan,
        *,
        started: datetime,
        flow_run_id: UUID | str | None = None,
        namespace: str = "default",
        parameters: Mapping[str, Any] | None = None,
        logical_date: datetime | None = None,
        author: str = "",
        reason: str = "run",
        figures: Mapping[str, Any] | None = None,
    ) -> RunRow:
        """Write down, once, that `plan_run` runs `plan` as its revision 1.

        A run that is known is marked running again (it is resumed); its plan,
        parameters and start stay what they were. `parameters` must hold no secret.
        """
        document = document_of(plan)
        with self._database.writing() as connection:
            known = _find_run(connection, plan_run)
            if known is None:
                base = _register(
                    connection, namespace, plan.name, document, author, reason, "valid"
                )
                row = {
                    "id": plan_run,
                    "plan_id": base.plan_id,
                    "flow_run_id": None if flow_run_id is None else UUID(str(flow_run_id)),
                    "parameters": dict(parameters or {}),
                    "logical_date": logical_date,
                    "source": None if plan.source is None else str(plan.source),
                    "status": "running",
                    "reason": "",
                    "started_at": utc(started, "started"),
                }
                # Two that open it at once: one writes, the other finds it written.
                if insert_once(connection, PlanRunRow, row):
                    _add_revision(
                        connection, base.plan_id, plan_run, 1, document, author, reason, figures
                    )
            else:
                connection.execute(
                    update(PlanRunRow)
                    .where(PlanRunRow.id == plan_run)
                    .values(status="running", reason="", ended_at=None)
                )
            found = _find_run(connection, plan_run)
            assert found is not None
            return found

    def run(self, ref: UUID | str) -> RunRow:
        """The run of that id, of an id that begins so, or of that flow run.

        Raises UnknownRunError, with the nearest id where nothing fits and with the
        candidates where several do.
        """
        with self._database.reading() as connection:
            query = select_runs().where(_like(ref)).order_by(desc(PlanRunRow.started_at)).limit(5)
            found = [to_run(row) for row in connection.execute(query)]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(str(r.plan_run) for r in found)
                raise UnknownRunError(
                    f"{str(ref)!r} is the beginning of several plan runs: {names}",
                    run=str(ref),
                    candidates=[str(r.plan_run) for r in found],
                )
            raise _unknown(connection, str(ref))

    def number(self, plan_run: UUID) -> int:
        """The how-manieth run of its plan it is, from 1. Raises UnknownRunError."""
        own = select(PlanRunRow.plan_id, PlanRunRow.started_at).where(PlanRunRow.id == plan_run)
        with self._database.reading() as connection:
            found = connection.execute(own).one_or_none()
            if found is None:
                raise _unknown(connection, str(plan_run))
            earlier = select(func.count()).where(
                PlanRunRow.plan_id == found.plan_id, PlanRunRow.started_at < found.started_at
            )
            return 1 + int(connection.execute(earlier).scalar_one())

    def runs(
        self,
        namespace: str | None = None,
        *,
        plan: str | None = None,
        status: Sequence[str] | None = None,
        limit: int = 50,
    ) -> Sequence[RunRow]:
        """Runs, the newest first."""
        query = select_runs().order_by(desc(PlanRunRow.started_at)).limit(limit)
        if namespace is not None:
            query = query.where(PlanRow.namespace == namespace)
        if plan is not None:
            query = query.where(PlanRow.name == plan)
        if status is not None:
            query = query.where(PlanRunRow.status.in_(status))
        with self._database.reading() as connection:
            return tuple(to_run(row) for row in connection.execute(query))

    def live_runs(self, plan: Plan | str, *, namespace: str | None = None) -> Sequence[RunRow]:
        """The runs of a plan that are not over, the newest first."""
        name = plan if isinstance(plan, str) else plan.name
        return self.runs(namespace, plan=name, status=LIVE)

    def run_of_decision(self, decision_id: int) -> RunRow:
        """The run that a decision is about; of a plan's decision, the plan's one live run.

        Raises UnknownNameError, and UnknownRunError where the plan has none or
        several, which it lists.
        """
        decision = self.decision(decision_id)
        if decision.plan_run is not None:
            return self.run(decision.plan_run)
        live = self.live_runs(decision.plan, namespace=decision.namespace)
        if len(live) == 1:
            return live[0]
        names = [str(r.plan_run) for r in live]
        raise UnknownRunError(
            f"decision {decision_id} is of plan {decision.plan!r}, which has "
            + (f"several live runs: {', '.join(names)}" if live else "no live run"),
            decision=decision_id,
            candidates=names,
        )

    def set_run_status(
        self,
        plan_run: UUID,
        status: str,
        *,
        reason: str = "",
        ended: datetime | None = None,
    ) -> None:
        """Say where a run stands. Raises UnknownRunError."""
        with self._database.writing() as connection:
            changed = connection.execute(
                update(PlanRunRow)
                .where(PlanRunRow.id == plan_run)
                .values(status=status, reason=reason, ended_at=ended)
            )
            if changed.rowcount == 0:
                raise _unknown(connection, str(plan_run))

    # -- revisions of a run -------------------------------------------------------------------

    def save_run_revision(
        self,
        plan_run: UUID,
        number: int,
        plan: Plan,
        *,
        author: str = "",
        reason: str = "",
        figures: Mapping[str, Any] | None = None,
        strategy: str | None = None,
    ) -> Decision:
        """Store revision `number` of a run; `figures` is what was promised with it.

        With a `strategy`, that it was adopted is a row of `replanning_events`, in the same
        transaction. Raises RevisionTakenError where that number is taken (two replans
        raced) or is not the next, UnknownRunError.
        """
        document = document_of(plan)
        try:
            with self._database.writing() as connection:
                run = _find_run(connection, plan_run)
                if run is None:
                    raise _unknown(connection, str(plan_run))
                newest = run.revision
                if number != newest + 1:
                    raise _taken(plan_run, number, newest)
                made = _add_revision(
                    connection, run.plan_id, plan_run, number, document, author, reason, figures
                )
                if strategy is not None:
                    insert_replanning_event(
                        connection, original_plan_id=run.decision_id, new_plan_id=made.id,
                        trigger_reason=reason, strategy=strategy, outcome="adopted",
                    )  # fmt: skip
                return made
        except IntegrityError as error:
            raise _taken(plan_run, number, number) from error

    def revision(self, plan_run: UUID, number: int | None = None) -> Plan:
        """The plan of a run's revision, of the one in force by default.

        Raises UnknownRunError, UnknownNameError.
        """
        with self._database.reading() as connection:
            query = (
                select(DecisionRow.document, PlanRunRow.source)
                .join(RevisionRow, RevisionRow.decision_id == DecisionRow.id)
                .join(PlanRunRow, PlanRunRow.id == RevisionRow.plan_run)
                .where(RevisionRow.plan_run == plan_run)
                .order_by(desc(RevisionRow.number))
            )
            if number is not None:
                query = query.where(RevisionRow.number == number)
            row = connection.execute(query.limit(1)).one_or_none()
            if row is None:
                if number is None or _find_run(connection, plan_run) is None:
                    raise _unknown(connection, str(plan_run))
                raise UnknownNameError("revision", f"{number} of plan run {plan_run}")
            return read_document(connection, row.document, row.source)

    def figures(self, plan_run: UUID, number: int) -> Mapping[str, Any] | None:
        """What was promised when a run's revision was accepted; None where nothing was kept.

        With the first, that is what the run's baseline says.
        """
        query = select(RevisionRow.figures).where(
            RevisionRow.plan_run == plan_run, RevisionRow.number == number
        )
        with self._database.reading() as connection:
            kept = connection.execute(query).scalar_one_or_none()
            return _at_the_start(connection, plan_run) if kept is None and number == 1 else kept


def _at_the_start(connection: Connection, plan_run: UUID) -> Mapping[str, Any] | None:
    """What a run's baseline promised; None before it is made, or where nothing is known."""
    # The baseline's data is large: of it only what is needed is read.
    data = EventRow.document["data"]
    query = (
        select(data["p50"], data["accepted"], data["p_deadline"])
        .where(EventRow.plan_run == plan_run, EventRow.key == BASELINE)
        .where(EventRow.conflict.is_(False))
    )
    found = connection.execute(query).first()
    if found is None or found[1] is None:
        return None
    return dict(zip(("p50", "accepted", "p_deadline"), found, strict=True))


def _register(
    connection: Connection,
    namespace: str,
    name: str,
    document: Mapping[str, Any],
    author: str,
    reason: str,
    status: str,
) -> Decision:
    plan_id = plan_id_of(connection, namespace, name)
    key = store_document(connection, document)
    newest = newest_plan_revision(connection, plan_id)
    if newest is not None and newest.document == key:
        return newest
    revision = 1 if newest is None else newest.revision + 1
    return add_decision(
        connection,
        plan_id=plan_id,
        plan_run=None,
        revision=revision,
        document=key,
        author=author,
        reason=reason,
        validation_status=status,
    )


def _add_revision(
    connection: Connection,
    plan_id: int,
    plan_run: UUID,
    number: int,
    document: Mapping[str, Any],
    author: str,
    reason: str,
    figures: Mapping[str, Any] | None,
) -> Decision:
    decision = add_decision(
        connection,
        plan_id=plan_id,
        plan_run=plan_run,
        revision=number,
        document=store_document(connection, document),
        author=author,
        reason=reason,
        validation_status="valid",
    )
    row = {"plan_run": plan_run, "number": number, "decision_id": decision.id, "figures": figures}
    insert_once(connection, RevisionRow, row)
    return decision


def _decision(connection: Connection, decision_id: int) -> Decision:
    found = read_decision(connection, decision_id)
    if found is None:
        raise UnknownNameError("planning decision", str(decision_id))
    return found


def _in_force(connection: Connection, decision: Decision) -> Decision:
    if decision.plan_run is None:
        return decision
    newest = select(func.max(DecisionRow.revision)).where(DecisionRow.plan_run == decision.plan_run)
    row = connection.execute(
        select_decisions().where(
            DecisionRow.plan_run == decision.plan_run,
            DecisionRow.revision == newest.scalar_subquery(),
        )
    ).one()
    return to_decision(row)


def _plan_id(connection: Connection, namespace: str, name: str) -> int:
    query = select(PlanRow.name, PlanRow.id).where(PlanRow.namespace == namespace)
    found: dict[str, int] = {row.name: row.id for row in connection.execute(query)}
    if name not in found:
        raise UnknownNameError("registered plan", name, found)
    return found[name]


def _find_run(connection: Connection, plan_run: UUID) -> RunRow | None:
    row = connection.execute(select_runs().where(PlanRunRow.id == plan_run)).one_or_none()
    return None if row is None else to_run(row)


def _like(ref: UUID | str) -> ColumnElement[bool]:
    """Which runs `ref` may mean; ids that begin alike lie side by side in the index."""
    digits = str(ref).replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        return PlanRunRow.id.is_(None)
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return PlanRunRow.id.between(first, last) | (
        PlanRunRow.flow_run_id == first if first == last else PlanRunRow.id.is_(None)
    )


def _unknown(connection: Connection, ref: str) -> UnknownRunError:
    of_plan = select_runs().where(PlanRow.name == ref).order_by(desc(PlanRunRow.started_at))
    newest = connection.execute(of_plan.limit(1)).one_or_none()
    if newest is not None:
        run = str(newest.plan_run)
        return UnknownRunError(
            f"no plan run {ref!r}: that is a plan; its newest run is {run[:8]}",
            run=ref, nearest=run,
        )  # fmt: skip
    query = select(PlanRunRow.id).order_by(desc(PlanRunRow.started_at)).limit(_NEAREST_AMONG)
    known = [str(i) for i in connection.execute(query).scalars()]
    # Somebody who types a few digits of an id meant its beginning.
    heads = {k[: max(len(ref), 4)]: k for k in reversed(known)}
    close = difflib.get_close_matches(ref.lower(), heads, n=1)
    nearest = heads[close[0]] if close else None
    hint = f"; did you mean {nearest}?" if nearest else "; `athena runs` lists them"
    return UnknownRunError(f"no plan run {ref!r}{hint}", run=ref, nearest=nearest)


def _taken(plan_run: UUID, number: int, newest: int) -> RevisionTakenError:
    return RevisionTakenError(
        f"plan run {plan_run} has revision {newest} already, so {number} cannot be stored; "
        "another replan was faster: evaluate again from the revision in force",
        plan_run=plan_run,
        number=number,
        newest=newest,
    )
