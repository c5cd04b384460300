"""Models of meaning: entailment in both directions and cosines of embeddings, and folders that are neither."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from equipoise.methods.rlp import RLP_SPG
from equipoise.oracles.models.meanings import CosineMeaning, MutualEntailment, check_meaning, load_meaning
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.state import START
from equipoise.run.session import align

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh", "not"]
LABELS = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
GROUPS = [["a b", "b a", "a b", "not c"], ["d", "d e f g h", "e d", "not"]]
QUESTIONS = ["a c", "h"]
CPU = Placement(device="cpu")


def words(pad: str | None = "[PAD]") -> PreTrainedTokenizerFast:
    """[CLS] a [SEP] b [SEP], the second text of another type."""
    made = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=pad,
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def bert(folder: Path, labels: dict[int, str] | None = None, positions: int = 32) -> Path:
    torch.manual_seed(3)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=len(WORDS),
        max_position_embeddings=positions,
        initializer_range=1.0,
        id2label=labels or LABELS,
        pad_token_id=0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Path:
    return bert(tmp_path_factory.mktemp("nli"))


@torch.no_grad()
def plainly(folder: Path, question: str, a: str, b: str) -> bool:
    """Whether the most probable class of one pair, read alone by plain transformers, is entailment."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    inputs = PreTrainedTokenizerFast.from_pretrained(folder)(
        f"{question}\n{a}", f"{question}\n{b}", return_tensors="pt"
    )
    assert inputs["token_type_ids"].max() == 1
    return int(model(**inputs).logits.argmax()) == 2


def test_two_responses_mean_the_same_where_each_entails_the_other_as_plain_transformers_reads_them(judge):
    found = load_meaning(str(judge), CPU).same(QUESTIONS, GROUPS, 0.9)
    kinds = set()
    for question, group, table in zip(QUESTIONS, GROUPS, found, strict=True):
        assert table.diagonal().all() and (table == table.T).all()
        for i, j in permutations(range(4), 2):
            both = [plainly(judge, question, *pair) for pair in ((group[i], group[j]), (group[j], group[i]))]
            assert table[i, j] == (group[i] == group[j] or all(both))
            kinds.add(tuple(both) if group[i] != group[j] else ())
    assert kinds >= {(), (True, True), (True, False), (False, False)}  # each case is among them


def test_one_direction_is_not_enough(judge, monkeypatch):
    """A response entails what it contains: only the same words in another order are mutual."""
    meaning = load_meaning(str(judge), CPU)
    asked = []

    def contains(question, pairs):
        asked.extend((question, *pair) for pair in pairs)
        return [set(b.split()) <= set(a.split()) for a, b in pairs]

    monkeypatch.setattr(meaning, "entails", contains)
    first, second = meaning.same(QUESTIONS, GROUPS, 0.9)
    assert first.tolist() == [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 1]]
    assert second.tolist() == np.eye(4).tolist()
    assert len(asked) == len(set(asked)) == 3 * 2 + 4 * 3  # equal responses are one


def test_a_pair_beyond_the_context_differs_and_is_told(tmp_path, caplog):
    meaning = load_meaning(str(bert(tmp_path, positions=10)), CPU)
    with caplog.at_level(logging.WARNING):
        (table,) = meaning.same(["a"], [["b", "b b b b b b b b", "b b b b b b b b"]], 0.9)
    assert table.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    assert "2 ordered pairs of responses have more than the entailment model's 10 tokens" in caplog.text


def test_a_decoder_without_padding_reads_each_pair_alone(tmp_path):
    torch.manual_seed(5)
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        vocab_size=len(WORDS),
        id2label={0: "entailment", 1: "not_entailment"},
        pad_token_id=None,
        initializer_range=1.0,
    )
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokens = words(pad=None)
    tokens.model_input_names = ["input_ids", "attention_mask"]
    tokens.save_pretrained(tmp_path)
    meaning = load_meaning(str(tmp_path), CPU)
    assert isinstance(meaning, MutualEntailment) and meaning.alone
    pairs = list(permutations([*WORDS[4:], *GROUPS[1]], 2))
    together = meaning.entails("h", pairs)
    assert together == [meaning.entails("h", [pair])[0] for pair in pairs] and len(set(together)) == 2


def test_a_model_without_the_label_gives_embeddings(tmp_path):
    static = tmp_path / "static"
    static.mkdir()
    vectors = torch.zeros(len(WORDS), 3)
    vectors[4], vectors[5], vectors[6] = torch.eye(3)
    save_file({"embeddings": vectors}, static / "model.safetensors")
    words().save_pretrained(static)
    meaning = load_meaning(str(static), CPU)
    assert isinstance(meaning, CosineMeaning)
    (table,) = meaning.same(["a"], [["a", "a a", "a b", "h", "h"]], 0.7)
    a_and_b = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]  # a cosine of 0.71
    assert table[:3, :3].tolist() == a_and_b and not table[:3, 3:].any() and table[3:, 3:].all()
    (strict,) = meaning.same(["a"], [["a", "a a", "a b", "h", "h"]], 0.72)
    assert strict[:3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert isinstance(load_meaning(str(bert(tmp_path / "b", {0: "good", 1: "bad"})), CPU), CosineMeaning)


def test_folders_that_are_no_model_of_meaning(judge, tmp_path):
    with pytest.raises(OracleError, match="there is no such folder"):
        check_meaning(str(tmp_path / "none"))
    twice = bert(tmp_path / "twice", {0: "entailment", 1: "Entailment"})
    with pytest.raises(OracleError, match="gives the label 'entailment' to 2 classes"):
        load_meaning(str(twice), CPU)
    headless = bert(tmp_path / "headless")
    tensors = load_file(headless / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if "classifier" not in name},
        headless / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(OracleError, match=r"lacks weights of the classifier: classifier\.bias"):
        load_meaning(str(headless), CPU)
    pickled = bert(tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(OracleError, match="cannot load a model of meaning"):
        check_meaning(str(pickled))


def test_a_run_says_what_is_wrong_with_its_model_of_meaning_before_it_begins(tmp_path):
    with pytest.raises(OracleError, match="there is no such folder"):
        align(
            "rlp_spg",
            out=tmp_path / "run",
            settings={"objective.meaning": str(tmp_path / "nli")},
        )
    assert not (tmp_path / "run").exists()


def test_synthetic_pairs_by_entailment(make_world, judge):
    """The method's pairs are those of the clusters that the table gives; the world asks the folder."""
    world = make_world()
    state = world.begin(RLP_SPG.update.memory)
    own = world.sample(state, world.prompts(state), START, 4)
    values = np.arange(own.responses.size, dtype=float).reshape(own.responses.shape)
    pairing = ByLearnedReward(own=4, confidence=0.25, meaning=str(judge))
    assert pairing.models == (str(judge),) and not replace(pairing, meaning="states").models
    made = pairing.made(world, state, own, values)
    table = world.same_meanings(own, str(judge), 0.9)
    by_hand = []
    for group, same in zip(own.responses, table, strict=True):
        clusters: list[list[int]] = []
        for k in range(4):
            home = next((c for c in clusters if same[c[0], k]), None)
            clusters.append([k]) if home is None else home.append(k)
        largest = max(clusters, key=len)
        by_hand += [
            [group[largest[-1]].text, r.text] for k, r in enumerate(group) if k not in largest
        ]  # rewards rise with k
    assert [[r.text for r in pair] for pair in made.responses] == by_hand and by_hand
