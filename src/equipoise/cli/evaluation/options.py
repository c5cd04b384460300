"""Options of the commands that sample answers, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from equipoise.data.reading.read import Dataset

Count = Annotated[int, typer.Option("-n", "--count", min=1, help="answers to each prompt")]
Temperature = Annotated[float, typer.Option(min=0, help="sampling temperature; 0: the likeliest token")]
TopP = Annotated[float, typer.Option(help="sample from this probability mass; 1: from all")]
TopK = Annotated[int, typer.Option(min=0, help="sample from the k likeliest tokens; 0: from all")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="most tokens of an answer")]
Batch = Annotated[int, typer.Option(min=1, help="prompts decoded at a time")]
Precision = Annotated[str, typer.Option(help="fp32 or bf16 products")]
Round = Annotated[str, typer.Option(help="of a run folder: final, best, start or a round's number")]
Wrap = Annotated[
    str, typer.Option(help="chat: prompts that are plain strings become chat turns; none: they stay text")
]
System = Annotated[str | None, typer.Option(help="system prompt of every conversation that has none")]
Limit = Annotated[int | None, typer.Option(min=1, help="read only this many rows of the data")]
ExampleFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--examples", help="file of queries with answers, shown to the model as earlier turns (repeatable)"
    ),
]
Shots = Annotated[int, typer.Option("--shots", min=1, help="with --examples: how many each query is shown")]
EmbeddingModel = Annotated[
    str | None,
    typer.Option(
        "--embedding",
        help="with --examples: encoder or static embedding, a folder or hub name, by which those nearest to a query "
        "are chosen; the authors of DRPO use all-mpnet-base-v2",
    ),
]
SamplingSeed = Annotated[int, typer.Option(help="seed of the sampling")]


def read_prompts(
    data: Sequence[str], *, wrap: str, system: str | None, limit: int | None, seed: int
) -> Dataset:
    """Rows of any kind of data, for their prompts or pairs. Raises ValueError for an unknown `wrap`."""
    from equipoise.api.options import wrapped
    from equipoise.data.reading.read import read

    return read(list(data), wrap=wrapped(wrap), system=system, limit=limit, seed=seed)
