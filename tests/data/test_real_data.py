"""Published data sets, to the row. Skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.data.reading.read import Dataset, read
from equipoise.data.records import oracle_context
from equipoise.data.rendering.render import Renderer, load_tokenizer


def sums(data: Dataset) -> tuple[int, int, int, int]:
    ledger = data.ledger.as_json()
    return ledger["read"], ledger["used"], sum(ledger["refused"].values()), ledger["duplicate"]


@pytest.mark.parametrize(
    ("file", "format", "expected", "groups"),
    [
        ("hh_rlhf_harmless/pairs", "pair-chat", (1613, 1613, 0, 0), 1611),
        ("truthfulqa/pairs", "pair-chat", (2425, 2424, 0, 1), 589),
        ("truthfulqa/human_labels_unpaired", "unpaired-text", (16214, 13309, 0, 2905), 13287),
        ("persona_yes_no/pairs", "pair-chat", (2828, 2828, 0, 0), 2828),
        ("dpo_en_demo/pairs", "pair-chat", (204, 199, 0, 5), 199),
    ],
)
def test_every_row_of_a_published_file_is_accounted_for(
    file: str, format: str, expected: tuple[int, ...], groups: int, shared_data: Path
) -> None:
    data = read(shared_data / f"{file}.jsonl.gz")
    assert (data.format, sums(data)) == (format, expected)
    assert len({record.group for record in data.records}) == groups


def test_transcripts_parse_to_exactly_the_normalised_pairs(shared_data: Path) -> None:
    parsed = read(shared_data / "hh_rlhf_harmless/upstream.jsonl.gz")
    pairs = read(shared_data / "hh_rlhf_harmless/pairs.jsonl.gz")
    assert sums(parsed) == (1622, 1613, 9, 0)
    assert parsed.ledger.refused == {"turns do not alternate": 5, "empty turn": 4}
    assert [r.identity() for r in parsed.records] == [r.identity() for r in pairs.records]


def test_a_small_base_model_renders_chat_pairs_as_a_transcript(shared_data: Path) -> None:
    renderer = Renderer(load_tokenizer(shared_data / "lm_stories260k"), max_length=512)
    data = read(shared_data / "hh_rlhf_harmless/pairs.jsonl.gz", limit=300)
    rendered = renderer.render(data)
    assert sums(data)[:3] == (300, len(rendered), 300 - len(rendered))
    for row in rendered:
        assert row.prompt_ids[0] == 1 and 1 not in row.prompt_ids[1:]
        for candidate, ids, finished in zip(
            row.record.candidates, row.response_ids, row.finished, strict=True
        ):
            assert len(row.prompt_ids) + len(ids) <= 512
            assert (ids[-1] == 2) == finished
            text = renderer.text(ids)
            assert text == f" {candidate.text}" if finished else f" {candidate.text}".startswith(text[:-3])


def test_the_small_model_sees_no_dummy_space_before_an_answer(shared_data: Path) -> None:
    for name in ("lm_stories260k", "lm_tinystories_656k"):
        renderer = Renderer(load_tokenizer(shared_data / name), max_length=64)
        codec = renderer.codec
        assert codec.text(codec.continuation("yes")) == "yes"
        assert codec.text(codec.continuation(" yes")) == " yes"
        assert codec.continuation("yes") != codec.ids("yes")
        assert renderer.prompt("Once upon a time")[0] == codec.tokenizer.bos_token_id


def test_unpaired_rows_render_and_decode(shared_data: Path) -> None:
    renderer = Renderer(load_tokenizer(shared_data / "lm_stories260k"), max_length=512)
    rendered = renderer.render(read(shared_data / "truthfulqa/human_labels_unpaired.jsonl.gz", limit=200))
    assert {renderer.text(row.response_ids[0]) for row in rendered} == {" yes", " no"}


def test_stories_give_prompts_of_whole_words(shared_data: Path) -> None:
    data = read(shared_data / "tinystories_sample/stories.jsonl.gz", prompt_words=8, limit=100)
    assert all(len(str(oracle_context(r.context)).split()) == 8 for r in data.records)
    assert all(str(r.extra["continuation"])[:1] in (" ", "\n") for r in data.records)
