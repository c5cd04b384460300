"""The report of `equipoise game` on the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from equipoise.report.games.analysis import Report
from equipoise.report.labels import label


def print_game(report: Report, console: Console) -> None:
    """Every figure of one game; of several, a line each."""
    console.print(escape(heading(report)), highlight=False)
    if report["per_prompt"] and len(report["games"]) == 1:
        console.print(escape(prompts_line(report)), highlight=False)
    if len(report["games"]) > 1:
        console.print(overview(report["games"]))
        console.print("one game in full: --part NAME")
        return
    game, spread = report["games"][0], report["bootstrap"]
    for line in summary(game):
        console.print(escape(line), highlight=False)
    console.print(responses(game))
    console.print(models(game))
    if spread:
        console.print(resampled(game, spread))


def heading(report: Report) -> str:
    one, names = report["prompts"] == 1, report["games"][0]["names"]
    prompts = "1 prompt" if one else f"{report['prompts']} prompts"
    made = report["comparisons"] - report["missing"]
    verdicts = "" if abs(report["verdicts"] - made) < 0.5 else f", {report['verdicts']:.0f} verdicts"
    part = f", part {label(report['part'], 60)}" if report["part"] else ""
    text = f"{report['source']}{part}: {len(names)} responses, {prompts}, {made} comparisons{verdicts}"
    if report["missing"]:
        text += (
            f"\n{report['missing']} of {report['comparisons']} comparisons were never made: they count for nothing, "
            "and pairs are weighted by their verdicts"
        )
    return text


def prompts_line(report: Report) -> str:
    found = report["per_prompt"]
    text = (
        f"prompt by prompt: {found['with_cycle']} of {report['prompts']} have a strict 3-cycle ({found['cycles']} in "
        f"all), {found['without_condorcet']} no Condorcet winner"
    )
    if found["complete"] < report["prompts"]:
        text += f" (only {found['complete']} have every comparison; who was not compared has not won)"
    return text + ". All prompts pooled:"


def summary(game: Report) -> list[str]:
    """The game in words."""
    margin, logit, decided = game["curl"]["margin"], game["curl"]["logit"], game["decided"]
    used = sum(p > 1e-9 for p in game["responses"]["average"])
    share = f" ({game['cycles'] / decided:.1%})" if decided else ""
    logits = (
        "; some labels are certain, so no logits" if logit is None else f", {percent(logit)} of its logits"
    )
    among = f"{used} of {len(game['names'])} responses"
    if game["unique"]:
        nash = f"one policy, which writes {among}"
    else:
        nash = f"many policies, a probability ranges over up to {game['spread']:.3g}; of largest entropy: {among}"
    return [
        f"3-cycles           {game['cycles']} of {decided} triples without a tie{share}",
        f"Condorcet winner   {label(game['condorcet'] or 'none', 40)}",
        f"no reward explains {percent(margin)} of P - 1/2{logits}",
        f"planes             of P - 1/2: {strengths(game['planes']['margin'])}",
        f"Nash               {nash}",
    ]


def percent(value: float) -> str:
    return f"{value:.1%}" if value >= 5e-4 or value < 1e-12 else f"{value:.1e}"


def strengths(values: Sequence[float], shown: int = 5) -> str:
    return ", ".join(f"{v:.3g}" for v in values[:shown]) + (", ..." if len(values) > shown else "") or "none"


def responses(game: Report) -> Table:
    """One row a response, in the order of the Nash average and then of the Bradley-Terry strengths."""
    columns: dict[str, list[str]] = {"response": [label(name, 40) for name in game["names"]]}
    table, several = game["responses"], not game["unique"]
    columns["Nash"] = [plain(p) for p in table["average"]]
    if several:
        columns["all Nash"] = ranges(table["low"], table["high"])
    for regularised in game["regularised"]:
        columns[f"tau {regularised['tau']:g}"] = [plain(p) for p in regularised["policy"]]
    columns["BT"] = [
        f"{s:.2f}" + ("" if game["bradley_terry_finite"] else f" (level {lv})")
        for s, lv in zip(table["strength"], table["level"], strict=True)
    ]
    columns["Borda"] = [f"{b:.3f}" for b in table["borda"]]
    columns["Copeland"] = [f"{c:g}" for c in table["copeland"]]
    shown = in_columns(columns, game["order"])
    gaps = ", ".join(f"{r['gap']:.3g} at tau {r['tau']:g}" for r in game["regularised"])
    even = max(game["reference"]) - min(game["reference"]) < 1e-12
    shown.caption = (
        "Nash: of all Nash policies the one of largest entropy. tau: regularised Nash towards the "
        f"{'uniform policy' if even else 'reference'}, its gap in the plain game {gaps}. BT: Bradley-Terry "
        "strength in logits."
    )
    shown.caption_justify = "left"
    return shown


def in_columns(columns: dict[str, list[str]], order: Sequence[int]) -> Table:
    """One row per response, numbers to the right."""
    shown = Table(title_justify="left")
    for name in columns:
        shown.add_column(name, justify="left" if name == "response" else "right")
    for i in order:
        shown.add_row(*(escape(cells[i]) for cells in columns.values()))
    return shown


def ranges(low: Sequence[float], high: Sequence[float]) -> list[str]:
    return [f"{plain(a)} .. {plain(b)}" for a, b in zip(low, high, strict=True)]


def plain(probability: float) -> str:
    return (
        "-" if probability < 5e-7 else f"{probability:.3f}" if probability >= 5e-4 else f"{probability:.0e}"
    )


def models(game: Report) -> Table:
    table = Table(title="models of P by maximum likelihood", title_justify="left")
    for column in ("model", "mean |error|", "worst", "winners named"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for fit in game["models"]:
        k = fit["planes"]
        name = f"general preference, {k} plane{'s' * (k > 1)}" if k else "Bradley-Terry"
        accuracy = "-" if fit["accuracy"] is None else f"{fit['accuracy']:.1%}"
        table.add_row(name, error(fit["mean_error"]), error(fit["worst_error"]), accuracy)
    if game["ridge"]:
        table.caption = f"some labels are certain: planes are fitted with a ridge of {game['ridge']:g}"
    return table


def error(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-12 else "0"


def resampled(game: Report, spread: Report) -> Table:
    """What the bootstrap says of each response, and of the game below."""
    columns = {
        "response": [label(name, 40) for name in game["names"]],
        "Condorcet winner": [f"{share:.1%}" for share in spread["condorcet"]],
        "Nash": ranges(*spread["average"]),
        "Borda": ranges(*spread["borda"]),
    }
    shown = in_columns(columns, game["order"])
    left = (
        f", {spread['left_out']} of them left out for a pair without verdicts" if spread["left_out"] else ""
    )
    shown.title = f"bootstrap over prompts: {spread['resamples']} resamples (seed {spread['seed']}){left}"
    (few, many), (low, high) = spread["cycles"], spread["error"]
    shown.caption = (
        f"95 % intervals. 3-cycles in {spread['with_cycle']:.1%} of the resamples, {few:.0f} .. {many:.0f} of them; "
        f"mean |error| of Bradley-Terry {error(low)} .. {error(high)}."
    )
    shown.caption_justify = "left"
    return shown


def overview(games: Sequence[Report]) -> Table:
    """Games that cannot be pooled, a line each."""
    table = Table()
    for column in (
        "part",
        "3-cycles",
        "decided",
        "Condorcet winner",
        "cyclic",
        "BT error",
        "Nash average",
        "spread",
    ):
        table.add_column(
            column, justify="left" if column in ("part", "Condorcet winner", "Nash average") else "right"
        )
    for game in games:
        weights = game["responses"]["average"]
        top = [f"{label(game['names'][i], 20)} {weights[i]:.2f}" for i in game["order"] if weights[i] > 1e-6]
        table.add_row(
            escape(label(game["title"], 40)),
            str(game["cycles"]),
            str(game["decided"]),
            escape(label(game["condorcet"] or "-", 20)),
            percent(game["curl"]["margin"]),
            f"{game['models'][0]['mean_error']:.2g}",
            escape(", ".join(top[:4]) + (", ..." if len(top) > 4 else "")),
            "-" if game["unique"] else f"{game['spread']:.3g}",
        )
    return table
