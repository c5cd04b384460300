"""Prefix sharing: samples on a shared KV cache are those of plain passes, and no token is computed twice."""

from __future__ import annotations

import logging
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import transformers
from scipy.stats import chisquare

from equipoise.data.collate import Prompt, collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation import backends, cpu_decoder, prefix_cache, sampling, scheduler
from equipoise.policy.generation.cpu_decoder import CpuDecoder, CpuPrefixCache
from equipoise.policy.generation.inverse_cdf import BLOCK, sample_tokens
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.generation.prefix_cache import PrefixKVCache, SharedPrefixCache
from equipoise.policy.generation.sampling import sample
from equipoise.policy.generation.scheduler import DecodeStep
from equipoise.policy.protocol import Decoding, ModelError

PROMPTS = [Prompt((1, *range(3, 3 + n)), "", "") for n in (4, 9, 0, 2, 6, 3, 9, 1)]
STOPS = [2, *range(40, 50)]  # a response ends after six tokens on average: rows leave unevenly


def texts(groups):
    return [[(r.ids, r.finished) for r in group] for group in groups]


def logps(groups):
    return torch.tensor([[r.logp for r in group] for group in groups])


@pytest.fixture
def padded(monkeypatch):
    """Call it to make every model use the padded backend."""
    return lambda: monkeypatch.setattr(sampling, "choose_backend", lambda model: PaddedDecoder)


COMMON = {"llama", "llama-tied", "qwen2", "qwen3", "mistral", "mistral-window", "gemma"}


def test_families_share_their_prompts(tiny, sampled_family):
    """Models of the common structure are decoded without their modules."""
    expected = CpuPrefixCache if sampled_family in COMMON else SharedPrefixCache
    assert backends.choose_backend(tiny(sampled_family).model) is expected


def test_adapters_share_their_prompts(lora):
    assert backends.choose_backend(lora.model) is CpuPrefixCache


@pytest.mark.slow
@pytest.mark.parametrize("modules", [False, True])
@pytest.mark.parametrize(("count", "batch"), [(1, 3), (16, 8), (16, 3)])
def test_shared_prompts_say_what_repeated_ones_say(
    tiny, sampled_family, padded, count, batch, modules, monkeypatch
):
    if modules:
        if sampled_family not in COMMON:
            pytest.skip("the other run took its modules")
        monkeypatch.setattr(sampling, "choose_backend", lambda model: SharedPrefixCache)
    # in float32 one of some ten thousand draws falls on the other side of an edge; transformers' eager attention,
    # which Gemma 2 needs, makes NaN of masked rows in float64
    dtype = torch.float32 if sampled_family == "gemma2" else torch.float64
    policy = tiny(sampled_family, dtype=dtype, eos_token_id=STOPS)
    decoding = Decoding(max_new_tokens=16, batch=batch)
    shared = sample(policy, PROMPTS, count, seed=7, decoding=decoding)
    padded()
    plain = sample(policy, PROMPTS, count, seed=7, decoding=decoding)
    assert texts(shared) == texts(plain)
    assert torch.allclose(logps(shared), logps(plain), atol=1e-4)
    lengths = {len(ids) for group in texts(shared) for ids, _ in group}
    assert len(lengths) > (2 if count == 1 else 8)


def test_mixtures_share_the_prompts_of_both_models(tiny, padded):
    policy, other = tiny("llama", eos_token_id=STOPS), tiny("gpt2").model
    settings = {"seed": 2, "decoding": Decoding(max_new_tokens=9, batch=3), "mixed_with": (other, 0.4)}
    shared = sample(policy, PROMPTS, 5, **settings)
    alone = sample(policy, PROMPTS[3:4], 5, places=[3], **settings)
    padded()
    assert texts(shared) == texts(sample(policy, PROMPTS, 5, **settings))
    assert texts(alone) == texts(shared)[3:4]
    assert texts(shared) != texts(sample(policy, PROMPTS, 5, seed=2, decoding=settings["decoding"]))
    response = shared[1][0]
    ids = torch.tensor([[*PROMPTS[1].ids, *response.ids]])
    with torch.no_grad():
        logits = [m(ids).logits[0, -len(response.ids) - 1 : -1] for m in (policy.model, other)]
    both = [each.log_softmax(-1) for each in logits]
    mixed = (0.6 * both[0] + 0.4 * both[1]).log_softmax(-1)
    assert response.logp == pytest.approx(
        float(mixed.gather(1, torch.tensor(response.ids)[:, None]).sum()), abs=1e-3
    )


@pytest.mark.slow
def test_greedy_is_generate_where_the_cache_grows(tiny, sampled_family):
    """Fifty tokens: past the room that a response has at first, and past every window."""
    policy = tiny(sampled_family)
    ours = sample(policy, PROMPTS, 2, seed=0, decoding=Decoding(temperature=0, max_new_tokens=50, batch=3))
    assert prefix_cache.INITIAL_DEPTH < 50
    for prompt, group in zip(PROMPTS, ours, strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt.ids]), do_sample=False, max_new_tokens=50, eos_token_id=2, pad_token_id=0
        )[0, len(prompt.ids) :]
        assert [r.ids for r in group] == 2 * [tuple(theirs.tolist())]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_log_probs_are_those_of_scoring(tiny, precision):
    policy = tiny("llama", precision=precision)
    groups = sample(policy, PROMPTS, 4, seed=1, decoding=Decoding(max_new_tokens=12))
    batch = collate([p.ids for p in PROMPTS], [[r.ids for r in g] for g in groups], 0)
    with torch.no_grad():
        scored = policy.logprobs(batch)[0]
    # logits of these models reach hundreds, of which bf16 keeps 8 bits
    assert float((scored - logps(groups)).abs().mean()) < (1e-3 if precision == "fp32" else 1.0)


def test_attention_is_softmax_over_prompt_and_own_keys():
    """Against a loop over queries in float64, with a window and a cap, with one slot that has ended."""
    draws = torch.Generator().manual_seed(0)
    prompts, count, shared, grouped, size = [3, 5], 2, 2, 3, 4
    step = DecodeStep(
        prefix_lengths=prompts,
        own_lengths=[2, 0],
        rows=torch.tensor([0, 2, 3]),
        groups=torch.tensor([0, 1, 1]),
        tokens=torch.zeros(3),
        positions=torch.tensor([5, 5, 5]),
        uniforms=torch.zeros(3),
        all_active=False,
    )
    held = PrefixKVCache(2, count, 5, 3)
    held.prompt = [[torch.randn(2, shared, 5, size, generator=draws) for _ in range(2)]]
    held.own = [[torch.randn(4, shared, 3, size, generator=draws) for _ in range(2)]]
    held.begin_step(step)
    query = torch.randn(3, shared * grouped, size, generator=draws)
    out = held.attend(query, 0, 0.5, window=4, cap=1.5)
    for row, slot in enumerate(step.rows.tolist()):
        group = slot // count
        for head in range(shared * grouped):
            keys, values = (
                torch.cat(
                    [
                        a[group, head // grouped, : prompts[group]],
                        b[slot, head // grouped, : step.own_lengths[group] + 1],
                    ]
                )
                for a, b in zip(held.prompt[0], held.own[0], strict=True)
            )
            scores = 1.5 * torch.tanh(0.5 * keys[-4:].double() @ query[row, head].double() / 1.5)
            expected = scores.softmax(0) @ values[-4:].double()
            assert torch.allclose(out[row, head].double(), expected, atol=1e-6)


@pytest.mark.parametrize("backend", [SharedPrefixCache, CpuPrefixCache])
def test_a_prompt_is_read_once_and_an_ended_response_costs_nothing(tiny, monkeypatch, backend):
    """Token positions that pass through the model: each prompt's but its last, and one for every token
    written."""
    policy = tiny("llama", eos_token_id=STOPS)
    monkeypatch.setattr(sampling, "choose_backend", lambda model: backend)
    backends.choose_backend(policy.model)
    passes = []  # tokens, and whether a step has begun that they are read for
    begin = PrefixKVCache.begin_step
    monkeypatch.setattr(
        PrefixKVCache, "begin_step", lambda cache, step: (passes.append(step), begin(cache, step))
    )
    policy.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: passes.append(inputs[0].numel())
    )
    prompts = [Prompt((1, *range(3, 13)), "", "")] * 8
    groups = sample(policy, prompts, 6, seed=3, decoding=Decoding(max_new_tokens=20, batch=4))
    after = [(n, isinstance(last, DecodeStep)) for last, n in pairwise([None, *passes]) if isinstance(n, int)]
    read, written = ([n for n, stepped in after if stepped is wanted] for wanted in (False, True))
    assert sum(read) == 8 * 10
    # without its modules, the first step of a prompt's six samples is one as well
    common = 5 * 8 if backend is CpuPrefixCache else 0
    assert sum(written) + common == sum(len(r.ids) for group in groups for r in group)
    # places are taken again before the batch has ended
    assert len(read) > 2 or len(written) < 40


def test_one_copy_of_a_prompt_whatever_the_samples():
    held = PrefixKVCache(3, 16, 5, 8)
    prefilled = transformers.DynamicCache()
    prefilled.update(torch.ones(2, 2, 4, 8), torch.ones(2, 2, 4, 8), 0)
    held.write_prompts([0, 2], prefilled)
    keys, values = held.prompt[0]
    assert keys.shape == values.shape == (3, 2, 5, 8)
    assert keys.sum(dim=(1, 2, 3)).tolist() == [64, 0, 64]
    held.keep_groups([2])
    assert held.prompt[0][0].shape == (1, 2, 5, 8) and held.own[0][0].shape == (16, 2, 8, 8)


def test_attention_is_cut_into_runs_of_similar_prompts_and_stays_the_same(tiny, monkeypatch):
    policy = tiny("llama", dtype=torch.float64, eos_token_id=STOPS)
    prompts = [Prompt((1, *(3 + i % 50 for i in range(n))), "", "") for n in (40, 2, 9, 38, 3, 30, 2, 2)]
    decoding = Decoding(max_new_tokens=12, batch=8)
    runs = []
    for worth in (256, 0):
        monkeypatch.setattr(scheduler, "MAX_PADDED_KEYS", worth)
        runs.append(sample(policy, prompts, 3, seed=0, decoding=decoding))
    assert texts(runs[0]) == texts(runs[1])
    assert torch.allclose(*map(logps, runs), atol=1e-9)
    step = DecodeStep([40, 38, 9, 8, 2], [0] * 5, *[torch.zeros(5)] * 5, all_active=True)
    assert step.runs == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_packed_weights_give_the_same_products(monkeypatch):
    monkeypatch.setattr(cpu_decoder, "MIN_PACKED", 0)
    parts = [torch.nn.Linear(24, n, bias=n > 8) for n in (8, 40)]
    with torch.no_grad():
        for rows in (1, 16, 37):
            x = torch.randn(rows, 24)
            packed = cpu_decoder.PackedLinear(parts, 16)(x)
            assert torch.allclose(packed, torch.cat([part(x) for part in parts], 1), atol=1e-5)


@torch.no_grad()
def test_adapters_are_merged_as_they_are_now(lora):
    for name, value in lora.model.named_parameters():
        if "lora_B" in name:
            value.normal_(0, 0.3)
    ids = torch.arange(3, 9)

    def logits():
        def attend(number, query, key, value):  # every token reads itself alone
            return value.repeat_interleave(query.shape[1] // value.shape[1], 1)

        return CpuDecoder(lora.model, 8)(ids, torch.zeros_like(ids), attend)

    expected = lora.model(input_ids=ids[:, None], use_cache=False).logits[:, 0]
    assert torch.allclose(logits(), expected, atol=1e-4)
    with lora.model.disable_adapter():
        plain = lora.model(input_ids=ids[:, None], use_cache=False).logits[:, 0]
        assert torch.allclose(logits(), plain, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=0.1)


def test_models_without_the_common_structure_keep_their_modules(tiny, lora, monkeypatch):
    assert cpu_decoder.why_unsupported(tiny("llama").model) is None
    for name in ("gpt2", "gemma3", "phi"):
        assert cpu_decoder.why_unsupported(tiny(name).model) == "its layers do not have the common structure"
    model = tiny("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}).model
    assert cpu_decoder.why_unsupported(model) == "its rotary embeddings depend on the batch"
    monkeypatch.setattr(cpu_decoder, "MEMORY_SHARE", 0.0)
    assert (
        cpu_decoder.why_unsupported(tiny("llama").model)
        == "there is no memory for a packed copy of its weights"
    )


def test_a_model_that_cannot_share_prompts_is_warned_about_once_and_samples_correctly(tokenizer, caplog):
    """BLOOM adds a bias of distances to its scores."""
    config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64)
    policy = CausalPolicy(transformers.AutoModelForCausalLM.from_config(config).eval(), tokenizer)
    with caplog.at_level(logging.WARNING, logger="equipoise.policy.generation.backends"):
        ours = sample(policy, PROMPTS, 1, seed=0, decoding=Decoding(temperature=0, max_new_tokens=8, batch=3))
        sample(policy, PROMPTS, 2, seed=0, decoding=Decoding(max_new_tokens=3))
    assert [r.message.split(":")[0] for r in caplog.records if r.name.endswith("backends")] == [
        "prompts are repeated for every sample, which is slower"
    ]
    for prompt, (response,) in zip(PROMPTS, ours, strict=True):
        theirs = policy.model.generate(torch.tensor([prompt.ids]), do_sample=False, max_new_tokens=8)
        assert response.ids == tuple(theirs[0, len(prompt.ids) :].tolist())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        (
            {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 999},
            "layer 1 has a window",
        ),
    ],
)
def test_kinds_of_layers_that_the_probe_cannot_see_are_refused(tiny, change, reason):
    model = tiny("llama").model
    vars(model.config).update(change)
    assert reason in backends.why_not_shared(model)


@pytest.mark.parametrize("words", [5, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_the_search_in_blocks_is_the_search_in_one_sum(words):
    logits = 3 * torch.randn(500, words, generator=torch.Generator().manual_seed(words))
    uniform = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    token, logp = sample_tokens(logits, uniform, Decoding())
    cdf = logits.double().softmax(-1).cumsum(-1)
    # a draw within rounding of an edge may fall on either side: there is none among these
    assert float((cdf - uniform[:, None]).abs().min()) > 1e-7
    assert token.tolist() == torch.searchsorted(cdf, uniform[:, None], right=True)[:, 0].tolist()
    exact = logits.double().log_softmax(-1).gather(1, token[:, None])[:, 0]
    assert torch.allclose(logp, exact, atol=2e-6)


def test_draws_over_several_blocks_follow_their_probabilities():
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(3))
    uniform = torch.rand(60_000, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    counts = torch.bincount(sample_tokens(logits.expand(60_000, -1), uniform, Decoding())[0], minlength=300)
    expected = logits.double().softmax(-1)[0] * 60_000
    assert float(expected.min()) > 5
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("words", [3, BLOCK, 2 * BLOCK + 5])
def test_a_word_without_probability_is_never_drawn(words):
    logits = torch.full((words, words), -torch.inf)
    logits.fill_diagonal_(0.0)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        token, logp = sample_tokens(logits, torch.full((words,), uniform, dtype=torch.float64), Decoding())
        assert token.tolist() == list(range(words)) and logp.abs().max() == 0


def test_logits_that_are_not_numbers_are_refused(tiny):
    policy = tiny()
    backends.choose_backend(policy.model)
    with torch.no_grad():
        policy.model.lm_head.weight[5] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        sample(policy, PROMPTS, 2, seed=0, decoding=Decoding(max_new_tokens=3))


def test_unknown_parts_of_an_attention_are_refused():
    module = SimpleNamespace(layer_idx=0)
    held = PrefixKVCache(1, 1, 1, 1)
    with pytest.raises(TypeError, match="s_aux"):
        prefix_cache.attention(
            module, *[torch.zeros(1, 1, 1, 1)] * 3, None, shared=held, s_aux=torch.zeros(1)
        )
    with pytest.raises(TypeError, match="cannot share prompts"):
        prefix_cache.attention(module, *[torch.zeros(1, 1, 1, 1)] * 3, None)
