"""Fast paths of deep models: they are judged by the distance from float64; planted faults are refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from tests.policy.conftest import IDS, SHAPE

from equipoise.policy import scorer
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation import backends
from equipoise.policy.generation.cpu_decoder import CpuPrefixCache
from equipoise.policy.generation.prefix_cache import PrefixKVCache, SharedPrefixCache
from equipoise.policy.kernels import attention
from equipoise.policy.kernels.decoder_layer import DecoderLayers
from equipoise.policy.rounding import disagreement, distances, rounded_again

# layers, size of the weights
DEEP = [
    (30, 0.1),
    *(pytest.param(*deep, marks=pytest.mark.slow) for deep in ((24, 0.3), (32, 0.02), (48, 0.3))),
]


def deep(layers, size, kind="Llama"):
    """A narrow model of many layers; the larger its weights, the more it amplifies rounding."""
    shape = SHAPE | IDS | {"num_key_value_heads": 2, "num_hidden_layers": layers}
    torch.manual_seed(layers)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**shape))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    return model.eval()


def rows(model):
    ids = torch.arange(1, 21).view(2, 10)
    with torch.no_grad():
        return [[row] for row in model(input_ids=ids, use_cache=False).logits.flatten(0, 1)]


def distance(ours, exact):
    return max(distances(ours, exact))


def rounding(model):
    """The largest of three draws, of all rows."""
    exact, found = rows(model), []
    for draw in range(3):
        with rounded_again(model, draw):
            found.append(distance(rows(model), exact))
    return max(found)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
@pytest.mark.parametrize(
    ("layers", "size"), [(2, 0.02), (2, 0.3), (24, 0.3), (32, 0.02), (48, 0.1), (48, 0.3)]
)
def test_rounding_is_the_distance_from_float64(layers, size, kind):
    model = deep(layers, size, kind)
    exact = [[row.float()] for (row,) in rows(deepcopy(model).double())]
    assert 1 / 3 < rounding(model) / distance(rows(model), exact) < 4


def test_deep_models_round_by_more_than_a_bound_for_tiny_ones():
    assert rounding(deep(48, 0.3)) > 20 * rounding(deep(2, 0.02))


def test_passes_leave_no_hooks_and_draws_repeat():
    model = deep(2, 0.3)
    exact = rows(model)
    found = []
    for draw in (0, 0, 1):
        with rounded_again(model, draw):
            found.append(rows(model))
    first, second, other = found
    assert distance(first, second) == 0 < distance(first, other)
    assert distance(rows(model), exact) == 0


def test_a_difference_is_judged_by_the_models_own():
    model = deep(24, 0.3)
    exact, own = rows(model), rounding(model)

    def judged(relative):
        off = [
            [row + relative * row.norm() * torch.nn.functional.normalize(row.flip(0), dim=0)]
            for (row,) in exact
        ]
        return disagreement(model, off, exact, lambda: rows(model), torch.float32)

    assert judged(own) == ""
    assert "which rounds by" in judged(20 * own)
    assert judged(float("nan"))
    assert judged(0.5)


@pytest.mark.parametrize(("layers", "size"), DEEP)
def test_deep_models_take_the_fast_paths(layers, size, tokenizer):
    policy = CausalPolicy(deep(layers, size), tokenizer)
    assert policy.scorer.decoder_layers is not None
    assert policy.scorer.max_packed_length
    assert backends.choose_backend(policy.model) is CpuPrefixCache
    assert backends.why_not_shared(policy.model) is None


def later_positions(monkeypatch, layer):
    """Sampled tokens stand one place too far."""
    for backend in (SharedPrefixCache, CpuPrefixCache):
        decode = backend.decode
        monkeypatch.setattr(
            backend,
            "decode",
            lambda self, step, d=decode: d(self, replace(step, positions=step.positions + 1)),
        )


def missing_key(monkeypatch, layer):
    """In one layer a query does not read its prompt's first key."""
    attend = PrefixKVCache.attend

    def without(self, query, number, scale, window, cap):
        if number != layer:
            return attend(self, query, number, scale, window, cap)
        whole = self.step._bias
        self.step._bias = {}
        runs = self.step.runs
        for run in runs:
            bias = self.step.bias(run, window)
            if bias is None:
                keys = max(self.step.prefix_lengths[run]) + max(self.step.own_lengths[run]) + 1
                bias = torch.zeros(run.stop - run.start, 1, 1, 1, keys)
            bias = bias.clone()
            bias[..., 0] = -torch.inf
            self.step._bias[run.start, window] = bias
        try:
            return attend(self, query, number, scale, window, cap)
        finally:
            self.step._bias = whole

    monkeypatch.setattr(PrefixKVCache, "attend", without)


def mask_by_one(monkeypatch, layer):
    """In one layer a prompt's last key is the one before it."""
    attend = PrefixKVCache.attend

    def shifted(self, query, number, *settings):
        if number == layer and self.step.depth == 1:
            for states in self.prompt[number]:
                for group, length in enumerate(self.step.prefix_lengths):
                    if length > 1:
                        states[group, :, length - 1] = states[group, :, length - 2]
        return attend(self, query, number, *settings)

    monkeypatch.setattr(PrefixKVCache, "attend", shifted)


@pytest.mark.parametrize("fault", [later_positions, missing_key, mask_by_one])
@pytest.mark.parametrize(("layers", "size"), DEEP)
def test_a_wrong_sampler_is_refused_at_any_depth(layers, size, fault, monkeypatch):
    model = deep(layers, size)
    fault(monkeypatch, layers // 2)
    assert "logits differ by" in backends.why_not_shared(model)
    assert "logits differ by" in backends.why_not_cpu_decoder(model)


def wrong_positions(monkeypatch, layer):
    def off(prompts, responses):
        batch = pack(prompts, responses)
        return replace(
            batch, positions=torch.where(batch.positions > 5, batch.positions + 1, batch.positions)
        )

    pack = scorer.pack
    monkeypatch.setattr(scorer, "pack", off)


def in_layer(monkeypatch, name, layer, change):
    """A kernel of one layer is given changed keys; layers call it in turn."""
    kernel, run, now = getattr(attention, name), DecoderLayers._run, SimpleNamespace(layer=None)

    def running(self, module, *inputs, **others):
        now.layer = module.self_attn.layer_idx
        return run(self, module, *inputs, **others)

    def changed(*inputs, **settings):
        return change(kernel, *inputs, **settings) if now.layer == layer else kernel(*inputs, **settings)

    monkeypatch.setattr(DecoderLayers, "_run", running)
    monkeypatch.setattr(attention, name, changed)


def packed_missing_key(monkeypatch, layer):
    """In one layer the second key is not read: softmax over the others, by hand."""

    def without(kernel, q, k, v, dropout, causal, scale):
        rows, keys = q.shape[2], k.shape[2]
        seen = (
            torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
            if causal
            else torch.ones(rows, keys) > 0
        )
        seen[2:, 1] = False
        scores = (scale * q @ k.mT).masked_fill(~seen, -torch.inf)
        return scores.softmax(-1) @ v, scores.logsumexp(-1)

    in_layer(monkeypatch, "_forward", layer, without)


def packed_mask_by_one(monkeypatch, layer):
    """In one layer a query also reads the key after its own."""

    def ahead(kernel, q, k, v, dropout, causal, scale):
        rows, keys = q.shape[2], k.shape[2]
        seen = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows + 1)
        scores = (scale * q @ k.mT).masked_fill(~seen, -torch.inf)
        return scores.softmax(-1) @ v, scores.logsumexp(-1)

    in_layer(monkeypatch, "_forward", layer, ahead)


@pytest.mark.parametrize("fault", [wrong_positions, packed_missing_key, packed_mask_by_one])
@pytest.mark.parametrize(("layers", "size"), DEEP)
def test_a_wrong_packed_row_is_refused_at_any_depth(layers, size, fault, monkeypatch, tokenizer, caplog):
    fault(monkeypatch, layers // 2)
    with caplog.at_level("INFO", logger="equipoise"):
        policy = CausalPolicy(deep(layers, size), tokenizer)
    assert policy.scorer.decoder_layers is None
    assert any("states differ by" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(("layers", "size"), DEEP)
def test_a_wrong_backward_is_refused_at_any_depth(layers, size, monkeypatch, tokenizer, caplog):
    backward, calls = attention._backward, []

    def forgetful(*inputs, **settings):
        calls.append(1)
        d_q, d_k, d_v = backward(*inputs, **settings)
        d_k[:, :, 1] = 0
        return d_q, d_k, d_v

    monkeypatch.setattr(attention, "_backward", forgetful)
    with caplog.at_level("INFO", logger="equipoise"):
        policy = CausalPolicy(deep(layers, size), tokenizer)
    assert calls
    assert policy.scorer.decoder_layers is None
    assert any("gradients differ by" in r.getMessage() for r in caplog.records)
