"""Every task is done in a mode that it has, and in which it may be done."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.findings import Flaw, Objection, against, listed
from athena_prefect.schedule.verification.reading import Reading


def modes(reading: Reading) -> Iterator[Objection]:
    """Modes that there are, and that nothing and nobody rules out."""
    for name in reading.tasks:
        mode = reading.mode(name)
        if name not in reading.done_in:
            yield against(Flaw.MODE, f"{name} has no mode {mode}", name)
        only = reading.claim.only_mode.get(name)
        if only is not None and name not in reading.began and mode != only:
            yield against(Flaw.MODE, f"{name} can only be done in mode {only}, not {mode}", name)
        again = reading.claim.again.get(name)
        if again is not None and only is None and mode not in again:
            yield against(
                Flaw.MODE,
                f"{name} failed, and can be done again in {listed(tuple(again))}, not in {mode}",
                name,
            )
        if mode in reading.claim.barred.get(name, ()) and name not in reading.began:
            yield against(Flaw.MODE, f"{name} is not to be done in mode {mode}", name)
