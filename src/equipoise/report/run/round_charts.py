"""Charts of a run over its rounds: win rate, exploitability, KL, length, entropy."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.report.charts.chart import Chart, Line, spans_decades
from equipoise.report.run.metrics import BY_NAME
from equipoise.report.run.records import Estimate, Round, Run

ROUND = "round"


def centre(value: Estimate | float | None) -> float | None:
    return value.value if isinstance(value, Estimate) else value


def series(rounds: Sequence[Round], name: str) -> tuple[list[int], list[float]]:
    """Round numbers and values of one metric, rounds without it left out."""
    points = [(one.round, value) for one in rounds if (value := centre(getattr(one, name))) is not None]
    return [x for x, _ in points], [y for _, y in points]


def line(rounds: Sequence[Round], name: str, text: str, colour: int = 0) -> Line | None:
    """One metric over rounds with its interval, if any round has it."""
    known = [(one.round, value) for one in rounds if centre(value := getattr(one, name)) is not None]
    if not known:
        return None
    values = [value for _, value in known]
    return Line(
        name=text,
        x=[round for round, _ in known],
        y=[centre(value) or 0.0 for value in values],
        low=[value.low if isinstance(value, Estimate) else None for value in values],
        high=[value.high if isinstance(value, Estimate) else None for value in values],
        colour=colour,
    )


def spoken(chart: str, lines: Sequence[Line], share: bool = False) -> str:
    """Alternative text: the first and last value of each line, with their rounds."""
    shown = Chart(name="", title="", caption="", alt="", x_label="", y_label="", share=share)
    parts = [
        f"{one.name} {shown.show(one.y[0])} at round {one.x[0]:.0f}, {shown.show(one.y[-1])} at round {one.x[-1]:.0f}"
        for one in lines
    ]
    return f"{chart}: {'; '.join(parts)}"


def win_rate(run: Run) -> Chart | None:
    lines = [
        one
        for one in (
            line(run.rounds, "win_rate", "sampled", 0),
            line(run.rounds, "exact_win_rate", "exact", 1),
        )
        if one
    ]
    if not lines:
        return None
    title = "Win rate against the reference"
    return Chart(
        name="win_rate",
        title=title,
        caption="Band: 95 % interval, clustered by prompt. Above one half (dashed) the policy beats the model it "
        "started from." + (" Exact: by enumeration of every response." if len(lines) > 1 else ""),
        alt=spoken(title, lines, share=True),
        x_label=ROUND,
        y_label="win rate",
        lines=lines,
        level=(0.5, "equality"),
        share=True,
    )


def exploitability(run: Run) -> Chart | None:
    """The plain gap, and the regularised one where it was measured."""
    lines = [
        one
        for one in (
            line(run.rounds, "exploitability", "plain game", 0),
            line(run.rounds, "gap_tau", "regularised game", 2),
        )
        if one
    ]
    if not lines:
        return None
    return Chart(
        name="exploitability",
        title="Exploitability",
        caption="How much the best opponent wins beyond one half, doubled: 0 only where no policy beats this one (a "
        "Nash equilibrium). Computed by enumeration.",
        alt=spoken("Exploitability", lines),
        x_label=ROUND,
        y_label="gap",
        lines=lines,
        log=spans_decades([value for one in lines for value in one.y]),
        from_zero=True,
    )


def kl(run: Run) -> Chart | None:
    return _one(
        run, "kl", "How far the policy has moved from the model it started from. Band: 95 % interval."
    )


def length(run: Run) -> Chart | None:
    return _one(run, "length", "Tokens per sampled response. Band: 95 % interval.")


def entropy(run: Run) -> Chart | None:
    return _one(
        run,
        "entropy",
        "How varied the policy's own responses are, per token: near 0 it writes one response to each prompt. Band: "
        "95 % interval.",
    )


def _one(run: Run, name: str, caption: str) -> Chart | None:
    drawn = line(run.rounds, name, BY_NAME[name].title)
    if drawn is None:
        return None
    return Chart(
        name=name,
        title=BY_NAME[name].title,
        caption=caption,
        alt=spoken(f"{BY_NAME[name].title} in {BY_NAME[name].unit}", [drawn]),
        x_label=ROUND,
        y_label=BY_NAME[name].unit,
        lines=[drawn],
        from_zero=True,
    )
