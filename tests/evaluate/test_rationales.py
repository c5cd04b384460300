"""Rationale generation: what is asked, what is kept, resuming, and hostile texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset, read
from equipoise.evaluate import rationales
from equipoise.evaluate.answers import Answer, Answers, key_of
from equipoise.evaluate.located import locate
from equipoise.evaluate.rationales import questions, with_written_rationales
from equipoise.evaluate.writer import Writer
from equipoise.play.needs import PAIRS_WITH_RATIONALES
from equipoise.playground import model_path
from equipoise.policy.protocol import Decoding
from equipoise.worlds.text.recorded_rows import Recording

ASK = "On a sunny morning a tired sailor asks for tea."
GOOD, BAD = "Fine, a small iced mint tea.", "Fine, a small hot black tea."
DECODING = Decoding(temperature=1.0, max_new_tokens=6, batch=8)


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer.load(locate(str(model_path())))


def data(tmp_path: Path, *more: dict, name: str = "pairs.jsonl") -> Dataset:
    rows = [{"prompt": ASK, "chosen": GOOD, "rejected": BAD, **row} for row in more]
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read(path)


def said(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """The model's answers, in order, in place of its sampling."""

    def sampled(writer, prompts, count, decoding, **kept):
        by = {
            key_of(p.context): (Answer(t, True, 1, None, (), p.ids),)
            for p, t in zip(prompts, texts, strict=True)
        }
        return Answers("it", {}, by)

    monkeypatch.setattr(rationales, "sampled", sampled)


def test_the_question_is_the_tokens_that_training_reads_before_a_rationale(writer: Writer, tmp_path: Path):
    dataset = data(tmp_path, {"rationale": "hot tea."}, {"prob": 0.1, "rationale": "iced tea."})
    rendered = writer.renderer.render(dataset)
    rows = Recording(renderer=writer.renderer, needs=PAIRS_WITH_RATIONALES).training("pair", rendered).rows
    asked = questions(writer, rendered)
    for (record, prompt), whole, group in zip(asked, rows.prompts, rows.responses, strict=True):
        assert prompt.ids == (*whole.ids, *group[2].lead) and prompt.context == record.id
    better = [group[0].text for group in rows.responses]
    assert better == [GOOD, BAD] and asked[0][1].ids != asked[1][1].ids


def test_rationales_are_written_where_there_are_none(writer: Writer, tmp_path: Path):
    dataset = data(tmp_path, {}, {"rationale": "hot tea.", "rejected": "Fine, a large iced mint tea."})
    made = with_written_rationales(writer, dataset, DECODING)
    first, second = made.records
    assert first.rationale and second.rationale == "hot tea."
    assert made.notes[0] == "1 rationales written by model"
    assert replace(first, rationale="") == dataset.records[0]
    both = with_written_rationales(writer, dataset, DECODING, again=True)
    assert both.notes[0] == "2 rationales written by model"


def test_an_interrupted_call_goes_on_to_the_same_rationales(writer: Writer, tmp_path: Path, monkeypatch):
    dataset = data(tmp_path, {}, {"rejected": "Fine, a large iced mint tea."})
    store, whole = tmp_path / "kept", with_written_rationales(writer, dataset, DECODING)
    with_written_rationales(writer, dataset, DECODING, store=store)
    lines = store.read_text().splitlines()
    store.write_text("\n".join(lines[:2]) + "\n")  # settings and the first pair
    counted: list[int] = []
    again = with_written_rationales(writer, dataset, DECODING, store=store, tick=counted.append)
    assert again.records == whole.records and counted == [1, 1]


@pytest.mark.parametrize("text", ["", "  \n", "hot </s> tea.", "<s>"])
def test_empty_and_hostile_rationales_leave_a_pair_as_it_is(
    writer: Writer, tmp_path: Path, monkeypatch, text: str
):
    said(monkeypatch, text)
    dataset = data(tmp_path, {})
    made = with_written_rationales(writer, dataset, DECODING)
    assert made.records == list(dataset.records)
    assert made.notes == ("1 pairs without one: it was empty or spells a special token",)


def test_a_recorded_rationale_that_spells_a_special_token_is_not_trained(writer: Writer, tmp_path: Path):
    dataset = data(
        tmp_path,
        {"rationale": "hot </s> tea."},
        {"rejected": "Fine, a large hot mint tea.", "rationale": "hot."},
    )
    rendered = writer.renderer.render(dataset)
    found = Recording(renderer=writer.renderer, needs=PAIRS_WITH_RATIONALES).training("pair", rendered)
    assert [group[2].text for group in found.rows.responses] == ["hot."]
    assert "1 pairs have no rationale" in found.notes[0]


def test_braces_in_an_answer_are_text(writer: Writer, tmp_path: Path):
    dataset = data(tmp_path, {"rejected": "{other} {0} {prompt!r} tea."})
    ((_, prompt),) = questions(writer, writer.renderer.render(dataset))
    assert prompt.ids


def test_refusals_are_sentences(writer: Writer, tmp_path: Path):
    with pytest.raises(DataError, match="every pair has a rationale already"):
        with_written_rationales(writer, data(tmp_path, {"rationale": "hot."}), DECODING)
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": ASK}) + "\n")
    with pytest.raises(DataError, match="rationales explain pairs"):
        with_written_rationales(writer, read(path), DECODING)
    long = data(tmp_path, {"rejected": " ".join(["tea."] * 40)}, name="long.jsonl")
    with pytest.raises(DataError, match=r"no pair leaves room|no row is left"):
        with_written_rationales(writer, long, DECODING)
