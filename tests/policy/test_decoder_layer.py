"""The decoder-layer kernel = transformers' own layer: every gradient, saved memory, and which models use it."""

from __future__ import annotations

import logging

import pytest
import torch
import transformers

from equipoise.data.collate import Response, collate
from equipoise.data.pack import PackedBatch, pack
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.kernels.attention import Unpackable, as_sequences, backward, forward
from equipoise.policy.kernels.elementwise import ACTIVATIONS
from equipoise.policy.kernels.segment_layout import Layout

COMMON = ("llama", "llama-tied", "qwen2", "qwen3", "mistral", "gemma")
# float32 against the same in float64, in the 2-norm of all gradients: measured 4e-7 to 1.9e-6, as padded rows are
FLOAT32 = 5e-6
# transformers normalises in float32 whatever the model's type: so much is left of float64
FLOAT64 = 2e-7


def draw(seed, comparisons=5, count=3, longest=14):
    """(prompts, responses) of random lengths: some of one token, some behind a lead, a prompt of one token."""
    generator = torch.Generator().manual_seed(seed)

    def upto(n):
        return int(torch.randint(1, n + 1, (), generator=generator))

    def ids(n):
        return tuple(torch.randint(1, 64, (n,), generator=generator).tolist())

    prompts = [ids(1), *(ids(upto(longest)) for _ in range(comparisons - 1))]
    groups = [
        [
            Response(ids(1 if upto(4) == 1 else upto(longest)), "", lead=ids(upto(6)) if upto(3) == 1 else ())
            for _ in range(count)
        ]
        for _ in range(comparisons)
    ]
    return prompts, groups


def gradients(policy, logp):
    """Of a sum of log-probs with weights of either sign, one for each weight, in float64."""
    weights = torch.linspace(-1, 1.5, logp.numel(), dtype=torch.float64).view(logp.shape)
    found = torch.autograd.grad((weights * logp).sum(), [p for _, p in policy.parameters()])
    return [g.double() for g in found]


def one_by_one(policy, prompts, groups):
    """Padded rows, one response each: transformers' own layers."""
    rows = [
        torch.cat([policy.logprobs(collate([prompt], [[r]], 0))[0][0] for r in group])
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    return torch.stack(rows)


def off(found, wanted):
    """The difference of two lists of tensors over the second, in the 2-norm."""
    parts = ((a - b).detach().norm() ** 2 for a, b in zip(found, wanted, strict=True))
    return float((sum(parts) / sum(b.detach().norm() ** 2 for b in wanted)) ** 0.5)


def plain(policy):
    """The same policy with transformers' own layers."""
    policy.scorer.decoder_layers = None
    return policy


@pytest.mark.parametrize("family", [*COMMON, "gemma3", "gpt2"], indirect=True)
def test_layers_of_the_common_structure_run_by_the_kernel(tiny, family, caplog):
    with caplog.at_level(logging.INFO, logger="equipoise"):
        policy = tiny(family)
    lines = [r.getMessage() for r in caplog.records if "as transformers has them" in r.getMessage()]
    assert ((policy.scorer.decoder_layers is not None), len(lines)) == (
        (True, 0) if family in COMMON else (False, 1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("family", COMMON, indirect=True)
def test_every_gradient_is_that_of_padded_rows_in_float64(tiny, family, count, monkeypatch):
    # some sequences are whole, some not
    monkeypatch.setattr("equipoise.policy.kernels.segment_layout.MAX_WHOLE_SEQUENCE", 15)
    prompts, groups = draw(count, count=count)
    exact = tiny(family, dtype=torch.float64)
    reference = one_by_one(exact, prompts, groups)
    wanted = gradients(exact, reference)
    for dtype, bound in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        policy = tiny(family, dtype=dtype)
        assert policy.scorer.decoder_layers is not None
        logp, _ = policy.logprobs(pack(prompts, groups))
        assert off([logp], [reference]) < bound
        assert off(gradients(policy, logp), wanted) < bound


@pytest.mark.parametrize(
    "changes", [{"attention_bias": True, "mlp_bias": True}, {"num_hidden_layers": 1}, {"head_dim": 16}]
)
def test_biases_one_layer_and_other_widths_agree(tiny, changes):
    prompts, groups = draw(3)
    policy = tiny("llama", dtype=torch.float64, **changes)
    assert policy.scorer.decoder_layers is not None
    ours = gradients(policy, policy.logprobs(pack(prompts, groups))[0])
    assert off(ours, gradients(policy, one_by_one(policy, prompts, groups))) < FLOAT64


def test_adapters_agree_and_frozen_weights_get_no_gradient(lora):
    prompts, groups = draw(4)
    for _ in range(2):  # as it starts, where B is 0, and as it goes on
        logp = lora.logprobs(pack(prompts, groups))[0]
        reference = one_by_one(lora, prompts, groups)
        assert off([logp], [reference]) < FLOAT32
        assert off(gradients(lora, logp), gradients(lora, reference)) < FLOAT32
        with torch.no_grad():
            for number, (_, p) in enumerate(lora.parameters()):
                p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    assert lora.scorer.decoder_layers is not None
    lora.logprobs(pack(prompts, groups))[0].sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in lora.model.parameters())


def test_without_its_adapters_it_is_the_model_they_were_put_on(tiny, lora):
    with torch.no_grad():
        for _, p in lora.parameters():
            p.add_(0.1)
    prompts, groups = draw(5)
    with lora.model.disable_adapter():
        assert (
            off([lora.logprobs(pack(prompts, groups))[0]], [tiny().logprobs(pack(prompts, groups))[0]]) < 1e-7
        )


def test_an_adapter_that_is_not_plain_lora_runs_as_transformers_has_it(tiny, tokenizer, caplog):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
    with caplog.at_level(logging.INFO, logger="equipoise"):
        policy = CausalPolicy(get_peft_model(tiny().model, config), tokenizer)
    assert policy.scorer.decoder_layers is None and policy.scorer.max_packed_length
    assert sum("not one LoRA" in r.getMessage() for r in caplog.records) == 1


def test_some_frozen_weights(tiny):
    policy = tiny("qwen3", dtype=torch.float64)
    for number, p in enumerate(policy.model.parameters()):
        p.requires_grad_(number % 3 == 0)
    prompts, groups = draw(6)
    ours = gradients(policy, policy.logprobs(pack(prompts, groups))[0])
    assert off(ours, gradients(policy, one_by_one(policy, prompts, groups))) < FLOAT64


def test_another_order_changes_only_rounding(tiny):
    policy = tiny("qwen3", dtype=torch.float64)
    prompts, groups = draw(7)
    batches = (pack(prompts, groups), pack(prompts[::-1], groups[::-1]))
    one, other = (policy.logprobs(batch)[0] for batch in batches)
    assert off([other.flip(0)], [one]) < 1e-12
    weights = torch.linspace(-1, 1.5, one.numel(), dtype=torch.float64).view(one.shape)
    slopes = [
        torch.autograd.grad((w * logp).sum(), [p for _, p in policy.parameters()])
        for w, logp in ((weights, one), (weights.flip(0), other))
    ]
    assert off(*slopes) < FLOAT64


def kept(policy, batch):
    """Bytes that the forward keeps, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    found = {}

    def keep(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = policy.logprobs(batch)
    del held
    return sum(size for place, size in found.items() if place not in weights)


@pytest.mark.parametrize("family", ["llama", "qwen3"], indirect=True)
def test_it_keeps_less_than_two_thirds(tiny, family):
    batch = pack(*draw(8, longest=30))
    ours, theirs = tiny(family, num_hidden_layers=6), plain(tiny(family, num_hidden_layers=6))
    assert kept(ours, batch) < 0.66 * kept(theirs, batch)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("form", [64, 15, 0, "sequences"])
def test_attention_of_few_queries_is_that_of_all(monkeypatch, heads, form):
    prompts, groups = draw(9, count=4)
    batch = pack(prompts, groups)
    places = batch.predictor.unique()
    few = Layout(batch.tree, torch.device("cpu"), tuple(places.tolist()))
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(batch.tokens, heads[n > 0], 8, dtype=torch.float64, generator=generator).requires_grad_()
        for n in range(3)
    )
    reference = as_sequences(q, k, v, Layout(batch.tree, torch.device("cpu")), 0.4)[places]
    weight = torch.randn(reference.shape, dtype=torch.float64, generator=generator)
    dq, dk, dv = torch.autograd.grad((weight * reference).sum(), (q, k, v))
    if form == "sequences":  # what other devices run
        monkeypatch.setattr("equipoise.policy.kernels.attention._by_segments", lambda q, v: False)
    else:  # all sequences are whole, or some, or none
        monkeypatch.setattr("equipoise.policy.kernels.segment_layout.MAX_WHOLE_SEQUENCE", form)
    with torch.no_grad():
        out, lse = forward(q[places], k, v, few, 0.4)
        grads = backward(weight, q[places], k, v, out, lse, few, 0.4)
    torch.testing.assert_close(out, reference.detach(), rtol=1e-12, atol=1e-12)
    for ours, wanted in zip(grads, (dq[places], dk, dv), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_a_wrong_gradient_fails_the_probe_on_load(tiny, tokenizer, monkeypatch, caplog):
    model = tiny().model
    monkeypatch.setitem(ACTIVATIONS, "silu", (torch.nn.functional.silu, lambda grad, x: grad))
    with caplog.at_level(logging.INFO, logger="equipoise"):
        policy = CausalPolicy(model, tokenizer)
    assert policy.scorer.decoder_layers is None and policy.scorer.max_packed_length
    assert any("gradients differ" in r.getMessage() for r in caplog.records)


def test_a_structure_that_looks_common_and_is_not_fails_the_probe_on_load(tokenizer, caplog):
    config = transformers.GraniteConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        vocab_size=64, residual_multiplier=0.5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    with caplog.at_level(logging.INFO, logger="equipoise"):
        policy = CausalPolicy(transformers.AutoModelForCausalLM.from_config(config), tokenizer)
    assert policy.scorer.decoder_layers is None and policy.scorer.max_packed_length
    assert any("states differ" in r.getMessage() for r in caplog.records)
    prompts, groups = draw(10)
    assert isinstance(policy.batch(prompts, groups), PackedBatch)
    assert off([policy.logprobs(pack(prompts, groups))[0]], [one_by_one(policy, prompts, groups)]) < FLOAT32


@pytest.mark.parametrize("family", ["mistral", "qwen3"], indirect=True)
def test_a_window_that_would_cut_a_sequence_is_refused(tiny, family):
    policy = tiny(
        family,
        sliding_window=12,
        **({"use_sliding_window": True, "max_window_layers": 0} if family == "qwen3" else {}),
    )
    assert policy.scorer.decoder_layers is not None
    with pytest.raises(Unpackable, match="window of 12"):
        policy.logprobs(pack([tuple(range(1, 20))], [[(3, 2)]]))
