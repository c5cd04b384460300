"""Activation checkpointing: the same bits of log-probs and gradients, and less kept for the backward."""

from __future__ import annotations

import pytest
import torch
from tests.policy.test_frozen_base import ANSWERS, PROMPTS

from equipoise.policy.activation_checkpointing import blocks_of
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import backbone
from equipoise.policy.scoring.live_reference import FrozenReference, LiveScorer
from equipoise.policy.scoring.microbatch import bytes_per_token


def gradients(policy, recompute, padded=False):
    policy.recompute(recompute)
    if padded:
        policy.scorer.max_packed_length = 0
    policy.model.zero_grad()
    logp, _ = policy.logprobs(policy.batch(PROMPTS, ANSWERS))
    (logp * torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=logp.dtype)).sum().backward()
    grads = {name: p.grad.clone() for name, p in policy.parameters() if p.grad is not None}
    return logp.detach(), grads


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_have_the_same_bits(tiny, sampled_family, padded, precision):
    policy = tiny(sampled_family, precision=precision)
    (logp, grads), (again, recomputed) = (gradients(policy, on, padded) for on in (False, True))
    assert torch.equal(logp, again)
    assert grads.keys() == recomputed.keys() != set()
    assert all(torch.equal(grads[name], recomputed[name]) for name in grads)


def test_adapters_on_a_held_base_too(tiny, tokenizer, tmp_path):
    tiny().model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    policy = CausalPolicy.load(tmp_path / "base", tokenizer, lora_rank=3, device="cpu")
    with torch.no_grad():
        for _, p in policy.parameters():
            p.add_(0.1)
    (logp, grads), (again, recomputed) = (gradients(policy, on) for on in (False, True))
    assert torch.equal(logp, again)
    assert all(torch.equal(grads[name], recomputed[name]) for name in grads)


def test_blocks_are_computed_twice_and_keep_only_their_inputs(tiny, monkeypatch):
    from equipoise.policy.kernels import attention

    calls = []
    forward = attention.forward
    monkeypatch.setattr(attention, "forward", lambda *a: (calls.append(1), forward(*a))[1])
    policy = tiny(num_hidden_layers=6)
    assert policy.scorer.decoder_layers is not None
    counts = []
    for on in (False, True):
        calls.clear()
        gradients(policy, on)
        counts.append(len(calls))
    assert counts == [6, 12]
    policy.recompute(False)
    whole = bytes_per_token(policy)
    policy.recompute(True)
    width = 6 * 32 * 4  # six inputs of 32 float32 numbers
    assert width < bytes_per_token(policy) < width + whole / 6 + 0.5 * whole
    assert policy.scorer.recompute
    with torch.no_grad():  # and nothing is kept where there is no backward
        calls.clear()
        policy.logprobs(policy.batch(PROMPTS, ANSWERS))
    assert len(calls) == 6


def test_live_references_and_their_divergence(tiny):
    policy = tiny()
    reference = FrozenReference(policy)
    with torch.no_grad():
        for _, p in policy.parameters():
            p.mul_(1.1)
    found = []
    for on in (False, True):
        policy.recompute(on)
        policy.model.zero_grad()
        policy.scorer.max_packed_length = 0
        batch = policy.batch(PROMPTS, ANSWERS)
        scores = LiveScorer(policy.scorer)(batch, [reference.next_token_distribution(batch)])
        (scores.logp.sum() + scores.divergences[0].sum()).backward()
        found.append([p.grad.clone() for _, p in policy.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_model_without_blocks_is_refused(tiny, monkeypatch):
    policy = tiny("gpt2")
    assert len(blocks_of(backbone(policy.model))) == 2
    monkeypatch.setattr(policy.model.config, "n_layer", 3)
    with pytest.raises(ModelError, match="no list of 3 blocks"):
        policy.recompute(True)
