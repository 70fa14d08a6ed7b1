"""Watching again and again, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.service import watching
from athena_prefect.service.watched import WatchPass
from athena_prefect.service.watching import watch_every
from athena_prefect.settings import AthenaSettings


def test_a_database_that_is_away_ends_no_watching(
    settings: AthenaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = WatchPass(as_of=datetime(2026, 1, 5, tzinfo=UTC), api=False)
    answers: list[WatchPass | StorageUnavailableError] = [
        StorageUnavailableError("the database is away"),
        good,
    ]

    def look(plan: str | None, *, settings: AthenaSettings) -> WatchPass:
        if not answers:
            raise KeyboardInterrupt
        answer = answers.pop(0)
        if isinstance(answer, StorageUnavailableError):
            raise answer
        return answer

    monkeypatch.setattr(watching, "watch_live", look)
    told: list[WatchPass] = []
    with pytest.raises(KeyboardInterrupt):
        watch_every(timedelta(milliseconds=1), settings=settings, told=told.append)
    assert told[0].problems == ("the database is away",)
    assert told[1] is good
