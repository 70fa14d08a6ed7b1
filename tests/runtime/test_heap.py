"""What was there before a run is kept from the collector while any run lives, and no longer."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from athena_prefect.runtime.heap import set_aside


@pytest.fixture(autouse=True)
def _nothing_frozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_last_of_several_runs_gives_it_back() -> None:
    with set_aside():
        assert gc.get_freeze_count() > 0
        with set_aside():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_run_that_fails_gives_it_back() -> None:
    with pytest.raises(ZeroDivisionError), set_aside():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_froze_stays_frozen() -> None:
    gc.freeze()
    with set_aside():
        pass
    assert gc.get_freeze_count() > 0
