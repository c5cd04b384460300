"""The data check: files read and rendered exactly as training would, counted in one pass, some rows shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.ledger import Ledger
from equipoise.data.plain_strings import note_plain_strings
from equipoise.data.reading.read import Dataset, Stream, read, scan
from equipoise.data.rendering.render import Renderer, load_tokenizer
from equipoise.data.rendering.tokens import longest_sequence
from equipoise.models.tokenizer import check_ids, check_tokenizer, embedding_rows
from equipoise.report.data_check.statistics import Statistics
from equipoise.report.data_check.views import View, Wanted, text_view, token_view


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of `equipoise data check`.

    files, model   as given; model None: texts are not made tokens
    figures        `Statistics.as_json`
    views          the shown rows: prompt and answers, with which of their tokens are scored
    """

    files: Sequence[str]
    model: str | None
    format: str
    kind: str
    space: str
    ledger: Ledger
    figures: Mapping[str, Any]
    views: Sequence[View]

    @property
    def unit(self) -> str:
        """The unit of lengths and of the length bias: "tokens" with a model, else "characters"."""
        return "tokens" if self.model else "characters"


def options_of(function: Callable[..., Any]) -> frozenset[str]:
    """The names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


READING = options_of(read)
RENDERING = options_of(Renderer)
SETTINGS = READING | RENDERING  # the data settings that decide what a run reads, and how it renders it


def check(
    paths: str | Path | Sequence[str | Path],
    model: str | Path | None = None,
    rows: int = 3,
    show: Sequence[str] = (),
    *,
    max_length: int = 1024,
    **settings: Any,
) -> Report:
    """Read the files, with a model's tokenizer render them, and count what they hold.

    rows       how many of the first rows are shown      show   further rows, by FILE:LINE
    settings   any of `SETTINGS`, as `read` and `Renderer` take them

    Loads the tokenizer of `model`, never its weights. Raises DataError as `read` and `Renderer` do.
    """
    reading = {name: value for name, value in settings.items() if name in READING}
    rendering = {name: value for name, value in settings.items() if name not in READING}
    statistics, wanted = Statistics(), Wanted(rows, show)
    shown: list[View] = []
    dataset: Stream | Dataset
    if model is None:
        dataset = scan(paths, **reading)
        for record in dataset:
            statistics.add(record)
            shown += [text_view(record)] if wanted.take(record) else []
    else:
        tokenizer = load_tokenizer(model)
        beyond = check_tokenizer(str(model), tokenizer)
        longest = min(max_length, longest_sequence(model))
        renderer = Renderer(tokenizer, max_length=longest, **rendering)
        dataset = read(paths, **reading)
        note_plain_strings(dataset, template=renderer.template is not None)
        rendered = renderer.render(dataset)
        if beyond:
            ids = (ids for row in rendered for ids in (row.prompt_ids, *row.response_ids))
            check_ids(str(model), embedding_rows(str(model)), ids, tokenizer)
        for row in rendered:
            statistics.add(row.record, [len(row.prompt_ids), *map(len, row.response_ids)])
            shown += [token_view(row, renderer)] if wanted.take(row.record) else []
    wanted.check()
    files = [paths] if isinstance(paths, str | Path) else paths
    return Report(
        files=[str(file) for file in files],
        model=None if model is None else str(model),
        format=dataset.format,
        kind=dataset.kind,
        space=dataset.space,
        ledger=dataset.ledger,
        figures=statistics.as_json(),
        views=shown,
    )


def check_json(report: Report) -> dict[str, Any]:
    """The report as plain data, for `--json`."""
    figures = report.figures
    bias = figures["length_bias"] or {}
    return {
        "format": report.format,
        "kind": report.kind,
        "space": report.space,
        "ledger": report.ledger.as_json(),
        "unit": report.unit,
        "lengths": figures[report.unit],
        "chosen_longer": bias["longer_wins"]["value"] if bias else None,
        "median_gap": bias.get("median_gap"),
        "statistics": dict(figures),
        "rows": [_view_json(view) for view in report.views],
    }


def _view_json(view: View) -> dict[str, Any]:
    parts = [
        {
            "part": part.name,
            "about": part.about,
            "pieces": [piece.text for piece in part.pieces],
            "scored": any(piece.scored for piece in part.pieces),
            "scored_pieces": [piece.scored for piece in part.pieces],
            "closing": part.pieces[-1].text if part.pieces and part.pieces[-1].closing else None,
        }
        for part in view.parts
    ]
    return {"at": view.at, "label": view.label, "parts": parts}
