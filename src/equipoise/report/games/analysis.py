"""Analysis of a game, or of the verdicts that make one, as data: what `equipoise game` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.games import zoo
from equipoise.games.analyse import (
    Analysis,
    Bootstrap,
    analyse,
    beats,
    bootstrap,
    condorcet,
    decided_triples,
    three_cycles,
)
from equipoise.games.load import load_verdicts
from equipoise.games.verdicts import Verdicts, from_game

SEVERAL = "the file holds several games: choose one with --part"

Report = dict[str, Any]


def game_report(source: str, part: str | None = None, resamples: int = 0, seed: int = 0) -> Report:
    """The object that `equipoise game --json` prints.

    source       a `.json` or `.npz` file (see `load_verdicts`) or a game of the zoo.
    part         the prompt, season or table to look at alone.
    resamples    of the prompts, for intervals; 0 = none.

    Prompts that compare the same responses are pooled into one game; others are games of their own.
    """
    if Path(source).suffix in (".json", ".npz"):
        verdicts = load_verdicts(source, part)
    else:
        verdicts = from_game(zoo.parse(source))
        verdicts = verdicts if part is None else verdicts.only(part)
    parts = [verdicts] if verdicts.shared else [verdicts.only(name) for name in verdicts.prompt_names]
    if resamples and len(parts) > 1:
        raise ValueError(SEVERAL)
    return {
        "source": source,
        "part": part,
        "prompts": len(verdicts.prompt_names),
        "comparisons": verdicts.cells,
        "missing": verdicts.missing,
        "verdicts": float(verdicts.count.sum()) / 2,
        "games": [one_game(analyse(v.pooled()), None if v is verdicts else v.prompt_names[0]) for v in parts],
        "per_prompt": per_prompt(verdicts) if len(verdicts.prompt_names) > 1 else None,
        "bootstrap": intervals(bootstrap(verdicts, resamples, seed), seed) if resamples else None,
    }


def one_game(found: Analysis, title: str | None) -> Report:
    names, best = found.game.names[0], found.condorcet
    columns = {
        "average": found.average,
        "nash": found.nash,
        "low": found.low,
        "high": found.high,
        "strength": found.bradley_terry.strength[0],
        "level": found.bradley_terry.level[0],
        "borda": found.borda,
        "copeland": found.copeland,
    }
    return {
        "title": title,
        "names": list(names),
        "order": found.order,
        "preference": found.game.preference[0].tolist(),
        "reference": found.game.reference[0].tolist(),
        "triples": found.triples,
        "decided": found.decided,
        "cycles": found.cycles,
        "condorcet": None if best is None else names[best],
        "curl": {"margin": found.curl_margin, "logit": found.curl_logit},
        "planes": {
            "margin": found.margin_planes.tolist(),
            "logit": None if found.logit_planes is None else found.logit_planes.tolist(),
        },
        "models": [
            {"planes": f.planes, "mean_error": f.mean, "worst_error": f.worst, "accuracy": f.accuracy}
            for f in found.fits
        ],
        "ridge": found.ridge,
        "bradley_terry_finite": found.bradley_terry.finite,
        "gap": found.gap,
        "unique": found.unique,
        "spread": float((found.high - found.low).max()),
        "responses": {name: values.tolist() for name, values in columns.items()},
        "regularised": [{"tau": tau, "policy": p.tolist(), "gap": gap} for tau, p, gap in found.regularised],
    }


def per_prompt(verdicts: Verdicts) -> Report:
    """Cycles and winners within single prompts. A pair that was not compared has no winner."""
    wins = beats(verdicts.prob)
    cycles, decided, winners = three_cycles(wins).tolist(), decided_triples(wins).tolist(), condorcet(wins)
    named = [None if w is None else row[w] for w, row in zip(winners, verdicts.names, strict=True)]
    return {
        "complete": sum(verdicts.complete),
        "with_cycle": sum(c > 0 for c in cycles),
        "cycles": int(sum(cycles)),
        "without_condorcet": winners.count(None),
        "each": [
            {"prompt": name, "complete": full, "cycles": int(c), "decided": int(d), "condorcet": winner}
            for name, full, c, d, winner in zip(
                verdicts.prompt_names, verdicts.complete, cycles, decided, named, strict=True
            )
        ],
    }


def intervals(found: Bootstrap, seed: int) -> Report:
    return {
        "resamples": found.resamples,
        "left_out": found.left_out,
        "seed": seed,
        "with_cycle": found.cyclic,
    } | {
        name: getattr(found, name).tolist()
        for name in ("condorcet", "cycles", "curl_margin", "error", "borda", "average")
    }
