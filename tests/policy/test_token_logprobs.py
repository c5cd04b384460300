"""Log-probs token by token: laid out, stored, and the critic that reads the states they come from."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from equipoise.core.advantages import CrossFit
from equipoise.core.logprob import by_response, response_logps
from equipoise.data.collate import Response, collate
from equipoise.policy import checkpoint
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring import value_regression
from equipoise.policy.scoring.anchor_store import AnchorStore, score, tokenwise

PROMPTS = [(1, 5, 6), (1, 7), (1, 9, 10, 11, 12)]
RESPONSES = [[(8, 2), (9, 10, 11, 2)], [(3, 4, 5, 6, 7, 8, 2), (2,)], [(20, 2), (21, 22, 23)]]
PAIRS = list(zip(PROMPTS, RESPONSES, strict=True))
LENGTHS = torch.tensor([[2, 4], [7, 1], [2, 3]])
MASK = torch.arange(7) < LENGTHS[..., None]


def test_laid_out_by_hand():
    values, segment = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 0, 1, 1])
    laid, mask = by_response(values, torch.tensor([0, 1, 1, 1]), 2)
    assert (laid.tolist(), laid.dtype) == ([[1, 0, 0], [2, 3, 4]], torch.float64)
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    assert laid.sum(dim=1).equal(response_logps(values, torch.tensor([0, 1, 1, 1]), 2).logp_sum)
    wide, _ = by_response(torch.stack([values, -values], dim=1), segment, 2)
    assert wide.tolist() == [[[1, -1], [2, -2]], [[3, -3], [4, -4]]]
    with pytest.raises(ValueError, match="segment decreases"):
        by_response(values, segment.flip(0), 2)
    with pytest.raises(ValueError, match="each of 3 responses needs a token"):
        by_response(values, segment, 3)
    with pytest.raises(ValueError, match="each of 1 responses"):
        by_response(values, segment, 1)
    with pytest.raises(ValueError, match="segment has shape"):
        by_response(values, segment[:3], 2)


def by_hand(model, prompt, response):
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
    logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return logps[torch.arange(len(response)), torch.tensor(response)]


def test_every_token_is_its_log_softmax_with_gradients(tiny, family):
    wide = family != "gemma2"  # whose softmax is float32 whatever the model's type
    policy = tiny(family, dtype=torch.float64 if wide else torch.float32)
    logp, mask = policy.token_logprobs(collate(PROMPTS, RESPONSES, policy.pad))
    assert mask.equal(MASK) and not logp[~mask].any()
    plain = torch.cat([by_hand(policy.model, p, r) for p, group in PAIRS for r in group]).double()
    near = {"rtol": 1e-10, "atol": 1e-10} if wide else {"rtol": 1e-5, "atol": 1e-4}
    assert_close(logp[mask], plain, **near)
    weight = torch.linspace(-1, 1, len(plain), dtype=torch.float64)
    parameters = [p for _, p in policy.parameters()]
    ours = torch.autograd.grad((weight * logp[mask]).sum(), parameters)
    theirs = torch.autograd.grad((weight * plain).sum(), parameters)
    near = {"rtol": 1e-8, "atol": 1e-9} if wide else {"rtol": 1e-3, "atol": 1e-3}
    assert all(torch.allclose(a, b, **near) for a, b in zip(ours, theirs, strict=True))


def test_how_likely_two_draws_of_a_token_agree_without_a_gradient(tiny, family):
    policy = tiny(family, dtype=torch.float32)
    for batch in (collate(PROMPTS, RESPONSES, policy.pad), policy.batch(PROMPTS, RESPONSES)):
        logp, mask, met = policy.collisions(batch)
        assert mask.equal(MASK) and not met[~mask].any() and logp.requires_grad and not met.requires_grad
        laws = [
            policy.model(input_ids=torch.tensor([p + r])).logits[0, len(p) - 1 : -1].softmax(-1)
            for p, group in PAIRS
            for r in group
        ]
        assert_close(met[mask], torch.cat(laws).square().sum(1).log().double(), rtol=1e-4, atol=1e-4)
        assert_close(logp, policy.token_logprobs(batch)[0], rtol=0, atol=0)


def test_sums_over_tokens_are_the_log_probs_of_responses(tiny, family):
    policy = tiny(family)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    (tokens, mask), (logp, length) = policy.token_logprobs(batch), policy.logprobs(batch)
    # the same numbers in the same precision, added in another order
    assert_close(tokens.sum(dim=2), logp, rtol=1e-14, atol=1e-13)
    assert mask.sum(dim=2).equal(length.long())


def test_packed_is_one_by_one_and_cached_is_live(tiny, tmp_path):
    policy, calls = tiny(), []
    store, fingerprint = AnchorStore(tmp_path), checkpoint.fingerprint(policy)

    def make():
        calls.append(1)
        return score(policy, PAIRS, batch=2, tokens=True)

    cached, length = store.get(tokenwise(fingerprint), PAIRS, make)
    again, _ = AnchorStore(tmp_path).get(tokenwise(fingerprint), PAIRS, make)
    assert len(calls) == 1 and again.equal(cached)
    live, _ = score(policy, PAIRS, batch=1, tokens=True)
    assert cached.shape == (3, 2, 7) and length.equal(LENGTHS.double())
    assert not cached[~MASK].any()
    assert float((live - cached).abs().max()) < 1e-5
    whole = store.get(fingerprint, PAIRS, lambda: score(policy, PAIRS, batch=2))  # under a key of its own
    assert whole[0].shape == (3, 2)
    assert_close(cached.sum(dim=2), whole[0], rtol=1e-14, atol=1e-13)


def test_a_lead_is_read_and_not_scored(tiny):
    policy = tiny(dtype=torch.float64)
    plain = policy.token_logprobs(collate([(1, 5, 6)], [[(8, 2)]], 0))[0]
    led = policy.token_logprobs(collate([(1,)], [[Response((8, 2), "", lead=(5, 6))]], 0))[0]
    assert_close(plain, led, rtol=1e-13, atol=1e-13)


# the critic ---------------------------------------------------------------------------------------------


def test_features_are_the_states_that_predict(tiny):
    """Through the head they give the token log-probs."""
    policy = tiny(dtype=torch.float64)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    features, mask = policy.features(batch)
    logits = causal_lm(policy.model).get_output_embeddings()(features[mask].double())
    ids = torch.tensor([token for group in RESPONSES for response in group for token in response])
    found = logits.log_softmax(-1)[torch.arange(len(ids)), ids]
    assert_close(found, policy.token_logprobs(batch)[0][mask], rtol=1e-5, atol=1e-5)  # features are float32
    assert not features.requires_grad and features.shape == (3, 2, 7, 32)


def test_values_are_the_cross_fit_on_features_whatever_the_batch(tiny):
    policy, ticks = tiny(), []
    returns = torch.randn(3, 2, 7, dtype=torch.float64) * MASK
    found = value_regression.regress_values(policy, PAIRS, returns, 2, ticks.append)
    assert ticks == [2, 1, 2, 1]
    features, mask = policy.features(collate(PROMPTS, RESPONSES, policy.pad))
    half = torch.tensor([0, 1, 0])[:, None, None].expand_as(mask)[mask]
    fit = CrossFit(32)
    fit.add(features[mask], returns[mask], half)
    assert_close(found[mask], fit.values(features[mask], half), rtol=1e-5, atol=1e-5)
    assert not found[~mask].any()
    # what followed a prefix has no say in its value, what followed the others has
    moved = returns.clone()
    moved[1] += 1.0 * MASK[1]
    other = value_regression.regress_values(policy, PAIRS, moved, 2)
    assert other[1].equal(found[1]) and not other[0].equal(found[0])
