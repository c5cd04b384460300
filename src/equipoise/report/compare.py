"""Several runs side by side: one table, one picture of gaps over rounds, one of win rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.policy.files import whole
from equipoise.report.figures import gap_axis, round_axis, series
from equipoise.report.labels import label
from equipoise.report.load import Estimate, Round, Run, load_run
from equipoise.report.metrics import BY_NAME, duration, percent
from equipoise.report.page import render_page, write_page
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled

COLUMNS = ("exact_win_rate", "exploitability", "kl", "win_rate")
HEADINGS = ("exact\nwin rate", "exploitability", "KL\n(nats)", "win rate", "time")
# Two evaluations of one model on one game agree to float32 rounding of its log-probabilities.
SAME_REFERENCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One line of the comparison: the reference, or the last round of a run. Units as in report/metrics.py.

    seconds   wall-clock of all phases of the run; None for the reference or where it was not recorded.
    """

    name: str
    rounds: int
    exact_win_rate: float | None
    exploitability: float | None
    kl: float | None
    win_rate: Estimate | None
    seconds: float | None

    def texts(self) -> tuple[str, ...]:
        """The table's cells after the name, in the order of HEADINGS."""
        shown = [BY_NAME[name].show(getattr(self, name)) for name in COLUMNS[:3]]
        rate = BY_NAME["win_rate"]
        interval = rate.show_interval(self.win_rate)
        win = rate.show(self.win_rate.value if self.win_rate else None) + (
            f" ({interval})" if interval else ""
        )
        return (*shown, win, "–" if self.seconds is None else duration(self.seconds))


def compare(run_dirs: Sequence[str | Path]) -> list[Compared]:
    """The reference (round 0 of the first run that evaluated it) and the last round of every run, in order.

    Names are the methods'; runs of one method are told apart by their folders. Raises ValueError for no run,
    and if the runs' references differ in their exact figures: they would not be comparable.
    """
    return _compared(_load(run_dirs))


def print_table(rows: Sequence[Compared], console: Console | None = None) -> None:
    """Print the comparison; names are untrusted and carry no markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(Text(label(row.name, 40)), *map(Text, row.texts()))
    (console or Console()).print(table)


def write_comparison(run_dirs: Sequence[str | Path], out: str | Path) -> Path:
    """Write the comparison as one self-contained page (.html) or as its picture alone (.png).

    Raises ValueError for another suffix, and as `compare` does.
    """
    out = Path(out)
    if out.suffix not in (".html", ".png"):
        raise ValueError(f"{out}: a comparison is written as .html or .png")
    runs = _load(run_dirs)
    rows = _compared(runs)
    with styled():
        png = render(figure) if (figure := comparison_figure(runs, rows)) else None
    if out.suffix == ".html":
        shown = {"title": "Equipoise comparison", "headings": HEADINGS, "rows": rows, "png": png}
        return write_page(out, render_page("compare.html.jinja", alt=_alt(rows), **shown))
    if png is None:
        raise ValueError("none of these runs holds an exploitability or a win rate to draw")
    with whole(out) as draft:
        draft.write_bytes(png)
    return out


def comparison_figure(runs: Sequence[Run], rows: Sequence[Compared]) -> Figure | None:
    """Left exploitability against round, right the last win rate with its interval, where there are any."""
    named = list(zip(runs, (row.name for row in rows[-len(runs) :]), strict=True))
    colour = {name: CYCLE[i % len(CYCLE)] for i, (_, name) in enumerate(named)}
    gaps = [(name, *series(run.rounds, "exploitability")) for run, name in named]
    gaps = [(name, x, y) for name, x, y in gaps if x]
    rated = [row for row in rows if row.rounds > 0 and _rate(row) is not None]
    count = bool(gaps) + bool(rated)
    if not count:
        return None
    figure, axes = panels(count, height=max(2.8, 1.2 + 0.32 * len(runs)))
    figure.set_figwidth(4.6 * count)
    figure.set_layout_engine("constrained", wspace=0.08)
    if gaps:
        for name, x, y in gaps:
            axes[0].plot(x, y, color=colour[name], marker="o")
        gap_axis(axes[0], [value for _, _, y in gaps for value in y])
        axes[0].set_title("exploitability", loc="left", fontsize=10)
        axes[0].set_ylabel("")
        round_axis(axes[0], [one for run in runs for one in run.rounds])
        direct_labels(axes[0], [(x[-1], y[-1], label(name, 18), colour[name]) for name, x, y in gaps])
    if rated:
        _bars(axes[-1], rated, colour)
    return figure


def _bars(axes: Axes, rows: Sequence[Compared], colour: dict[str, str]) -> None:
    """One dot and whisker per run, the value written next to it, one half marked."""
    for height, row in enumerate(reversed(rows)):
        value, estimate = _rate(row) or 0.0, row.win_rate
        if estimate and estimate.low is not None and estimate.high is not None:
            axes.hlines(height, estimate.low, estimate.high, color=colour[row.name], linewidth=5, alpha=0.3)
        axes.plot([value], [height], color=colour[row.name], marker="o", markersize=6, linestyle="none")
        axes.annotate(
            percent(value), (value, height), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    axes.axvline(0.5, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [label(row.name, 18) for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.2)
    low, high = axes.get_xlim()
    axes.set_xlim(max(0.0, min(low, 0.45)), min(1.0, max(high, 0.6)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.set_title("win rate against the reference", loc="left", fontsize=10)


def _rate(row: Compared) -> float | None:
    sampled = row.win_rate.value if row.win_rate else None
    return row.exact_win_rate if sampled is None else sampled


def _load(run_dirs: Sequence[str | Path]) -> list[Run]:
    if not run_dirs:
        raise ValueError("no run to compare: give at least one run folder")
    return [load_run(folder) for folder in run_dirs]


def _compared(runs: Sequence[Run]) -> list[Compared]:
    references = [(run, run.reference) for run in runs if run.reference is not None]
    for run, reference in references[1:]:
        _check_same(references[0], (run, reference))
    names = [run.name for run in runs]
    rows = [_row("reference", references[0][1], None)] if references else []
    for run, name in zip(runs, names, strict=True):
        own = name if names.count(name) == 1 else f"{name} ({run.folder.resolve().name})"
        seconds = run.by_phase("seconds")
        rows.append(_row(own, run.final, sum(seconds.values()) if seconds else None))
    return rows


def _row(name: str, record: Round | None, seconds: float | None) -> Compared:
    return Compared(
        name=name,
        rounds=record.round if record else 0,
        exact_win_rate=record.exact_win_rate if record else None,
        exploitability=record.exploitability if record else None,
        kl=record.kl.value if record and record.kl else None,
        win_rate=record.win_rate if record else None,
        seconds=seconds,
    )


def _check_same(first: tuple[Run, Round], other: tuple[Run, Round]) -> None:
    a, b = first[1].exploitability, other[1].exploitability
    if a is not None and b is not None and abs(a - b) > SAME_REFERENCE:
        raise ValueError(
            f"{first[0].folder} and {other[0].folder} start from different references "
            f"(exploitability {a:.6f} and {b:.6f}): compare runs of one model on one game"
        )


def _alt(rows: Sequence[Compared]) -> str:
    gap = BY_NAME["exploitability"]
    return "Exploitability after the last round: " + ", ".join(
        f"{label(row.name)} {gap.show(row.exploitability)}" for row in rows
    )
