"""Sampling: the right distribution, the right end, the right log-prob, whatever the batch."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chisquare, kstest

from equipoise.data.collate import Prompt, collate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.inverse_cdf import sample_tokens, uniforms
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding, ModelError

PROMPTS = [
    Prompt((1, 5, 6), "", ""),
    Prompt((1, 7), "", ""),
    Prompt((1, 9, 10, 11, 12, 13, 14), "", ""),
    Prompt((1, 3, 4, 5), "", ""),
]
GREEDY = Decoding(temperature=0, max_new_tokens=12)


def ids(groups):
    return [[response.ids for response in group] for group in groups]


def test_greedy_is_generate_token_for_token(tiny, sampled_family):
    policy = tiny(sampled_family)
    ours = sample(policy, PROMPTS, 1, seed=0, decoding=GREEDY)
    for prompt, (response,) in zip(PROMPTS, ours, strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt.ids]), do_sample=False, max_new_tokens=12, eos_token_id=2, pad_token_id=0
        )[0, len(prompt.ids) :]
        assert response.ids == tuple(theirs.tolist())


def test_short_sequences_follow_the_exact_distribution(tiny):
    """All sequences of one or two tokens of a model with 6 words, against their enumerated probabilities."""
    policy = _small(tiny)
    prompt, words = (1, 3), range(6)
    sequences = [(2,), *((a, b) for a, b in itertools.product(words, words) if a != 2)]
    logp = torch.cat([policy.logprobs(collate([prompt], [[s]], 0))[0][:, 0] for s in sequences])
    probs = logp.detach().exp().numpy()
    assert probs.sum() == pytest.approx(1, abs=1e-5)

    drawn = sample(
        policy, [Prompt(prompt, "", "")], 4000, seed=5, decoding=Decoding(max_new_tokens=2, batch=1)
    )[0]
    counts = [sum(r.ids == s for r in drawn) for s in sequences]
    assert sum(counts) == 4000
    expected = probs / probs.sum() * 4000
    often = expected >= 5  # the test needs the rare ones pooled
    pooled = [(c, e) for c, e, o in zip(counts, expected, often, strict=True) if o]
    pooled.append((sum(counts) - sum(c for c, _ in pooled), 4000 - sum(e for _, e in pooled)))
    assert len(pooled) > 8
    assert chisquare(*zip(*[(c, e) for c, e in pooled if e > 1e-6], strict=True)).pvalue > 1e-3


def _small(tiny):
    """The tiny Llama cut down to six words, so that all short sequences can be listed."""
    policy = tiny("llama")
    model = policy.model
    model.resize_token_embeddings(6)
    model.config.vocab_size = 6
    return CausalPolicy(model, policy.tokenizer)


def test_uniforms_are_uniform_and_addressed():
    draws = torch.cat([torch.from_numpy(uniforms(3, prompt, 0, 50)) for prompt in range(100)])
    assert kstest(draws, "uniform").pvalue > 1e-3
    keys = itertools.product((0, 1, -1, -2), (0, 1, 2**31), (0, 1, 7))
    assert len({tuple(uniforms(*key, 3)) for key in keys}) == 36
    assert uniforms(0, 2, 5, 3).tolist() == uniforms(0, 2, 5, 8)[:3].tolist()


P = torch.tensor([[0.5, 0.05, 0.3, 0.15]]).log()


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (Decoding(), [0.5, 0.05, 0.3, 0.15]),
        (Decoding(temperature=0.5), [0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365, 0.0225 / 0.365]),
        (Decoding(top_k=2), [0.625, 0, 0.375, 0]),
        (Decoding(top_k=9), [0.5, 0.05, 0.3, 0.15]),
        (Decoding(top_p=0.5), [1, 0, 0, 0]),
        (Decoding(top_p=0.51), [0.625, 0, 0.375, 0]),
        (Decoding(top_p=0.9), [0.5 / 0.95, 0, 0.3 / 0.95, 0.15 / 0.95]),
        (Decoding(top_p=1e-9), [1, 0, 0, 0]),
        (Decoding(temperature=0), [1, 0, 0, 0]),
        (Decoding(temperature=2.0, top_k=2), [0.5**0.5 / (0.5**0.5 + 0.3**0.5), 0, 0.4364917, 0]),
    ],
)
def test_choose_against_hand_computed_distributions(decoding, expected):
    """At uniforms on a fine grid the share of each token is its probability to the grid's width."""
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    tokens, _ = sample_tokens(P.expand(2000, -1), grid, decoding)
    share = torch.bincount(tokens, minlength=4) / 2000
    assert share.tolist() == pytest.approx(expected, abs=1.1e-3)
    assert all((s == 0) == (e == 0) for s, e in zip(share.tolist(), expected, strict=True))


def test_choose_at_the_ends_of_the_interval():
    edge = torch.tensor([[float("-inf"), 0.0, float("-inf")]])
    for uniform in (0.0, 1 - 2**-53):
        assert sample_tokens(edge, torch.tensor([uniform], dtype=torch.float64), Decoding())[0].item() == 1


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"max_new_tokens": 0}, {"batch": 0}],
)
def test_decoding_refuses_nonsense(bad):
    with pytest.raises(ValueError, match=r"sampling needs|at least 1"):
        Decoding(**bad)


def test_stop_token_ends_and_a_cut_is_not_finished(tiny):
    policy = tiny("llama", eos_token_id=[2, 3, 4, 5, 6, 7, 8])
    assert policy.stops == (2, 3, 4, 5, 6, 7, 8)
    responses = [
        r for g in sample(policy, PROMPTS, 40, seed=1, decoding=Decoding(max_new_tokens=5)) for r in g
    ]
    for response in responses:
        stops = [t in policy.stops for t in response.ids]
        assert not any(stops[:-1])
        assert response.finished is stops[-1]
        assert response.finished or len(response.ids) == 5
    assert {r.finished for r in responses} == {True, False}


@pytest.mark.parametrize(
    "decoding", [Decoding(max_new_tokens=8), Decoding(max_new_tokens=8, temperature=0.3, top_k=5)]
)
def test_returned_logp_is_the_recomputed_one(tiny, sampled_family, decoding):
    """Also with truncated sampling it is the log-prob under the policy itself."""
    policy = tiny(sampled_family)
    groups = sample(policy, PROMPTS, 3, seed=2, decoding=decoding)
    logp = policy.logprobs(collate([p.ids for p in PROMPTS], ids(groups), 0))[0]
    told = torch.tensor([[r.logp for r in g] for g in groups], dtype=torch.float64)
    assert float((logp - told).detach().abs().max()) < 1e-3


def test_samples_depend_on_the_place_not_on_the_batch(tiny, sampled_family):
    policy = tiny(sampled_family)
    settings = {"max_new_tokens": 8}
    whole = ids(sample(policy, PROMPTS, 3, seed=4, decoding=Decoding(**settings)))
    for batch in (1, 3):
        assert ids(sample(policy, PROMPTS, 3, seed=4, decoding=Decoding(**settings, batch=batch))) == whole
    tail = sample(
        policy, PROMPTS[2:], 3, seed=4, decoding=Decoding(**settings), places=range(2, len(PROMPTS))
    )
    assert ids(tail) == whole[2:]
    fewer = sample(policy, PROMPTS, 2, seed=4, decoding=Decoding(**settings))
    assert ids(fewer) == [group[:2] for group in whole]
    assert ids(sample(policy, PROMPTS, 3, seed=5, decoding=Decoding(**settings))) != whole


def test_equal_prompts_get_different_samples(tiny):
    groups = sample(tiny(), [PROMPTS[0]] * 2, 4, seed=0, decoding=Decoding(max_new_tokens=8))
    assert len({r.ids for g in groups for r in g}) == 8


def test_room_ends_at_the_models_last_position(tiny):
    policy = tiny("gpt2")
    long = Prompt((1, *[5] * 61), "", "")
    short = Prompt((1, 5), "", "")
    decoding = Decoding(max_new_tokens=9)
    (cut,), (other,) = sample(policy, [long, short], 1, seed=3, decoding=decoding)
    assert len(cut.ids) <= 2
    assert sample(policy, [short], 1, seed=3, decoding=decoding, places=[1])[0][0].ids == other.ids
    with pytest.raises(ModelError, match="64 tokens, the model takes 64"):
        sample(policy, [Prompt((1,) * 64, "", "")], 1, seed=0, decoding=decoding)


def test_no_prompts_no_samples(tiny):
    assert sample(tiny(), [], 2, seed=0, decoding=GREEDY) == []


def test_a_model_without_an_end_is_refused(tiny):
    policy = tiny()
    policy.model.generation_config.eos_token_id = None
    policy.tokenizer = type("T", (), {"eos_token_id": None, "pad_token_id": 0})()
    with pytest.raises(ModelError, match="end-of-sequence"):
        _ = policy.stops
