"""MT-Bench's files: a judge's grades of single answers, and its verdicts on pairs in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equipoise.core.intervals import Interval, clustered_mean, clustered_share
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.evaluate.arena.bradley_terry import Battles
from equipoise.evaluate.written_rows import write_lines

FAILED = -1.0  # the grade of an answer whose grade could not be read
WINNERS = ("model_1", "model_2", "tie", "error")


@dataclass(frozen=True)
class Grade:
    """One graded answer: 1 to 10; None: the judge's grade could not be read."""

    question: str
    model: str
    turn: int
    score: float | None
    judge: str = ""


@dataclass(frozen=True)
class Match:
    """Two games of one question: who won with model_1 shown first, and with model_2 shown first."""

    question: str
    model_1: str
    model_2: str
    turn: int
    winners: tuple[str, str]
    judge: str = ""

    @property
    def credit(self) -> float | None:
        """Credit of model_1: 1 or 0 if both orders agree on a winner, else a tie; None if a game failed."""
        first, second = self.winners
        if "error" in self.winners:
            return None
        return float(first == "model_1") if first == second and first != "tie" else 0.5


def is_grades(row: Row) -> bool:
    return row.values.keys() >= {"question_id", "model", "score", "turn"}


def is_matches(row: Row) -> bool:
    return row.values.keys() >= {"question_id", "model_1", "model_2", "g1_winner", "g2_winner"}


def read_grades(path: str | Path) -> list[Grade]:
    """Read a `_single` judgment file. Raises DataError for a row that is none."""
    found = []
    for row in read_rows(path):
        if not is_grades(row):
            raise row.error("a grade has `question_id`, `model`, `score` and `turn`")
        score = row.number("score")
        found.append(
            Grade(
                row.name("question_id"),
                row.text("model"),
                int(row.number("turn")),
                None if score == FAILED else score,
                _judge(row),
            )
        )
    return found


def read_matches(path: str | Path) -> list[Match]:
    """Read a `_pair` judgment file. Raises DataError for a row that is none."""
    found = []
    for row in read_rows(path):
        if not is_matches(row):
            raise row.error("a match has `question_id`, `model_1`, `model_2`, `g1_winner` and `g2_winner`")
        winners = row.text("g1_winner"), row.text("g2_winner")
        unknown = [winner for winner in winners if winner not in WINNERS]
        if unknown:
            raise row.error(f"the winner {unknown[0]!r} is none of {', '.join(WINNERS)}")
        turn = int(row.number("turn")) if "turn" in row.values else 1
        found.append(
            Match(
                row.name("question_id"), row.text("model_1"), row.text("model_2"), turn, winners, _judge(row)
            )
        )
    return found


def _judge(row: Row) -> str:
    judge = row.values.get("judge", "")
    return " ".join(map(str, judge)) if isinstance(judge, list) else str(judge)


@dataclass(frozen=True)
class Graded:
    """Mean grades of a model: of both turns, and of each; failed grades are left out and counted."""

    model: str
    mean: Interval
    turns: dict[int, Interval]
    failed: int


def graded(grades: Sequence[Grade]) -> list[Graded]:
    """Mean grades by model, with intervals clustered by question, the best first."""
    found = []
    for model in dict.fromkeys(g.model for g in grades):
        own = [g for g in grades if g.model == model]
        read = [g for g in own if g.score is not None]
        if not read:
            continue
        turns = {turn: _mean([g for g in read if g.turn == turn]) for turn in sorted({g.turn for g in read})}
        found.append(Graded(model, _mean(read), turns, len(own) - len(read)))
    return sorted(found, key=lambda g: -g.mean["value"])


def _mean(grades: Sequence[Grade]) -> Interval:
    return clustered_mean([g.score or 0.0 for g in grades], [g.question for g in grades])


@dataclass(frozen=True)
class Matched:
    """A model's matches: win rate, win rate with half of the ties, and how often both orders agree."""

    model: str
    win_rate: Interval
    adjusted: Interval
    wins: int
    losses: int
    ties: int


def matched(matches: Sequence[Match], baseline: str | None = None) -> list[Matched]:
    """Win rates by model over all of its matches, or those with the baseline, clustered by question, best first.

    win_rate = wins / (wins + losses + ties),    adjusted = (wins + ties / 2) / (wins + losses + ties)
    """
    found = []
    rows = [
        m
        for m in matches
        if m.credit is not None and (baseline is None or baseline in (m.model_1, m.model_2))
    ]
    for model in dict.fromkeys(name for m in rows for name in (m.model_1, m.model_2)):
        if model == baseline:
            continue
        own = [m for m in rows if model in (m.model_1, m.model_2)]
        credit = np.array([(m.credit if m.model_1 == model else 1 - (m.credit or 0.0)) for m in own], float)
        questions = [m.question for m in own]
        found.append(
            Matched(
                model,
                clustered_share((credit == 1).astype(float), questions),
                clustered_share(credit, questions),
                int((credit == 1).sum()),
                int((credit == 0).sum()),
                int((credit == 0.5).sum()),
            )
        )
    return sorted(found, key=lambda m: -m.adjusted["value"])


def battles(matches: Sequence[Match]) -> tuple[Battles, int]:
    """(battles with model_1 first, number of matches left out since a game failed)."""
    models = tuple(dict.fromkeys(name for m in matches for name in (m.model_1, m.model_2)))
    rows = [m for m in matches if m.credit is not None]
    made = Battles(
        models,
        np.array([models.index(m.model_1) for m in rows], dtype=np.intp),
        np.array([models.index(m.model_2) for m in rows], dtype=np.intp),
        np.array([m.credit for m in rows], float),
        np.ones(len(rows)),
        [m.question for m in rows],
    )
    return made, len(matches) - len(rows)


def agreement(matches: Sequence[Match]) -> Interval | None:
    """Share of matches in which both orders give the same verdict, ties included, clustered by question."""
    rows = [m for m in matches if "error" not in m.winners]
    if not rows:
        return None
    return clustered_share([float(m.winners[0] == m.winners[1]) for m in rows], [m.question for m in rows])


def write_matches(path: Path, matches: Sequence[Match]) -> Path:
    """Write a `_pair` judgment file, whole or not at all."""
    return write_lines(
        path,
        (
            {
                "question_id": int(m.question) if m.question.isdigit() else m.question,
                "model_1": m.model_1,
                "model_2": m.model_2,
                "g1_winner": m.winners[0],
                "g2_winner": m.winners[1],
                "judge": m.judge.split(" "),
                "turn": m.turn,
            }
            for m in matches
        ),
    )


def write_grades(path: Path, grades: Sequence[Grade]) -> Path:
    """Write a `_single` judgment file, whole or not at all."""
    return write_lines(
        path,
        (
            {
                "question_id": int(g.question) if g.question.isdigit() else g.question,
                "model": g.model,
                "judge": g.judge.split(" "),
                "score": FAILED if g.score is None else g.score,
                "turn": g.turn,
            }
            for g in grades
        ),
    )
