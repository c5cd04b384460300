"""Results of an evaluation as tables, on the console and as one page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from equipoise.policy.files import write_json
from equipoise.report.estimates import NOTHING, number, share
from equipoise.report.numbers import percent, plain
from equipoise.report.page import cut, render_page, write_page
from equipoise.report.sheet import Sheet, print_sheet
from equipoise.safe_text import printable

LONGEST = 4_000  # characters of a shown answer
SHOWN = 8  # prompts whose answers the page shows


def tables(results: Mapping[str, Any]) -> list[Sheet]:
    """The tables of results.json, whatever it holds."""
    made = [make(results) for make in (_rates, _ratings, _own, _population, _mixtures, _judge, _lm_eval)]
    made += [_annotated(results), _matched(results), _grades(results), _benchmark(results)]
    made += _categories(results)
    return [table for table in made if table is not None and table.rows]


def _rates(results: Mapping[str, Any]) -> Sheet | None:
    rows = [
        (
            one["candidate"],
            share(one["win_rate"]),
            _controlled(one["length_controlled"]),
            f"{one['comparisons']:,}",
            f"{one['prompts']:,}",
            f"{one['failed'] + one['unanswered']:,}",
            f"{100 * one['if_all_failures_lost']:.1f}–{percent(one['if_all_failures_won'])}",
        )
        for one in results.get("win_rates", ())
    ]
    warned = [
        f"{one['candidate']}: {one['length_controlled']['warning']}"
        for one in results.get("win_rates", ())
        if one["length_controlled"] and one["length_controlled"]["warning"]
    ]
    forms = sorted(
        {one["length_controlled"]["form"] for one in results.get("win_rates", ()) if one["length_controlled"]}
    )
    note = "95 % intervals, clustered by prompt."
    if forms:
        note += f" Length control: AlpacaEval 2's model, {' and '.join(forms)} form."
    return Sheet(
        f"Win rate against {results.get('baseline')}",
        ("", "win rate", "length-controlled", "comparisons", "prompts", "failed", "with failures"),
        rows,
        " ".join([note, *(f"{w}." for w in warned)]),
    )


def _controlled(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOTHING
    return share(found["interval"] or {"value": found["value"], "low": None, "high": None})


def _rating_rows(ratings: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in ratings:
        low, high = one["interval"]
        rating = NOTHING if one["rating"] is None else f"{one['rating']:.0f}"
        ends = f" ({low:.0f}–{high:.0f})" if low is not None and one["rating"] is not None else ""
        rows.append((one["model"], rating + ends, share(one["win_rate"]), f"{one['battles']:,.0f}"))
    return rows


def _ratings(results: Mapping[str, Any]) -> Sheet | None:
    return Sheet(
        "Bradley-Terry ratings",
        ("", "rating", "win rate against the baseline", "battles"),
        _rating_rows(results.get("ratings", ())),
        "The baseline stands at 1000, ten times the odds at 400 more; intervals by a bootstrap over prompts.",
    )


OWN: Sequence[tuple[str, str, Callable[[Any], str]]] = (
    ("reward", "reward", number),
    ("kl", "KL to the reference (nats)", number),
    ("tokens", "tokens", number),
    ("characters", "characters", number),
    ("finished", "finished", share),
    ("distinct_1", "distinct-1", number),
    ("distinct_2", "distinct-2", number),
    ("self_bleu", "self-BLEU", number),
)


RANKED: Sequence[tuple[str, str]] = (
    ("accuracy", "ranking accuracy on pairs"),
    ("per_token", "the same per token"),
    ("implicit_reward", "accuracy of the implicit reward"),
)


def _own(results: Mapping[str, Any]) -> Sheet | None:
    own = results.get("own", {})
    rows: list[tuple[str, ...]] = [
        (heading, *(show(one.get(key)) for one in own.values()))
        for key, heading, show in OWN
        if any(one.get(key) is not None for one in own.values())
    ]
    rows += [
        (heading, *(share(one.get("ranking", {}).get(key)) for one in own.values()))
        for key, heading in RANKED
        if any(one.get("ranking", {}).get(key) is not None for one in own.values())
    ]
    return Sheet("Each model's answers", ("", *own), rows)


def _population(results: Mapping[str, Any]) -> Sheet | None:
    game = results.get("population")
    if not game:
        return None
    names = game["models"]
    rows = [
        (name, *(percent(rate) for rate in row), percent(game["nash"][name]))
        for name, row in zip(names, game["win_rates"], strict=True)
    ]
    winner = "One model beats all others." if game["condorcet_winner"] else "No model beats all others."
    return Sheet(
        "Win rates of the population",
        ("", *names, "share in the Nash mixture"),
        rows,
        f"{winner} {percent(game['cyclic_triples'])} of the triples beat each other in a circle.",
    )


def _mixtures(results: Mapping[str, Any]) -> Sheet | None:
    game = results.get("population")
    rows = [
        (name, share(one["interval"]), one["exploiter"])
        for name, one in (game or {}).get("exploitability", {}).items()
    ]
    return Sheet(
        "Exploitability within the population",
        ("", "exploitability", "exploited most by"),
        rows,
        "How much more than half the best opponent of the population wins; estimated on split halves of the prompts.",
    )


def _judge(results: Mapping[str, Any]) -> Sheet | None:
    judge = results.get("judge") or {}
    rows = [(words, show(judge[key])) for key, words, show in (
        ("orders_agree", "both orders prefer the same answer", share),
        ("answered", "new verdicts", str),
        ("stored", "verdicts read back", str),
        ("failed", "questions without a verdict", str),
        ("cost", "cost", number),
    ) if judge.get(key) is not None]  # fmt: skip
    rows += [(f"without a verdict: {why}", str(count)) for why, count in judge.get("reasons", {}).items()]
    accuracy = judge.get("accuracy")
    if accuracy:
        rows.append(("accuracy on the recorded pairs", share(accuracy["accuracy"])))
    return Sheet(f"The judge {results.get('oracle')}", ("", ""), rows)


def _lm_eval(results: Mapping[str, Any]) -> Sheet | None:
    rows = [
        (name, task, metric.partition(",")[0], plain(value))
        for name, tasks in results.get("lm_eval", {}).items()
        for task, metrics in tasks.items()
        for metric, value in metrics.items()
    ]
    return Sheet("lm-evaluation-harness", ("", "task", "metric", "value"), rows)


def _annotated(results: Mapping[str, Any]) -> Sheet | None:
    rows = []
    notes = []
    for one in results.get("models", ()) if results.get("kind") == "alpaca_eval annotations" else ():
        lc = one["length_controlled"]
        rows.append(
            (
                one["model"],
                share(one["win_rate"]),
                _controlled(lc),
                percent(lc["standard_error"]),
                percent(one["discrete_win_rate"]),
                f"{one['average_length']:,.0f}",
                f"{one['failed']:,}",
            )
        )
        notes += [
            f"{one['model']}: {lc['form']} form" + (f"; {lc['warning']}" if lc["warning"] else "") + "."
        ]
    return Sheet(
        "AlpacaEval",
        ("", "win rate", "length-controlled", "its standard error", "discrete", "characters", "failed"),
        rows,
        " ".join(notes[:12]),
    )


def _matched(results: Mapping[str, Any]) -> Sheet | None:
    rows = [
        (
            one["model"],
            share(one["win_rate"]),
            share(one["adjusted"]),
            one["wins"],
            one["losses"],
            one["ties"],
        )
        for one in results.get("matches", ())
    ]
    return Sheet(
        "MT-Bench, pairs",
        ("", "win rate", "with half of the ties", "wins", "losses", "ties"),
        [tuple(map(str, row)) for row in rows],
        f"Both orders agree in {share(results.get('orders_agree'))} of the matches; {results.get('failed')} failed.",
    )


def _grades(results: Mapping[str, Any]) -> Sheet | None:
    rows = [
        (
            one["model"],
            number(one["mean"]),
            *(number(one["turns"].get(t)) for t in (1, 2)),
            str(one["failed"]),
        )
        for one in results.get("grades", ())
    ]
    return Sheet("MT-Bench, grades", ("", "mean", "first turn", "second turn", "failed"), rows)


def _benchmark(results: Mapping[str, Any]) -> Sheet | None:
    found = results.get("reward_bench")
    if not found:
        return None
    rows = [("overall", percent(found["overall"]))]
    rows += [(name, percent(value)) for name, value in found["sections"].items()]
    rows += [(f"  {name}", share(value)) for name, value in found["subsets"].items()]
    note = f"Missing: {', '.join(found['missing'])}. " if found["missing"] else ""
    if found["strict"] != found["overall"]:
        note += f"With equal best scores counted as wrong: {percent(found['strict'])}. "
    note += f"{found['failed']} items with an answer without a score." if found["failed"] else ""
    return Sheet(
        f"RewardBench {found['version']}: {results.get('oracle')}", ("", "accuracy"), rows, note.strip()
    )


def _categories(results: Mapping[str, Any]) -> list[Sheet]:
    made = []
    for name, one in results.get("categories", {}).items():
        left_out = f" {one['failed']} questions without verdicts in both orders." if one["failed"] else ""
        made.append(
            Sheet(
                f"Arena-Hard ({name}): Bradley-Terry against {one['baseline']}, as version 0.1",
                ("", "rating", "win rate", "battles"),
                _rating_rows(one["ratings"]),
                f"95 % intervals by a bootstrap over prompts.{left_out}",
            )
        )
        made.append(
            Sheet(
                f"Arena-Hard ({name}): mean score, as version 2.0",
                ("", "score"),
                [(score["model"], share(score["score"])) for score in one["scores"]],
                "Strong verdicts count three times; 90 % intervals by a bootstrap over prompts.",
            )
        )
    return made


def print_evaluation(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables; names are untrusted and carry no markup."""
    console = console or Console()
    for sheet in tables(results):
        print_sheet(sheet, console)
    console.print()
    for note in results.get("notes", ()):
        console.print(Text(f"note: {printable(note, most=400)}"))


def write_evaluation(
    folder: Path, results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]] = ()
) -> tuple[Path, Path]:
    """Write results.json and evaluation.html into a folder, each whole or not at all; returns their paths.

    examples   {prompt, answers: [(who, text, verdict)]}, of which the page shows the first ones
    """
    write_json(folder / "results.json", results)
    shown = [
        {
            "prompt": cut(str(one["prompt"]), LONGEST),
            "answers": [(who, cut(text, LONGEST) or "(empty)", said) for who, text, said in one["answers"]],
        }
        for one in examples[:SHOWN]
    ]
    page = render_page(
        "evaluation.html.jinja",
        title="Equipoise evaluation",
        tables=tables(results),
        notes=list(results.get("notes", ())),
        examples=shown,
        settings=cut(json.dumps(results.get("asked", {}), indent=2, ensure_ascii=False), 20_000),
    )
    return folder / "results.json", write_page(folder / "evaluation.html", page)
