"""In-context examples: the demonstrations whose queries are nearest to a prompt's in meaning, as earlier turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.data.collate import Prompt
from equipoise.data.errors import DataError, Refusal
from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import Conversation, Message, Record, digest, template_kwargs_of, tools_of
from equipoise.evaluate.written_rows import write_lines
from equipoise.models.errors import ModelError
from equipoise.oracles.models.embeddings import Embedding, load_embedding
from equipoise.oracles.placement import Placement


@dataclass(frozen=True)
class Example:
    """A query in one turn, and an answer to it."""

    query: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Examples:
    """In-context examples, retrieved for each prompt by the cosine of embeddings.

        shown(x) = the `count` examples with the largest cos(e(q_i), e(x)), the nearest one last

    x is the text of the prompt's last user turn. An example of the same query as the prompt is never shown to it. Of
    equally near ones the earlier counts as nearer.

    vectors   [N, D] unit vectors e(q_i) of the examples' queries, 0 for one without a direction
    embed     texts -> vectors [K, D]; None, without vectors: the first `count` examples stand before every prompt

    Source: DRPO (2411.08733) retrieves two by all-mpnet-base-v2, as its authors' code does.
    """

    examples: tuple[Example, ...]
    count: int = 2
    vectors: Tensor | None = None
    embed: Embedding | None = None

    @classmethod
    def of(cls, examples: Sequence[Example], count: int, embed: Embedding | None) -> Examples:
        """Examples with their vectors. Raises DataError for more than `count` of them without an embedding."""
        if embed is None and len(examples) > count:
            raise DataError(
                f"{len(examples)} examples, of which {count} are shown: which of them is unknown",
                hint="name an embedding by which they are retrieved, or give fewer examples",
            )
        queries = [example.query for example in examples]
        vectors = _directions(embed(queries)) if embed is not None else None
        return cls(examples=tuple(examples), count=count, vectors=vectors, embed=embed)

    @property
    def fingerprint(self) -> str:
        content = self.embed.content if self.embed is not None else None
        return digest([[[e.query, e.answer] for e in self.examples], self.count, content])

    def nearest(self, queries: Sequence[str]) -> list[list[Example]]:
        """The examples that each query is shown, in the order in which they are shown."""
        if self.embed is None or self.vectors is None:
            ranked = [list(range(len(self.examples)))] * len(queries)
        else:
            cosine = _directions(self.embed(queries)) @ self.vectors.T
            ranked = cosine.argsort(dim=1, descending=True, stable=True).tolist()
        found = []
        for query, order in zip(queries, ranked, strict=True):
            others = [self.examples[i] for i in order if self.examples[i].query.strip() != query.strip()]
            found.append(others[: self.count][::-1])
        return found

    def placed(self, contexts: Sequence[Any]) -> list[Any]:
        """The chats with their examples after the system turn. Raises DataError for a context of plain text."""
        shown = self.nearest([query_of(context) for context in contexts])
        return [_with(context, examples) for context, examples in zip(contexts, shown, strict=True)]


def prompted(writer: Any, prompts: Sequence[Prompt], examples: Examples) -> list[Prompt]:
    """The prompts as a writer reads them after their examples; what an oracle and a person read stays.

    Raises ModelError if one leaves no room for an answer, Refusal for what the template cannot render.
    """
    contexts = examples.placed([prompt.context for prompt in prompts])
    rendered = [writer.prompt(context) for context in contexts]
    limit, longest = writer.renderer.max_length, max((len(p.ids) for p in rendered), default=0)
    if longest >= limit:
        raise ModelError(f"with its examples a prompt has {longest} tokens and leaves no room within {limit}")
    return [replace(new, context=old.context) for old, new in zip(prompts, rendered, strict=True)]


def read_examples(dataset: Dataset) -> list[Example]:
    """The examples of a data set: each row's query and its preferred, or only, answer; rows that agree count once.

    Rows whose query is more than one user turn, or that have no answer, are refused in the ledger. Raises DataError if
    none is left.
    """
    found: dict[Example, None] = {}
    for record in dataset.records:
        try:
            found[_example(record)] = None
        except Refusal as refusal:
            dataset.ledger.refuse(record.place, refusal)
    if not found:
        raise DataError("no example: give rows of a query and its answer", hint=str(dataset.ledger))
    return list(found)


def shown_from(
    files: Sequence[str] | str | None, shots: int = 2, embedding: str | None = None
) -> Examples | None:
    """Examples of files of any kind, by the embedding of a folder or hub name.

    Raises DataError for an embedding without examples to choose among.
    """
    if not files:
        if embedding is not None:
            raise DataError("an embedding chooses among examples, which are not given")
        return None
    found = read_examples(read(files if isinstance(files, str) else list(files)))
    return Examples.of(found, shots, load_embedding(embedding, Placement()) if embedding else None)


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Examples as rows of prompt and completion, which `read_examples` reads."""
    rows = [
        {
            "prompt": [{"role": "user", "content": example.query}],
            "completion": [{"role": "assistant", "content": example.answer}],
        }
        for example in examples
    ]
    write_lines(path, rows)


def query_of(context: Any) -> str:
    """The text of a chat's last user turn; plain text is its own. Raises DataError where there is none."""
    if isinstance(context, str):
        return context
    turns = [turn.as_dict() if isinstance(turn, Message) else turn for turn in context]
    said = [turn.get("content") for turn in turns if turn.get("role") == "user"]
    if not said or not isinstance(said[-1], str):
        raise DataError("a prompt without a user's text has no nearest examples")
    return said[-1]


def _example(record: Record) -> Example:
    context = record.context
    if not isinstance(context, str):
        turns = [turn for turn in context if turn.role != "system"]
        if len(turns) != 1 or turns[0].role != "user":
            raise Refusal("an example's query is one user turn")
    if record.kind in ("rank", "scores"):
        best = max(record.candidates, key=lambda answer: -math.inf if answer.score is None else answer.score)
    elif not record.candidates or (record.kind == "unpaired" and not record.desirable):
        raise Refusal("an example without an answer to show")
    else:
        best = record.candidates[int(record.prob < 0.5)]
    return Example(query_of(context), best.text)


def _with(context: Any, examples: Sequence[Example]) -> Any:
    if isinstance(context, str):
        raise DataError(
            "examples are earlier turns of a chat, and a prompt of plain text has none",
            hint="give --wrap chat, so that plain strings become chat turns",
        )
    turns = [turn.as_dict() if isinstance(turn, Message) else dict(turn) for turn in context]
    opening = 1 if turns and turns[0].get("role") == "system" else 0
    shown = [
        turn
        for example in examples
        for turn in (
            {"role": "user", "content": example.query},
            {"role": "assistant", "content": example.answer},
        )
    ]
    placed = [*turns[:opening], *shown, *turns[opening:]]
    tools, kwargs = tools_of(context), template_kwargs_of(context)
    return Conversation(placed, tools, kwargs) if tools or kwargs else placed


def _directions(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.double(), dim=1)
