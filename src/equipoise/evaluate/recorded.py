"""Evaluation of files that a judge has filled already: AlpacaEval annotations, Arena-Hard and MT-Bench judgments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.evaluate.arena.bradley_terry import mean_scores, rated
from equipoise.evaluate.suites import alpaca_eval, arena_hard, mt_bench, reward_bench
from equipoise.evaluate.suites.alpaca_eval import Difficulty

DRAWS = 200

# what a row looks like -> what such a file is called
KINDS: Sequence[tuple[str, Callable[[Row], bool]]] = (
    ("alpaca_eval annotations", alpaca_eval.is_annotations),
    ("arena_hard judgments", arena_hard.is_judgments),
    ("mt_bench pairs", mt_bench.is_matches),
    ("mt_bench grades", mt_bench.is_grades),
    ("reward_bench", reward_bench.is_items),
)


def kind_of(path: str | Path) -> str | None:
    """The kind of a file that says what a judge decided, or RewardBench's; None for any other (answers)."""
    first = read_rows(path)[0]
    return next((name for name, fits in KINDS if fits(first)), None)


def evaluate_recorded(
    paths: Sequence[str | Path],
    *,
    baseline: str | None = None,
    difficulty: Difficulty | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of judged files of one kind. Raises DataError for files of several kinds, or of none."""
    kinds = {str(path): kind_of(path) for path in paths}
    if len(set(kinds.values())) > 1 or None in kinds.values():
        told = ", ".join(f"{path}: {kind or 'answers'}" for path, kind in kinds.items())
        raise DataError(f"these files are not of one kind: {told}")
    (kind,) = set(kinds.values())
    found: dict[str, Any] = {"kind": kind, "files": list(kinds)}
    if kind == "alpaca_eval annotations":
        return found | _annotated(paths, difficulty)
    if kind == "arena_hard judgments":
        return found | _judged(paths, baseline, seed)
    if kind == "mt_bench pairs":
        return found | _matched(paths, baseline, seed)
    if kind == "mt_bench grades":
        grades = mt_bench.graded([grade for path in paths for grade in mt_bench.read_grades(path)])
        return found | {"grades": [vars(one) for one in grades]}
    raise DataError(
        "RewardBench's items are not judged yet", file=str(paths[0]), hint="give --oracle, and no other file"
    )


def _annotated(paths: Sequence[str | Path], difficulty: Difficulty | None) -> dict[str, Any]:
    models, board = [], {}
    for path in paths:
        read = alpaca_eval.read_annotations(path)
        got = alpaca_eval.figures(read, difficulty, draws=DRAWS)
        models.append(
            {
                "model": read.candidate,
                "baseline": read.baseline,
                "win_rate": got.win_rate,
                "discrete_win_rate": got.discrete,
                "length_controlled": got.controlled.plain(),
                "wins": got.wins,
                "losses": got.losses,
                "draws": got.draws,
                "failed": got.failed,
                "average_length": got.average_length,
            }
        )
        board[read.candidate] = got.board_row()
    return {"models": models, "leaderboard": board}


def _judged(paths: Sequence[str | Path], baseline: str | None, seed: int) -> dict[str, Any]:
    judgments = [one for path in paths for one in arena_hard.read_judgments(path, baseline)]
    # each category has a baseline of its own: they are different games
    categories: dict[str, Any] = {}
    for name in dict.fromkeys((j.category, j.baseline) for j in judgments):
        own = [j for j in judgments if (j.category, j.baseline) == name]
        battles, failed = arena_hard.battles(own)
        scores: list[dict[str, Any]] = [
            {"model": model, "score": mean_scores(battles, k, seed=seed)}
            for k, model in enumerate(battles.models)
            if model != name[1]
        ]
        category = name[0] or "all"
        categories[f"{category}, {name[1]}" if category in categories else category] = {
            "baseline": name[1],
            "ratings": [r.plain() for r in rated(battles, name[1], draws=DRAWS, seed=seed)],
            "scores": sorted(scores, key=lambda s: -s["score"]["value"]),
            "failed": failed,
        }
    return {"categories": categories}


def _matched(paths: Sequence[str | Path], baseline: str | None, seed: int) -> dict[str, Any]:
    matches = [match for path in paths for match in mt_bench.read_matches(path)]
    battles, failed = mt_bench.battles(matches)
    anchor = baseline or battles.models[0]
    return {
        "baseline": anchor,
        "matches": [vars(one) for one in mt_bench.matched(matches, baseline)],
        "ratings": [r.plain() for r in rated(battles, anchor, draws=DRAWS, seed=seed)],
        "orders_agree": mt_bench.agreement(matches),
        "failed": failed,
    }
