"""Failed tasks whose dispatcher waits for what replanning says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher


@dataclass(slots=True)
class Held:
    """Which of them wait for an answer that is awaited, and which have failed since."""

    dispatcher: Dispatcher
    asked_for: set[str] = field(default_factory=set)
    """Those that wait for the answer that is awaited."""

    @property
    def new(self) -> set[str]:
        """Those that have failed since it was asked."""
        return self.dispatcher.held - self.asked_for

    def wait(self) -> None:
        """All of them wait for the answer to what is asked now."""
        self.asked_for = set(self.dispatcher.held)

    def let_go(self) -> None:
        """There is no other plan: whoever waits for one need not."""
        if self.dispatcher.held:
            self.dispatcher.news.put(self.dispatcher.let_go)

    def let_go_of_new(self) -> None:
        """Of those that have failed since there is nothing more to be asked."""
        new = self.new
        self.dispatcher.news.put(lambda: self._let_go_of(new))

    def _let_go_of(self, tasks: set[str]) -> None:
        """In the dispatcher's thread."""
        new = tasks & self.dispatcher.held
        self.dispatcher.held -= new
        self.dispatcher.let_go_of(new)
