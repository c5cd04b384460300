"""Live display of a run on a terminal: a bar for the whole run, a line for its phase, a line after each round."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from equipoise.run.screen.forecast import Forecast
from equipoise.run.screen.peak import peak
from equipoise.run.screen.wording import (
    clock,
    cost_words,
    fitting,
    pace,
    part_words,
    phase_words,
    ratio_words,
    round_parts,
    step_words,
)
from equipoise.safe_text import printable
from equipoise.worlds.text.progress import Callback, Line, Phase

PER_SECOND = 4  # times that the display is drawn
TITLE = 24  # columns of the method's name


class LiveScreen(Callback):
    """Draws on standard error; what is printed meanwhile appears above. Texts from outside carry no markup."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.forecast = Forecast()
        self.title = self.part = ""
        self.phase: Phase | None = None
        self.steps: Line = {}
        self.held: Line = {}
        self.live = Live(
            self,
            console=self.console,
            refresh_per_second=PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def run_started(self, about: Line) -> None:
        self.forecast.run_started(about)
        self.title = printable(str(about.get("whole") or about["method"]), most=TITLE)
        self.part = part_words(about)
        self._draw()

    def phase_started(self, phase: Phase) -> None:
        self.forecast.phase_started(phase)
        self.phase, self.steps, self.held = phase, {}, {}
        self._draw()

    def phase_ended(self, phase: Phase) -> None:
        self.forecast.phase_ended(phase)
        self.phase = None

    def step(self, line: Line) -> None:
        self.steps = line

    def evaluated(self, line: Line) -> None:
        self.held = line

    def round_done(self, line: Line) -> None:
        self.forecast.round_done(line)
        self.console.print(Text(fitting(self._named(round_parts(line)), self.console.width)))

    def finished(self, summary: Line) -> None:
        self.phase = None

    def close(self, failed: bool) -> None:
        """End the drawing; after a failure one line says where the run stood."""
        self.live.stop()
        if failed and self.phase is not None:
            self.console.print(Text(f"stopped: {self.state(self.console.width - 9)}"))

    def state(self, width: int) -> str:
        """The phase in one line, with what its last optimizer step measured."""
        if self.phase is None:
            return ""
        parts = self._named([phase_words(self.phase)])
        if self.steps:
            parts += step_words(self.steps, self.held)
        if self.phase.unit:
            parts += cost_words(self.phase, peak() if self.steps else 0.0)
            parts += ratio_words(self.steps)
            parts += [pace(self.phase.rate)] if self.phase.rate else []
        else:
            parts.append(clock(self.phase.seconds))
        return fitting(parts, width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield self._bar()
        line = Text(self.state(options.max_width), no_wrap=True, overflow="crop")
        yield line

    def _bar(self) -> Table:
        """The whole run: method, round, bar, share and time left."""
        forecast, share, remaining = self.forecast, self.forecast.share(), self.forecast.left()
        here = min(forecast.done + 1, forecast.rounds)
        about = "?" if remaining is None else f"{clock(remaining)} left"
        row = Table.grid(padding=(0, 2), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        row.add_column(no_wrap=True, justify="right")
        row.add_row(
            Text(self.title, style="bold"),
            Text(f"{self.part} round {here} of {forecast.rounds}".strip()),
            ProgressBar(total=1.0, completed=share),
            Text(f"{100 * share:.0f} %"),
            Text(about),
        )
        return row

    def _named(self, parts: Iterable[str]) -> list[str]:
        """The parts of a line, the first one with the name of the phase of which it speaks."""
        first, *rest = parts
        return [f"{self.part} {first}".strip(), *rest]

    def _draw(self) -> None:
        if not self.live.is_started:
            self.live.start()
