"""Who watches `athena run`: a live view, plain lines, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from athena_prefect.cli import render
from athena_prefect.cli.streams import abandon_output
from athena_prefect.journal.codec import encode
from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.report.view import Row, Stretch
from athena_prefect.service.results import RunStatus, ShownPlan

REFRESH_PER_SECOND = 8
"""Enough for a spinner to turn; what is shown changes at most twice a second."""
FORECAST_SECONDS = 2.0
"""Plain lines repeat a changed forecast at most this often."""
MOST_RUNNING = 10
MOST_NEWS = 3
"""Decisions about the plan that the picture shows, the newest last."""


class LiveView:
    """A picture of the run that redraws itself in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: RunStatus | None = None
        self._waiting = "reading the plan"
        self._since = time.monotonic()
        self._cancelling = False
        self._news: list[str] = []
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._picture,
            console=console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def planned(self, shown: ShownPlan) -> None:
        """Show the plan at once, above everything that moves."""
        self._console.print(render.shown_plan(shown, render.MOST_ROWS))
        self._console.print()
        self._live.start()

    def begin(self) -> None:
        """Begin to draw, where there is no plan to show first."""
        self._live.start()

    def waiting(self, what: str) -> None:
        """Say what is being waited for."""
        self._waiting, self._since = what, time.monotonic()

    def happened(self, events: tuple[Event, ...]) -> None:
        """Keep what was decided about the plan; the picture shows what the others add up to."""
        self._news += [text for text in map(render.news_of, events) if text]

    def stands(self, status: RunStatus) -> None:
        """Redraw with `status`."""
        self._status = status

    def cancelling(self) -> None:
        """Say that the run is being cancelled."""
        self._cancelling = True

    def _picture(self) -> RenderableType:
        status = self._status
        if status is None or status.state.started is None or status.over:
            waited = render.seconds(float(int(time.monotonic() - self._since)))
            self._spinner.update(text=Text(f" {self._waiting} … {waited}"))
            return self._spinner
        return Group(
            render.run_heading(status),
            self._progress(status),
            Text(render.forecast_line(status)),
            *(Text(basis, style="dim") for basis in [render.basis_line(status)] if basis),
            *self._running(status),
            *(Text(f"  {text}", style="yellow") for text in self._news[-MOST_NEWS:]),
            *([Text(CANCELLING, style="yellow")] if self._cancelling else []),
        )

    def _progress(self, status: RunStatus) -> RenderableType:
        over = sum(row.status.final for row in status.view.rows)
        # A cell of its own: a bar does not end its line.
        line = Table.grid()
        line.add_row(ProgressBar(total=len(status.view.rows), completed=over, width=60))
        return line

    def _running(self, status: RunStatus) -> list[RenderableType]:
        rows = [r for r in status.view.rows if r.status is Status.RUNNING]
        table = Table.grid(padding=(0, 2))
        now = status.view.now or 0.0
        for row in rows[:MOST_RUNNING]:
            start = row.latest.start if row.latest else now
            planned = row.planned[1] - row.planned[0] if row.planned else None
            items = f"{row.items[0]}/{row.items[1]}" if row.items else ""
            of = f"of {render.seconds(planned)} planned" if planned is not None else ""
            late = planned is not None and now - start > planned
            table.add_row(
                "  ▸",
                Text(row.task_id, style="bold" if row.critical else ""),
                items,
                Text(
                    render.seconds(max(round(now - start, 1), 0.0)), style="yellow" if late else ""
                ),
                Text(of, style="dim"),
            )
        left = len(rows) - MOST_RUNNING
        more = [Text(f"    and {left} more")] if left > 0 else []
        bad = [r for r in status.view.rows if r.status in (Status.FAILURE, Status.BLOCKED)]
        told: list[RenderableType] = [
            Text(f"  ✗ {r.task_id} {r.status.value}: {render.brief(r.detail)}", "red")
            for r in bad[:MOST_RUNNING]
        ]
        return [table, *more, *told]


CANCELLING = "cancelling: nothing new starts, what runs may end; Ctrl-C again leaves at once"


class PlainLines:
    """One line for everything that changes; for pipes, files and logs of CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, Status] = {}
        self._failures: dict[str, int] = {}
        """Of each task, how many failed attempts were said, or are said by where it stands."""
        self._forecast = ""
        self._rests_on = ""
        self._said = -FORECAST_SECONDS
        self._begun: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def planned(self, shown: ShownPlan) -> None:
        """Print the plan."""
        self._say(render.shown_plan(shown, render.MOST_ROWS))
        self._say("")

    def waiting(self, what: str) -> None:
        """Print what is being waited for."""
        self._say(Text(f"{what} …"))

    def happened(self, events: tuple[Event, ...]) -> None:
        """Print what was decided about the plan; `stands` says the rest by task."""
        for event in events:
            if isinstance(event, RunEvent) and event.kind is RunEventKind.STARTED:
                self._begun = event.at
            text = render.news_of(event)
            if text is not None:
                since = 0.0 if self._begun is None else (event.at - self._begun).total_seconds()
                self._line(since, text)

    def stands(self, status: RunStatus) -> None:
        """Print what is new since the last time."""
        now = status.view.now if status.view.now is not None else status.view.ended or 0.0
        news = []
        for row in status.view.rows:
            before = self._seen.get(row.task_id, Status.WAITING)
            again = self._tried_again(row)
            news += again
            if again:
                before = Status.FAILURE  # which was over before anybody looked
            if row.status is not before and row.status not in (Status.WAITING, Status.READY):
                self._seen[row.task_id] = row.status
                news.append(_change(row, now))
        for moment, text in sorted(news):
            self._line(moment, text)
        self._tell_forecast(status, now)

    def _tried_again(self, row: Row) -> list[tuple[float, str]]:
        """Failures that were not said and that another attempt has followed; of mapped tasks none.

        One that began at once hides the failure from who looks only where a task stands.
        """
        if row.items is not None:
            return []
        failed = [s for s in row.actual if s.status is Status.FAILURE]
        over = len(failed) - (bool(failed) and row.latest is failed[-1])
        said = self._failures.get(row.task_id, 0)
        self._failures[row.task_id] = len(failed)
        return [
            (s.finish, f"{row.task_id} failure after {_took(s)}, tried again")
            for s in failed[said:over]
        ]

    def _tell_forecast(self, status: RunStatus, now: float) -> None:
        if status.over or status.state.started is None or now - self._said < FORECAST_SECONDS:
            return
        if status.view.finish is None and not (status.deviation and status.deviation.reason):
            return  # the run has begun and its baseline is still being made
        text = render.forecast_line(status)
        if text == self._forecast:
            return
        first = not self._rests_on
        self._forecast, self._said = text, now
        self._rests_on = self._rests_on or render.basis_line(status)
        # What it rests on does not change while it runs: it is said once.
        self._line(now, f"{text} · {self._rests_on}" if first and self._rests_on else text)

    def cancelling(self) -> None:
        """Say that the run is being cancelled."""
        self._say(Text(CANCELLING))

    def _say(self, what: RenderableType) -> None:
        try:
            render.say(self._console, what)
        except BrokenPipeError:
            abandon_output()  # whoever read has enough; the run goes on

    def _line(self, moment: float, text: str) -> None:
        line = " ".join(text.splitlines())  # of an error with several lines too
        self._say(Text(f"{render.seconds(round(moment, 1)):>8}  {line}"))


def _took(stretch: Stretch) -> str:
    return render.seconds(stretch.finish - stretch.start)


def _change(row: Row, now: float) -> tuple[float, str]:
    """When a task came to where it stands, in seconds, and what is said of it."""
    last, moment, took = row.latest, now, ""
    if last is not None and row.status is Status.RUNNING:
        moment = last.start
    elif last is not None:
        moment, took = last.finish, f" after {render.seconds(last.finish - last.start)}"
    items = f" ({row.items[0]}/{row.items[1]} items)" if row.items else ""
    why = f": {row.detail}" if row.detail else ""
    return moment, f"{row.task_id} {row.status.value}{took}{items}{why}"


class JsonLines:
    """One JSON object a line: the plan, every event, changed forecasts; for programs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._forecast: Mapping[str, Any] | None = None
        self._unread = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def line(self, kind: str, content: Mapping[str, Any]) -> None:
        """Write one object; `kind` says what it is."""
        if self._unread:
            return
        try:
            self._stream.write(json.dumps({"line": kind, **content}, default=str) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._unread = True  # whoever read has enough; the run goes on

    def planned(self, shown: ShownPlan) -> None:
        """The plan."""
        self.line("plan", shown.as_dict())

    def waiting(self, what: str) -> None:
        """What is being waited for."""
        self.line("waiting", {"for": what})

    def happened(self, events: tuple[Event, ...]) -> None:
        """Every event of the journal, as it is kept."""
        for event in events:
            self.line("event", encode(event))

    def stands(self, status: RunStatus) -> None:
        """The deviation and forecast, where a newer one was made."""
        if status.deviation is None or status.state.started is None:
            return
        found = status.deviation.as_dict()
        # When it was simulated alone is no news.
        figures = {name: value for name, value in found.items() if name != "as_of"}
        if figures != self._forecast:
            self._forecast = figures
            self.line("deviation", found)

    def cancelling(self) -> None:
        """The run is being cancelled."""
        self.line("cancelling", {})
