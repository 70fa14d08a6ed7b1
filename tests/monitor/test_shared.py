"""One monitor for several threads of a process, in turns."""

from __future__ import annotations

import threading

from athena_prefect.monitor.shared import SharedMonitor
from tests.monitor.test_monitor import Run


def test_nobody_has_one_before_it_is_made() -> None:
    with SharedMonitor().using() as monitor:
        assert monitor is None


def test_two_threads_never_use_it_at_once() -> None:
    shared = SharedMonitor()
    shared.put(Run({"tasks": [{"id": "a", "duration": "1h"}]}).monitor)
    inside: list[str] = []
    entered = threading.Event()

    def other() -> None:
        entered.set()
        with shared.using() as monitor:
            assert monitor is not None
            inside.append("other")

    thread = threading.Thread(target=other)
    with shared.using() as monitor:
        thread.start()
        assert entered.wait(10)
        assert monitor is not None
        monitor.get_plan_deviation()
        inside.append("first")
    thread.join()
    assert inside == ["first", "other"]
