"""The load gate: passes the policy that was given, and no other."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from equipoise.policy import checkpoint, load_gate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError
from equipoise.policy.weights_check import largest_difference

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft")


@pytest.fixture
def adapter(tiny, tmp_path):
    tiny().model.save_pretrained(tmp_path / "full")
    torch.manual_seed(4)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    wrapped = get_peft_model(base, LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"]))
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_" in name:
                p.copy_(0.3 * torch.randn_like(p))
    wrapped.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "../full"}))
    return tmp_path / "adapter"


@pytest.fixture(params=["a second model fits", "no memory for it"])
def memory(request, monkeypatch):
    monkeypatch.setattr(load_gate, "memory_holds", lambda found: request.param == "a second model fits")


@pytest.mark.parametrize("way", [{}, {"adapter": "merge"}, {"adapter": "merge", "lora_rank": 4}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_passes_what_was_given_and_what_was_saved(adapter, tokenizer, tmp_path, way, precision, memory):
    policy = CausalPolicy.load(
        adapter, tokenizer, device="cpu", precision=precision, base_folder=tmp_path / "run" / "base", **way
    )
    checkpoint.save(policy, tmp_path / "run" / "initial")
    for found in (load_gate.as_given(policy), load_gate.as_saved(policy, tmp_path / "run" / "initial")):
        assert found.passed, found.sentence
        assert found.measured <= 1e-5 < found.limit
        assert found.name in ("load_gate", "checkpoint_gate")
    assert policy.precision == policy.scorer.precision == precision
    assert load_gate.rounding(policy).passed


def test_passes_every_family(tiny, sampled_family, tokenizer, tmp_path):
    tiny(sampled_family).model.save_pretrained(tmp_path / "full")
    policy = CausalPolicy.load(tmp_path / "full", tokenizer, device="cpu")
    found = load_gate.as_given(policy)
    assert found.passed
    assert found.measured <= 1e-4


def test_closes_when_the_adapter_was_lost(adapter, tokenizer, tmp_path, memory):
    policy = CausalPolicy.load(adapter, tokenizer, device="cpu")
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.zero_()
    found = load_gate.as_given(policy)
    assert not found.passed
    assert found.measured > 0.1
    assert str(adapter) in found.sentence


def test_closes_for_one_changed_weight_and_for_nan(adapter, tokenizer, memory):
    policy = CausalPolicy.load(adapter, tokenizer, device="cpu", adapter="merge")
    weight = policy.model.model.layers[1].mlp.up_proj.weight
    for value in (9.0, float("nan")):
        with torch.no_grad():
            weight[3, 4] = value
        assert not load_gate.as_given(policy).passed


def test_closes_for_another_checkpoint(adapter, tokenizer, tmp_path, memory):
    policy = CausalPolicy.load(adapter, tokenizer, device="cpu")
    checkpoint.save(policy, tmp_path / "saved")
    with torch.no_grad():
        next(p for n, p in policy.parameters() if "lora_B" in n).add_(0.5)
    assert not load_gate.as_saved(policy, tmp_path / "saved").passed


def test_a_wrong_weight_is_named_without_a_second_model(adapter, tokenizer):
    policy = CausalPolicy.load(adapter, tokenizer, device="cpu", adapter="merge")
    assert largest_difference(policy, policy.start.chain)[1] < 1e-6
    with torch.no_grad():
        policy.model.model.layers[0].self_attn.q_proj.weight[0, 0] += 1
    assert largest_difference(policy, policy.start.chain)[0] == "model.layers.0.self_attn.q_proj.weight"


def test_needs_a_folder(tiny):
    with pytest.raises(ModelError, match="was not loaded from a folder"):
        load_gate.as_given(tiny())
