"""Arena-Hard's files: judgments of two games for each question, in both orders, of versions 0.1 and 2.0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.evaluate.arena.bradley_terry import STRONG, Battles
from equipoise.evaluate.written_rows import write_lines

BASELINES = {"0.1": "gpt-4-0314", "2.0": "o3-mini-2025-01-31", "creative_writing": "gemini-2.0-flash"}
VERDICTS = {  # a verdict of A against B -> (credit of A, battles that it counts for)
    "A>>B": (1.0, STRONG), "A>B": (1.0, 1), "A=B": (0.5, 1), "B=A": (0.5, 1), "B>A": (0.0, 1), "B>>A": (0.0, STRONG),
    "A<B": (0.0, 1), "A<<B": (0.0, STRONG), "B<A": (1.0, 1), "B<<A": (1.0, STRONG),
}  # fmt: skip


@dataclass(frozen=True)
class Judgment:
    """A judge's verdicts on one question: first with the baseline as A, then with the model as A; None: no verdict."""

    question: str
    model: str
    baseline: str
    category: str
    judge: str
    verdicts: tuple[str | None, str | None]


def is_judgments(row: Row) -> bool:
    return "games" in row.values and {"question_id", "uid"} & row.values.keys() != set()


def read_judgments(path: str | Path, baseline: str | None = None) -> list[Judgment]:
    """Read a model_judgment file. Version 2.0 names its questions `uid`, and says their category and baseline.

    baseline   of rows that do not say theirs; None: the benchmark's own

    Raises DataError for a row without two games, and for a verdict that does not exist.
    """
    found = []
    for row in read_rows(path):
        if not is_judgments(row):
            raise row.error("a judgment has `games` and a `question_id` (0.1) or `uid` (2.0)")
        new = "uid" in row.values
        games = row.values["games"]
        if not isinstance(games, list) or len(games) != 2:
            raise row.error("`games` must hold two games, one in each order")
        category = str(row.values.get("category", ""))
        usual = BASELINES.get(category, BASELINES["2.0" if new else "0.1"])
        found.append(
            Judgment(
                row.name("uid" if new else "question_id"),
                row.text("model"),
                str(row.values.get("baseline") or baseline or usual),
                category,
                str(row.values.get("judge", "")),
                (_verdict(row, games[0]), _verdict(row, games[1])),
            )
        )
    return found


def _verdict(row: Row, game: Any) -> str | None:
    said = game.get("score") if isinstance(game, Mapping) else None
    if said is None:
        return None
    if not isinstance(said, str) or said not in VERDICTS:
        raise row.error(f"the verdict {said!r} is none of {', '.join(VERDICTS)}")
    return said


def battles(judgments: Sequence[Judgment]) -> tuple[Battles, int]:
    """(battles with the model first, number of questions left out since a game has no verdict).

    Both games of a question count, as in the benchmark; a question with one failed game is left out whole.
    """
    whole = [j for j in judgments if None not in j.verdicts]
    models = tuple(dict.fromkeys(name for j in judgments for name in (j.baseline, j.model)))
    index = {name: i for i, name in enumerate(models)}
    rows: list[tuple[int, int, float, float, str]] = []
    for j in whole:
        for game, verdict in enumerate(j.verdicts):
            credit, count = VERDICTS[str(verdict)]
            rows.append(
                (index[j.model], index[j.baseline], 1 - credit if game == 0 else credit, count, j.question)
            )
    if not rows:
        raise DataError("no question has verdicts in both orders")
    first, second, prob, weight, prompts = zip(*rows, strict=True)
    made = Battles(
        models, np.array(first), np.array(second), np.array(prob), np.array(weight, float), list(prompts)
    )
    return made, len(judgments) - len(whole)


def label(prob: float) -> str:
    """The verdict of A against B that stands for P(A beats B): strong from 0.9 on, a tie within 0.05 of one half.

    Mirrored exactly: the verdict for 1 - prob is that of B against A.
    """
    margin = round(abs(prob - 0.5), 9)  # 1 - prob is rounded
    if margin < 0.05:
        return "A=B"
    sign = ">>" if margin >= 0.4 else ">"
    return f"A{sign}B" if prob > 0.5 else f"B{sign}A"


def write_judgments(path: Path, judgments: Sequence[Judgment], version: str = "2.0") -> Path:
    """Write a model_judgment file of version 0.1 or 2.0, whole or not at all."""
    rows = []
    for j in judgments:
        games = [{"score": verdict, "judgment": None} for verdict in j.verdicts]
        if version == "2.0":
            row = {"uid": j.question, "category": j.category, "judge": j.judge, "model": j.model,
                   "baseline": j.baseline, "games": games}  # fmt: skip
        else:
            row = {"question_id": j.question, "model": j.model, "judge": j.judge, "games": games}
        rows.append(row)
    return write_lines(path, rows)


def write_model_answers(
    path: Path, rows: Sequence[tuple[str, Any, str]], model: str, version: str = "2.0"
) -> Path:
    """Write a model_answer file of version 0.1 or 2.0 out of (question, prompt's turns, answer)."""
    made: list[dict[str, Any]] = []
    for question, context, text in rows:
        turns = (
            [{"role": "user", "content": context}] if isinstance(context, str) else [dict(t) for t in context]
        )
        if version == "2.0":
            answer = {"role": "assistant", "content": {"answer": text}}
            made.append(
                {
                    "uid": question,
                    "ans_id": f"{model}-{question}",
                    "model": model,
                    "messages": [*turns, answer],
                }
            )
        else:
            made.append(
                {
                    "question_id": question,
                    "answer_id": f"{model}-{question}",
                    "model_id": model,
                    "choices": [{"index": 0, "turns": [{"content": text}]}],
                }
            )
    return write_lines(path, made)
