"""Rationale generation: a model writes, for every recorded pair, why the preferred answer is the better one.

It is asked by the very tokens behind which training scores a rationale (`data.rationale_prompt`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equipoise.data.collate import Prompt
from equipoise.data.errors import DataError
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Record
from equipoise.data.rendering.render import Rendered
from equipoise.evaluate.answers import key_of
from equipoise.evaluate.writer import Writer, sampled
from equipoise.policy.protocol import Decoding
from equipoise.worlds.text.recorded_rows import pair_rows, prompts_of


@dataclass(frozen=True)
class Written:
    """Pairs with the rationales that were written for them, and what became of the others, in sentences."""

    records: list[Record]
    notes: tuple[str, ...]


def with_written_rationales(
    writer: Writer,
    dataset: Dataset,
    decoding: Decoding,
    *,
    again: bool = False,
    seed: int = 0,
    store: Path | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> Written:
    """The pairs with a rationale for each that has none; a pair that cannot get one stays as it is, and is counted.

    again   also write those that the data have.
    store   file in which finished rationales are kept (`writer.sampled`); an interrupted call goes on from it.

    Left without are pairs whose question leaves no room for an answer, and those whose rationale is empty or spells a
    special token of the writer's tokenizer, which would end or open a turn where it is trained. Raises DataError for
    data that are no pairs, and if no pair is asked about.
    """
    if dataset.kind != "pair":
        raise DataError(f"rationales explain pairs; these rows are of kind {dataset.kind}")
    wanted = [record for record in dataset.records if again or not record.rationale]
    if not wanted:
        raise DataError("every pair has a rationale already", hint="give --again to write them once more")
    asked = questions(writer, writer.renderer.render(dataset.with_records(wanted)))
    if not asked:
        raise DataError(
            f"no pair leaves room for a rationale within {writer.renderer.max_length} tokens",
            hint="take a writer with a longer context",
        )
    answers = sampled(writer, [prompt for _, prompt in asked], 1, decoding, seed=seed, store=store, tick=tick)
    found: dict[str, str] = {}
    dropped = cut = 0
    for record, prompt in asked:
        (answer,) = answers.by[key_of(prompt.context)]
        text = answer.text.strip()
        if not text or spells_special(writer, text):
            dropped += 1
            continue
        cut += not answer.finished
        found[record.id] = text
    made = [
        replace(record, rationale=found[record.id]) if record.id in found else record
        for record in dataset.records
    ]
    counts = {
        f"{len(found):,} rationales written by {writer.name}": len(found),
        f"{cut:,} of them end at the limit of tokens": cut,
        f"{dropped:,} pairs without one: it was empty or spells a special token": dropped,
        f"{len(wanted) - len(asked):,} pairs not asked about: refused, or no room": len(wanted) - len(asked),
    }
    return Written(made, tuple(said for said, count in counts.items() if count))


def questions(writer: Writer, rendered: Sequence[Rendered]) -> list[tuple[Record, Prompt]]:
    """Each pair with the tokens that ask about it: prompt, better answer, and the question that quotes the other."""
    renderer = writer.renderer
    pairs = pair_rows(rendered, prompts_of(rendered, renderer)).preferred_first()
    kinds = {
        chat: RationalePrompt(renderer, chat=chat) for chat in {r.record.space == "chat" for r in rendered}
    }
    if True in kinds:
        writer.policy.stop_at(renderer.turn_ends)
    made = []
    for item, prompt, (better, worse) in zip(rendered, pairs.prompts, pairs.responses, strict=True):
        lead = kinds[item.record.space == "chat"](prompt, better, worse)
        ids = (*prompt.ids, *lead)
        if len(ids) < renderer.max_length:
            # two pairs may ask the same; the id tells their answers apart
            made.append((item.record, Prompt(ids, item.record.id, renderer.text(ids))))
    return made


def spells_special(writer: Writer, text: str) -> bool:
    """Whether a text has a special token of the writer's tokenizer spelled out in it."""
    codec = writer.renderer.codec
    return bool(set(codec.continuation(text)) & set(codec.special_texts.values()))
