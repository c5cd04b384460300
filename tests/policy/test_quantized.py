"""QLoRA: a base of 4 or 8 bits is one policy on every path, and its merged form is the policy that was trained.

The second way is a float32 model whose weights went through the library's own quantisation and back.
"""

from __future__ import annotations

import json
import sys

import pytest
import torch
from tests.policy.test_frozen_base import ANSWERS, PROMPTS, gradients, load
from tests.policy.test_start import plain

from equipoise.policy import checkpoint, load_gate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.backends import why_not_cpu_decoder, why_not_shared
from equipoise.policy.held_weights.frozen_base import RECORD
from equipoise.policy.protocol import ModelError
from equipoise.policy.scoring.microbatch import bytes_per_token

bnb = pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::UserWarning:bitsandbytes")
SHAPE = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32}
BITS = ["4bit", "8bit"]


@pytest.fixture
def stored(tiny, tmp_path):
    def make(family="llama", dtype=torch.bfloat16):
        folder = tmp_path / f"{family}-{dtype}".replace("torch.", "")
        tiny(family, **SHAPE).model.to(dtype).save_pretrained(folder)
        return folder

    return make


def by_hand(weight, bits):
    """The library's quantisation and back, in float32."""
    if bits == "4bit":
        return bnb.functional.dequantize_4bit(
            *bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        )
    codes, scale, _ = bnb.functional.int8_vectorwise_quant(weight.half())
    return codes.float() * (scale[:, None] / 127)


def exact_model(folder, bits):
    """Plain transformers, with the weights of its blocks' linear layers rounded."""
    model = plain(folder)
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = by_hand(module.weight.data, bits)
    return model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", ["llama", "qwen3", "llama-tied"])
def test_scores_and_gradients_are_those_of_the_dequantised_model(stored, tokenizer, family, bits, dtype):
    folder = stored(family, dtype)
    policy = load(folder, tokenizer, quantization=bits)
    assert policy.scorer.max_packed_length
    assert policy.scorer.decoder_layers is not None  # the layers' own kernels run on quantised weights
    exact = exact_model(folder, bits)
    exact.save_pretrained(folder.parent / "exact")
    wide = load(folder.parent / "exact", tokenizer, "float32")
    for padded in (False, True):
        (logp, grads), (expected, far) = (gradients(p, padded=padded) for p in (policy, wide))
        assert torch.allclose(logp, expected, rtol=1e-5, atol=1e-5)
        error = sum(float((grads[n] - far[n]).square().sum()) for n in far)
        assert error < 1e-10 * sum(float(g.square().sum()) for g in far.values())
        assert {g.dtype for g in grads.values()} == {torch.float32}
    for why in (why_not_shared, why_not_cpu_decoder):
        assert why(policy.model) is None


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("memory", [True, False])
def test_the_gates_know_what_was_rounded(stored, tokenizer, tmp_path, monkeypatch, bits, memory):
    monkeypatch.setattr(load_gate, "memory_holds", lambda parameters: memory)
    folder = stored()
    policy = load(folder, tokenizer, quantization=bits)
    checkpoint.save(policy, tmp_path / "saved")
    assert load_gate.as_saved(policy, tmp_path / "saved").passed
    fresh = CausalPolicy.load(folder, tokenizer, lora_rank=2, quantization=bits, device="cpu")
    assert load_gate.as_given(fresh).passed
    assert any(f"its linear layers in {bits[0]} bits, rounded" in note for note in fresh.notes())
    layer = fresh.model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    with torch.no_grad():
        if bits == "8bit":
            layer.weight.SCB.mul_(1.5)
        else:
            layer.weight.data.bitwise_xor_(0x33)
    assert not load_gate.as_given(fresh).passed


@pytest.mark.parametrize("bits", BITS)
def test_a_checkpoint_read_again_is_the_policy_that_was_trained(stored, tokenizer, tmp_path, bits):
    policy = load(stored(), tokenizer, quantization=bits)
    checkpoint.save(policy, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / RECORD).read_text())["quantization"] == bits
    expected, _ = gradients(policy)
    for how in ({}, {"adapter": "merge"}):
        again = CausalPolicy.load(tmp_path / "saved", tokenizer, device="cpu", **how)
        with torch.no_grad():
            logp, _ = again.logprobs(again.batch(PROMPTS, ANSWERS))
        assert torch.allclose(logp, expected, rtol=1e-5, atol=1e-5), how
    assert all(p.is_floating_point() for p in again.model.parameters())  # merged, in float32
    # and an adapter of the published form: PEFT alone reads it, on the weights that were not rounded
    with torch.no_grad():
        assert plain(tmp_path / "saved")(input_ids=torch.tensor([[1, 5, 6]])).logits.isfinite().all()


def test_the_memory_of_the_base(stored, tokenizer):
    folder = stored()
    sizes, fingerprints, kept = {}, set(), {}
    for bits in ("none", *BITS):
        policy = load(folder, tokenizer, quantization=bits)
        layers = policy.model.get_base_model().model.layers
        sizes[bits] = sum(p.nbytes for p in layers.parameters() if not p.requires_grad and p.ndim > 1)
        fingerprints.add(checkpoint.fingerprint(policy))
        policy.scorer.max_packed_length = 0
        kept[bits] = bytes_per_token(policy)
    assert sizes["8bit"] == sizes["none"] / 2
    assert sizes["4bit"] == sizes["none"] / 4
    assert len(fingerprints) == 3
    assert max(kept.values()) < 1.1 * kept["none"]  # no dequantised weight is kept for the backward


def test_a_new_adapter_on_a_merged_one(stored, tokenizer, tmp_path):
    policy = load(stored(), tokenizer)
    checkpoint.save(policy, tmp_path / "first")
    second = CausalPolicy.load(
        tmp_path / "first",
        tokenizer,
        adapter="merge",
        lora_rank=2,
        quantization="4bit",
        base_folder=tmp_path / "run" / "base",
        device="cpu",
    )
    checkpoint.save(second, tmp_path / "run" / "second")
    expected, _ = gradients(second)
    again = CausalPolicy.load(tmp_path / "run" / "second", tokenizer, device="cpu")
    assert again.start.base.quantization == "4bit"
    assert torch.allclose(gradients(again)[0], expected, rtol=1e-5, atol=1e-5)
    assert load_gate.as_given(second).passed


def test_all_weights_are_not_trained_in_a_few_bits(stored, tokenizer, monkeypatch, tmp_path):
    folder = stored()
    with pytest.raises(ModelError, match=r"set model.lora_rank, or leave model.quantization out"):
        CausalPolicy.load(folder, tokenizer, quantization="4bit", device="cpu")
    with pytest.raises(ModelError, match=r"must be one of none, 4bit, 8bit"):
        CausalPolicy.load(folder, tokenizer, quantization="2bit", lora_rank=2, device="cpu")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ModelError, match=r"model.quantization=4bit needs bitsandbytes .*pip install 'equipoise\[quant\]'"
    ):
        CausalPolicy.load(folder, tokenizer, quantization="4bit", lora_rank=2, device="cpu")
