"""Comparisons with labels: what an oracle is asked, made of pairs, ranked lists and round robins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Record, oracle_context
from equipoise.oracles.protocol import OraclePrompt

Floats: TypeAlias = npt.NDArray[np.float64]
KINDS = ("pair", "rank", "scores")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One question with its label.

    label    P(a beats b) by the data: 1, 0, 1/2 for a tie, or the share of annotators
    group    the prompt: intervals are clustered by it
    writers  who wrote a and b, where columns of the data say so
    columns  the data's other columns
    """

    prompt: OraclePrompt
    a: str
    b: str
    label: float
    group: str
    at: str
    writers: tuple[str, str] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Comparisons in the order of the data, and an account of what was left out.

    label    [N] P(a beats b) by the data        groups   [N] the prompt of each
    left_out why -> how many comparisons (of rows that the ledger counts as used)
    """

    rows: Sequence[Comparison]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def label(self) -> Floats:
        return np.array([row.label for row in self.rows], dtype=np.float64)

    @property
    def groups(self) -> list[Hashable]:
        return [row.group for row in self.rows]

    def questions(self) -> tuple[list[OraclePrompt], list[str], list[str]]:
        """(prompts, a, b) as `Oracle.compare` takes them."""
        return [row.prompt for row in self.rows], [row.a for row in self.rows], [row.b for row in self.rows]


def comparisons_of(
    dataset: Dataset,
    *,
    limit: int | None = None,
    writers: tuple[str, str] | None = None,
    seed: int = 0,
) -> Comparisons:
    """The comparisons of pairs, and all of those within each ranked or scored list.

    limit    most comparisons; whole prompts are drawn at random until the next would pass it. None: all
    writers  columns that say who wrote the first and the second answer of a pair (chosen_model, rejected_model);
             for lists the candidates' own source is taken

    Left out and counted: two answers with the same text, of which no oracle can prefer one, and what is beyond the
    limit. Equal scores in a list are ties. Raises DataError for data of another kind, without a single comparison,
    or without a column that `writers` names.
    """
    if dataset.kind not in KINDS:
        raise DataError(
            f"an oracle is checked on comparisons: these rows are of kind {dataset.kind}; give pairs, ranked lists or "
            "scored lists"
        )
    left_out: Counter[str] = Counter()
    found: list[Comparison] = []
    for record in dataset.records:
        for comparison in _of_record(record, writers):
            if comparison.a == comparison.b:
                left_out["both answers have the same text"] += 1
            else:
                found.append(comparison)
    kept = found if limit is None else _whole_prompts(found, limit, seed)
    if len(kept) < len(found):
        left_out[f"beyond the limit of {limit:,} comparisons (whole prompts, at random)"] = len(found) - len(
            kept
        )
    if not kept:
        raise DataError("no comparison to ask: every one is left out")
    if writers and not any(row.writers for row in kept):
        raise DataError(f"writers: no pair has the columns `{writers[0]}` and `{writers[1]}`")
    return Comparisons(rows=kept, left_out=dict(left_out))


def _of_record(record: Record, columns: tuple[str, str] | None) -> Iterator[Comparison]:
    prompt = oracle_context(record.context, record.tools, record.template_kwargs)
    pair = record.kind == "pair"
    for number, (i, j) in enumerate(combinations(range(len(record.candidates)), 2)):
        a, b = record.candidates[i], record.candidates[j]
        label = record.prob if pair else (_sign(_score(a.score) - _score(b.score)) + 1) / 2
        named = [record.extra.get(name) for name in columns] if columns and pair else [a.source, b.source]
        wrote = (str(named[0]), str(named[1])) if None not in named else None
        yield Comparison(
            prompt=prompt,
            a=a.text,
            b=b.text,
            label=label,
            group=record.group,
            at=str(record.place) if pair else f"{record.place} #{number + 1}",
            writers=wrote,
            columns=dict(record.extra) if pair else {},
        )


def _score(score: float | None) -> float:
    assert score is not None, "a list without scores"
    return score


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _whole_prompts(rows: Sequence[Comparison], limit: int, seed: int) -> list[Comparison]:
    """Comparisons of prompts drawn at random; of the first prompt alone as many as the limit allows."""
    sizes = Counter(row.group for row in rows)
    names = list(sizes)
    chosen: set[str] = set()
    count = 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if count + sizes[names[index]] > limit:
            if chosen:
                break
            return [row for row in rows if row.group == names[index]][:limit]
        chosen.add(names[index])
        count += sizes[names[index]]
    return [row for row in rows if row.group in chosen]
