"""Relevance by embeddings: the card's properties, two ways to embed, and folders that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from equipoise import oracles
from equipoise.oracles.models.embeddings import load_embedding, special_tokens_around
from equipoise.oracles.models.relevance import repetition_penalty
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
from equipoise.playground import LanguageGame
from oracles.tiny_models import tokenizer

GAME = LanguageGame()
PROMPT = GAME.prompts[0]
TEXTS = [GAME.responses[0], GAME.responses[7], "Gladly", f"{GAME.responses[3]} {GAME.responses[5]}"]


@pytest.fixture(scope="module")
def static(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    draw = torch.Generator().manual_seed(0)
    save_file({"embeddings": torch.randn(64, 8, generator=draw)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            vocab_size=64,
            max_position_embeddings=12,
        )
    ).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def relevance(folder: Path, embeddings: Path, **settings) -> oracles.Checked:
    lines = {"kind": "relevance", "embeddings": embeddings, "device": "cpu"} | settings
    file = folder / "relevance.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return oracles.load(str(file))


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_the_repetition_penalty_is_the_share_of_distinct_trigrams(words):
    found = [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]
    assert repetition_penalty(words) == (len(set(found)) / len(found) if found else 1)
    assert 0 < repetition_penalty(words) <= 1
    if len(words) > 2:  # said twice: the length doubles, and at most two new trigrams come at the seam
        assert (
            len(found) * repetition_penalty(words)
            <= (2 * len(words) - 2) * repetition_penalty(words + words)
            <= len(found) * repetition_penalty(words) + 2
        )


def test_the_reward_is_similarity_times_length_times_repetition(static, tmp_path):
    vectors = load_embedding(str(static), Placement(device="cpu"))([PROMPT, *TEXTS])
    cosine = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    length = torch.tensor([len(text.split()) / 50 for text in TEXTS])
    fresh = torch.tensor([repetition_penalty(text.split()) for text in TEXTS])
    oracle = relevance(tmp_path, static, length=50, beta=2)
    expected = (2 * cosine * length * fresh).tolist()
    assert oracle.score([PROMPT] * 4, TEXTS).tolist() == pytest.approx(expected)
    only = relevance(tmp_path, static, length="null", repetition="false", similarity="dot")
    dots = (vectors[:1] * vectors[1:]).sum(dim=1).tolist()
    assert only.score([PROMPT] * 4, TEXTS).tolist() == pytest.approx(dots)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert torch.equal(only.score([chat], TEXTS[:1]), only.score([PROMPT], TEXTS[:1]))


def test_a_prompt_with_a_reference_is_rewarded_by_its_similarity_to_it(static, tmp_path):
    """The mixture of R3: F(r_y) RP where there is a reference response, r_x LI RP elsewhere."""
    open_one, closed = GAME.prompts[:2]
    row = {"prompt": closed, "response": TEXTS[1]}
    (tmp_path / "answers.jsonl").write_text(json.dumps(row) + "\n")
    ranges = {"reference_range": "[0.2, 0.9]", "open_range": "[-0.1, 0.3]"}
    mixed = relevance(tmp_path, static, references="answers.jsonl", **ranges)
    plain = relevance(tmp_path, static)
    twice = f"{TEXTS[1]} {TEXTS[1]}"
    texts = [*TEXTS, twice, ""]
    assert torch.equal(mixed.score([open_one] * 6, texts), plain.score([open_one] * 6, texts))
    vectors = load_embedding(str(static), Placement(device="cpu"))([TEXTS[1], *texts])
    near = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:]).clamp(0.2, 0.9)
    fresh = torch.tensor([repetition_penalty(text.split()) for text in texts])
    expected = (-0.1 + 0.4 * (near - 0.2) / 0.7) * fresh
    expected[-1] = 0  # an empty response
    scores = mixed.score([closed] * 6, texts)
    assert scores.tolist() == pytest.approx(expected.tolist())
    assert float(scores[1]) == pytest.approx(0.3)  # the reference itself: the top of the open-ended range
    assert float(scores[4]) < float(scores[1])  # said twice: no longer is better here, and trigrams repeat
    chat = [{"role": "user", "content": closed}]
    assert torch.equal(mixed.score([chat], TEXTS[:1]), scores[:1])


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"prompt": "a", "response": "b"}, {"prompt": "a", "response": "c"}], "answers.jsonl:2.*another"),
        ([{"prompt": "a", "response": " "}], "answers.jsonl:1.*empty"),
        ([{"prompt": "a"}], "answers.jsonl:1.*`response` must be text"),
    ],
)
def test_references_that_cannot_be_used_are_refused_by_line(static, tmp_path, rows, reason):
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OracleError, match=reason):
        relevance(tmp_path, static, references="answers.jsonl")


def test_a_range_that_does_not_rise_is_refused(static, tmp_path):
    with pytest.raises(OracleError, match="open_range must rise"):
        relevance(tmp_path, static, open_range="[1.0, 1.0]")


def test_an_empty_response_is_worth_nothing_and_a_copy_of_the_prompt_the_most_by_similarity_alone(
    static, tmp_path
):
    alone = relevance(tmp_path, static, length="null", repetition="false")
    scores = alone.score([PROMPT] * 6, [*TEXTS, PROMPT, " \n"])
    assert float(scores[4]) == pytest.approx(1) and float(scores[5]) == 0
    assert float(scores[:4].max()) < 1


def test_static_vectors_are_the_mean_over_tokens_that_are_known(static):
    words = tokenizer()
    matrix = load_embedding(str(static), Placement()).vectors
    ids = words(TEXTS[0], add_special_tokens=False)["input_ids"]
    embedded = load_embedding(str(static), Placement())([TEXTS[0], f"xyzzy {TEXTS[0]} xyzzy", ""])
    assert torch.allclose(embedded[0], matrix[ids].mean(dim=0))
    assert torch.equal(embedded[0], embedded[1]) and not embedded[2].any()


def test_static_weights_and_mapping_are_used(static, tmp_path):
    draw = torch.Generator().manual_seed(1)
    small, weights = torch.randn(5, 8, generator=draw), torch.rand(64, generator=draw)
    rows = torch.arange(64) % 5
    save_file({"embeddings": small, "weights": weights, "mapping": rows}, tmp_path / "model.safetensors")
    tokenizer().save_pretrained(tmp_path)
    ids = tokenizer()(TEXTS[1], add_special_tokens=False)["input_ids"]
    expected = torch.stack([weights[i] * small[i % 5] for i in ids]).mean(dim=0)
    found = load_embedding(str(tmp_path), Placement())([TEXTS[1]])[0]
    assert torch.allclose(found, expected.double(), atol=1e-6)


@torch.no_grad()
def test_an_encoder_is_the_mean_of_its_states_whatever_the_batch(encoder):
    model = BertModel.from_pretrained(encoder).eval()
    words = tokenizer()
    short = TEXTS[:3]
    plain = [
        model(input_ids=torch.tensor([words(text)["input_ids"]])).last_hidden_state[0].mean(0)
        for text in short
    ]
    for tokens in (8192, 14):
        found = load_embedding(str(encoder), Placement(device="cpu", tokens=tokens))(short)
        assert torch.allclose(found, torch.stack(plain).double(), atol=1e-5)


@torch.no_grad()
def test_a_text_longer_than_the_encoder_is_read_in_windows(encoder):
    model, words = BertModel.from_pretrained(encoder).eval(), tokenizer()
    opening, closing = special_tokens_around(words)
    ids = words(TEXTS[3] + " " + TEXTS[0], add_special_tokens=False)["input_ids"]
    room = 12 - len(opening) - len(closing)
    assert len(ids) > room
    windows = [[*opening, *ids[i : i + room], *closing] for i in range(0, len(ids), room)]
    states = [model(input_ids=torch.tensor([window])).last_hidden_state[0] for window in windows]
    found = load_embedding(str(encoder), Placement(device="cpu"))([TEXTS[3] + " " + TEXTS[0]])[0]
    assert torch.allclose(found, torch.cat(states).mean(dim=0).double(), atol=1e-5)


def test_folders_that_do_not_fit_are_refused(static, tmp_path):
    with pytest.raises(OracleError, match="there is no such folder"):
        relevance(tmp_path, tmp_path / "nowhere")
    tokenizer().save_pretrained(tmp_path)
    for tensors, says in (
        ({"embeddings": torch.ones(5, 8)}, "do not fit its matrix"),
        ({"embeddings": torch.full((64, 8), float("nan"))}, "NaN or infinite"),
        ({"embeddings": torch.ones(5, 8), "mapping": torch.full((64,), 9)}, "do not fit its matrix"),
    ):
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(OracleError, match=says):
            relevance(tmp_path, tmp_path)


def test_its_fingerprint_follows_vectors_and_settings(static, encoder, tmp_path):
    made = [
        relevance(tmp_path, static),
        relevance(tmp_path, encoder),
        relevance(tmp_path, static, similarity="dot"),
        relevance(tmp_path, static, length="null"),
    ]
    assert len({oracle.inner.fingerprint for oracle in made}) == 4
    assert relevance(tmp_path, static, tokens=64).inner.fingerprint == made[0].inner.fingerprint
