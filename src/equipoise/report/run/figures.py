"""The figures of a run: each a function Run -> Figure, or None when it has nothing to show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from equipoise.policy.files import whole
from equipoise.report.labels import label
from equipoise.report.run.load import Estimate, Round, Run
from equipoise.report.run.metrics import duration, percent, plain
from equipoise.report.run.named_scores import by_direction, by_round, said_by_direction, said_by_round
from equipoise.report.run.step_axis import boundaries, step_axis
from equipoise.report.run.within_fits import said, within_fits
from equipoise.report.style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    SKY,
    direct_labels,
    panels,
    render,
    styled,
)

# Raw values are smoothed over this share of the run: enough to see a trend, too little to hide a round.
SMOOTHING = 0.05
SHORTEST = 5
# A gap that spans more than this many times its smallest value is unreadable on a linear axis.
LOG_SPAN = 20.0


@dataclass(frozen=True)
class Picture:
    """One drawn figure. `alt` says in words what it shows, for readers who do not see it."""

    name: str
    title: str
    caption: str
    alt: str
    png: bytes


def draw(run: Run) -> list[Picture]:
    """Every figure for which the run holds data."""
    pictures = []
    for name, title, caption, build, alt in FIGURES:
        with styled():
            figure = build(run)
            if figure is not None:
                pictures.append(Picture(name, title, caption, alt(run), render(figure)))
    return pictures


def write_figures(pictures: Sequence[Picture], folder: Path) -> list[Path]:
    """Write each picture to folder/NAME.png, whole or not at all."""
    paths = [folder / f"{picture.name}.png" for picture in pictures]
    for path, picture in zip(paths, pictures, strict=True):
        with whole(path) as draft:
            draft.write_bytes(picture.png)
    return paths


def series(rounds: Sequence[Round], name: str) -> tuple[list[int], list[float]]:
    """Round numbers and values of one metric, rounds without it left out."""
    points = [(one.round, value) for one in rounds if (value := centre(getattr(one, name))) is not None]
    return [x for x, _ in points], [y for _, y in points]


def centre(value: Estimate | float | None) -> float | None:
    return value.value if isinstance(value, Estimate) else value


def win_rate(run: Run) -> Figure | None:
    sampled, exact = series(run.rounds, "win_rate"), series(run.rounds, "exact_win_rate")
    if not (sampled[0] or exact[0]):
        return None
    figure, (axes,) = panels()
    axes.axhline(0.5, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    ends = []
    if sampled[0]:
        band(axes, run.rounds, "win_rate", BLUE)
        axes.plot(*sampled, color=BLUE, marker="o")
        ends.append((sampled[0][-1], sampled[1][-1], f"sampled {percent(sampled[1][-1])}", BLUE))
    if exact[0]:
        axes.plot(*exact, color=ORANGE, marker="D", linewidth=1.4, linestyle=(0, (5, 2)))
        ends.append((exact[0][-1], exact[1][-1], f"exact {percent(exact[1][-1])}", ORANGE))
    low, high = axes.get_ylim()
    axes.set_ylim(max(-0.01, min(low, 0.4)), min(1.01, max(high, 0.6)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_ylabel("win rate")
    round_axis(axes, run.rounds)
    direct_labels(axes, [*ends, (0.0, 0.5, "equality", FAINT)])
    return figure


def exploitability(run: Run) -> Figure | None:
    """The plain gap, and the regularised one where it was measured."""
    lines = [
        (n, t, c)
        for n, t, c in (("exploitability", "plain game", BLUE), ("gap_tau", "regularised game", GREEN))
    ]
    drawn = [(series(run.rounds, name), text, colour) for name, text, colour in lines]
    drawn = [one for one in drawn if one[0][0]]
    if not drawn:
        return None
    figure, (axes,) = panels()
    for (x, y), _, colour in drawn:
        axes.plot(x, y, color=colour, marker="o")
    reference = run.reference.exploitability if run.reference else None
    gap_axis(axes, [value for (_, y), _, _ in drawn for value in y])
    if reference is not None:
        axes.axhline(reference, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        place |= {"xytext": (-2, 3), "ha": "right", "color": FAINT, "fontsize": 9}
        axes.annotate("reference, plain game", (1, reference), **place)
    round_axis(axes, run.rounds)
    direct_labels(axes, [(x[-1], y[-1], f"{text} {plain(y[-1])}", colour) for (x, y), text, colour in drawn])
    return figure


def kl(run: Run) -> Figure | None:
    return estimate_figure(run, "kl", "nats per response")


def length(run: Run) -> Figure | None:
    return estimate_figure(run, "length", "tokens per response")


def estimate_figure(run: Run, name: str, unit: str) -> Figure | None:
    """One metric with its interval against the round, from zero, its last value named."""
    x, y = series(run.rounds, name)
    if not x:
        return None
    figure, (axes,) = panels(height=2.4)
    band(axes, run.rounds, name, BLUE)
    axes.plot(x, y, color=BLUE, marker="o")
    low, high = axes.get_ylim()
    axes.set_ylim(min(0.0, low) if min(y) < 0 else 0, high + 0.08 * (high - low) if max(y) > 0 else 1)
    axes.set_ylabel(unit)
    round_axis(axes, run.rounds)
    direct_labels(axes, [(x[-1], y[-1], plain(y[-1]), BLUE)])
    return figure


def log_ratios(run: Run) -> Figure | None:
    """Chosen and rejected log-ratios over training steps; without steps, over rounds."""
    lines = (("chosen_log_ratio", "chosen", BLUE), ("rejected_log_ratio", "rejected", ORANGE))
    if not any(getattr(step, name) is not None for step in run.steps for name, _, _ in lines):
        return held_out_ratios(run, lines)
    figure, (axes,) = panels()
    axes.axhline(0, color=FAINT, linewidth=1)
    ends = [end for name, text, colour in lines if (end := trace(axes, run, name, text, colour))]
    axes.set_ylabel("nats per response")
    step_axis(axes, run)
    direct_labels(axes, ends)
    return figure


def held_out_ratios(run: Run, lines: Sequence[tuple[str, str, str]]) -> Figure | None:
    drawn = [(series(run.rounds, name), text, colour) for name, text, colour in lines]
    if not any(x for (x, _), _, _ in drawn):
        return None
    figure, (axes,) = panels()
    axes.axhline(0, color=FAINT, linewidth=1)
    for (x, y), _, colour in drawn:
        axes.plot(x, y, color=colour, marker="o")
    axes.set_ylabel("nats per response, held out")
    round_axis(axes, run.rounds)
    direct_labels(axes, [(x[-1], y[-1], f"{t} {plain(y[-1])}", c) for (x, y), t, c in drawn if x])
    return figure


def training(run: Run) -> Figure | None:
    """Loss and gradient norm over training steps, side by side."""
    wanted = (("loss", "loss", BLUE), ("grad_norm", "gradient norm", GREEN))
    present = [one for one in wanted if any(finite(getattr(step, one[0])) for step in run.steps)]
    if not present:
        return None
    figure, all_axes = panels(len(present), height=2.5)
    for axes, (name, text, colour) in zip(all_axes, present, strict=True):
        trace(axes, run, name, text, colour)
        axes.set_title(text, loc="left", fontsize=10)
        step_axis(axes, run)
    return figure


def phases(run: Run) -> Figure | None:
    """Where the time went: one bar per phase, longest first."""
    seconds = {phase: spent for phase, spent in run.by_phase("seconds").items() if spent > 0}
    if not seconds:
        return None
    total, order = sum(seconds.values()), sorted(seconds, key=lambda phase: seconds[phase])[-12:]
    figure, (axes,) = panels(height=0.5 + 0.3 * len(order))
    axes.barh(range(len(order)), [seconds[phase] for phase in order], color=SKY, height=0.62)
    for row, phase in enumerate(order):
        text = f"{duration(seconds[phase])}  ({100 * seconds[phase] / total:.0f} %)"
        axes.annotate(
            text, (seconds[phase], row), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(range(len(order)), [label(phase) for phase in order])
    axes.set_xlim(0, 1.3 * max(seconds.values()))
    axes.set_xticks([])
    axes.grid(False)
    axes.spines[["bottom", "left"]].set_visible(False)
    return figure


def band(axes: Axes, rounds: Sequence[Round], name: str, colour: str) -> None:
    """The interval of a metric as a band, and as whiskers so that a lone round shows it too."""
    points = [(r.round, e.low, e.high) for r in rounds if (e := getattr(r, name)) is not None]
    points = [(x, low, high) for x, low, high in points if low is not None and high is not None]
    if points:
        x, low, high = zip(*points, strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.vlines(x, low, high, color=colour, linewidth=1)


def trace(axes: Axes, run: Run, name: str, text: str, colour: str) -> tuple[float, float, str, str] | None:
    """One metric over steps: raw values thin, smoothed within each round thick. Returns its end's label."""
    values = np.array([np.nan if (v := getattr(s, name)) is None else v for s in run.steps], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    seen = np.flatnonzero(~np.isnan(values))
    if not len(seen):
        return None
    window = max(SHORTEST, round(SMOOTHING * len(values)))
    x = np.arange(1, len(values) + 1)
    axes.plot(x, values, color=colour, linewidth=0.7, alpha=0.35)
    last = float(values[seen[-1]])
    for part in np.split(x - 1, boundaries(run)):
        level = smooth(values[part], window)
        axes.plot(x[part], level, color=colour, marker="o" if len(part) == 1 else None)
        last = float(level[-1]) if np.isfinite(level[-1]) else last
    return float(x[-1]), last, f"{text} {plain(last)}", colour


def smooth(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Centred moving mean over the finite values of each window; the window shrinks at the ends."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    number = count[high] - count[low]
    return np.where(number > 0, (total[high] - total[low]) / np.maximum(number, 1), np.nan)


def finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def round_axis(axes: Axes, rounds: Sequence[Round]) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    first, last = min(one.round for one in rounds), max(one.round for one in rounds)
    margin = 0.03 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    axes.set_xlabel("round (0 = reference)")


def gap_axis(axes: Axes, values: Sequence[float]) -> None:
    """A log axis where the gaps span decades, else one from zero."""
    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and max(positive) > LOG_SPAN * min(positive):
        axes.set_yscale("log")
        decades = math.log10(max(positive) / min(positive))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=9))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.12 * max(*values, 1e-12))
    axes.set_ylabel("gap (0 = nobody beats it)")


def spoken(name: str, text: str) -> Callable[[Run], str]:
    """Alternative text: the metric's first and last value with their rounds."""

    def alt(run: Run) -> str:
        x, y = series(run.rounds, name)
        if not x:
            return text
        show = percent if name == "win_rate" else plain
        return f"{text}: {show(y[0])} at round {x[0]}, {show(y[-1])} at round {x[-1]}"

    return alt


FIGURES: tuple[tuple[str, str, str, Callable[[Run], Figure | None], Callable[[Run], str]], ...] = (
    (
        "win_rate",
        "Win rate against the reference",
        "Band: 95 % interval, clustered by prompt. Above one half it beats the model it started from.",
        win_rate,
        spoken("win_rate", "Win rate against the reference"),
    ),
    (
        "exploitability",
        "Exploitability",
        "How much the best opponent wins beyond one half, doubled: 0 only at a Nash equilibrium. Computed by"
        " enumeration.",
        exploitability,
        spoken("exploitability", "Exploitability"),
    ),
    (
        "scores",
        "Named scores of the oracle",
        "Mean over responses to held-out prompts; band: 95 % interval, clustered by prompt; dashed: thresholds.",
        by_round,
        said_by_round,
    ),
    (
        "directions",
        "Scores by the direction that the prompt tells",
        "Mean over responses to held-out prompts after the last round; dotted: the reference's.",
        by_direction,
        said_by_direction,
    ),
    (
        "kl",
        "KL to the reference",
        "How far the policy has moved. Band: 95 % interval.",
        kl,
        spoken("kl", "KL to the reference in nats per response"),
    ),
    (
        "log_ratios",
        "Log-ratios of chosen and rejected responses",
        "Log-probability gained on training pairs against the objective's first anchor: the reference, or the"
        " policy before the round. Thin: each step; thick: moving mean; dotted: rounds.",
        log_ratios,
        spoken("chosen_log_ratio", "Held-out log-ratio of chosen responses in nats"),
    ),
    (
        "training",
        "Loss and gradient norm",
        "Thin: each step; thick: moving mean within a round; dotted: rounds. Each round is a new loss.",
        training,
        lambda run: f"Loss and gradient norm over {len(run.steps)} optimizer steps",
    ),
    (
        "within_fits",
        "Held-out rows during training",
        "The policy every few steps on rows that it is not trained on; dotted: rounds. Star: the best checkpoint.",
        within_fits,
        said,
    ),
    (
        "length",
        "Length of responses",
        "Tokens per sampled response. Band: 95 % interval.",
        length,
        spoken("length", "Tokens per sampled response"),
    ),
    (
        "phases",
        "Where the time went",
        "Wall-clock seconds per phase, all rounds together.",
        phases,
        lambda run: (
            "Seconds per phase: "
            + ", ".join(f"{k} {duration(v)}" for k, v in run.by_phase("seconds").items())
        ),
    ),
)
