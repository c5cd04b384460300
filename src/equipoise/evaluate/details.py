"""Details of an evaluation: the verdicts and held-out pairs that its means are taken over, and rounds against rounds.

They are logs of the run folder, one JSON object a line:

verdicts.jsonl     round, prompt_index, sample, win (P(policy's response beats the reference's), null without one),
                   length and reference_length (tokens)
held_out.jsonl     round, pair, prompt (equal for pairs of one prompt), chosen and rejected (log-ratios to the
                   reference, nats; unpaired feedback has one of them), ranked (the preferred response is the more
                   likely one: 1, 0, equal 1/2; null for unpaired feedback)
win_matrix.jsonl   round, against (an earlier round), win_rate (an interval; exact ones have no ends)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from equipoise.core.intervals import Interval
from equipoise.play.rows import Rows
from equipoise.play.state import Floats

VERDICTS, HELD_OUT, WIN_MATRIX = "verdicts.jsonl", "held_out.jsonl", "win_matrix.jsonl"
Line = dict[str, Any]


class Evaluated(NamedTuple):
    """An evaluated round: its line of evaluation.jsonl, the policy's and the reference's responses, and its details.

    logs  name of a log -> its lines
    """

    line: Line
    own: Rows
    reference: Rows
    logs: dict[str, list[Line]]


def verdict_lines(round: int, wins: Floats, own: Rows, reference: Rows) -> list[Line]:
    """Lines of verdicts.jsonl from wins [N, K] of sample k of the policy against sample k of the reference."""
    return [
        {
            "round": round,
            "prompt_index": n,
            "sample": k,
            "win": None if np.isnan(wins[n, k]) else _short(wins[n, k]),
            "length": len(own.responses[n, k].ids),
            "reference_length": len(reference.responses[n, k].ids),
        }
        for n in range(len(own))
        for k in range(wins.shape[1])
    ]


def pair_lines(round: int, ratio: Floats, prompts: npt.NDArray[Any], ranked: Floats) -> list[Line]:
    """Lines of held_out.jsonl from log-ratios [N, 2] of pairs."""
    return [
        {
            "round": round,
            "pair": n,
            "prompt": int(prompts[n]),
            "chosen": _short(ratio[n, 0]),
            "rejected": _short(ratio[n, 1]),
            "ranked": float(ranked[n]),
        }
        for n in range(len(ratio))
    ]


def feedback_lines(round: int, ratio: Floats, desirable: npt.NDArray[Any]) -> list[Line]:
    """Lines of held_out.jsonl from log-ratios [N] of unpaired feedback."""
    empty = {"chosen": None, "rejected": None, "ranked": None}
    return [
        {"round": round, "pair": n, "prompt": n, **empty, ("chosen" if up else "rejected"): _short(value)}
        for n, (value, up) in enumerate(zip(ratio, desirable, strict=True))
    ]


def matrix_lines(round: int, rates: Sequence[tuple[int, Interval]]) -> list[Line]:
    """Lines of win_matrix.jsonl: the win rate of a round's policy against those of earlier rounds."""
    return [{"round": round, "against": past, "win_rate": rate} for past, rate in rates]


def _short(value: float) -> float:
    """Six significant digits: a log is read by people too."""
    return float(f"{value:.6g}")
