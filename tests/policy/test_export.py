"""Exports in half precision, and mixtures of experts: plain transformers reads them, with the right weights."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tests.policy.conftest import IDS as TOKENS
from tests.policy.conftest import SHAPE
from transformers import AutoModelForCausalLM

from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.export import dtype_of, export
from equipoise.policy.protocol import ModelError

IDS = torch.tensor([[1, 5, 6, 7, 8]])


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "9KB"}])
def test_a_policy_that_came_in_bf16_goes_out_as_it_came(tiny, tokenizer, tmp_path, shards):
    tiny().model.to(torch.bfloat16).save_pretrained(tmp_path / "given", **shards)
    policy = CausalPolicy.load(tmp_path / "given", tokenizer, device="cpu")
    assert any("came in BF16" in note for note in policy.notes())
    with torch.no_grad():
        policy.model.lm_head.weight[0] += 1
    checkpoint.save(policy, tmp_path / "last")
    export(tmp_path / "last", tmp_path / "export", "bf16", policy.start.chain.base.tensors)
    checkpoint.verify(tmp_path / "export")
    stored = {}
    for file in (tmp_path / "export").glob("*.safetensors"):
        stored |= load_file(file)
    given = {}
    for file in (tmp_path / "given").glob("*.safetensors"):
        given |= load_file(file)
    assert stored.keys() == given.keys()
    moved = {name for name in given if not torch.equal(stored[name], given[name])}
    assert moved == {"lm_head.weight"}  # same dtype, same bits
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    read, info = AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert read.dtype == torch.bfloat16
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    again = CausalPolicy.load(tmp_path / "export", tokenizer, device="cpu")
    assert torch.equal(again.model.lm_head.weight, policy.model.lm_head.weight.to(torch.bfloat16).float())


def test_which_dtype(tmp_path):
    assert [dtype_of("auto", stored) for stored in ("F32", "BF16", "F16")] == [None, "bf16", "fp16"]
    assert dtype_of("none", "BF16") is None
    assert dtype_of("fp32", "BF16") == "fp32"
    with pytest.raises(ModelError, match="one of fp32, bf16, fp16"):
        export(tmp_path, tmp_path / "e", "fp8")


EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_key_value_heads": 2}
MIXTURES = {
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "router_aux_loss_coef": 0.02}),
    "qwen3": ("Qwen3MoeConfig", {"num_experts": 4, "head_dim": 8}),
    "qwen2": ("Qwen2MoeConfig", {"num_experts": 4, "shared_expert_intermediate_size": 16}),
    "olmoe": ("OlmoeConfig", {"num_experts": 4}),
    "granite": ("GraniteMoeConfig", {"num_local_experts": 4}),
    "gpt-oss": ("GptOssConfig", {"num_local_experts": 4, "head_dim": 8}),
}


# PEFT says of its own mapping for fused experts that it fits no module, where the adapter has none on experts
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")
@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_mixtures_of_experts_come_back_from_their_checkpoints(tokenizer, tmp_path, kind, lora_rank):
    name, settings = MIXTURES[kind]
    torch.manual_seed(2)
    config = getattr(transformers, name)(**(SHAPE | TOKENS | EXPERTS | settings))
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "given")
    policy = CausalPolicy.load(tmp_path / "given", tokenizer, device="cpu", lora_rank=lora_rank)
    with torch.no_grad():
        for _, p in policy.parameters():
            p.add_(0.1 * torch.randn_like(p))
        logits = policy.model(input_ids=IDS).logits
    before = {name: p.detach().clone() for name, p in policy.parameters()}
    checkpoint.save(policy, tmp_path / "saved")
    with torch.no_grad():
        for _, p in policy.parameters():
            p.zero_()
    checkpoint.load_into(policy, tmp_path / "saved")
    assert all(torch.equal(p, before[name]) for name, p in policy.parameters())
    with torch.no_grad():
        if lora_rank:
            from peft import AutoPeftModelForCausalLM

            read = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
        else:
            read, info = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
            assert not any(info.values())
        assert float((read.eval()(input_ids=IDS).logits - logits).abs().max()) < 1e-5
    if kind == "mixtral":
        assert any("load-balancing loss is not used" in note for note in policy.notes())
