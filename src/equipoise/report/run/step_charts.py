"""Charts of a run over its optimizer steps: accuracy, margin, log-ratios, loss, gradient norm, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from equipoise.report.charts.chart import Chart, Line, spans_decades
from equipoise.report.run.records import Run

# Raw values are smoothed over this share of the run: enough to see a trend, too little to hide a round.
SMOOTHING = 0.05
SHORTEST = 5
STEP = "optimizer step"
TRACE = "Thin: each step; thick: moving mean within a round; dotted: a new round."
HELD_OUT = "Held out: pairs that are not trained on, against the model the run started from."

Values = npt.NDArray[np.float64]
Point = tuple[float, int, float, float | None, float | None]  # step, round, value, low, high


def boundaries(run: Run) -> list[int]:
    """Positions in `run.steps` where a new round begins."""
    return [i for i in range(1, len(run.steps)) if run.steps[i].round != run.steps[i - 1].round]


def smooth(values: Values, window: int) -> Values:
    """Centred moving mean over the finite values of each window; the window shrinks at the ends."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    number = count[high] - count[low]
    return np.where(number > 0, (total[high] - total[low]) / np.maximum(number, 1), np.nan)


def of_steps(run: Run, name: str) -> Values:
    """[N] a metric of every step; nan where it is missing or not finite."""
    values = np.array([np.nan if (v := getattr(s, name)) is None else v for s in run.steps], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def traced(run: Run, values: Values, text: str, colour: int) -> list[Line]:
    """A metric over steps: its raw values, faint, and their mean within each round."""
    if not len(values) or np.isnan(values).all():
        return []
    window = max(SHORTEST, round(SMOOTHING * len(values)))
    parts = np.split(np.arange(len(values)), boundaries(run))
    level = np.concatenate([smooth(values[part], window) for part in parts])
    x = [float(i) for i in range(1, len(values) + 1)]
    raw = Line(name=text, x=x, y=values.tolist(), colour=colour, faint=True)
    mean = Line(
        name=text, x=x, y=level.tolist(), colour=colour, parts=boundaries(run), marked=len(values) == 1
    )
    return [raw, mean]


def held_out(run: Run, name: str, colour: int) -> list[Line]:
    """A metric of held-out rows: inside fits where it was measured there, else after rounds; [] if nowhere."""
    place = _places(run)
    points: list[Point] = [
        (place[line.round, line.step], line.round, value, None, None)
        for line in run.within
        if (line.round, line.step) in place and (value := getattr(line, name)) is not None
    ]
    points = points or _after_rounds(run, name)
    if not points:
        return []
    x, rounds, y, low, high = (list(values) for values in zip(*points, strict=True))
    parts = [i for i in range(1, len(rounds)) if rounds[i] != rounds[i - 1]] if run.within else []
    return [Line(name="held out", x=x, y=y, low=low, high=high, colour=colour, parts=parts)]


def _places(run: Run) -> dict[tuple[int, int], float]:
    """(round, step) -> its place on the axis of steps."""
    return {(step.round, step.step): float(index + 1) for index, step in enumerate(run.steps)}


def _after_rounds(run: Run, name: str) -> list[Point]:
    last = {step.round: float(index + 1) for index, step in enumerate(run.steps)}
    points: list[Point] = []
    for one in run.rounds:
        if one.round not in last:
            continue
        if name == "accuracy" and one.accuracy and one.accuracy.value is not None:
            points.append(
                (last[one.round], one.round, one.accuracy.value, one.accuracy.low, one.accuracy.high)
            )
        chosen, rejected = one.chosen_log_ratio, one.rejected_log_ratio
        if name == "margin" and chosen is not None and rejected is not None:
            points.append((last[one.round], one.round, chosen - rejected, None, None))
    return points


def accuracy(run: Run) -> Chart | None:
    lines = [*traced(run, of_steps(run, "accuracy"), "training", 0), *held_out(run, "accuracy", 1)]
    return _chart(
        run,
        lines,
        "accuracy",
        "Accuracy",
        "accuracy",
        f"Share of pairs whose preferred response gained more log-probability than the other. Training: pairs of each "
        f"step, against the objective's first anchor. {HELD_OUT} {TRACE}",
        share=True,
        level=(0.5, "chance"),
        star=_best(run, "accuracy"),
    )


def margin(run: Run) -> Chart | None:
    train = of_steps(run, "chosen_log_ratio") - of_steps(run, "rejected_log_ratio")
    lines = [*traced(run, train, "training", 0), *held_out(run, "margin", 1)]
    return _chart(
        run,
        lines,
        "margin",
        "Margin",
        "nats per response",
        f"Log-ratio of the preferred response less that of the other. Training: pairs of each step, against the "
        f"objective's first anchor (the reference, or the policy before the round). {HELD_OUT} {TRACE}",
        star=_best(run, "margin"),
    )


def log_ratios(run: Run) -> Chart | None:
    """Chosen and rejected log-ratios over training steps."""
    lines = [
        *traced(run, of_steps(run, "chosen_log_ratio"), "chosen", 0),
        *traced(run, of_steps(run, "rejected_log_ratio"), "rejected", 1),
    ]
    return _chart(
        run,
        lines,
        "log_ratios",
        "Log-ratios of chosen and rejected responses",
        "nats per response",
        "Log-probability gained on training pairs against the objective's first anchor: the reference, or the policy "
        f"before the round, where it starts from 0 again. {TRACE}",
        level=(0.0, "unchanged"),
    )


def loss(run: Run) -> Chart | None:
    lines = [*traced(run, of_steps(run, "loss"), "training", 0), *held_out(run, "loss", 1)]
    return _chart(
        run,
        lines,
        "loss",
        "Loss",
        "loss",
        f"Each round is a new loss: levels of different rounds do not compare. {TRACE}",
        star=_best(run, "loss"),
    )


def grad_norm(run: Run) -> Chart | None:
    values = of_steps(run, "grad_norm")
    return _chart(
        run,
        traced(run, values, "gradient norm", 2),
        "grad_norm",
        "Gradient norm",
        "norm",
        f"Before clipping. {TRACE}",
        log=spans_decades(values[np.isfinite(values)].tolist()),
    )


def learning_rate(run: Run) -> Chart | None:
    values = of_steps(run, "lr")
    if not len(values) or np.isnan(values).all():
        return None
    line = Line(
        name="learning rate",
        x=[float(i) for i in range(1, len(values) + 1)],
        y=values.tolist(),
        colour=3,
        parts=boundaries(run),
        marked=len(values) == 1,
    )
    return _chart(
        run,
        [line],
        "learning_rate",
        "Learning rate",
        "step size",
        "As the schedule set it, step by step; dotted: a new round.",
        from_zero=True,
    )


def _best(run: Run, metric: str) -> tuple[float, float, str] | None:
    """The best checkpoint's point, if it was chosen by this metric inside a fit."""
    best = run.summary.best
    if best is None or best.metric != metric or best.step is None:
        return None
    at = _places(run).get((best.round, best.step))
    return None if at is None else (at, best.value, "best checkpoint")


def _chart(
    run: Run,
    lines: Sequence[Line],
    name: str,
    title: str,
    y_label: str,
    caption: str,
    *,
    share: bool = False,
    log: bool = False,
    from_zero: bool = False,
    level: tuple[float, str] | None = None,
    star: tuple[float, float, str] | None = None,
) -> Chart | None:
    if not lines:
        return None
    chart = Chart(
        name=name,
        title=title,
        caption=caption + (" Star: the best checkpoint." if star else ""),
        alt="",
        x_label=STEP,
        y_label=y_label,
        lines=lines,
        level=level,
        boundaries=[boundary + 0.5 for boundary in boundaries(run)],
        share=share,
        log=log,
        from_zero=from_zero,
        star=star,
    )
    return _with_alt(chart)


def _with_alt(chart: Chart) -> Chart:
    parts = []
    for line in chart.lines:
        known = [i for i, value in enumerate(line.y) if math.isfinite(value)]
        if line.faint or not known:
            continue
        first, last = known[0], known[-1]
        text = f"{line.name} {chart.show(line.y[first])} at step {line.x[first]:,.0f}"
        if last != first:
            text += f", {chart.show(line.y[last])} at step {line.x[last]:,.0f}"
        parts.append(text)
    if chart.star:
        parts.append(f"best checkpoint {chart.show(chart.star[1])} at step {chart.star[0]:,.0f}")
    return replace(chart, alt=f"{chart.title} over {STEP}s: {'; '.join(parts)}")
