"""The comparison of runs as one self-contained page, or as a picture for print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.policy.files import whole
from equipoise.report.charts.chart import Chart, Line, spans_decades
from equipoise.report.charts.interactive import page_scripts
from equipoise.report.comparison import paired
from equipoise.report.comparison.compare import HEADINGS, MAX_SETTINGS, WORDS, Comparison, Group, compare
from equipoise.report.numbers import duration
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.run.metrics import BY_NAME, Metric
from equipoise.report.run.records import Run
from equipoise.report.run.round_charts import line, spoken
from equipoise.report.run.sample_views import MAX_TEXT, Shown, response
from equipoise.report.run.step_charts import held_out

MAX_PROMPTS = 8
CURVES = ("win_rate", "exact_win_rate", "exploitability", "accuracy", "kl", "entropy", "length")
FROM_ZERO = ("exploitability", "kl", "entropy", "length")


@dataclass(frozen=True)
class SideBySide:
    """One prompt with the last response of every run that answered it."""

    prompt: str
    responses: tuple[Shown, ...]


def write_comparison(run_dirs: Sequence[str | Path], out: str | Path, about: str = "") -> Path:
    """Write the comparison of any runs as one self-contained page (.html) or as a picture of its curves (.png).

    about  what the runs are, in a few sentences at the beginning of the page.

    Raises ValueError for another suffix, for a picture of runs without curves, and as `compare` does.
    """
    out = Path(out)
    if out.suffix not in (".html", ".png"):
        raise ValueError(f"{out}: a comparison is written as .html or .png")
    comparison = compare(run_dirs)
    if out.suffix == ".png":
        return _picture(comparison, out)
    charts = list(curves(comparison))
    html = render_page(
        "compare.html.jinja",
        title="Equipoise comparison",
        about=about,
        words=list(_words(comparison)),
        said=comparison.said,
        apart=comparison.apart,
        tables=[_table(group) for group in comparison.groups],
        runs=_about(comparison),
        names=comparison.names,
        settings=[
            (name, [cut(v, 200) for v in values]) for name, values in comparison.settings[:MAX_SETTINGS]
        ],
        settings_left_out=max(0, len(comparison.settings) - MAX_SETTINGS),
        samples=side_by_side(comparison),
        charts=charts,
        **page_scripts(charts),
    )
    return write_page(out, html)


def _words(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """(name, what it says, which way is better) of the figures on the page."""
    shown = {figure for group in comparison.groups for figure in group.filled(page=True)}
    for figure in filter(shown.__contains__, HEADINGS):
        better = BY_NAME[figure].better if figure in BY_NAME else "neutral"
        yield _heading(figure), WORDS[figure], "–" if better == "neutral" else better


def _heading(figure: str) -> str:
    return HEADINGS[figure].replace("-\n", "").replace("\n", " ")


def curves(comparison: Comparison) -> Iterator[Chart]:
    """Each figure over rounds, all runs of one evaluation in one chart; held-out accuracy over steps too."""
    for figure in CURVES:
        groups = [group for group in comparison.groups if figure in group.figures]
        drawn = [(group, _lines(comparison, group, figure)) for group in groups]
        drawn = [(group, lines) for group, lines in drawn if lines]
        for place, (group, lines) in enumerate(drawn):
            yield _curve(figure, lines, f", {_of(group)}" if len(drawn) > 1 else "", place)
    groups = [group for group in comparison.groups if "accuracy" in group.figures]
    for place, group in enumerate(groups):
        runs = [(row.name, row.index) for row in group.rows if row.index is not None]
        lines = [
            Line(name=name, x=one.x, y=one.y, colour=k, parts=one.parts)
            for name, k in runs
            if comparison.runs[k].within
            for one in held_out(comparison.runs[k], "accuracy", k)
        ]
        if lines:
            title = f"Held-out accuracy over steps{f', {_of(group)}' if len(groups) > 1 else ''}"
            yield Chart(
                name=f"steps-accuracy-{place}",
                title=title,
                caption="Measured inside fits, on pairs that are not trained on.",
                alt=f"{title}: " + "; ".join(f"{one.name} ends at {100 * one.y[-1]:.1f} %" for one in lines),
                x_label="optimizer step",
                y_label="accuracy",
                lines=lines,
                level=(0.5, "chance"),
                share=True,
            )


def side_by_side(comparison: Comparison) -> list[SideBySide]:
    """Prompts that at least two runs answered (one, of a single run), with the response of each one's last round."""
    last = [
        {s.prompt: s for s in run.samples if run.final and s.round == run.final.round}
        for run in comparison.runs
    ]
    prompts = dict.fromkeys(prompt for one in last for prompt in one)
    shared = [p for p in prompts if sum(p in one for one in last) >= min(2, len(last))][:MAX_PROMPTS]
    return [
        SideBySide(
            cut(prompt.strip(), MAX_TEXT),
            tuple(
                response(one[prompt], name)
                for name, one in zip(comparison.names, last, strict=True)
                if prompt in one
            ),
        )
        for prompt in shared
    ]


def _lines(comparison: Comparison, group: Group, figure: str) -> list[Line]:
    found = [
        line(comparison.runs[row.index].rounds, figure, row.name, row.index)
        for row in group.rows
        if row.index is not None
    ]
    return [one for one in found if one]


def _curve(figure: str, lines: Sequence[Line], of: str, place: int) -> Chart:
    metric = BY_NAME[figure]
    share = metric.unit == "share"
    return Chart(
        name=f"{figure}-{place}",
        title=f"{metric.title}{of}",
        caption=" ".join(_captions(metric, lines)),
        alt=spoken(f"{metric.title}{of}", lines, share),
        x_label="round",
        y_label="share" if share else metric.unit,
        lines=lines,
        level=(0.5, "equality") if figure in ("win_rate", "exact_win_rate", "accuracy") else None,
        share=share,
        log=figure == "exploitability" and spans_decades([y for one in lines for y in one.y]),
        from_zero=figure in FROM_ZERO,
    )


def _captions(metric: Metric, lines: Sequence[Line]) -> Iterator[str]:
    if any(end is not None for one in lines for end in one.low or ()):
        yield "Bands: 95 % intervals."
    if metric.better != "neutral":
        yield f"{metric.better.capitalize()} is better."


def _of(group: Group) -> str:
    names = [row.name for row in group.members]
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


def _table(group: Group) -> dict[str, object]:
    figures = group.filled(page=True)
    moved = [
        (name, [paired.shown(figure, own[figure]) if figure in own else ("", "") for figure in figures])
        for name, own in group.moved.items()
        if own
    ]
    return {
        "of": _of(group),
        "headings": [_heading(figure) for figure in figures],
        "rows": [(row.name, [row.parts(figure) for figure in figures]) for row in group.rows],
        "first": group.members[0].name,
        "moved": moved,
        "empty": not figures,
    }


def _about(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    """(name, folder, rounds, optimizer steps, time) of every run."""
    return [
        (name, str(run.folder), *_cost(run))
        for name, run in zip(comparison.names, comparison.runs, strict=True)
    ]


def _cost(run: Run) -> tuple[str, str, str]:
    seconds = sum(run.by_phase("seconds").values())
    return (
        str(run.final.round) if run.final else "–",
        f"{len(run.steps):,}" if run.steps else "–",
        duration(seconds) if seconds else "–",
    )


def _picture(comparison: Comparison, out: Path) -> Path:
    from equipoise.report.charts.printed import picture

    shown = [
        c
        for c in curves(comparison)
        if c.name.split("-")[0] in ("win_rate", "exact_win_rate", "exploitability")
    ]
    if not shown:
        raise ValueError("none of these runs holds an exploitability or a win rate to draw")
    png = picture(shown)
    with whole(out) as draft:
        draft.write_bytes(png)
    return out
