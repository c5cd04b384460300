"""Packed rows = padded rows, one response at a time: log-probs, every gradient, every family; and what falls back."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
import transformers
from torch.testing import assert_close

from equipoise.data.collate import Response, TokenBatch, collate
from equipoise.data.pack import PackedBatch, pack, shares
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.kernels.attention import as_sequences, packed_attention
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.scorer import backbone
from equipoise.policy.scoring.microbatch import bytes_per_token, measure_token_budget, microbatches

FAMILIES = (
    "llama",
    "llama-tied",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3",
    "gpt2",
    "neox",
    "phi",
)
# float32 against the same in float64, in the 2-norm of all gradients: measured 3e-7 to 1.6e-6 (plain rows the same)
FLOAT32 = 5e-6
# transformers normalises in float32 whatever the model's type: so much is left of float64
FLOAT64 = 2e-7


def draw(seed, comparisons=6, count=3, vocabulary=64, longest=15):
    """(prompts, responses): random lengths, one-token responses, leads and none, tokens that are only read between
    scored ones, a prompt asked twice."""
    generator = torch.Generator().manual_seed(seed)

    def upto(n):
        return int(torch.randint(1, n + 1, (), generator=generator))

    def ids(n):
        return tuple(torch.randint(1, vocabulary, (n,), generator=generator).tolist())

    def response():
        made = Response(
            ids(1 if upto(4) == 1 else upto(longest)), "", lead=ids(upto(8)) if upto(3) == 1 else ()
        )
        reads = len(made.ids) > 2 and upto(3) == 1
        return replace(made, between=((1, ids(upto(4))), (len(made.ids) - 1, ids(1)))) if reads else made

    prompts = [ids(upto(longest)) for _ in range(comparisons)]
    prompts[-1] = prompts[0]
    groups = [[response() for _ in range(count)] for _ in range(comparisons)]
    if count > 1:
        groups[-1][0] = groups[0][1]  # and a response compared twice
    return prompts, groups


def weights(groups):
    """Stand-ins for d loss / d log-prob: numbers of either sign."""
    return torch.linspace(-1, 1.5, sum(map(len, groups)), dtype=torch.float64).view(len(groups), -1)


def gradient(policy, logp, groups):
    """All gradients of a weighted sum of log-probs, end to end, in float64."""
    found = torch.autograd.grad((weights(groups) * logp).sum(), [p for _, p in policy.parameters()])
    return torch.cat([g.flatten().double() for g in found])


def one_by_one(policy, prompts, groups):
    return torch.stack(
        [
            torch.cat([policy.logprobs(collate([p], [[r]], 0))[0][0] for r in group])
            for p, group in zip(prompts, groups, strict=True)
        ]
    )


def off(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_every_family_packs_but_the_one_with_capped_scores(tiny, family):
    assert (tiny(family).scorer.max_packed_length > 0) is (family != "gemma2")


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"], indirect=True)
def test_the_last_layer_gives_only_what_is_looked_at_where_it_has_the_common_shape(tiny, family):
    policy, seen = tiny(family), []
    model = backbone(policy.model)
    norm = model.ln_f if family == "gpt2" else model.norm
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    batch = pack([(1, 5, 6, 7)], [[(8, 9, 2), (3, 2)]])
    policy.logprobs(batch)
    assert batch.tokens == 7
    assert seen == [7 if family == "gpt2" else 4]  # the prompt's last token and three of responses


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_packed_is_padded_one_by_one_with_every_gradient(tiny, family, monkeypatch):
    if family == "gemma2":
        pytest.skip("falls back to padded rows")
    # some sequences are whole, some not
    monkeypatch.setattr("equipoise.policy.kernels.segment_layout.MAX_WHOLE_SEQUENCE", 20)
    prompts, groups = draw(0)
    exact = tiny(family, dtype=torch.float64)
    reference = one_by_one(exact, prompts, groups)
    slope = gradient(exact, reference, groups)
    for dtype, bound in ((torch.float64, FLOAT64), (torch.float32, FLOAT32)):
        policy = tiny(family, dtype=dtype)
        logp, length = policy.logprobs(pack(prompts, groups))
        assert length.tolist() == [[len(r.ids) for r in group] for group in groups]
        assert off(logp, reference) < bound
        assert off(gradient(policy, logp, groups), slope) < bound


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("seed", [1, 2])
def test_any_number_of_responses_agrees(tiny, count, seed):
    policy = tiny("llama-tied", dtype=torch.float64)
    prompts, groups = draw(seed, comparisons=4, count=count)
    logp, reference = policy.logprobs(pack(prompts, groups))[0], one_by_one(policy, prompts, groups)
    assert_close(logp, reference, rtol=1e-12, atol=1e-12)
    assert off(gradient(policy, logp, groups), gradient(policy, reference, groups)) < FLOAT64


def test_adapters_agree(lora):
    with torch.no_grad():  # B starts at 0, where A has no gradient
        for number, (_, p) in enumerate(lora.parameters()):
            p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    prompts, groups = draw(3)
    assert isinstance(lora.batch(prompts, groups), PackedBatch)
    logp, reference = lora.logprobs(pack(prompts, groups))[0], one_by_one(lora, prompts, groups)
    assert off(logp, reference) < FLOAT32
    assert off(gradient(lora, logp, groups), gradient(lora, reference, groups)) < FLOAT32


def test_tokens_and_features_agree(tiny):
    policy = tiny("qwen2", dtype=torch.float64)
    prompts, groups = draw(4)
    for read in (policy.token_logprobs, policy.features):
        (packed, where), (rows, mask) = read(pack(prompts, groups)), read(collate(prompts, groups, 0))
        assert torch.equal(where, mask)
        assert_close(packed, rows, rtol=1e-5, atol=1e-5)  # features are float32


def test_packing_in_another_order_changes_nothing_beyond_rounding(tiny):
    policy = tiny("qwen3", dtype=torch.float64)
    prompts, groups = draw(5)
    whole = policy.logprobs(pack(prompts, groups))[0]
    turned = policy.logprobs(pack(prompts[::-1], [g[::-1] for g in groups[::-1]]))[0].flip(0).flip(1)
    apart = torch.cat([policy.logprobs(pack([p], [g]))[0] for p, g in zip(prompts, groups, strict=True)])
    assert_close(turned, whole, rtol=1e-12, atol=1e-12)
    assert_close(apart, whole, rtol=1e-12, atol=1e-12)


def test_bf16_is_as_near_packed_as_padded(tiny):
    """Of the gradient, bf16's 8 bits keep two digits whichever way the batch is laid: measured 3e-2 both ways."""
    prompts, groups = draw(6)
    exact, rough = tiny("llama", dtype=torch.float64), tiny("llama", precision="bf16")
    slope = gradient(exact, one_by_one(exact, prompts, groups), groups)
    packed, padded = (
        off(gradient(rough, rough.logprobs(batch)[0], groups), slope)
        for batch in (pack(prompts, groups), collate(prompts, groups, 0))
    )
    assert 1e-3 < packed < 1.5 * padded < 0.15


def test_equal_prompts_and_responses_are_computed_once():
    prompt, a, b = (1, 5, 6), (8, 9, 2), (7, 2)
    batch = pack([prompt, prompt], [[a, b], [b, a]])
    assert batch.tree == ((3, (2, 1)),)
    assert batch.ids.tolist() == [1, 5, 6, 8, 9, 7]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 3]
    assert batch.predictor.tolist() == [2, 3, 4, 2, 5]
    assert batch.target.tolist() == [8, 9, 2, 7, 2]
    assert batch.token.tolist() == [0, 1, 2, 3, 4, 3, 4, 0, 1, 2]
    assert batch.row.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]


def test_a_lead_is_read_and_not_scored():
    batch = pack([(1,)], [[Response((8, 2), "", lead=(3, 4))]])
    assert (batch.ids.tolist(), batch.predictor.tolist(), batch.target.tolist()) == (
        [1, 3, 4, 8],
        [2, 3],
        [8, 2],
    )


@pytest.mark.parametrize(("whole", "alone"), [(64, 64), (25, 64), (0, 64), (0, 0)])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
def test_attention_by_segments_is_that_of_whole_sequences_with_gradients(heads, whole, alone, monkeypatch):
    """The two forms of attention, neither of which makes a mask, over prompts and branches of random lengths."""
    monkeypatch.setattr("equipoise.policy.kernels.segment_layout.MAX_WHOLE_SEQUENCE", whole)
    monkeypatch.setattr("equipoise.policy.kernels.segment_layout.MIN_UNBATCHED", alone)
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(0, 40, (6, 4), generator=generator).tolist()
    layout = Layout(
        tuple((1 + prompt, tuple(branches)) for prompt, *branches in lengths), torch.device("cpu")
    )
    size = sum(1 + sum(row) for row in lengths)
    q, k, v = (
        torch.randn(size, heads[n > 0], 8, dtype=torch.float64, generator=generator).requires_grad_()
        for n in range(3)
    )
    wide = (q, *(x.repeat_interleave(heads[0] // heads[1], dim=1) for x in (k, v)))
    by_segments, whole = packed_attention(q, k, v, layout, 0.4), as_sequences(*wide, layout, 0.4)
    weight = torch.randn(by_segments.shape, dtype=torch.float64, generator=generator)
    assert_close(by_segments, whole, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad((weight * x).sum(), (q, k, v)) for x in (by_segments, whole))
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_model_keeps_its_own_attention(tiny):
    policy = tiny("llama")
    before = policy.model.config._attn_implementation
    policy.logprobs(policy.batch([(1, 5)], [[(8, 2)]]))
    assert policy.model.config._attn_implementation == before != "equipoise"


def test_a_window_shorter_than_a_sequence_takes_padded_rows(tiny, caplog):
    policy = tiny("mistral", sliding_window=12)
    assert policy.scorer.max_packed_length == 12
    short, long = ((1, 5), [[(8, 2)]]), (tuple(range(1, 31)), [[(8, 9, 3, 2)]])
    assert isinstance(policy.batch([short[0]], short[1]), PackedBatch)
    for _ in range(2):
        assert isinstance(policy.batch([long[0]], long[1]), TokenBatch)
    assert sum("longer than the model's window of 12" in r.getMessage() for r in caplog.records) == 1
    # the window is real: with it the long sequence has other log-probs
    there = policy.logprobs(policy.batch([long[0]], long[1]))[0]
    everything = tiny("mistral").logprobs(policy.batch([long[0]], long[1]))[0]
    assert abs(float((there - everything).detach())) > 1e-2


@pytest.mark.parametrize(
    ("kind", "settings", "why"),
    [
        ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "states differ"),  # ALiBi
        (
            "GPTNeoConfig",
            {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]},
            "",
        ),
        (
            "MambaConfig",
            {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
            "",
        ),  # no attention at all
    ],
)
def test_models_that_cannot_pack_say_so_once_and_are_right(tokenizer, caplog, kind, settings, why):
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        **settings, vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    with caplog.at_level(logging.WARNING, logger="equipoise"):
        policy = CausalPolicy(transformers.AutoModelForCausalLM.from_config(config), tokenizer)
    (line,) = (r.getMessage() for r in caplog.records if "packed rows" in r.getMessage())
    assert why in line and "\n" not in line
    prompts, groups = draw(8, comparisons=3)
    batch = policy.batch(prompts, groups)
    assert isinstance(batch, TokenBatch)
    assert_close(policy.logprobs(batch)[0], one_by_one(policy, prompts, groups), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("budget", "most", "expected"),
    [
        (10, None, [[4, 5], [3, 6], [12], [1]]),
        (100, 2, [[4, 5], [3, 6], [12, 1]]),
        (5, 9, [[4], [5], [3], [6], [12], [1]]),
    ],
)
def test_shares_fill_a_budget(budget, most, expected):
    sizes = [4, 5, 3, 6, 12, 1]
    assert [sizes[share] for share in shares(sizes, budget, most)] == expected
    assert list(shares([], budget, most)) == []


def test_padded_shares_count_their_largest():
    sizes = [1, 2, 3, 10, 10]
    assert [sizes[share] for share in shares(sizes, 10, padded=True)] == [[1, 2, 3], [10], [10]]


def test_microbatches_keep_a_prompt_together_or_similar_lengths(tiny):
    policy = tiny()
    a, b = (1, 5), (1, 6, 7)
    pairs = [(a, [(8, 2), (9, 2)]), (b, [(8, 2), (9,) * 9]), (a, [(9, 2), (3, 2)])]
    assert microbatches(policy, pairs) == [[0, 2, 1]]
    policy.token_budget = 8  # 2 + 1 + 1 tokens twice, as if they shared nothing
    assert microbatches(policy, pairs) == [[0, 2], [1]]
    assert microbatches(policy, pairs, 1) == [[0], [2], [1]]
    policy.scorer.max_packed_length, policy.token_budget = 0, 16
    assert microbatches(policy, pairs) == [[0, 2], [1]]


def test_the_probe_of_memory_counts_what_is_kept(tiny):
    """Twice the layers keep nearly twice as much; what is counted is of the size that a layer's states are."""
    two, four = (bytes_per_token(tiny("llama", num_hidden_layers=n)) for n in (2, 4))
    states = 4 * 32  # bytes of one state
    assert 5 * states < (four - two) / 2 < 40 * states
    assert measure_token_budget(tiny()) == 4096
