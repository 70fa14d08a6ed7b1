"""What is done beside a dispatcher: watch the flow run, keep the lease, drain the spool."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from athena_prefect.errors import LeaseLostError
from athena_prefect.runtime.dispatcher import Dispatcher
from athena_prefect.runtime.limits import RENEW_SECONDS
from athena_prefect.runtime.telling import ASSESS_SECONDS, TELL_SECONDS
from athena_prefect.runtime.watcher import Chore

if TYPE_CHECKING:
    from athena_prefect.runtime.session import Session

LEASE = timedelta(seconds=30)
"""How long after its last sign of life a dispatcher on another host counts as alive."""
RENEW_LEASE_SECONDS = 10.0
"""Three tries at renewing before the lease runs out."""
FLOW_STATE_SECONDS = 2.0
"""How late a cancel or pause from Prefect's UI is seen, at most."""
DRAIN_SECONDS = 1.0


def chores(session: Session, dispatcher: Dispatcher) -> tuple[Chore, ...]:
    """What to do beside a dispatcher while it runs."""
    journal = dispatcher.facts.recorder.journal
    chores = [
        Chore(name="watching the flow run's state", every=FLOW_STATE_SECONDS,
              do=lambda: _look_at_flow_run(session, dispatcher)),
        Chore(name="renewing the lease", every=RENEW_LEASE_SECONDS,
              do=lambda: _renew(session, dispatcher)),
    ]  # fmt: skip
    drain = getattr(journal, "drain", None)
    if drain is not None:
        chores.append(Chore(name="draining the spool", every=DRAIN_SECONDS, do=drain))
    chores.append(
        Chore(name="assessing the run", every=ASSESS_SECONDS,
              do=lambda: _assess(session, dispatcher))
    )  # fmt: skip
    chores.append(Chore(name="telling Prefect", every=TELL_SECONDS, do=session.telling.tell))
    if dispatcher.limits is not None:
        chores.append(Chore(name="renewing slots", every=RENEW_SECONDS, do=dispatcher.limits.renew))
    return tuple(chores)


def _assess(session: Session, dispatcher: Dispatcher) -> None:
    # Held against what a newer revision promises, the one that drains would look late.
    if not dispatcher.superseded:
        session.telling.assess()


def _look_at_flow_run(session: Session, dispatcher: Dispatcher) -> None:
    state = session.client.read_flow_run(session.flow_run.id).state
    if state is None:
        return
    if state.is_cancelling() or state.is_cancelled():
        dispatcher.news.put(lambda: dispatcher.stop("cancelled in Prefect"))
    elif state.is_paused():
        dispatcher.news.put(lambda: dispatcher.pause("in Prefect"))
    elif state.is_running():
        dispatcher.news.put(dispatcher.resume_from("in Prefect"))


def _renew(session: Session, dispatcher: Dispatcher) -> None:
    if session.lease is None:
        return
    try:
        session.lease = session.rows.leases.renew(session.lease, ttl=LEASE)
    except LeaseLostError as error:
        lost = error

        def give_up() -> None:
            raise lost

        dispatcher.news.put(give_up)
