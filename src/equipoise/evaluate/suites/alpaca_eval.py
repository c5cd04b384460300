"""AlpacaEval's files: annotations (preferences of a judge), the two inputs of its length control, leaderboards."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.core.intervals import Interval, clustered_share
from equipoise.data.errors import DataError
from equipoise.data.files.bounds import LINE, size
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.data.files.open_bytes import check_regular, damage
from equipoise.evaluate.length_control import Gamed, LengthControlled, length_controlled, of_the_baseline
from equipoise.evaluate.written_rows import write_array
from equipoise.play.state import Floats
from equipoise.policy.files import write_text

BOARD = (
    "win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode",
    "avg_length", "length_controlled_winrate", "lc_standard_error",
)  # fmt: skip
LARGEST = LINE  # bytes of a table that is read whole
LONGEST_ROW = 100_000  # characters of its lines
NEEDED = frozenset({"instruction", "output_1", "output_2", "preference"})


@dataclass(frozen=True)
class Annotations:
    """A judge's preferences between a candidate (output 2) and the baseline (output 1).

    prob [N]      preference for the candidate in [0, 1], 1/2 for a tie; nan: the judge gave no verdict
    """

    candidate: str
    baseline: str
    annotator: str
    instructions: tuple[str, ...]
    baseline_outputs: tuple[str, ...]
    candidate_outputs: tuple[str, ...]
    prob: Floats

    @property
    def lengths(self) -> tuple[Floats, Floats]:
        """Characters of the baseline's and of the candidate's outputs."""
        first, second = (
            np.array([len(text) for text in outputs], float)
            for outputs in (self.baseline_outputs, self.candidate_outputs)
        )
        return first, second


@dataclass(frozen=True)
class Difficulty:
    """AlpacaEval's df_gamed.csv or instruction_difficulty.csv: gamma by the number of the instruction, and the rows of
    the gamed baselines if the file has them."""

    gamma: Mapping[int, float]
    gamed: Gamed | None


def is_annotations(row: Row) -> bool:
    return row.values.keys() >= NEEDED


def read_annotations(path: str | Path) -> Annotations:
    """Read an annotations.json. Preferences are coded 1 (baseline) to 2 (candidate), 0 or 1.5 a tie, null no verdict.

    Raises DataError for a preference outside this code, and for several candidates, baselines or annotators.
    """
    rows = read_rows(path)
    names = {
        column: _only(rows, column, default)
        for column, default in (
            ("generator_2", Path(path).stem),
            ("generator_1", "baseline"),
            ("annotator", ""),
        )
    }
    prob = []
    for row in rows:
        if not is_annotations(row):
            raise row.error(f"an annotation has {', '.join(sorted(NEEDED))}")
        if row.values["preference"] is None:
            prob.append(math.nan)
            continue
        coded = row.number("preference")
        if coded != 0 and not 1 <= coded <= 2:
            raise row.error(f"a preference is 1 to 2, or 0 for a tie, and this is {coded:g}")
        prob.append(0.5 if coded == 0 else coded - 1)
    return Annotations(
        names["generator_2"],
        names["generator_1"],
        names["annotator"],
        tuple(row.text("instruction") for row in rows),
        tuple(row.text("output_1") for row in rows),
        tuple(row.text("output_2") for row in rows),
        np.array(prob),
    )


def _only(rows: Sequence[Row], column: str, default: str) -> str:
    names = list(dict.fromkeys(str(row.values.get(column, default)) for row in rows))
    if len(names) > 1:
        raise DataError(f"several values of `{column}`: {', '.join(names[:4])}", file=rows[0].file)
    return names[0]


def read_difficulty(path: str | Path) -> Difficulty:
    """Read df_gamed.csv (difficulties and the gamed baselines) or instruction_difficulty.csv (difficulties alone).

    Raises DataError for another file, and for a value that is no number.
    """
    table = _table(path)
    columns = set(table[0]) if table else set()
    number = next((name for name in ("index", "") if name in columns), None)
    if number is None or "instruction_difficulty" not in columns:
        raise DataError(
            "no difficulties: expected the columns `index` and `instruction_difficulty`",
            file=str(path),
            hint="df_gamed.csv and instruction_difficulty.csv are in the data set tatsu-lab/alpaca_eval on the hub",
        )
    gamma: dict[int, float] = {}
    rows: list[tuple[float, float, float]] = []
    for line, row in enumerate(table, start=2):
        try:
            index = int(float(row[number]))
            gamma.setdefault(index, float(row["instruction_difficulty"]))
            if "preference" in columns and row["preference"] != "":
                rows.append(
                    (
                        float(row["preference"]),
                        float(row["std_delta_len"]),
                        float(row["instruction_difficulty"]),
                    )
                )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"not a number: {error}", file=str(path), line=line) from None
    if not all(map(math.isfinite, gamma.values())) or not np.isfinite(np.array(rows)).all():
        raise DataError("a difficulty or preference is not finite", file=str(path))
    if not rows:
        return Difficulty(gamma, None)
    prob, delta, hard = np.array(rows).T
    return Difficulty(gamma, Gamed(prob=prob, delta=delta, difficulty=hard))


@dataclass(frozen=True)
class Figures:
    """AlpacaEval's figures of one candidate; shares in [0, 1]."""

    win_rate: Interval
    standard_error: float
    discrete: float
    wins: int
    losses: int
    draws: int
    failed: int
    average_length: float
    controlled: LengthControlled

    def board_row(self, mode: str = "community") -> dict[str, Any]:
        """The row of a leaderboard, in percent, with the columns of its file."""
        total = self.wins + self.losses + self.draws
        values = (
            100 * self.win_rate["value"], 100 * self.standard_error, self.wins, self.losses, self.draws, total,
            100 * self.discrete, mode, int(self.average_length), 100 * self.controlled.value,
            100 * self.controlled.standard_error,
        )  # fmt: skip
        return dict(zip(BOARD, values, strict=True))


def figures(found: Annotations, difficulty: Difficulty | None = None, *, draws: int = 200) -> Figures:
    """Win rate and length-controlled win rate of annotations.

    difficulty   by the number of the row, as AlpacaEval looks it up; None, or a file that lacks a row: the minimal form
    """
    judged = ~np.isnan(found.prob)
    if not judged.any():
        raise DataError(f"no annotation of {found.candidate} has a verdict")
    prob = found.prob[judged]
    rounded = np.where(prob == 0.5, 0.5, np.round(prob))
    first, second = found.lengths
    known = difficulty is not None and all(i in difficulty.gamma for i in range(len(found.prob)))
    gamma = np.array([difficulty.gamma[i] for i in range(len(found.prob))]) if known and difficulty else None
    same = found.candidate == found.baseline
    controlled = (
        of_the_baseline(len(found.prob))
        if same
        else length_controlled(
            found.prob,
            first,
            second,
            difficulty=gamma,
            gamed=difficulty.gamed if known and difficulty else None,
            draws=draws,
        )
    )
    numbers = np.arange(len(prob))
    return Figures(
        win_rate=clustered_share(prob, numbers),
        standard_error=float(prob.std(ddof=1) / math.sqrt(len(prob))) if len(prob) > 1 else 0.0,
        discrete=float(rounded.mean()),
        wins=int((rounded == 1).sum()),
        losses=int((rounded == 0).sum()),
        draws=int((rounded == 0.5).sum()),
        failed=int((~judged).sum()),
        average_length=float(second.mean()),
        controlled=controlled,
    )


def write_annotations(path: Path, found: Annotations) -> Path:
    """Write annotations.json, whole or not at all."""
    return write_array(
        path,
        (
            {
                "instruction": instruction,
                "output_1": one,
                "generator_1": found.baseline,
                "output_2": two,
                "generator_2": found.candidate,
                "annotator": found.annotator,
                "preference": None if math.isnan(p) else 1 + float(p),
            }
            for instruction, one, two, p in zip(
                found.instructions,
                found.baseline_outputs,
                found.candidate_outputs,
                found.prob,
                strict=True,
            )
        ),
    )


def _table(path: str | Path) -> list[dict[str, str]]:
    """Rows of a CSV file, whose first column may have no name. Raises DataError for one that cannot be read."""
    path, file = Path(path), str(path)
    with damage(file):
        check_regular(path, file)
        if path.stat().st_size > LARGEST:
            raise DataError(f"larger than {size(LARGEST)}: no table of AlpacaEval's is", file=file)
        try:
            text = path.read_text(encoding="utf-8-sig")
            # not csv.field_size_limit, which is the whole process's
            if any(len(line) > LONGEST_ROW for line in text.splitlines()):
                raise csv.Error(f"a line of more than {LONGEST_ROW:,} characters")
            return list(csv.DictReader(io.StringIO(text)))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"no CSV: {error}", file=file) from None


def read_leaderboard(path: str | Path) -> dict[str, dict[str, str]]:
    """A leaderboard's rows by model, as texts. Raises DataError for a file without the column `win_rate`."""
    table = _table(path)
    if not table or not {"", "win_rate"} <= set(table[0]):
        raise DataError("no leaderboard: expected a column of names and `win_rate`", file=str(path))
    return {row[""]: {name: row[name] for name in row if name} for row in table}


def write_leaderboard(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a leaderboard, whole or not at all, the best length-controlled win rate first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["", *BOARD])
    for name, row in sorted(rows.items(), key=lambda item: -float(item[1]["length_controlled_winrate"])):
        writer.writerow([name, *(row[column] for column in BOARD)])
    write_text(path, out.getvalue())
    return path
