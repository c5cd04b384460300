"""Several runs side by side: one table, one picture of gaps over rounds, one of win rates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.comparable import check, settings
from equipoise.report.run.figures import gap_axis, round_axis, series
from equipoise.report.run.load import Estimate, Round, Run, load_run
from equipoise.report.run.metrics import BY_NAME, duration, percent
from equipoise.report.style import CYCLE, FAINT, direct_labels, panels, render, styled

HEADINGS = {
    "exact_win_rate": "exact\nwin rate",
    "exploitability": "exploitability",
    "kl": "KL\n(nats)",
    "win_rate": "win rate",
    "accuracy": "held-out\naccuracy",
    "length": "length\n(tokens)",
    "seconds": "time",
}
NOTHING = "–"
MAX_SETTINGS = 60  # rows of differing settings that are shown
# Two evaluations of one model on one game agree to float32 rounding of its log-probabilities.
SAME_REFERENCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One line of the comparison: the reference, or the last round of a run. Units as in report/run/metrics.py.

    seconds   wall-clock of all phases of the run; None for the reference or where it was not recorded.
    """

    name: str
    rounds: int
    exact_win_rate: float | None
    exploitability: float | None
    kl: float | None
    win_rate: Estimate | None
    accuracy: float | None
    length: float | None
    seconds: float | None

    def texts(self) -> tuple[str, ...]:
        """The table's cells after the name, in the order of HEADINGS."""
        return tuple(self._text(name) for name in HEADINGS)

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        if name == "seconds":
            return NOTHING if value is None else duration(value)
        metric = BY_NAME[name]
        if not isinstance(value, Estimate):
            return metric.show(value)
        interval = metric.show_interval(value)
        return metric.show(value.value) + (f" ({interval})" if interval else "")


def compare(run_dirs: Sequence[str | Path], allow: Collection[str] = ()) -> list[Compared]:
    """The reference (round 0 of the first run that evaluated it) and the last round of every run, in order.

    Names are the methods'; runs of one method are told apart by their folders. Raises ValueError for no run, and
    NotComparable, with the differences, for runs of different models, data, evaluation prompts or oracles that are not
    allowed (see `comparable`).
    """
    runs = _load(run_dirs)
    check(runs, allow)
    return _compared(runs, allow)


def print_table(rows: Sequence[Compared], console: Console | None = None) -> None:
    """Print the comparison without the columns that nothing fills; names are untrusted and carry no markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    headings, cells = _filled(rows)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(Text(label(row.name, 40)), *map(Text, texts))
    (console or Console()).print(table)


def print_differences(
    run_dirs: Sequence[str | Path], allow: Collection[str] = (), console: Console | None = None
) -> None:
    """Print what was allowed to differ, and the settings that do."""
    runs, console = _load(run_dirs), console or Console()
    for sentence in check(runs, allow):
        console.print(Text(f"differs: {label(sentence, 400)}"))
    for name, values in settings(runs)[:MAX_SETTINGS]:
        console.print(Text(f"{name}: {' | '.join(label(value, 60) for value in values)}"))


def write_comparison(run_dirs: Sequence[str | Path], out: str | Path, allow: Collection[str] = ()) -> Path:
    """Write the comparison as one self-contained page (.html) or as its picture alone (.png).

    The page says in what the runs differ: what was allowed, and all settings. Raises ValueError for another suffix, and
    as `compare` does.
    """
    out = Path(out)
    if out.suffix not in (".html", ".png"):
        raise ValueError(f"{out}: a comparison is written as .html or .png")
    runs = _load(run_dirs)
    allowed = check(runs, allow)
    rows = _compared(runs, allow)
    with styled():
        png = render(figure) if (figure := comparison_figure(runs, rows)) else None
    if out.suffix == ".html":
        headings, cells = _filled(rows)
        names = [row.name for row in rows]
        shown = {
            "title": "Equipoise comparison",
            "headings": headings,
            "rows": list(zip(names, cells, strict=True)),
            "allowed": allowed,
            "runs": names[-len(runs) :],
            "settings": [
                (name, [cut(value, 200) for value in values])
                for name, values in settings(runs)[:MAX_SETTINGS]
            ],
            "png": png,
        }
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


def _filled(rows: Sequence[Compared]) -> tuple[list[str], list[list[str]]]:
    """Headings, and each row's cells, of the columns in which a row has something."""
    texts = [row.texts() for row in rows]
    kept = [k for k in range(len(HEADINGS)) if any(cells[k] != NOTHING for cells in texts)]
    return [list(HEADINGS.values())[k] for k in kept], [[cells[k] for k in kept] for cells in texts]


def _compared(runs: Sequence[Run], allow: Collection[str]) -> list[Compared]:
    references = [(run, run.reference) for run in runs if run.reference is not None]
    for run, reference in references[1:]:
        if "different_model" not in allow:
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
        accuracy=record.accuracy.value if record and record.accuracy else None,
        length=record.length.value if record and record.length else None,
        seconds=seconds,
    )


def _check_same(first: tuple[Run, Round], other: tuple[Run, Round]) -> None:
    a, b = first[1].exploitability, other[1].exploitability
    if a is not None and b is not None and abs(a - b) > SAME_REFERENCE:
        raise ValueError(
            f"{first[0].folder} and {other[0].folder} start from different references "
            f"(exploitability {a:.6f} and {b:.6f}): compare runs of one model on one game, or add "
            "--allow different_model"
        )


def _alt(rows: Sequence[Compared]) -> str:
    gap = BY_NAME["exploitability"]
    return "Exploitability after the last round: " + ", ".join(
        f"{label(row.name)} {gap.show(row.exploitability)}" for row in rows
    )
