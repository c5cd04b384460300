"""Data report before any compute is spent: ledger, decisions, lengths, and which tokens are scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from equipoise.data.read import Dataset, read
from equipoise.data.records import Record, oracle_context
from equipoise.data.render import Rendered, Renderer, load_tokenizer, sides_of
from equipoise.data.tokens import longest_sequence
from equipoise.models.tokenizer import check_ids, check_tokenizer, embedding_rows

Pieces: TypeAlias = list[tuple[str, bool]]  # token text, and whether it is scored
View: TypeAlias = tuple[str, list[tuple[str, Pieces]]]  # file:line, and the pieces of each part

COLOURS = {"chosen": "green", "rejected": "red", "completion": "green"}


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean, 95th percentile and largest of a list of lengths, in the report's unit."""

    mean: float
    p95: float
    max: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Lengths:
        return cls(
            mean=round(float(np.mean(lengths)), 2),
            p95=round(float(np.percentile(lengths, 95)), 2),
            max=int(np.max(lengths)),
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `equipoise data check`.

    unit                 "tokens" with a model, else "characters"
    lengths              "prompt" and each side -> Lengths; the answers of a list are one side, "answer"
    chosen_longer        share of pairs in which the chosen answer is longer; ties count half
    median_gap           median of length(chosen) - length(rejected)
    views                the shown rows: prompt and answers, with which of their tokens are scored
    """

    dataset: Dataset
    unit: str
    lengths: Mapping[str, Lengths]
    chosen_longer: float | None = None
    median_gap: float | None = None
    views: Sequence[View] = field(default_factory=list)


def check(
    paths: str | Path | Sequence[str | Path],
    model: str | Path | None = None,
    rows: int = 3,
    *,
    format: str = "auto",
    mapping: Mapping[str, str] | None = None,
    strict: bool = False,
    limit: int | None = None,
    prompt_words: int | None = None,
    template: str = "auto",
    max_length: int = 1024,
    max_prompt_length: int | None = None,
    long_prompt: Literal["drop", "keep_end"] = "drop",
    allow_template_divergence: bool = False,
) -> Report:
    """Reads the files, and with a model's tokenizer renders them, exactly as training would.

    Loads the tokenizer of `model`, never its weights. Raises DataError as `read` and `Renderer` do.
    """
    renderer = model and Renderer(
        load_tokenizer(model),
        template=template,
        max_length=min(max_length, longest_sequence(model)),
        max_prompt_length=max_prompt_length,
        long_prompt=long_prompt,
        allow_template_divergence=allow_template_divergence,
    )
    dataset = read(
        paths, format=format, mapping=mapping, strict=strict, limit=limit, prompt_words=prompt_words
    )
    if not renderer or not model:
        lengths = _by_part((record, _characters(record)) for record in dataset.records)
        return _report(dataset, "characters", lengths, list(map(_text_view, dataset.records[:rows])))
    rendered = renderer.render(dataset)
    tokenizer = renderer.codec.tokenizer
    if check_tokenizer(model, tokenizer):
        ids = (ids for row in rendered for ids in (row.prompt_ids, *row.response_ids))
        check_ids(model, embedding_rows(model), ids, tokenizer)
    views = [_token_view(row, renderer) for row in rendered[:rows]]
    return _report(dataset, "tokens", _by_part((row.record, _tokens(row)) for row in rendered), views)


def _characters(record: Record) -> list[int]:
    turns = [record.context] if isinstance(record.context, str) else [turn.content for turn in record.context]
    return [sum(map(len, turns)), *(len(candidate.text) for candidate in record.candidates)]


def _tokens(row: Rendered) -> list[int]:
    return [len(row.prompt_ids), *map(len, row.response_ids)]


def _by_part(rows: Iterable[tuple[Record, list[int]]]) -> dict[str, list[int]]:
    """Part ("prompt" and each side) -> the lengths over all rows; a list has one side, with all of its answers."""
    lengths: dict[str, list[int]] = {}
    for record, row in rows:
        for part, length in zip(("prompt", *sides_of(record)), row, strict=True):
            lengths.setdefault(part, []).append(length)
    return lengths


def _report(dataset: Dataset, unit: str, lengths: Mapping[str, list[int]], views: Sequence[View]) -> Report:
    longer = gap = None
    if "rejected" in lengths:
        gaps = np.subtract(lengths["chosen"], lengths["rejected"])
        longer = round(float(np.mean((np.sign(gaps) + 1) / 2)), 4)
        gap = float(np.median(gaps))
    summary = {part: Lengths.of(values) for part, values in lengths.items()}
    return Report(
        dataset=dataset, unit=unit, lengths=summary, chosen_longer=longer, median_gap=gap, views=views
    )


def _text_view(record: Record) -> View:
    context = oracle_context(record.context)
    shown = (
        context
        if isinstance(context, str)
        else "\n".join(f"[{turn['role']}] {turn['content']}" for turn in context)
    )
    answers = [(side, [(c.text, True)]) for side, c in zip(sides_of(record), record.candidates, strict=True)]
    return f"{record.file}:{record.line}", [("prompt", [(shown, False)]), *answers]


def _token_view(row: Rendered, renderer: Renderer) -> View:
    shown = renderer.codec.shown
    parts = [("prompt", [(token, False) for token in shown(row.prompt_ids)])]
    for side, ids, finished in zip(sides_of(row.record), row.response_ids, row.finished, strict=True):
        name = side if finished else f"{side} (cut)"
        parts.append((name, [(token, True) for token in shown(ids)]))
    return f"{row.record.file}:{row.record.line}", parts


def check_json(report: Report) -> dict[str, Any]:
    """The report as plain data, for `--json`."""
    dataset = report.dataset
    return {
        "format": dataset.format,
        "kind": dataset.kind,
        "space": dataset.space,
        "ledger": dataset.ledger.as_json(),
        "unit": report.unit,
        "lengths": {part: vars(lengths) for part, lengths in report.lengths.items()},
        "chosen_longer": report.chosen_longer,
        "median_gap": report.median_gap,
        "rows": [
            {
                "at": where,
                "parts": [
                    {"part": part, "pieces": [text for text, _ in pieces], "scored": part != "prompt"}
                    for part, pieces in parts
                ],
            }
            for where, parts in report.views
        ],
    }


def print_check(report: Report, console: Console) -> None:
    """The report for a person: scored tokens are coloured and underlined, others dim."""
    dataset = report.dataset
    console.print(dataset.ledger.table())
    for note in dataset.notes:
        console.print(f"- {escape(note)}", highlight=False)
    console.print(_length_table(report))
    if report.chosen_longer is not None:
        console.print(
            f"the chosen answer is the longer one in {report.chosen_longer:.1%} of pairs (ties half); "
            f"median length chosen - rejected: {report.median_gap:+g} {report.unit}"
        )
    for where, parts in report.views:
        console.print(f"\n[bold]{escape(where)}[/bold]", highlight=False)
        for part, pieces in parts:
            console.print(_coloured(part, pieces), highlight=False, soft_wrap=True)


def _length_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, title=f"Lengths in {report.unit}", title_justify="left")
    for name in ("part", "mean", "p95", "max"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part, lengths in report.lengths.items():
        table.add_row(part, f"{lengths.mean:,.1f}", f"{lengths.p95:,.1f}", f"{lengths.max:,}")
    return table


def _coloured(part: str, pieces: Sequence[tuple[str, bool]]) -> Text:
    """One part as rich Text: alternating weights show token boundaries; [brackets] in the data stay literal."""
    text = Text.assemble((f"{part}: ", "bold"))
    colour = COLOURS.get(part.split(" ")[0], "yellow")
    for index, (piece, scored) in enumerate(pieces):
        style = f"{'bold ' if index % 2 else ''}underline {colour}" if scored else "dim"
        text.append(piece, style=style)
    return text
