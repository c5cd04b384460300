"""Attention of packed rows by kernels for GPUs: FlexAttention's forward on the CPU, varlen by a stand-in of its
definition; both are checked before they are used."""

from __future__ import annotations

import pytest
import torch
from tests.policy.test_packing import draw, one_by_one
from torch.nn.attention import varlen
from torch.testing import assert_close

from equipoise.data.collate import collate
from equipoise.data.pack import pack
from equipoise.policy.kernels import device_attention
from equipoise.policy.kernels.attention import as_sequences, packed_attention
from equipoise.policy.kernels.device_attention import KEPT, TREE, by_flex, by_varlen, why_not
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.protocol import ModelError

CPU = torch.device("cpu")


def stand_in(
    query, key, value, begins_q, begins_k, most_q, most_k, *, scale, window_size, enable_gqa, ahead=0
):
    """Varlen attention as it is defined: each segment alone, causal from the end of its keys."""
    assert window_size == (-1, 0)
    assert enable_gqa is (query.shape[1] != key.shape[1])
    assert (begins_q.dtype, begins_k.dtype) == (torch.int32, torch.int32)
    found = []
    for n in range(len(begins_q) - 1):
        q = query[begins_q[n] : begins_q[n + 1]]
        k, v = (x[begins_k[n] : begins_k[n + 1]] for x in (key, value))
        assert len(q) <= most_q and len(k) <= most_k
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1).float() for x in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q.float() * scale, k)
        seen = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q) + ahead)
        found.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v))
    return torch.cat(found).to(value.dtype)


@pytest.fixture
def as_defined(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", stand_in)


def tensors(size, kept, heads=(4, 2), dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(size, heads[n > 0], 8, dtype=dtype, generator=generator) for n in range(3))
    return (q if kept is None else q[list(kept)]), k, v


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("kept", [None, KEPT])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("form", ["varlen", "flex"])
def test_forms_are_the_attention_of_whole_sequences(form, heads, kept, as_defined):
    size = sum(prompt + sum(branches) for prompt, branches in TREE)
    layout = Layout(TREE, CPU, kept)
    inputs = tensors(size, kept, heads, torch.float32)
    found = {"varlen": by_varlen, "flex": by_flex}[form](*inputs, layout, 0.4)
    assert_close(found, as_sequences(*inputs, layout, 0.4), rtol=1e-5, atol=1e-6)
    assert_close(device_attention.exact(*inputs, layout, 0.4), found, rtol=1e-5, atol=1e-6)


def test_gradients_of_varlen_are_those_of_whole_sequences(as_defined):
    size = sum(prompt + sum(branches) for prompt, branches in TREE)
    layout = Layout(TREE, CPU, KEPT)
    inputs = [x.requires_grad_() for x in tensors(size, KEPT, dtype=torch.float32)]
    grads = [
        torch.autograd.grad(attend(*inputs, layout, 0.4).square().sum(), inputs)
        for attend in (by_varlen, as_sequences)
    ]
    assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_a_form_that_is_exact_is_taken_and_a_wrong_one_is_not(monkeypatch, as_defined):
    assert why_not("varlen", CPU) == ""

    def ahead(*inputs, **settings):
        return stand_in(*inputs, **settings, ahead=1)

    monkeypatch.setattr(varlen, "varlen_attn", ahead)
    assert "results differ by" in why_not("varlen", CPU)


def test_what_a_cpu_lacks_is_said_in_a_sentence(tiny):
    for form in ("varlen", "flex"):
        with pytest.raises(ModelError, match=f"model.attention={form} cannot be used: .*; auto takes"):
            tiny(precision="bf16").attend_by(form)
    with pytest.raises(ModelError, match="it takes bf16 products"):
        tiny().attend_by("flex")
    policy = tiny()
    policy.attend_by("auto")
    assert policy.path == "cpu, packed"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"], indirect=True)
def test_a_policy_attends_by_varlen_in_half_precision(tiny, family, as_defined, monkeypatch):
    """On a device without the segments' kernel: as near to float32 as padded rows in the same precision."""
    monkeypatch.setattr("equipoise.policy.kernels.attention._by_segments", lambda q, v: False)
    prompts, groups = draw(6)
    exact = one_by_one(tiny(family), prompts, groups).detach()
    policy, calls = tiny(family, precision="bf16"), []
    policy.attend_by("varlen")
    assert policy.path == "cpu, packed by varlen"

    def counted(*inputs, **settings):
        calls.append(inputs[0].dtype)
        return stand_in(*inputs, **settings)

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    packed, padded = (
        policy.logprobs(batch)[0] for batch in (pack(prompts, groups), collate(prompts, groups, 0))
    )
    assert calls and set(calls) == {torch.bfloat16}
    off = [float((found.detach() - exact).norm() / exact.norm()) for found in (packed, padded)]
    assert off[0] < 2 * off[1]
    packed.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for _, p in policy.parameters() if p.grad is not None)


def test_full_precision_keeps_whole_sequences(monkeypatch):
    monkeypatch.setattr("equipoise.policy.kernels.attention._by_segments", lambda q, v: False)
    size = sum(prompt + sum(branches) for prompt, branches in TREE)
    inputs = tensors(size, None)
    layout = Layout(TREE, CPU, form="varlen")  # which a CPU does not have
    assert_close(packed_attention(*inputs, layout, 0.4), as_sequences(*inputs, layout, 0.4), rtol=0, atol=0)
