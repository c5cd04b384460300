"""The reward model: padding and batches change nothing, and a wrong model is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from equipoise import oracles
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.reward import RewardOracle
from equipoise.playground import LanguageGame, model_path

GAME = LanguageGame()
PROMPTS = list(GAME.prompts[:4])
ANSWERS = ["Gladly", *GAME.responses[:2], "Gladly, a small iced black tea. a small iced tea."]
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
}


def saved(folder, kind=LlamaForSequenceClassification, **changes):
    settings = SHAPE | {"max_position_embeddings": 40, "num_labels": 1, "pad_token_id": 0} | changes
    config = (BertConfig if kind is BertForSequenceClassification else LlamaConfig)(**settings)
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", [LlamaForSequenceClassification, BertForSequenceClassification])
def test_equals_transformers_own_forward_whatever_the_batch(tmp_path, kind):
    model = saved(tmp_path, kind)
    oracle = RewardOracle.load(tmp_path, batch=3)
    ids = [oracle._ids(p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert len({len(i) for i in ids}) > 2
    with torch.no_grad():
        plain = [float(model(input_ids=torch.tensor([i])).logits[0, 0]) for i in ids]
    assert oracle.score(PROMPTS, ANSWERS).tolist() == pytest.approx(plain, abs=1e-5)
    alone = [float(oracle.score([p], [a])) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert oracle.score(PROMPTS[::-1], ANSWERS[::-1]).tolist()[::-1] == pytest.approx(alone, abs=1e-5)


def test_compares_by_bradley_terry_through_load(tmp_path):
    saved(tmp_path)
    oracle = oracles.load(str(tmp_path))
    r = oracle.score(PROMPTS, ANSWERS)
    b = oracle.score(PROMPTS, ANSWERS[::-1])
    assert torch.allclose(oracle.compare(PROMPTS, ANSWERS, ANSWERS[::-1]), torch.sigmoid(r - b))


def test_too_long_is_refused_not_cut(tmp_path):
    saved(tmp_path, max_position_embeddings=16)
    with pytest.raises(OracleError, match=r"accepts 16 tokens; a prompt with its response has \d+"):
        RewardOracle.load(tmp_path).score(PROMPTS, ANSWERS)


def test_classifiers_are_no_reward_models(tmp_path):
    saved(tmp_path, num_labels=3)
    with pytest.raises(OracleError, match="has 3 classes"):
        oracles.load(str(tmp_path))


def test_a_head_that_is_not_there_is_not_drawn_at_random(tmp_path):
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    save_file({k: v for k, v in stored.items() if not k.startswith("score")}, file, metadata={"format": "pt"})
    with pytest.raises(OracleError, match=r"not a trained reward model: the checkpoint lacks score\.weight"):
        oracles.load(str(tmp_path))


def test_chat_prompts_need_a_template(tmp_path):
    saved(tmp_path)
    with pytest.raises(OracleError, match="no chat template"):
        RewardOracle.load(tmp_path).score([[{"role": "user", "content": "a"}]], ["b"])
