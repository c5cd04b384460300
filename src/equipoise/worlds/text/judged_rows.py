"""Judged responses of a run as preference data: pairs with the probability that the oracle gave, or scored lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from equipoise.data.errors import DataError
from equipoise.play.rows import Rows
from equipoise.worlds.text.journal import Journal, load_rows

JUDGED = "judging"  # the stage that holds comparisons with their labels


def rounds_of(folder: Path) -> list[int]:
    """The rounds of a run folder whose comparisons are stored."""
    found = sorted((folder / "rounds").glob(f"*/{JUDGED}.parquet"))
    return [int(path.parent.name) for path in found if path.parent.name.isdigit()]


def judged_rows(folder: Path, round: int | None = None) -> Iterator[dict[str, Any]]:
    """The comparisons of one round, or of all, as rows in the layout of JSON lines that `data.read` reads.

    Two responses with a label are a pair with `prob`, P(first beats second); responses with rewards are a scored
    list. Each row keeps who wrote the responses (`writers`), whether they ended by themselves (`finished`), and the
    `round`.

    Raises DataError for a folder without such rounds, a damaged one, or a round without judgements.
    """
    known = rounds_of(folder)
    if not known:
        raise DataError("no judged responses in this folder", file=str(folder), hint="give a run folder")
    if round is not None and round not in known:
        listed = ", ".join(map(str, known))
        raise DataError(f"no round {round}", file=str(folder), hint=f"rounds with judged responses: {listed}")
    for number in known if round is None else [round]:
        path = Journal(folder).stage(number, JUDGED)
        try:
            rows = load_rows(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"cannot be read; it may be damaged: {error}", file=str(path)) from None
        if rows.prob is None and rows.reward is None:
            raise DataError("these responses have no judgements", file=str(path))
        yield from _rows(rows, number)


def _rows(rows: Rows, round: int) -> Iterator[dict[str, Any]]:
    for place, (prompt, responses) in enumerate(zip(rows.prompts, rows.responses, strict=True)):
        chat = not isinstance(prompt.context, str)
        texts = [[{"role": "assistant", "content": r.text}] if chat else r.text for r in responses]
        row: dict[str, Any] = {"id": f"round-{round:03d}:{place}", "prompt": prompt.context}
        if rows.prob is not None:
            row |= {"chosen": texts[0], "rejected": texts[1], "prob": float(rows.prob[place])}
        elif rows.reward is not None:
            row |= {"responses": texts, "rewards": [float(reward) for reward in rows.reward[place]]}
        if rows.weight[place] != 1.0:
            row["weight"] = float(rows.weight[place])
        yield row | {
            "round": round,
            "writers": list(rows.writers),
            "finished": [bool(response.finished) for response in responses],
        }
