"""What a state reads, by gradients; heads that scale or cap their logits, also when training has made these large."""

from __future__ import annotations

import pytest
import torch
import transformers
from tests.policy.conftest import IDS, SHAPE

from equipoise.data.pack import pack
from equipoise.policy import load_gate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.dependence import readable, reads_ahead
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import backbone

HYBRID = {
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_dt_rank": 4,
    "num_experts": 2,
    "num_experts_per_tok": 1,
}
CAPPED = {
    "gemma2": ("Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 30.0}),
    "cohere": ("CohereConfig", {"logit_scale": 0.0625}),
    "granite": (
        "GraniteConfig",
        {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0},
    ),
}


def made(kind, settings, size=0.05):
    """A model with small weights, of which caps and leaks are hard to see."""
    config = getattr(transformers, kind)(**(SHAPE | IDS | settings))
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    return model


@pytest.mark.parametrize("family", CAPPED)
def test_scaled_and_capped_heads_are_exact_at_load_and_after_training(family, tokenizer, tmp_path):
    made(*CAPPED[family]).save_pretrained(tmp_path)
    policy = CausalPolicy.load(tmp_path, tokenizer, device="cpu")
    assert not policy.scorer.linear_head
    assert load_gate.as_given(policy).measured < 1e-5
    rows = load_gate.probe_rows(policy)
    with torch.no_grad():  # as training may: logits of hundreds
        policy.model.get_output_embeddings().weight.mul_(10_000)
        largest = float(policy.model(input_ids=torch.tensor([rows[0][0]])).logits.abs().max())
        assert largest > 25
        ours = load_gate._ours(policy, rows)
        plain = [load_gate._plain(policy.model, row) for row in rows]
    assert max(float((a - b).abs().max()) for a, b in zip(ours, plain, strict=True)) < 1e-4


def test_a_plain_head_stays_a_plain_head(tiny):
    assert all(tiny(name).scorer.linear_head for name in ("llama", "llama-tied", "qwen2", "gpt2", "phi"))


def test_recurrent_layers_take_no_packed_rows(tokenizer, tmp_path):
    made("JambaConfig", HYBRID | {"num_key_value_heads": 2}).save_pretrained(tmp_path)
    policy = CausalPolicy.load(tmp_path, tokenizer, device="cpu")
    assert policy.scorer.max_packed_length == 0
    assert load_gate.as_given(policy).measured < 1e-5


@pytest.mark.parametrize("kind", ["BertConfig", "RobertaConfig"])
def test_a_model_that_reads_ahead_is_no_policy(tokenizer, tmp_path, kind):
    made(kind, {}).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is not a causal language model: its states depend on later tokens"):
        CausalPolicy.load(tmp_path, tokenizer, device="cpu")


def test_decoders_read_no_token_ahead(tiny, sampled_family):
    model = tiny(sampled_family).model
    assert not reads_ahead(model, backbone(model))


def test_what_a_packed_token_may_read():
    batch = pack([(1, 2), (3,)], [[(4, 5, 6), (7, 8)], [(9, 10), (4, 4)]])
    # row: 1 2 | 4 5 | 7 || 3 | 9 | 4
    assert batch.ids.tolist() == [1, 2, 4, 5, 7, 3, 9, 4]
    may = {place: readable(batch.tree, place).nonzero().flatten().tolist() for place in range(8)}
    assert may == {
        0: [0],
        1: [0, 1],
        2: [0, 1, 2],
        3: [0, 1, 2, 3],
        4: [0, 1, 4],
        5: [5],
        6: [5, 6],
        7: [5, 7],
    }
