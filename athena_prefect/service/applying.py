"""Recommendations written into a plan's document: as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from athena_prefect.errors import InputError, PlanError, UnknownNameError
from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import store_of

if TYPE_CHECKING:
    from athena_prefect.service.learning import Learned, Told
    from athena_prefect.settings import AthenaSettings

USABLE = 0.7
"""Confidence from which `--apply` takes a recommendation by itself: as lessons are used."""


def known_only(only: Sequence[str], found: Sequence[Recommendation]) -> None:
    """Raises UnknownNameError where a recommendation is named that there is not."""
    names = [r.recommendation_id for r in found]
    for name in only:
        if name not in names:
            raise UnknownNameError("recommendation", name, names)


def chosen_of(
    document: Plan, found: Sequence[Recommendation], only: Sequence[str]
) -> tuple[Recommendation, ...]:
    """What is to be written: as named, or what is sure enough and needs nothing from outside."""
    known_only(only, found)
    if only:
        chosen = tuple(r for r in found if r.recommendation_id in only)
        for one in chosen:
            if not one.patch:
                raise InputError(
                    f"{one.recommendation_id} has no change of the plan to write: "
                    f"{one.suggestion} has to be done by hand"
                )
        return chosen
    sure: list[Recommendation] = []
    taken: set[tuple[str, str, str]] = set()
    for one in found:
        fields = {(s, n, f) for s, parts in one.patch.items() for n, own in parts.items()
                  for f in (own if isinstance(own, Mapping) else ("",))}  # fmt: skip
        # Of two changes of one field the more useful is taken; the other is looked at next time.
        if not one.patch or one.confidence is None or fields & taken:
            continue
        if one.confidence >= USABLE and one.implementation_effort != "hard":
            if not _stand(document, [*sure, one]):
                continue
            sure.append(one)
            taken |= fields
    return tuple(sure)


def _stand(document: Plan, changes: Sequence[Recommendation]) -> bool:
    """Whether the plan is one with all of them: two that each order two tasks may be a circle."""
    from athena_prefect.plan.editing import patched

    try:
        patched(document, [c.patch for c in changes])
    except (PlanError, ValueError):
        return False
    return True


def with_patch(
    found: Learned,
    document: Plan,
    file: Path | None,
    chosen: Sequence[Recommendation],
    *,
    apply: bool,
    settings: AthenaSettings,
    before: Told,
) -> Learned:
    """`found` with what the chosen recommendations make of the document, or made of it.

    `before` is given the diff before anything is written. Raises InputError,
    StorageError; then the file is what it was.
    """
    from athena_prefect.plan.document import dumps
    from athena_prefect.plan.editing import difference, edited

    if not chosen:
        open_ = [r.recommendation_id for r in found.recommendations if r.patch]
        why = "nothing is sure enough to change the plan for" if open_ else "nothing to change"
        if open_:
            why += f"; --only {open_[0]} takes one nevertheless"
        return replace(found, reason=why)
    text = dumps(document) if file is None else _text(file)
    name = str(file) if file is not None else f"{document.name}.yaml"
    new = edited(text, [r.patch for r in chosen], file=name)
    ids = tuple(r.recommendation_id for r in chosen)
    result = replace(found, diff=difference(text, new, file=name), proposed=ids)
    if not apply or file is None:
        return result
    before(result.diff)
    reason = "learned: " + "; ".join(r.suggestion for r in chosen)
    return replace(
        result, applied=True, plan_id=_write(file, text, new, reason=reason, settings=settings)
    )


def _write(file: Path, old: str, new: str, *, reason: str, settings: AthenaSettings) -> int:
    """Put the new document in the file's place and store it as the plan's newest revision.

    The file is checked first and replaced in one step; where the revision cannot be stored
    it is put back, so that nothing is half written.
    """
    from athena_prefect.plan.document import loads

    plan = loads(new, file=str(file))
    store = store_of(settings)
    _replace(file, old, new)
    try:
        stored = store.register(
            plan, author="athena learn", reason=reason, namespace=settings.namespace
        )
    except BaseException:
        _replace(file, new, old)
        raise
    return stored.id


def _text(file: Path) -> str:
    """The file's text with the line ends that it has."""
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}", file=str(file)) from None


def _replace(file: Path, old: str, new: str) -> None:
    """Write `new` where `old` is, as a whole or not at all. Raises InputError."""
    target = file.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        beside = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as writing:
                writing.write(new)
                writing.flush()
                os.fsync(writing.fileno())
            beside.chmod(target.stat().st_mode)
            if _text(target) != old:
                raise InputError(f"{file} was changed meanwhile; run `athena learn` again")
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}", file=str(file)) from None
